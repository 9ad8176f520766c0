"""What a fleet has in Redis, read once and without changing it, by somebody who is no part of the fleet."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from importlib.resources import files
from typing import Any

from redis.exceptions import TimeoutError as SocketTimeout

from wallie_litellm.core.lease_server import FORGOTTEN
from wallie_litellm.limiter.redis.connection import Client, connect, reason_of
from wallie_litellm.limiter.redis.fleet import WORKERS, key_of

SCRIPT = files("wallie_litellm.limiter.redis").joinpath("lua", "inspect.lua").read_text()
AT_ONCE = 8  # connections, at most
GOODBYE = 0.2  # seconds that closing the connections may take


class FleetUnreadable(Exception):  # noqa: N818 - it says what happened
    """Redis cannot be read; the message is one line, and nothing of the URL is in it."""


def read_fleet(url: str, names: Iterable[str], timeout: float = 2.0) -> dict[str, Any]:
    """The workers, and the state of each of ``names`` as ``inspect.lua`` tells it, ``None`` where there is none.

    For code without an event loop. ``now`` is Unix time by Redis' clock. Workers not seen for a minute are left out.

    Raises:
        Unreadable: Redis does not serve, or not within ``timeout`` seconds in all.
    """
    return asyncio.run(inspect_fleet(url, list(names), timeout))


async def inspect_fleet(url: str, names: Sequence[str], timeout: float = 2.0) -> dict[str, Any]:
    """:func:`read_fleet` for code in an event loop."""
    client: Client | None = None
    try:
        client = connect(url, timeout)
        stored, told = await asyncio.wait_for(_ask(client, names), timeout)
    except (TimeoutError, SocketTimeout):
        raise FleetUnreadable(f"no answer within {timeout:g} s") from None
    except Exception as error:  # noqa: BLE001 - Redis', the network's, and those of a URL that leads nowhere
        raise FleetUnreadable(reason_of(error)) from None
    finally:
        if client is not None:
            with suppress(Exception):
                await asyncio.wait_for(client.aclose(), GOODBYE)
    now = max((float(state["now"]) for state in told.values()), default=time.time())
    states = {name: state if state["known"] else None for name, state in told.items()}
    return {"now": now, "workers": _workers(now, stored, states), "states": states}


async def _ask(client: Client, names: Sequence[str]) -> tuple[Mapping[bytes, bytes], dict[str, dict[str, Any]]]:
    places = asyncio.Semaphore(AT_ONCE)

    async def state_of(name: str) -> dict[str, Any]:
        async with places:
            state: dict[str, Any] = json.loads(await client.eval(SCRIPT, 1, key_of(name)))
            return state

    stored = await client.hgetall(WORKERS)
    return stored, dict(zip(names, await asyncio.gather(*map(state_of, names)), strict=True))


def _workers(
    now: float, stored: Mapping[bytes, bytes], states: Mapping[str, dict[str, Any] | None]
) -> dict[str, dict[str, Any]]:
    """Who is there: what each says of itself, and when Redis last heard of it by its own clock, if it knows."""
    heard: dict[str, float] = {}
    for state in states.values():
        for name, worker in state["workers"].items() if state else ():
            heard[name] = min(worker["age"], heard.get(name, worker["age"]))
    said = {name.decode(errors="replace"): _about(text) for name, text in stored.items()}
    found = {}
    for name in sorted({*said, *heard}):
        about = said.get(name, {})
        age = heard.get(name, max(0.0, now - about.get("seen", 0.0)))
        if age <= FORGOTTEN:
            found[name] = {"pid": about.get("pid"), "host": about.get("host"), "since": about.get("since"), "age": age}
    return found


def _about(text: bytes) -> dict[str, Any]:
    try:
        about = json.loads(text)
    except ValueError:
        return {}
    return about if isinstance(about, dict) else {}
