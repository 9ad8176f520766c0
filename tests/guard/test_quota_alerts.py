"""A quota that runs out is announced: once per threshold and window, whichever way it was used."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from fake_clock import FakeClock
from hypothesis import given, settings
from hypothesis import strategies as st
from limiter_support import tokens
from recording import RecordingBus

from wallie_litellm.config import WallieConfig
from wallie_litellm.core.attempt_result import AttemptResult
from wallie_litellm.core.circuit_breaker import Verdict
from wallie_litellm.core.demand import Demand, Outcome
from wallie_litellm.events import QuotaCrossed
from wallie_litellm.guard import Guard
from wallie_litellm.guard.context import Attempt

MakeGuard = Callable[..., Guard]
DAY = 86_400.0


def announced(bus: RecordingBus) -> list[tuple[str, str]]:
    """Dimension and level of each alert since the last call."""
    found = [(event.dimension, event.level) for event in bus.of(QuotaCrossed)]
    bus.events.clear()
    return found


async def begin(guard: Guard, demand: Demand, provider: str = "openai") -> Callable[[AttemptResult], bool]:
    context, attempt = guard.open_context("o"), Attempt(group="o", provider=provider)
    await guard.admit(context, attempt, demand)
    return lambda ending: guard.settle(context, attempt, ending)


async def call(guard: Guard, demand: Demand, used: int | None = None, outcome: Outcome = Outcome.SUCCESS) -> None:
    usage = None if used is None else tokens(used)
    (await begin(guard, demand))(AttemptResult(outcome, Verdict.SUCCESS, usage=usage))


# What crosses a threshold


@pytest.mark.parametrize("dimension", ["rpm", "rpd"])
async def test_the_eightieth_of_a_hundred_requests_warns_and_the_ninety_fifth_is_critical(
    make_guard: MakeGuard, bus: RecordingBus, dimension: str
) -> None:
    guard = make_guard({"openai": {dimension: 100}})
    crossed = []
    for number in range(1, 101):
        await call(guard, tokens(1))
        crossed += [(number, *alert) for alert in announced(bus)]
    assert crossed == [(80, dimension, "warning"), (95, dimension, "critical")]


@pytest.mark.parametrize(("dimension", "demand"), [("tpm", tokens(10)), ("tpd", tokens(10)), ("itpm", tokens(10))])
async def test_tokens_reach_thresholds_like_requests(
    make_guard: MakeGuard, bus: RecordingBus, dimension: str, demand: Demand
) -> None:
    guard = make_guard({"openai": {dimension: 1000}})
    crossed = []
    for number in range(1, 101):
        await call(guard, demand)
        crossed += [(number, *alert) for alert in announced(bus)]
    assert crossed == [(80, dimension, "warning"), (95, dimension, "critical")]


async def test_an_alert_has_the_dimension_the_usage_and_the_time_of_the_reset(
    make_guard: MakeGuard, bus: RecordingBus, clock: FakeClock
) -> None:
    guard = make_guard({"openai": {"rpm": 100, "rpd": 200}})
    guard.update_usage("openai", requests=161)
    warning, critical, daily = bus.of(QuotaCrossed)
    assert (warning.provider, warning.dimension, warning.level) == ("openai", "rpm", "warning")
    assert (warning.utilization, warning.used, warning.limit) == (1.61, 161, 100)
    assert warning.reset_in == pytest.approx(161 * 0.6)
    assert (critical.level, daily.dimension, daily.level) == ("critical", "rpd", "warning")
    assert (daily.utilization, daily.used, daily.limit) == (0.805, 161, 200)
    assert 0 < daily.reset_in <= DAY
    assert warning.at == clock.wall()
    assert len({event.id for event in (warning, critical, daily)}) == 3


@pytest.mark.parametrize("limit", [1, 2, 3, 4])
async def test_a_tiny_limit_is_announced_too(
    make_guard: MakeGuard, bus: RecordingBus, clock: FakeClock, limit: int
) -> None:
    guard = make_guard({"openai": {"rpm": limit}})
    for minute in range(3):
        crossed = []
        for number in range(1, limit + 1):
            await call(guard, tokens(0))
            crossed += [(number, level) for _, level in announced(bus)]
        assert crossed == [(limit, "warning"), (limit, "critical")], minute
        clock.advance(60)


async def test_with_headroom_the_share_is_that_of_the_usable_limit(make_guard: MakeGuard, bus: RecordingBus) -> None:
    guard = make_guard({"openai": {"rpm": 100, "headroom": 0.4}})
    for _ in range(60):
        await call(guard, tokens(0))
    assert announced(bus) == [("rpm", "warning"), ("rpm", "critical")]
    assert not guard.is_provider_available("openai")


async def test_with_a_burst_the_share_is_that_of_the_minute(
    make_guard: MakeGuard, bus: RecordingBus, clock: FakeClock
) -> None:
    guard = make_guard({"openai": {"rpm": 600, "burst": {"rpm": 10}}})
    for _ in range(8):
        await call(guard, tokens(0))
    assert bus.of(QuotaCrossed) == []
    quota = guard.status()["providers"]["openai"]["quota"]["rpm"]
    assert (quota["used"], quota["limit"], quota["utilization"], quota["left"]) == (8, 600, 8 / 600, 2)
    for _ in range(59):
        clock.advance(1)
        for _ in range(8):
            await call(guard, tokens(0))
    (alert,) = bus.of(QuotaCrossed)
    assert (alert.level, alert.utilization, alert.used, alert.limit) == ("warning", 0.8, 480, 600)


async def test_a_settlement_above_its_estimate_is_announced(make_guard: MakeGuard, bus: RecordingBus) -> None:
    guard = make_guard({"openai": {"tpm": 1000, "tpd": 1000}})
    await call(guard, tokens(10), used=799)
    assert announced(bus) == []
    await call(guard, tokens(0), used=1)
    assert announced(bus) == [("tpm", "warning"), ("tpd", "warning")]


async def test_an_overrun_after_a_recovery_is_announced_again(
    make_guard: MakeGuard, bus: RecordingBus, clock: FakeClock
) -> None:
    guard = make_guard({"openai": {"tpm": 1000}})
    await call(guard, tokens(800))
    assert announced(bus) == [("tpm", "warning")]
    late = await begin(guard, tokens(0))
    clock.advance(100)
    late(AttemptResult(Outcome.SUCCESS, usage=tokens(900)))
    assert announced(bus) == [("tpm", "warning")]


async def test_a_new_day_arms_the_thresholds_again(make_guard: MakeGuard, bus: RecordingBus, clock: FakeClock) -> None:
    guard = make_guard({"openai": {"tpd": 1000}})
    await call(guard, tokens(800))
    assert announced(bus) == [("tpd", "warning")]
    clock.advance(DAY)
    await call(guard, tokens(800))
    assert announced(bus) == [("tpd", "warning")]


async def test_a_refused_request_announces_nothing(make_guard: MakeGuard, bus: RecordingBus) -> None:
    guard = make_guard({"openai": {"rpm": 1, "tpm": 100}}, admission={"max_wait": 0})
    guard.update_usage("openai", tokens=1)
    announced(bus)
    refused = await asyncio.gather(*(call(guard, tokens(90)) for _ in range(5)), return_exceptions=True)
    assert all(isinstance(error, Exception) for error in refused)
    assert announced(bus) == []


@pytest.mark.parametrize("offset", [0.0, 0.07, 0.49])
async def test_a_steady_load_near_the_limit_is_seen_as_such_and_announced_once(
    make_guard: MakeGuard, bus: RecordingBus, clock: FakeClock, offset: float
) -> None:
    guard = make_guard({"openai": {"rpm": 300, "tpm": 30_000}})
    clock.advance(offset)
    crossed, shares = [], []
    for number in range(1, 292 * 5 + 1):
        await call(guard, tokens(0))
        crossed += [(number, *alert) for alert in announced(bus)]
        shares.append(guard.status()["providers"]["openai"]["quota"]["rpm"]["utilization"])
        clock.advance(60 / 292)
    assert crossed == [(240, "rpm", "warning"), (285, "rpm", "critical")]
    assert all(share == pytest.approx(292 / 300, abs=1 / 300 + 1e-9) for share in shares[292:])
    quota = guard.status()["providers"]["openai"]["quota"]["rpm"]
    assert round(100 * quota["utilization"]) == 97
    assert quota["left"] >= 299, "the bucket refills as fast as it is emptied"


async def test_a_steady_load_of_tokens_is_seen_as_such_however_long_the_calls_are(
    make_guard: MakeGuard, bus: RecordingBus, clock: FakeClock
) -> None:
    guard = make_guard({"openai": {"tpm": 30_000}})
    calls: list[Callable[[AttemptResult], bool]] = []
    for second in range(300):
        calls.append(await begin(guard, tokens(500)))
        if second >= 90:  # each call takes a minute and a half
            calls.pop(0)(AttemptResult(Outcome.SUCCESS, Verdict.SUCCESS, usage=tokens(490)))
        clock.advance(1)
    assert announced(bus) == [("tpm", "warning"), ("tpm", "critical")]
    assert guard.status()["providers"]["openai"]["quota"]["tpm"]["used"] == pytest.approx(490 * 60, abs=490)


@pytest.mark.parametrize(("lowest", "expected"), [(71, []), (69, [("rpm", "warning")])])
async def test_a_level_is_armed_again_ten_points_below_it(
    make_guard: MakeGuard, bus: RecordingBus, clock: FakeClock, lowest: int, expected: list[tuple[str, str]]
) -> None:
    guard, began = make_guard({"openai": {"rpm": 100}}), clock.now()

    def use(second: float, requests: int) -> list[tuple[str, str]]:
        clock.advance(began + second - clock.now())
        guard.update_usage("openai", requests)
        return announced(bus)

    assert use(0, 40) + use(30, 40) == [("rpm", "warning")]
    assert use(59, lowest - 40) == [("rpm", "critical")]
    assert use(89, 40) == []  # the first forty have left: it was at the lowest, and the warning's minute is not over
    assert use(95, 80 - lowest) == expected  # and so have the second forty: it was there again


# Settlements in a later minute


async def test_tokens_count_in_the_second_of_their_settlement(
    make_guard: MakeGuard, bus: RecordingBus, clock: FakeClock
) -> None:
    guard = make_guard({"openai": {"rpm": 100, "tpm": 1000}})
    late = await begin(guard, tokens(700))

    def figures() -> list[tuple[int, int]]:
        quota = guard.status()["providers"]["openai"]["quota"]
        return [(quota[name]["used"], quota[name]["left"]) for name in ("rpm", "tpm")]

    assert figures() == [(1, 99), (0, 300)]  # reserved tokens are not there for others, and not used yet
    clock.advance(70)
    assert figures() == [(0, 100), (0, 1000)]
    late(AttemptResult(Outcome.SUCCESS, Verdict.SUCCESS, usage=tokens(850)))
    assert figures() == [(0, 100), (850, 850)]  # the bucket is charged with the 150 above the estimate
    assert announced(bus) == [("tpm", "warning")]
    clock.advance(60)
    assert figures() == [(0, 100), (0, 1000)]


@pytest.mark.parametrize(("later", "used"), [(0.0, 1), (30.0, 1), (70.0, 1)])
async def test_a_request_that_was_not_sent_is_taken_back_in_the_second_of_its_admission(
    make_guard: MakeGuard, clock: FakeClock, later: float, used: int
) -> None:
    guard = make_guard({"openai": {"rpm": 100}})
    unsent = await begin(guard, tokens(0))
    clock.advance(later)
    await call(guard, tokens(0))
    unsent(AttemptResult(Outcome.NOT_SENT))
    assert guard.status()["providers"]["openai"]["quota"]["rpm"]["used"] == used


async def test_a_request_from_before_a_reset_takes_nothing_back_after_it(
    make_guard: MakeGuard, clock: FakeClock
) -> None:
    guard = make_guard({"openai": {"rpm": 100}})
    unsent = await begin(guard, tokens(0))
    clock.advance(1)
    guard.reset_quota("openai")
    await call(guard, tokens(0))
    unsent(AttemptResult(Outcome.NOT_SENT))
    assert guard.status()["providers"]["openai"]["quota"]["rpm"]["used"] == 1


# Windows


async def test_a_limit_that_recovers_is_announced_once_a_minute(
    make_guard: MakeGuard, bus: RecordingBus, clock: FakeClock
) -> None:
    guard = make_guard({"openai": {"rpm": 100}})
    alerts = []
    for _ in range(600):  # ten minutes, up and down between 50 % and 85 % eight times each
        guard.update_usage("openai", 1 + 84 - guard.status()["providers"]["openai"]["quota"]["rpm"]["used"])
        clock.advance(21)
        alerts += [(clock.now(), alert) for alert in announced(bus)]
    times = [at for at, _ in alerts]
    assert all(later - earlier >= 60 for earlier, later in pairwise(times))
    assert len(alerts) == 600 * 21 // 63


async def test_a_limit_that_stays_used_up_is_announced_once(
    make_guard: MakeGuard, bus: RecordingBus, clock: FakeClock
) -> None:
    guard = make_guard({"openai": {"rpm": 100}})
    guard.update_usage("openai", 100)
    for _ in range(1000):
        clock.advance(0.6)
        guard.update_usage("openai", 1)
    assert announced(bus) == [("rpm", "warning"), ("rpm", "critical")]


async def test_a_day_is_announced_once_and_anew_after_midnight(
    make_guard: MakeGuard, bus: RecordingBus, clock: FakeClock
) -> None:
    guard = make_guard({"openai": {"rpd": 100}})
    for _ in range(3):
        guard.update_usage("openai", 100)
        assert announced(bus) == [("rpd", "warning"), ("rpd", "critical")]
        guard.update_usage("openai", 50)
        assert announced(bus) == []
        clock.advance(DAY)
        assert guard.status()["providers"]["openai"]["quota"]["rpd"]["used"] == 0


async def test_a_day_that_passed_while_the_machine_slept_is_a_new_window(
    make_guard: MakeGuard, bus: RecordingBus, clock: FakeClock
) -> None:
    guard = make_guard({"openai": {"rpd": 100}})
    guard.update_usage("openai", 100)
    announced(bus)
    clock.move_wall(DAY)
    clock.advance(61)
    guard.update_usage("openai", 80)
    assert announced(bus) == [("rpd", "warning")]


async def test_an_overrun_that_is_settled_after_midnight_belongs_to_the_day_of_its_call(
    make_guard: MakeGuard, bus: RecordingBus, clock: FakeClock
) -> None:
    guard = make_guard({"openai": {"tpd": 1000}}, admission={"reservation_ttl": "3d"})
    late = await begin(guard, tokens(10))
    clock.advance(DAY)
    late(AttemptResult(Outcome.SUCCESS, usage=tokens(1000)))
    assert announced(bus) == []
    assert guard.status()["providers"]["openai"]["quota"]["tpd"]["used"] == 0


async def test_a_reset_begins_a_new_window(make_guard: MakeGuard, bus: RecordingBus) -> None:
    guard = make_guard({"openai": {"rpm": 100, "rpd": 1000}})
    for _ in range(3):
        guard.update_usage("openai", 1000)
        assert len(announced(bus)) == 4
        guard.reset_quota("openai")


async def test_each_provider_is_announced_by_itself(make_guard: MakeGuard, bus: RecordingBus) -> None:
    guard = make_guard({"openai": {"rpm": 10}, "anthropic": {"rpm": 10}})
    for provider in ("openai", "anthropic"):
        guard.update_usage(provider, 8)
    assert [event.provider for event in bus.of(QuotaCrossed)] == ["openai", "anthropic"]


def test_the_thresholds_are_those_of_the_configuration(make_guard: MakeGuard, bus: RecordingBus) -> None:
    guard = make_guard({"openai": {"rpm": 100}}, quota={"warning": 0.2, "critical": 0.5})
    guard.update_usage("openai", 19)
    assert announced(bus) == []
    guard.update_usage("openai", 1)
    assert announced(bus) == [("rpm", "warning")]
    guard.update_usage("openai", 30)
    assert announced(bus) == [("rpm", "critical")]


# Many crossings


async def test_reserved_tokens_alone_announce_nothing(make_guard: MakeGuard, bus: RecordingBus) -> None:
    guard = make_guard({"openai": {"tpm": 1000, "tpd": 10_000}})
    large = await begin(guard, tokens(960))
    assert announced(bus) == []
    large(AttemptResult(Outcome.SUCCESS, usage=tokens(6)))
    assert announced(bus) == []
    await call(guard, tokens(960))
    assert announced(bus) == [("tpm", "warning"), ("tpm", "critical")]


async def test_ten_thousand_crossings_give_one_alert_per_threshold(make_guard: MakeGuard, bus: RecordingBus) -> None:
    guard = make_guard({"openai": {"rpm": 4, "tpm": 100, "rpd": 10**6}}, admission={"max_wait": 0})
    guard.update_usage("openai", 2)
    for _ in range(10_000):  # to 100 % and back to half of it, within one minute
        for end in [await begin(guard, tokens(50)), await begin(guard, tokens(50))]:
            end(AttemptResult(Outcome.NOT_SENT))
    alerts = [(event.dimension, event.level) for event in bus.of(QuotaCrossed)]
    assert sorted(alerts) == [("rpm", "critical"), ("rpm", "warning")]


def test_twenty_threads_crossing_together_announce_each_level_once(make_guard: MakeGuard, bus: RecordingBus) -> None:
    guard = make_guard({"openai": {"rpm": 10_000, "rpd": 10_000}})
    barrier = threading.Barrier(20)

    def work() -> None:
        barrier.wait()
        for _ in range(500):
            context, attempt = guard.open_context("o"), Attempt(group="o", provider="openai")
            guard.admit_blocking(context, attempt, tokens(0))
            guard.settle(context, attempt, AttemptResult(Outcome.SUCCESS, Verdict.SUCCESS))

    threads = [threading.Thread(target=work) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    levels = [(name, level) for name in ("rpm", "rpd") for level in ("warning", "critical")]
    assert sorted(announced(bus)) == sorted(levels)
    assert guard.status()["providers"]["openai"]["quota"]["rpd"]["used"] == 10_000


STEPS = st.lists(st.tuples(st.integers(0, 120), st.sampled_from([0.0, 1.0, 10.0, 30.0, 70.0])), max_size=40)


@given(STEPS)
@settings(deadline=None, max_examples=100)
def test_every_crossing_is_announced_and_none_twice_within_a_window(steps: list[tuple[int, float]]) -> None:
    clock, bus = FakeClock(), RecordingBus()
    config: dict[str, Any] = {"providers": {"openai": {"rpm": 100, "tpd": 2000}}}
    guard = Guard(WallieConfig.model_validate(config), {}, clock, bus)
    last: dict[tuple[str, str], float] = {}
    try:
        for amount, seconds in steps:
            clock.advance(seconds)
            guard.update_usage("openai", requests=amount, tokens=amount)
            quota = guard.status()["providers"]["openai"]["quota"]
            for event in bus.of(QuotaCrossed):
                key = event.dimension, event.level
                assert event.utilization >= {"warning": 0.8, "critical": 0.95}[event.level]
                assert event.utilization == event.used / event.limit == quota[event.dimension]["utilization"]
                assert key not in last or (event.dimension == "rpm" and clock.now() >= last[key] + 60)
                last[key] = clock.now()
            bus.events.clear()
            for dimension in ("rpm", "tpd"):
                for level, share in (("warning", 0.8), ("critical", 0.95)):
                    assert quota[dimension]["utilization"] < share or (dimension, level) in last
    finally:
        guard.close()


# Status


async def test_the_status_shows_the_share_that_is_used(make_guard: MakeGuard) -> None:
    guard = make_guard({"openai": {"rpm": 100, "rpd": 1000, "concurrency": 4}})
    guard.update_usage("openai", 79)
    end = await begin(guard, tokens(0))
    quota = guard.status()["providers"]["openai"]["quota"]
    assert {name: each["utilization"] for name, each in quota.items()} == {"rpm": 0.8, "rpd": 0.08, "concurrency": 0.25}
    end(AttemptResult(Outcome.SUCCESS))
    guard.update_usage("openai", 120)
    assert guard.status()["providers"]["openai"]["quota"]["rpm"]["utilization"] == 2.0


@pytest.mark.parametrize("arguments", [{"requests": None}, {"tokens": None}, {"requests": 1.5}, {"tokens": "7"}])
def test_an_invalid_count_is_rejected_before_anything_is_charged(
    make_guard: MakeGuard, bus: RecordingBus, arguments: dict[str, Any]
) -> None:
    guard = make_guard({"openai": {"rpm": 10, "tpm": 10}})
    with pytest.raises(TypeError, match="expected a whole number"):
        guard.update_usage("openai", **arguments)
    assert bus.events == []
    quota = guard.status()["providers"]["openai"]["quota"]
    assert [each["used"] for each in quota.values()] == [0, 0]
