"""A limiter that goes on where another process stopped admits no more than that process would have."""

from __future__ import annotations

from typing import Any

from fake_clock import FakeClock
from hypothesis import example, given, settings
from hypothesis import strategies as st
from limiter_support import denied, granted, new_limiter, new_store, tokens, used_up_dimension

from wallie_litellm.core.circuit_breaker import BreakerRules
from wallie_litellm.core.demand import NOTHING, Demand
from wallie_litellm.limiter.limiter import Limiter
from wallie_litellm.limiter.limits import AccountLimits
from wallie_litellm.limiter.listener import Crossing
from wallie_litellm.limiter.memory_store import MemoryStore
from wallie_litellm.limiter.store import Denial, Reservation

LEVELS = {"warning": 0.8, "critical": 0.95}
Record = tuple[float, Demand]  # when, and what it was charged


def admitted(limiter: Limiter, demand: Demand) -> bool:
    result = limiter.reserve(demand)
    if isinstance(result, Denial):
        return False
    limiter.settle(result, demand)
    return True


def how_many(limiter: Limiter, demand: Demand, most: int = 500) -> int:
    return next((number for number in range(most) if not admitted(limiter, demand)), most)


def restarted(clock: FakeClock, limits: dict[str, int], records: list[Record]) -> Limiter:
    """A limiter of a new process that has read ``records``; its clock counts from its own start."""
    limiter = new_limiter(clock, limits)
    now = clock.now()
    recent = [(now - at, charged) for at, charged in records if now - at <= limiter.lookback()]
    limiter.restore(sum_of(charged for _, charged in records), recent)
    return limiter


def sum_of(charges: object) -> Demand:
    total = NOTHING
    for charged in charges:  # type: ignore[attr-defined]
        total = total.plus(charged)
    return total


def test_recent_usage_is_restored() -> None:
    clock = FakeClock()
    limiter = new_limiter(clock, {"rpm": 60, "tpm": 600, "rpd": 100, "tpd": 1000})
    limiter.restore(Demand(40, 700, 700, 0), [(10.0, Demand(30, 300, 300, 0))])
    found = {name: (usage.units, round(usage.left)) for name, usage in limiter.state().usage.items()}
    assert found == {"rpm": (30, 40), "tpm": (300, 400), "rpd": (40, 60), "tpd": (700, 300)}
    assert used_up_dimension(limiter.reserve(tokens(301))) == "tpd"
    granted(limiter.reserve(tokens(300)))


def test_restoring_nothing_leaves_the_limits_free() -> None:
    limiter = new_limiter(FakeClock(), {"rpm": 60, "tpm": 600, "rpd": 100})
    limiter.restore(NOTHING, [])
    assert [usage.used for usage in limiter.state().usage.values()] == [0, 0, 0]
    assert how_many(limiter, tokens(1)) == 60


def test_what_is_restored_may_lie_before_the_clocks_zero() -> None:
    """Its monotonic clock may begin at zero, and what is restored then lies before that."""
    limiter = new_limiter(FakeClock(now=0.0), {"rpm": 60})
    limiter.restore(NOTHING, [(50.0, Demand(20))])
    assert (limiter.state().usage["rpm"].used, limiter.state().usage["rpm"].left) == (20, 60)
    limiter = new_limiter(FakeClock(now=0.0), {"rpm": 60})
    limiter.restore(NOTHING, [(10.0, Demand(30)), (61.0, Demand(5))])
    assert (limiter.state().usage["rpm"].used, round(limiter.state().usage["rpm"].left)) == (30, 40)


def test_a_provider_kept_at_its_limit_admits_nothing_after_a_restart() -> None:
    clock = FakeClock()
    first = new_limiter(clock, {"rpm": 60})
    records: list[Record] = []
    for _ in range(600):
        while admitted(first, tokens(0)):
            records.append((clock.now(), tokens(0)))
        clock.advance(1)
    assert how_many(restarted(clock, {"rpm": 60}, records), tokens(0)) <= how_many(first, tokens(0)) == 1


def test_a_used_up_daily_limit_stays_used_up_until_midnight() -> None:
    clock = FakeClock()
    limiter = new_limiter(clock, {"rpd": 5})
    limiter.restore(Demand(5, 0, 0, 0), [])
    wait = denied(limiter.reserve(tokens(0))).retry_after
    clock.advance(wait)
    assert how_many(limiter, tokens(0)) == 5


