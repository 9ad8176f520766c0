"""What a store admits and denies."""

from __future__ import annotations

from math import inf

import pytest
from fake_clock import FakeClock
from hypothesis import given, settings
from hypothesis import strategies as st
from limiter_support import assert_never_over_admitted, denied, granted, new_store, tokens, used_up_dimension

from wallie_litellm.core.circuit_breaker import BreakerRules, BreakerState, Verdict
from wallie_litellm.core.demand import NOTHING, Demand
from wallie_litellm.core.dimensions import RATE_DIMENSIONS
from wallie_litellm.limiter.limits import AccountLimits
from wallie_litellm.limiter.memory_store import MemoryStore
from wallie_litellm.limiter.store import Denial, DenialReason, ProviderStore, Reservation

pytestmark = pytest.mark.usefixtures("every_store")

AMOUNTS = st.integers(0, 60)
DEMANDS = st.builds(Demand, st.integers(1, 3), AMOUNTS, AMOUNTS, AMOUNTS)
PAUSES = st.sampled_from([0.0, 0.0, 0.001, 0.25, 1.0]) | st.floats(0, 70)
ARRIVALS = st.lists(st.tuples(PAUSES, DEMANDS), max_size=30)


@st.composite
def some_limits(draw: st.DrawFn) -> AccountLimits:
    stated = draw(st.dictionaries(st.sampled_from(RATE_DIMENSIONS), st.integers(4, 300), min_size=1))
    burst = {name: draw(st.integers(1, 2 * limit)) for name, limit in stated.items() if draw(st.booleans())}
    return AccountLimits(stated, burst, draw(st.sampled_from([0.0, 0.1, 0.5])))


def used(store: ProviderStore, now: float) -> dict[str, float]:
    return {dimension: usage.used for dimension, usage in store.usage(now).items()}


@given(some_limits(), ARRIVALS)
@settings(deadline=None)
def test_no_interval_sees_more_than_capacity_and_refill_in_any_dimension(
    limits: AccountLimits, arrivals: list[tuple[float, Demand]]
) -> None:
    store, now, admissions = MemoryStore("p", limits, BreakerRules(), lambda: 0.0), 1000.0, []
    for pause, demand in arrivals:
        now += pause
        if isinstance(store.reserve(now, demand), Reservation):
            admissions.append((now, demand))
    assert_never_over_admitted(admissions, limits)


@given(some_limits(), ARRIVALS)
@settings(deadline=None)
def test_a_denied_reservation_takes_nothing_from_any_dimension(
    limits: AccountLimits, arrivals: list[tuple[float, Demand]]
) -> None:
    clock = FakeClock()
    limits = AccountLimits(
        {**limits.per_dimension, "rpd": 20, "tpd": 400, "concurrency": 8}, limits.burst, limits.headroom
    )
    store = MemoryStore("p", limits, BreakerRules(), clock.wall)
    for pause, demand in arrivals:
        clock.advance(pause)
        before = (store.usage(clock.now()), store.in_flight)
        if isinstance(store.reserve(clock.now(), demand), Denial):
            assert (store.usage(clock.now()), store.in_flight) == before


@given(some_limits(), ARRIVALS, st.floats(0, 1e6))
@settings(deadline=None)
def test_waiting_as_long_as_predicted_is_enough_and_a_moment_less_is_not(
    limits: AccountLimits, arrivals: list[tuple[float, Demand]], start: float
) -> None:
    store, now = MemoryStore("p", limits, BreakerRules(), lambda: 0.0), start
    for pause, demand in arrivals:
        now += pause
        result = store.reserve(now, demand)
        if isinstance(result, Reservation):
            continue
        if result.retry_after == inf:
            assert result.reason is DenialReason.TOO_LARGE
            continue
        if result.retry_after > 1e-4:
            denied(store.reserve(now + result.retry_after - 1e-5, demand))
        now += result.retry_after
        granted(store.reserve(now, demand))


@pytest.mark.parametrize(
    ("limits", "demand", "reason", "wait"),
    [
        ({"rpm": 60, "tpm": 600}, tokens(0), "rpm", 1.0),
        ({"tpm": 600, "rpm": 1000}, tokens(50), "tpm", 5.0),
        ({"itpm": 600, "otpm": 60}, Demand(1, 60, 30, 30), "otpm", 30.0),
    ],
)
def test_a_denial_names_the_dimension_of_the_longest_wait(
    limits: dict[str, int], demand: Demand, reason: str, wait: float
) -> None:
    store = new_store(FakeClock(), limits)
    full = {"requests": limits.get("rpm", 1), "tokens": limits.get("tpm", 0)}
    store.consume(5.0, Demand(**full, input=limits.get("itpm", 0), output=limits.get("otpm", 0)))
    assert denied(store.reserve(5.0, demand)) == (DenialReason.LIMIT, pytest.approx(wait), reason)


