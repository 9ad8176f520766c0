"""Daily limits: they begin anew at midnight where the provider keeps its calendar."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from fake_clock import FakeClock
from limiter_support import denied, granted, new_store, tokens

from wallie_litellm.core.demand import NOTHING, Demand
from wallie_litellm.limiter.memory_store import MIDNIGHT_LOOKUP, MemoryStore
from wallie_litellm.limiter.store import Denial, DenialReason

pytestmark = pytest.mark.usefixtures("every_store")
# In a fleet the clock of the shared store decides.
of_this_process = pytest.mark.parametrize("every_store", ["memory"], indirect=True)

LOS_ANGELES = "America/Los_Angeles"
HOUR = 3600.0


def clock_at(text: str, zone: str = "UTC") -> FakeClock:
    return FakeClock(wall=datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp())


def used_up(clock: FakeClock, zone: str = "UTC") -> MemoryStore:
    store = new_store(clock, {"rpd": 3, "tpd": 1000}, reset_timezone=zone)
    for _ in range(3):
        granted(store.reserve(clock.now(), tokens(100)))
    return store


def wait(store: MemoryStore, clock: FakeClock) -> float:
    denial: Denial = denied(store.reserve(clock.now(), tokens(100)))
    assert (denial.reason, denial.dimension) == (DenialReason.LIMIT, "rpd")
    return denial.retry_after


def test_a_used_up_daily_limit_waits_for_midnight_and_begins_anew_then() -> None:
    clock = clock_at("2026-06-01T20:00")
    store = used_up(clock)
    assert wait(store, clock) == 4 * HOUR
    clock.advance(4 * HOUR - 0.001)
    assert wait(store, clock) == pytest.approx(0.001, abs=1e-5)
    clock.advance(0.001)
    granted(store.reserve(clock.now(), tokens(100)))
    assert store.usage(clock.now())["tpd"].used == 100


@pytest.mark.parametrize(
    ("day", "hours"), [("2026-03-07", 24), ("2026-03-08", 23), ("2026-10-31", 24), ("2026-11-01", 25)]
)
def test_the_day_is_as_long_as_the_clocks_in_the_time_zone_make_it(day: str, hours: int) -> None:
    clock = clock_at(day, LOS_ANGELES)
    store = used_up(clock, LOS_ANGELES)
    assert wait(store, clock) == hours * HOUR
    for _ in range(hours - 1):
        clock.advance(HOUR)
        denied(store.reserve(clock.now(), tokens(100)))
    clock.advance(HOUR)
    granted(store.reserve(clock.now(), tokens(100)))


def test_midnight_is_that_of_the_configured_time_zone() -> None:
    clock = clock_at("2026-06-01T23:00")
    assert wait(used_up(clock), clock) == HOUR
    assert wait(used_up(clock, LOS_ANGELES), clock) == 8 * HOUR
    assert wait(used_up(clock, "Asia/Kolkata"), clock) == 19.5 * HOUR


def test_the_daily_limit_begins_anew_at_every_midnight() -> None:
    clock = clock_at("2026-06-01T12:00")
    store = used_up(clock)
    for _ in range(3):
        clock.advance(wait(store, clock))
        for _ in range(3):
            granted(store.reserve(clock.now(), tokens(100)))
    clock.advance(10 * 24 * HOUR)
    granted(store.reserve(clock.now(), tokens(100)))


def test_a_refund_after_midnight_is_not_credited_to_the_new_day() -> None:
    clock = clock_at("2026-06-01T23:59")
    store = new_store(clock, {"rpd": 3, "tpd": 1000})
    yesterday = granted(store.reserve(clock.now(), tokens(900)))
    clock.advance(120)
    today = granted(store.reserve(clock.now(), tokens(500)))
    store.settle(clock.now(), yesterday, NOTHING)
    assert (store.usage(clock.now())["rpd"].used, store.usage(clock.now())["tpd"].used) == (1, 500)
    store.settle(clock.now(), today, tokens(200))
    assert store.usage(clock.now())["tpd"].used == 200


def test_a_debt_found_after_midnight_is_not_charged_to_the_new_day() -> None:
    clock = clock_at("2026-06-01T23:59")
    store = new_store(clock, {"tpd": 1000})
    yesterday = granted(store.reserve(clock.now(), tokens(100)))
    clock.advance(120)
    granted(store.reserve(clock.now(), tokens(1)))
    store.settle(clock.now(), yesterday, tokens(900))
    assert store.usage(clock.now())["tpd"].used == 1


def test_a_reservation_in_the_first_instant_of_a_day_belongs_to_that_day() -> None:
    clock = clock_at("2026-06-01T23:00")
    store = used_up(clock)
    clock.advance(HOUR)
    first = granted(store.reserve(clock.now(), tokens(100)))
    store.settle(clock.now(), first, NOTHING)
    assert store.usage(clock.now())["rpd"].used == 0


def test_usage_without_a_reservation_begins_the_new_day_too() -> None:
    clock = clock_at("2026-06-01T23:59")
    store = used_up(clock)
    clock.advance(60)
    store.consume(clock.now(), Demand(2, 50, 50, 0))
    assert (store.usage(clock.now())["rpd"].used, store.usage(clock.now())["tpd"].used) == (2, 50)


def test_reading_the_usage_begins_the_new_day_too() -> None:
    clock = clock_at("2026-06-01T23:59")
    store = used_up(clock)
    clock.advance(60)
    usage = store.usage(clock.now())["rpd"]
    assert (usage.used, usage.reset_in) == (0, 24 * HOUR)


def test_a_clock_set_forward_within_the_day_brings_midnight_closer() -> None:
    clock = clock_at("2026-06-01T12:00")
    store = used_up(clock)
    clock.move_wall(2 * HOUR)
    clock.advance(MIDNIGHT_LOOKUP)
    assert wait(store, clock) == pytest.approx(10 * HOUR - MIDNIGHT_LOOKUP)


@of_this_process
def test_a_clock_set_back_moves_midnight_further_away_and_keeps_the_usage() -> None:
    clock = clock_at("2026-06-01T12:00")
    store = used_up(clock)
    clock.move_wall(-2 * HOUR)
    clock.advance(MIDNIGHT_LOOKUP)
    assert wait(store, clock) == pytest.approx(14 * HOUR - MIDNIGHT_LOOKUP)


@of_this_process
def test_a_clock_set_back_into_yesterday_keeps_the_usage() -> None:
    clock = clock_at("2026-06-01T00:30")
    store = used_up(clock)
    clock.move_wall(-HOUR)
    clock.advance(MIDNIGHT_LOOKUP)
    assert wait(store, clock) == pytest.approx(HOUR / 2 - MIDNIGHT_LOOKUP)


@of_this_process
@pytest.mark.parametrize("hours", [3, 20, 24, 24 * 7])
def test_a_machine_that_slept_past_midnight_finds_a_new_day(hours: float) -> None:
    clock = clock_at("2026-06-01T22:00")
    store = used_up(clock)
    clock.move_wall(hours * HOUR)
    clock.advance(MIDNIGHT_LOOKUP)
    granted(store.reserve(clock.now(), tokens(100)))
    assert store.usage(clock.now())["rpd"].used == 1


def test_a_day_of_which_headroom_leaves_less_than_one_admits_one() -> None:
    clock = clock_at("2026-06-01T20:00")
    store = new_store(clock, {"rpd": 1}, headroom=0.05)
    granted(store.reserve(clock.now(), tokens(100)))
    assert wait(store, clock) == 4 * HOUR
    assert store.usage(clock.now())["rpd"].utilization == 1.0
