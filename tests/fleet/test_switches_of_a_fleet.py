"""What is switched off at one worker is off at all that share a Redis, and at those that start later."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from recording import RecordingBus
from redis_support import RedisServer
from support import until

from wallie_litellm.events import OperatorActed
from wallie_litellm.guard import Guard
from wallie_litellm.limiter.redis import shared_switches
from wallie_litellm.limiter.redis.layout import SWITCHED_OFF


def off(guard: Guard) -> set[str]:
    return {name for name, on in guard.status()["routing"]["switches"].items() if not on}


async def test_a_switch_holds_for_the_fleet_and_outlives_its_workers(
    server: RedisServer, make_guard: Callable[..., Guard]
) -> None:
    one, other = (make_guard(server.url) for _ in range(2))
    await until(lambda: all(guard.status()["store"]["state"] == "ok" for guard in (one, other)))
    one.switch("hedge", on=False, actor="ops")
    assert off(one) == {"hedge"}
    await until(lambda: off(other) == {"hedge"})
    other.switch("auto", on=False)
    await until(lambda: off(one) == {"auto", "hedge"})
    for guard in (one, other):
        await guard.aclose()
    third = make_guard(server.url)
    await until(lambda: off(third) == {"auto", "hedge"})
    third.switch("hedge", on=True)
    third.switch("auto", on=True)
    fourth = make_guard(server.url)
    await until(lambda: fourth.status()["store"]["state"] == "ok" and not off(fourth))
    acted = [
        event.actor
        for guard in (one, other)
        if isinstance(guard.bus, RecordingBus)
        for event in guard.bus.of(OperatorActed)
    ]
    assert acted == ["ops", "app"]  # on record once, where it was done


async def test_what_is_switched_while_redis_is_away_is_sent_when_it_is_back(
    server: RedisServer, make_guard: Callable[..., Guard]
) -> None:
    one, other = (make_guard(server.url, timeout="250ms") for _ in range(2))
    await until(lambda: all(guard.status()["store"]["state"] == "ok" for guard in (one, other)))
    server.stop()
    await until(lambda: one.status()["store"]["state"] == "down")
    one.switch("cache", on=False)
    assert off(one) == {"cache"}
    server.start()
    await until(lambda: off(other) == {"cache"})
    assert off(one) == {"cache"}


async def test_what_is_off_stays_off_when_redis_loses_its_data(
    server: RedisServer, make_guard: Callable[..., Guard], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_switches, "NEW_FOR", 0.0)
    one, other = (make_guard(server.url) for _ in range(2))
    await until(lambda: all(guard.status()["store"]["state"] == "ok" for guard in (one, other)))
    one.switch("hedge", on=False)
    await until(lambda: off(other) == {"hedge"})
    for guard in (one, other):  # each exchange after the first may tell Redis
        guard.switch("hedge", on=False)
    redis = server.client()
    await until(lambda: redis.hexists(SWITCHED_OFF, shared_switches.KEPT))
    for guard in (one, other):
        guard.switch("hedge", on=False)
    await until(lambda: off(one) == off(other) == {"hedge"})
    monkeypatch.setattr(shared_switches, "NEW_FOR", 1_000.0)
    redis.flushall()
    third = make_guard(server.url)
    await until(lambda: off(third) == {"hedge"})
    assert off(one) == off(other) == {"hedge"}
    third.switch("hedge", on=True)
    await until(lambda: not off(one) and not off(other))


async def test_no_worker_finds_a_switch_on_while_another_tells_redis_again_what_is_off(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_switches, "NEW_FOR", 0.0)
    redis = server.client()
    one, other = (shared_switches.SharedSwitches(lambda: None) for _ in range(2))
    found: list[set[str]] = []
    switch = one.share(lambda _: None)
    other.share(lambda off: found.append(set(off)))

    async def command(name: str, *arguments: Any, **more: Any) -> Any:
        return getattr(redis, name)(*arguments, **more)

    async def watched(name: str, *arguments: Any, **more: Any) -> Any:
        answer = await command(name, *arguments, **more)
        if name == "hset":
            await other.exchange(command, "other")
        return answer

    switch("hedge", False)
    for _ in range(2):
        await one.exchange(command, "one")
        await other.exchange(command, "other")
    redis.flushall()
    found.clear()
    await one.exchange(watched, "one")
    assert found
    assert all(off == {"hedge"} for off in found)
