"""A fleet's state in Redis, read once and without changing it, by a process that is no part of the fleet."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from redis.exceptions import TimeoutError as SocketTimeout

from wallie_litellm.core.lease_server import WORKER_FORGOTTEN_AFTER
from wallie_litellm.limiter.redis.connection import Client, connect, reason_of
from wallie_litellm.limiter.redis.layout import INSPECT_SCRIPT, PAUSED_MODELS, TROUBLED_MODELS, WORKERS, key_of

MAX_CONNECTIONS: Final = 8
CLOSE_TIMEOUT: Final = 0.2  # seconds, for closing the connections

_Hash = Mapping[bytes, bytes]  # in Redis


class FleetUnreadable(Exception):  # noqa: N818 - names the condition
    """Redis cannot be read; the message is one line, and nothing of the URL is in it."""


def read_fleet(url: str, names: Iterable[str], timeout: float = 2.0) -> dict[str, Any]:
    """The workers, and the state of each of ``names`` as ``inspect.lua`` returns it, ``None`` where there is none.

    ``paused_models`` are seconds by the scope of a model, ``troubled_models`` the states of those whose breakers are
    listed as not closed.
    For code without an event loop. ``now`` is Unix time by Redis' clock. Workers not seen for a minute are left out.

    Raises:
        FleetUnreadable: Redis does not serve within ``timeout`` seconds in all, or its state is of another version.
    """
    return asyncio.run(inspect_fleet(url, list(names), timeout))


async def inspect_fleet(url: str, names: Sequence[str], timeout: float = 2.0) -> dict[str, Any]:
    """:func:`read_fleet` for code in an event loop."""
    client: Client | None = None
    try:
        client = connect(url, timeout)
        stored, listed, found, troubled = await asyncio.wait_for(_ask(client, names), timeout)
    except (TimeoutError, SocketTimeout):
        raise FleetUnreadable(f"no answer within {timeout:g} s") from None
    except FleetUnreadable:
        raise
    except Exception as error:  # noqa: BLE001 - Redis', the network's, and those of a URL that leads nowhere
        raise FleetUnreadable(reason_of(error)) from None
    finally:
        if client is not None:
            with suppress(Exception):
                await asyncio.wait_for(client.aclose(), CLOSE_TIMEOUT)
    now = max((float(state["now"]) for state in found.values()), default=time.time())
    states = {name: state if state["initialised"] else None for name, state in found.items()}
    paused = {scope.decode(errors="replace"): float(until) - now for scope, until in listed.items()}
    return {
        "now": now,
        "workers": _workers(now, stored, {**troubled, **states}),
        "states": states,
        "paused_models": {scope: seconds for scope, seconds in paused.items() if seconds > 0},
        "troubled_models": {scope: state for scope, state in troubled.items() if state["initialised"]},
    }


_States = dict[str, dict[str, Any]]  # by name


async def _ask(client: Client, names: Sequence[str]) -> tuple[_Hash, _Hash, _States, _States]:
    connections = asyncio.Semaphore(MAX_CONNECTIONS)

    async def state_of(name: str) -> dict[str, Any]:
        async with connections:
            state: dict[str, Any] = json.loads(await client.eval(INSPECT_SCRIPT, 1, key_of(name)))
            if "error" in state:
                raise FleetUnreadable(state["error"])
            return state

    async def states_of(names: Sequence[str]) -> _States:
        return dict(zip(names, await asyncio.gather(*map(state_of, names)), strict=True))

    stored, paused = await client.hgetall(WORKERS), await client.hgetall(PAUSED_MODELS)
    troubled = sorted(scope.decode(errors="replace") for scope in await client.smembers(TROUBLED_MODELS))
    return stored, paused, await states_of(names), await states_of(troubled)


def _workers(
    now: float, stored: Mapping[bytes, bytes], states: Mapping[str, dict[str, Any] | None]
) -> dict[str, dict[str, Any]]:
    """Each worker's own entry, and its last exchange by Redis' clock or else its last sign of life by its own."""
    exchanged: dict[str, float] = {}
    for state in states.values():
        for name, worker in state.get("workers", {}).items() if state else ():
            exchanged[name] = min(worker["age"], exchanged.get(name, worker["age"]))
    entries = {name.decode(errors="replace"): _entry(text) for name, text in stored.items()}
    found = {}
    for name in sorted({*entries, *exchanged}):
        about = entries.get(name, {})
        age = exchanged.get(name, max(0.0, now - about.get("seen", 0.0)))
        if age <= WORKER_FORGOTTEN_AFTER:
            found[name] = {"pid": about.get("pid"), "host": about.get("host"), "since": about.get("since"), "age": age}
    return found


def _entry(text: bytes) -> dict[str, Any]:
    try:
        about = json.loads(text)
    except ValueError:
        return {}
    return about if isinstance(about, dict) else {}