def test_balances_begin_anew_after_a_restart() -> None:
    limiter = new_limiter(FakeClock(), {"rpm": 60, "rpd": 100})
    limiter.restore(Demand(40), [(1.0, Demand(30))])
    reservation = granted(limiter.reserve(Demand()))
    limiter.settle(reservation, Demand())
    assert {tuple(usage.balance) for usage in limiter.state().usage.values()} == {(1, 1, 0)}


class RecordedThresholds:
    """A listener that keeps the thresholds that are announced."""

    def __init__(self) -> None:
        self.thresholds: list[tuple[str, str]] = []

    def on_breaker_change(self, *_change: Any) -> None:
        """Ignored: no breaker opens here."""

    def on_threshold(self, _provider: str, crossing: Crossing) -> None:
        self.thresholds.append((crossing.dimension, crossing.level))


def test_thresholds_announced_by_the_earlier_process_are_not_announced_again() -> None:
    clock, listener = FakeClock(), RecordedThresholds()
    store = MemoryStore("openai", AccountLimits({"rpm": 100, "rpd": 100}), BreakerRules(), clock.wall, LEVELS, listener)
    limiter = Limiter("openai", store, clock, 600.0)
    limiter.restore(Demand(85), [(0.0, Demand(85))])
    limiter.consume(Demand(5))
    assert listener.thresholds == []
    limiter.consume(Demand(5))
    assert listener.thresholds == [("rpm", "critical"), ("rpd", "critical")]
    listener.thresholds.clear()
    clock.advance(86_400)
    limiter.consume(Demand(80))
    assert listener.thresholds == [("rpm", "warning"), ("rpd", "warning")]


def test_restoring_an_idle_provider_announces_nothing() -> None:
    clock = FakeClock(now=0.0)
    store = MemoryStore("openai", AccountLimits({"rpm": 100, "rpd": 100}), BreakerRules(), clock.wall, LEVELS)
    store.restore(clock.now(), NOTHING, [])
    assert store.usage(clock.now())["rpm"].units == 0


STEPS = st.lists(
    st.tuples(st.integers(1, 40), st.sampled_from([0.0, 0.5, 2.0]) | st.floats(0, 30)), min_size=1, max_size=60
)
LIMITS = st.fixed_dictionaries({"rpm": st.integers(2, 120), "tpm": st.integers(40, 400), "rpd": st.integers(20, 100)})


@given(LIMITS, STEPS, STEPS, st.floats(0, 20))
@example({"rpm": 60, "tpm": 400, "rpd": 10**6}, [(1, 1.0)] * 200, [(1, 0.0)] * 60, 0.0)
@settings(deadline=None, max_examples=200)
def test_a_restored_limiter_admits_at_most_what_an_uninterrupted_one_would(
    limits: dict[str, int], before: list[tuple[int, float]], after: list[tuple[int, float]], pause: float
) -> None:
    clock, records = FakeClock(), list[Record]()
    uninterrupted = new_limiter(clock, limits)
    for amount, seconds in before:
        clock.advance(seconds)
        while admitted(uninterrupted, tokens(amount)):
            records.append((clock.now(), tokens(amount)))
    clock.advance(pause)
    second = restarted(clock, limits, records)
    for amount, seconds in after:
        clock.advance(seconds)
        usage, free = second.state().usage, uninterrupted.state().usage
        for dimension in limits:
            assert usage[dimension].left <= free[dimension].left + 1e-3, dimension
        if admitted(second, tokens(amount)):
            result = uninterrupted.reserve(tokens(amount))
            assert isinstance(result, Reservation), "would have been refused without the restart"
            uninterrupted.settle(result, tokens(amount))


@given(LIMITS, st.lists(st.tuples(st.integers(1, 20), st.floats(0, 3)), max_size=30))
@settings(deadline=None, max_examples=100)
def test_a_provider_idle_for_long_is_restored_with_free_limits(
    limits: dict[str, int], before: list[tuple[int, float]]
) -> None:
    clock, records = FakeClock(), list[Record]()
    first = new_limiter(clock, limits)
    for amount, seconds in before:
        clock.advance(seconds)
        if admitted(first, tokens(amount)):
            records.append((clock.now(), tokens(amount)))
    clock.advance(new_store(clock, limits).lookback)
    second = restarted(clock, limits, records)
    assert second.state().usage["rpm"].used == first.state().usage["rpm"].used == 0
    assert second.state().usage["rpm"].left == first.state().usage["rpm"].left == limits["rpm"]
    assert second.state().usage["rpd"].used == first.state().usage["rpd"].used