def test_the_wait_includes_the_demand_ahead() -> None:
    store = new_store(FakeClock(), {"tpm": 600})
    store.consume(5.0, tokens(600))
    assert store.check(5.0, tokens(10), tokens(40)) == (DenialReason.LIMIT, pytest.approx(5.0), "tpm")


def test_a_burst_sets_the_capacity_and_not_the_rate() -> None:
    store = new_store(FakeClock(), {"rpm": 60}, burst={"rpm": 3})
    assert [type(store.reserve(0.0, Demand())) for _ in range(4)] == [Reservation] * 3 + [Denial]
    assert denied(store.reserve(0.0, Demand())).retry_after == pytest.approx(1.0, abs=1e-5)


def test_headroom_keeps_a_share_of_rate_capacity_and_day_unused() -> None:
    store = new_store(FakeClock(), {"rpm": 100, "rpd": 120}, headroom=0.5)
    for _ in range(50):
        granted(store.reserve(0.0, Demand()))
    assert denied(store.reserve(0.0, Demand())) == (DenialReason.LIMIT, pytest.approx(60 / 50), "rpm")
    for _ in range(10):
        granted(store.reserve(101.0, Demand()))
    assert used_up_dimension(store.reserve(101.0, Demand())) == "rpd"


def test_headroom_does_not_cost_one_more_by_rounding() -> None:
    store = new_store(FakeClock(), {"rpd": 100}, headroom=0.9)
    for _ in range(10):
        granted(store.reserve(0.0, Demand()))
    denied(store.reserve(0.0, Demand()))


@pytest.mark.parametrize(
    ("limits", "demand", "dimension"),
    [
        ({"tpm": 100}, tokens(101), "tpm"),
        ({"rpm": 60, "itpm": 100}, Demand(1, 0, 101, 0), "itpm"),
        ({"tpd": 100}, tokens(101), "tpd"),
    ],
)
def test_a_demand_larger_than_a_whole_limit_is_too_large(
    limits: dict[str, int], demand: Demand, dimension: str
) -> None:
    store = new_store(FakeClock(), limits)
    store.pause(100.0)  # no other denial takes precedence
    assert denied(store.reserve(0.0, demand)) == (DenialReason.TOO_LARGE, inf, dimension)


def test_a_demand_as_large_as_a_whole_limit_is_admitted() -> None:
    granted(new_store(FakeClock(), {"tpm": 100}, headroom=0.1).reserve(0.0, tokens(90)))


def test_concurrency_counts_reservations_in_flight() -> None:
    store = new_store(FakeClock(), {"concurrency": 2})
    first, _ = granted(store.reserve(0.0, Demand())), granted(store.reserve(0.0, Demand()))
    assert denied(store.reserve(0.0, Demand())).reason is DenialReason.CONCURRENCY
    assert store.usage(0.0)["concurrency"][:2] == (2, 2)
    store.settle(0.0, first, first.demand)
    granted(store.reserve(0.0, Demand()))


def test_requests_ahead_take_slots_too() -> None:
    store = new_store(FakeClock(), {"concurrency": 2})
    assert store.check(0.0, Demand(), Demand(1)) is None
    assert denied(store.check(0.0, Demand(), Demand(2))).reason is DenialReason.CONCURRENCY


def test_a_pause_holds_until_the_later_deadline() -> None:
    store = new_store(FakeClock(), {"rpm": 60})
    store.pause(120.0)
    store.pause(50.0)
    assert denied(store.reserve(49.0, Demand())) == (DenialReason.PAUSED, 71.0, None)
    denied(store.reserve(119.999, Demand()))
    granted(store.reserve(120.0, Demand()))


def test_a_pause_shorter_than_the_wait_is_not_the_reason() -> None:
    store = new_store(FakeClock(), {"rpm": 60})
    store.consume(0.0, Demand(90))
    store.pause(5.0)
    assert denied(store.reserve(0.0, Demand())) == (DenialReason.LIMIT, pytest.approx(31.0), "rpm")


def fail(store: ProviderStore) -> None:
    store.breaker.record(0.0, store.breaker.generation, Verdict.FAILURE, probe=0)
    store.on_breaker_report(0.0)


def test_an_open_breaker_denies_and_a_half_open_one_admits_its_probes() -> None:
    store = new_store(FakeClock(), {"rpm": 60}, BreakerRules(failures=1, open_for=30, max_open_for=60))
    fail(store)
    assert denied(store.reserve(10.0, Demand())) == (DenialReason.CIRCUIT_OPEN, 20.0, None)
    probe = granted(store.reserve(30.0, Demand()))
    assert probe.probe
    assert probe.generation == store.breaker.generation
    assert store.breaker.state is BreakerState.HALF_OPEN
    assert denied(store.reserve(30.0, Demand())).reason is DenialReason.CIRCUIT_OPEN


