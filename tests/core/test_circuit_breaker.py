"""The circuit breaker: when it opens, how long it stays open, and which call may try it again."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Any

import pytest
from hypothesis import assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from wallie_litellm.core.circuit_breaker import BreakerRules, BreakerState, CircuitBreaker, Verdict

CLOSED, OPEN, HALF_OPEN = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN
FORCED_OPEN, DISABLED = BreakerState.FORCED_OPEN, BreakerState.DISABLED
SUCCESS, SLOW, FAILURE, IGNORED = Verdict
TIMES: dict[str, Any] = {"open_for": 30.0, "max_open_for": 300.0}  # seconds


@dataclass
class Call:
    generation: int
    probe: int


def begin(breaker: CircuitBreaker, now: float) -> Call:
    assert breaker.wait(now) == 0
    probe = breaker.enter(now)
    return Call(breaker.generation, probe)


def end(breaker: CircuitBreaker, now: float, call: Call, verdict: Verdict, reason: str | None = None) -> bool:
    return breaker.record(now, call.generation, verdict, probe=call.probe, reason=reason)


def fail(breaker: CircuitBreaker, now: float, times: int = 1) -> None:
    for _ in range(times):
        end(breaker, now, begin(breaker, now), FAILURE, "500")


def opened(rules: BreakerRules | None = None, now: float = 0.0) -> CircuitBreaker:
    breaker = CircuitBreaker(rules or BreakerRules(**TIMES))
    fail(breaker, now, breaker.rules.failures)
    assert breaker.state is OPEN
    return breaker


@pytest.mark.parametrize("failures", [1, 2, 5])
def test_the_breaker_opens_after_exactly_the_configured_consecutive_failures(failures: int) -> None:
    breaker = CircuitBreaker(BreakerRules(failures=failures, **TIMES))
    fail(breaker, 0.0, failures - 1)
    assert (breaker.state, breaker.failures) == (CLOSED, failures - 1)
    assert end(breaker, 0.0, begin(breaker, 0.0), FAILURE, "502")
    assert (breaker.state, breaker.reason) == (OPEN, "502")


def test_a_success_starts_the_count_again_and_an_ignored_result_does_not() -> None:
    breaker = CircuitBreaker(BreakerRules(failures=3, **TIMES))
    fail(breaker, 0.0, 2)
    assert not end(breaker, 0.0, begin(breaker, 0.0), SUCCESS)
    fail(breaker, 0.0, 2)
    assert not end(breaker, 0.0, begin(breaker, 0.0), IGNORED)
    assert (breaker.state, breaker.failures) == (CLOSED, 2)
    fail(breaker, 0.0)
    assert breaker.state is OPEN


def test_the_breaker_stays_open_for_exactly_open_for() -> None:
    breaker = opened(now=100.0)
    assert breaker.wait(100.0) == 30
    assert breaker.wait(129.999) == pytest.approx(0.001)
    assert breaker.wait(130.0) == 0
    assert begin(breaker, 130.0).probe
    assert breaker.state is HALF_OPEN


def test_each_failed_probe_doubles_the_open_time_up_to_the_maximum_and_closing_resets_it() -> None:
    breaker = opened(BreakerRules(open_for=30, max_open_for=100))
    now, waits = 0.0, []
    for _ in range(4):
        waits.append(breaker.wait(now))
        now += breaker.wait(now)
        assert end(breaker, now, begin(breaker, now), FAILURE)
    assert waits == [30, 60, 100, 100]
    now += breaker.wait(now)
    assert end(breaker, now, begin(breaker, now), SUCCESS)
    assert breaker.state is CLOSED
    fail(breaker, now, 5)
    assert breaker.wait(now) == 30


def test_a_half_open_breaker_admits_the_configured_probes_and_closes_when_all_succeed() -> None:
    breaker = opened(BreakerRules(probes=3, **TIMES))
    calls = [begin(breaker, 30.0) for _ in range(3)]
    assert breaker.wait(30.0) > 0
    assert not end(breaker, 31.0, calls[0], SUCCESS)
    assert breaker.wait(31.0) > 0, "the permit of a probe that succeeded is not free again"
    assert not end(breaker, 31.0, calls[1], SUCCESS)
    assert end(breaker, 31.0, calls[2], SUCCESS)
    assert (breaker.state, breaker.failures, breaker.reason) == (CLOSED, 0, None)


def test_one_failed_probe_of_several_opens_the_breaker_again() -> None:
    breaker = opened(BreakerRules(probes=2, **TIMES))
    first, second = begin(breaker, 30.0), begin(breaker, 30.0)
    assert end(breaker, 31.0, first, FAILURE, "503")
    assert not end(breaker, 31.0, second, SUCCESS)
    assert (breaker.state, breaker.wait(31.0)) == (OPEN, 60)


def test_the_permit_of_an_ignored_probe_is_free_at_once() -> None:
    breaker = opened()
    call = begin(breaker, 30.0)
    assert breaker.wait(30.0) == 30
    assert not end(breaker, 30.0, call, IGNORED)
    assert begin(breaker, 30.0).probe
    assert breaker.wait(30.0) > 0


def test_a_lost_probe_expires() -> None:
    breaker = opened()
    begin(breaker, 30.0)
    assert breaker.wait(59.0) == 1
    assert begin(breaker, 60.0).probe
    assert breaker.wait(60.0) == 30, "one permit is free, not two"


def test_the_result_of_a_lost_probe_does_not_free_the_permit_of_the_next() -> None:
    breaker = opened()
    lost = begin(breaker, 30.0)
    begin(breaker, 60.0)
    assert not end(breaker, 61.0, lost, IGNORED)
    assert breaker.wait(61.0) == 29


@pytest.mark.parametrize(("verdict", "state"), [(SUCCESS, CLOSED), (FAILURE, OPEN)])
def test_a_lost_probe_that_ends_after_all_still_counts(verdict: Verdict, state: BreakerState) -> None:
    # A provider whose every answer takes longer than open_for would otherwise stay half-open for ever.
    breaker = opened()
    lost = begin(breaker, 30.0)
    begin(breaker, 60.0)
    assert end(breaker, 61.0, lost, verdict)
    assert breaker.state is state


@pytest.mark.parametrize("verdict", list(Verdict))
def test_a_result_of_an_earlier_generation_changes_nothing(verdict: Verdict) -> None:
    breaker = CircuitBreaker(BreakerRules(failures=1, **TIMES))
    old = begin(breaker, 0.0)
    fail(breaker, 0.0)
    assert not end(breaker, 1.0, old, verdict)
    assert breaker.state is OPEN
    probe = begin(breaker, 30.0)
    assert not end(breaker, 31.0, old, verdict)
    assert (breaker.state, breaker.wait(31.0)) == (HALF_OPEN, 29)
    end(breaker, 32.0, probe, SUCCESS)
    assert not end(breaker, 33.0, old, verdict)
    assert not end(breaker, 33.0, probe, verdict)
    assert (breaker.state, breaker.failures) == (CLOSED, 0)


def test_the_error_rate_opens_the_breaker_once_there_are_enough_calls() -> None:
    breaker = CircuitBreaker(BreakerRules(failures=1000, error_rate=0.5, window=60, min_calls=10))
    for verdict in [SUCCESS, FAILURE] * 4 + [SUCCESS]:
        end(breaker, 0.0, begin(breaker, 0.0), verdict)
    assert breaker.state is CLOSED
    fail(breaker, 0.0)
    assert breaker.state is OPEN


def test_a_lower_error_rate_does_not_open_the_breaker() -> None:
    breaker = CircuitBreaker(BreakerRules(failures=1000, error_rate=0.5, window=60, min_calls=10))
    for verdict in [SUCCESS, SUCCESS, FAILURE] * 20:
        end(breaker, 0.0, begin(breaker, 0.0), verdict)
    assert breaker.state is CLOSED


def test_calls_older_than_the_window_do_not_count() -> None:
    breaker = CircuitBreaker(BreakerRules(failures=1000, error_rate=0.5, window=60, min_calls=10))
    fail(breaker, 0.0, 9)
    fail(breaker, 60.0)
    assert breaker.state is CLOSED
    fail(breaker, 60.5, 9)
    assert breaker.state is OPEN


def test_the_share_of_slow_calls_opens_the_breaker_and_no_streak_of_them_does() -> None:
    breaker = CircuitBreaker(BreakerRules(failures=3, slow_rate=0.5, window=60, min_calls=10))
    for verdict in [SUCCESS, SLOW] * 4 + [SLOW]:
        end(breaker, 0.0, begin(breaker, 0.0), verdict)
    assert (breaker.state, breaker.failures) == (CLOSED, 0)
    end(breaker, 0.0, begin(breaker, 0.0), SLOW, "slow calls")
    assert (breaker.state, breaker.reason) == (OPEN, "slow calls")


def test_a_slow_probe_opens_the_breaker_again_where_slow_calls_count() -> None:
    for slow_rate, state in ((0.5, OPEN), (None, CLOSED)):
        breaker = opened(BreakerRules(failures=2, slow_rate=slow_rate, open_for=5))
        end(breaker, 10.0, begin(breaker, 10.0), SLOW)
        assert breaker.state is state


def test_an_operators_action_holds_until_the_next() -> None:
    breaker = CircuitBreaker(BreakerRules(failures=2, **TIMES))
    breaker.force_open()
    assert breaker.wait(1e9) == inf
    breaker.disable()
    fail(breaker, 0.0, 10)
    assert (breaker.state, breaker.wait(0.0)) == (DISABLED, 0)
    breaker.close()
    fail(breaker, 0.0)
    assert (breaker.state, breaker.failures) == (CLOSED, 1)


def test_a_breaker_that_is_released_is_probed_before_it_closes() -> None:
    breaker = CircuitBreaker(BreakerRules(failures=2, open_for=30, probes=1))
    breaker.force_open()
    breaker.release()
    assert (breaker.state, breaker.wait(0.0), breaker.reason) == (HALF_OPEN, 0, "released by the operator")
    probe = breaker.enter(0.0)
    assert breaker.wait(0.0) == 30  # no other call passes meanwhile
    breaker.record(1.0, breaker.generation, SUCCESS, probe=probe)
    assert breaker.state is CLOSED


def test_a_released_breaker_whose_probe_fails_opens_again() -> None:
    breaker = CircuitBreaker(BreakerRules(failures=2, open_for=30, max_open_for=300))
    breaker.force_open()
    breaker.release()
    breaker.record(1.0, breaker.generation, FAILURE, probe=breaker.enter(0.0))
    assert (breaker.state, breaker.wait(1.0)) == (OPEN, 60)


def test_a_disabled_breaker_that_is_released_counts_again() -> None:
    breaker = CircuitBreaker(BreakerRules(failures=1, **TIMES))
    breaker.disable()
    breaker.release()
    fail(breaker, 0.0)
    assert breaker.state is OPEN


def test_releasing_a_breaker_that_no_operator_holds_changes_nothing() -> None:
    breaker = CircuitBreaker(BreakerRules(failures=2, **TIMES))
    fail(breaker, 0.0)
    generation = breaker.generation
    breaker.release()
    assert (breaker.state, breaker.failures, breaker.generation) == (CLOSED, 1, generation)
    fail(breaker, 0.0)
    breaker.release()
    assert breaker.state is OPEN


def test_closing_an_open_breaker_resets_the_time_for_which_it_opens() -> None:
    breaker = opened()
    end(breaker, 30.0, begin(breaker, 30.0), FAILURE)
    assert breaker.wait(30.0) == 60
    breaker.close()
    fail(breaker, 30.0, 5)
    assert breaker.wait(30.0) == 30


class BreakerMachine(RuleBasedStateMachine):
    """Compared with a model of the rules in the fewest words.

    Times are whole seconds, so that both sides agree about ties.
    """

    @initialize(
        failures=st.integers(1, 4),
        probes=st.integers(1, 3),
        open_for=st.integers(1, 4),
        longest=st.integers(4, 20),
        rates=st.tuples(st.none() | st.sampled_from([0.5, 0.75]), st.none() | st.sampled_from([0.4, 0.6])),
        min_calls=st.integers(1, 6),
    )
    def setup(
        self,
        failures: int,
        probes: int,
        open_for: int,
        longest: int,
        rates: tuple[float | None, float | None],
        min_calls: int,
    ) -> None:
        error_rate, slow_rate = rates
        self.rules = BreakerRules(failures, error_rate, 5.0, min_calls, open_for, longest, probes, slow_rate)
        self.breaker = CircuitBreaker(self.rules)
        self.now = 0.0
        self.calls: list[tuple[Call, int, float]] = []  # the call, its epoch, when its permit ends
        self.epoch = 0
        self.move(CLOSED)
        self.open_for = self.rules.open_for

    def move(self, state: BreakerState) -> None:
        self.state = state
        self.epoch += 1
        self.streak = self.proved = 0
        self.results: list[tuple[float, Verdict]] = []
        self.until = self.now
        if state is CLOSED:
            self.open_for = self.rules.open_for

    @property
    def probing(self) -> list[float]:
        """When the permits end that are still held."""
        return [until for _, epoch, until in self.calls if epoch == self.epoch and until > self.now]

    def expected_wait(self) -> float:
        if self.state is FORCED_OPEN:
            return inf
        if self.state is OPEN:
            return max(0.0, self.until - self.now)
        if self.state is HALF_OPEN and len(self.probing) + self.proved >= self.rules.probes:
            return min(self.probing) - self.now if self.probing else 0.0
        return 0.0

    @rule(seconds=st.integers(0, 6))
    def advance(self, seconds: int) -> None:
        self.now += seconds

    @rule()
    def enter(self) -> None:
        assume(self.expected_wait() == 0)
        if self.state is OPEN:
            self.move(HALF_OPEN)
        probe = self.breaker.enter(self.now)
        assert bool(probe) == (self.state is HALF_OPEN)
        until = self.now + self.open_for if probe else 0.0
        self.calls.append((Call(self.breaker.generation, probe), self.epoch, until))

    @precondition(lambda self: self.calls)
    @rule(data=st.data(), verdict=st.sampled_from([FAILURE, FAILURE, SUCCESS, SLOW, IGNORED]))
    def finish(self, data: st.DataObject, verdict: Verdict) -> None:
        call = data.draw(st.sampled_from(self.calls))
        self.calls.remove(call)
        before = self.state
        if call[1] == self.epoch and verdict is not IGNORED:
            self.judge(verdict)
        assert end(self.breaker, self.now, call[0], verdict) == (self.state is not before)

    def judge(self, verdict: Verdict) -> None:
        if self.state is HALF_OPEN:
            if verdict is FAILURE or (verdict is SLOW and self.rules.slow_rate is not None):
                self.reopen(min(2 * self.open_for, self.rules.max_open_for))
            else:
                self.proved += 1
                if self.proved == self.rules.probes:
                    self.move(CLOSED)
        elif self.state is CLOSED:
            self.results.append((self.now, verdict))
            self.streak = self.streak + 1 if verdict is FAILURE else 0
            if self.streak == self.rules.failures or self.too_many(verdict):
                self.reopen(self.rules.open_for)

    def reopen(self, open_for: float) -> None:
        self.move(OPEN)
        self.open_for = open_for
        self.until = self.now + open_for

    def too_many(self, verdict: Verdict) -> bool:
        recent = [one is verdict for when, one in self.results if when > self.now - self.rules.window]
        rate = {FAILURE: self.rules.error_rate, SLOW: self.rules.slow_rate}.get(verdict)
        return rate is not None and len(recent) >= self.rules.min_calls and sum(recent) / len(recent) >= rate

    @rule(action=st.sampled_from(["force_open", "disable", "close", "close", "release"]))
    def act(self, action: str) -> None:
        getattr(self.breaker, action)()
        if action == "release":
            after = {FORCED_OPEN: HALF_OPEN, DISABLED: CLOSED}.get(self.state)
            if after is not None:
                self.move(after)
        else:
            self.move({"force_open": FORCED_OPEN, "disable": DISABLED, "close": CLOSED}[action])

    @invariant()
    def agrees(self) -> None:
        if hasattr(self, "breaker"):
            assert self.breaker.state is self.state
            assert self.breaker.failures == self.streak
            assert self.breaker.wait(self.now) == self.expected_wait()


TestBreakerMachine = BreakerMachine.TestCase
TestBreakerMachine.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