def act(store: ProviderStore, action: str, now: float = 0.0) -> None:
    getattr(store.breaker, action)()
    store.on_breaker_report(now)


def test_a_breaker_released_by_an_operator_admits_a_probe_at_once() -> None:
    store = new_store(FakeClock(), {"rpm": 60}, BreakerRules(failures=1, open_for=30, max_open_for=60))
    fail(store)
    act(store, "force_open", 1.0)
    assert denied(store.reserve(1.0, Demand())) == (DenialReason.CIRCUIT_OPEN, inf, None)
    act(store, "release", 2.0)
    assert store.breaker.state is BreakerState.HALF_OPEN
    probe = granted(store.reserve(2.0, Demand()))
    assert probe.probe
    assert denied(store.reserve(2.0, Demand())).reason is DenialReason.CIRCUIT_OPEN
    store.settle(2.0, probe, probe.demand)
    store.breaker.record(2.0, probe.generation, Verdict.SUCCESS, probe=probe.probe)
    store.on_breaker_report(2.0)
    assert [granted(store.reserve(3.0, Demand())).probe for _ in range(2)] == [0, 0]


def test_a_probe_from_before_an_operators_actions_blocks_no_probe_after_them() -> None:
    store = new_store(FakeClock(), {"rpm": 60}, BreakerRules(failures=1, open_for=30, max_open_for=60))
    fail(store)
    granted(store.reserve(30.0, Demand()))
    assert denied(store.reserve(30.0, Demand())).reason is DenialReason.CIRCUIT_OPEN
    act(store, "force_open", 30.0)
    act(store, "release", 30.0)
    assert granted(store.reserve(30.0, Demand())).probe


def test_releasing_an_open_breaker_does_not_shorten_its_time() -> None:
    store = new_store(FakeClock(), {"rpm": 60}, BreakerRules(failures=1, open_for=30, max_open_for=60))
    fail(store)
    act(store, "release", 10.0)
    assert denied(store.reserve(10.0, Demand())) == (DenialReason.CIRCUIT_OPEN, 20.0, None)


def test_a_denied_call_uses_up_no_probe() -> None:
    store = new_store(FakeClock(), {"rpm": 60}, BreakerRules(failures=1, open_for=30, max_open_for=60))
    fail(store)
    store.consume(30.0, Demand(60))
    assert used_up_dimension(store.reserve(30.0, Demand())) == "rpm"
    assert store.breaker.wait(31.0) == 0
    assert granted(store.reserve(31.0, Demand())).probe


def test_consuming_more_than_there_is_makes_a_debt() -> None:
    store = new_store(FakeClock(), {"tpm": 600, "rpd": 5})
    store.consume(0.0, Demand(7, 1200, 0, 0))
    assert used(store, 0.0) == {"tpm": pytest.approx(1200), "rpd": 7}
    assert used_up_dimension(store.reserve(0.0, Demand(1, 10, 0, 0))) == "rpd"


def test_reset_forgets_usage_and_pause_but_not_the_breaker() -> None:
    store = new_store(FakeClock(), {"rpm": 60, "rpd": 5})
    store.consume(0.0, Demand(60))
    store.pause(100.0)
    store.breaker.force_open()
    store.reset(1.0)
    assert used(store, 1.0) == {"rpm": 0, "rpd": 0}
    assert store.check(1.0, Demand(), NOTHING) == (DenialReason.CIRCUIT_OPEN, inf, None)
    store.breaker.close()
    granted(store.reserve(1.0, Demand()))


@pytest.mark.parametrize(
    ("limits", "demand", "fitted"),
    [
        ({}, Demand(1, 500, 100, 400), Demand(1, 500, 100, 400)),
        ({"tpm": 200}, Demand(1, 500, 100, 400), Demand(1, 200, 100, 400)),
        ({"tpd": 200, "tpm": 300}, Demand(1, 500, 100, 400), Demand(1, 200, 100, 400)),
        ({"otpm": 50}, Demand(1, 500, 100, 400), Demand(1, 500, 100, 50)),
        ({"tpm": 60}, Demand(1, 500, 100, 400), Demand(1, 100, 100, 400)),
    ],
)
def test_a_guess_is_cut_down_to_what_fits_but_never_below_the_input(
    limits: dict[str, int], demand: Demand, fitted: Demand
) -> None:
    assert new_store(FakeClock(), limits).fit(demand) == fitted


def test_without_limits_everything_passes() -> None:
    store = new_store(FakeClock(), {})
    for _ in range(1000):
        granted(store.reserve(0.0, tokens(10**9)))
    assert store.usage(0.0) == {}
