"""Breakers of models that come into being at their first failure act as if they had always been there.

In any sequence of calls, results and actions, a guard is held against breakers that exist from the beginning.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from fake_clock import FakeClock
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from wallie_litellm.config import WallieConfig
from wallie_litellm.core.attempt_result import AttemptResult
from wallie_litellm.core.circuit_breaker import BreakerRules, BreakerState, CircuitBreaker, Verdict
from wallie_litellm.core.demand import ONE_REQUEST, Outcome
from wallie_litellm.core.fault_domain import FaultDomain
from wallie_litellm.errors import CircuitOpen
from wallie_litellm.guard import Guard
from wallie_litellm.guard.context import Attempt

MODELS: Final = ("a", "b")
SUCCESS, FAILURE, IGNORED = Verdict.SUCCESS, Verdict.FAILURE, Verdict.IGNORED
# Each result, and what it shows of the model and of the provider.
RESULTS: Final = (
    (AttemptResult(Outcome.SUCCESS, SUCCESS), SUCCESS, SUCCESS),
    (AttemptResult(Outcome.REJECTED, FAILURE, fault=FaultDomain.PROVIDER), FAILURE, IGNORED),
    (AttemptResult(Outcome.CUT, FAILURE, fault=FaultDomain.PROVIDER), FAILURE, IGNORED),
    (AttemptResult(Outcome.NOT_SENT, FAILURE, fault=FaultDomain.PROVIDER), IGNORED, FAILURE),
    (AttemptResult(Outcome.REJECTED, FAILURE, fault=FaultDomain.ACCOUNT), IGNORED, FAILURE),
    (AttemptResult(Outcome.REJECTED, fault=FaultDomain.CALLER), IGNORED, IGNORED),
)


class Call(NamedTuple):
    attempt: Attempt
    of_model: tuple[int, int]  # generation and permit
    of_provider: tuple[int, int]


class ModelBreakers(RuleBasedStateMachine):
    @initialize(failures=st.integers(1, 3), probes=st.integers(1, 2))
    def setup(self, failures: int, probes: int) -> None:
        self.clock = FakeClock()
        stated = {"failures": failures, "probes": probes, "open_for": 10, "max_open_for": 40}
        config = WallieConfig.model_validate({"breaker": stated, "providers": {"openai": {}}, "ledger": None})
        self.guard = Guard(config, clock=self.clock)
        rules = BreakerRules(failures=failures, probes=probes, open_for=10, max_open_for=40)
        self.models = {model: CircuitBreaker(rules) for model in MODELS}
        self.provider = CircuitBreaker(rules)
        self.calls: list[Call] = []

    def now(self) -> float:
        """A time of its own for each step, as on a real clock."""
        self.clock.advance(0.001)
        return self.clock.now()

    @rule(model=st.sampled_from(MODELS))
    def call(self, model: str) -> None:
        self.begin(model)

    @rule(model=st.sampled_from(MODELS), result=st.sampled_from(RESULTS[:5]), times=st.integers(1, 3))
    def call_in_a_row(self, model: str, result: tuple[AttemptResult, Verdict, Verdict], times: int) -> None:
        for _ in range(times):
            if self.begin(model):
                self.end(len(self.calls) - 1, result)
                self.each_is_as_if_it_had_always_been_there()

    def begin(self, model: str) -> bool:
        now, breaker = self.now(), self.models[model]
        attempt = Attempt(model, "openai", "openai", f"openai|{model}", model)
        passes = breaker.wait(now) <= 0 and self.provider.wait(now) <= 0
        if not passes and breaker.wait(now) <= 0:  # the permit of the model was taken, and is given back
            permit = breaker.enter(now)
            breaker.record(now, breaker.generation, IGNORED, probe=permit)
        try:
            self.guard.admit_blocking(self.guard.open_context(model), attempt, ONE_REQUEST)
        except CircuitOpen:
            assert not passes
            return False
        assert passes
        permits = breaker.enter(now), self.provider.enter(now)
        self.calls.append(
            Call(attempt, (breaker.generation, permits[0]), (self.provider.generation, permits[1])),
        )
        return True

    @rule(position=st.integers(0, 20), result=st.sampled_from(RESULTS))
    def end(self, position: int, result: tuple[AttemptResult, Verdict, Verdict]) -> None:
        if not self.calls:
            return
        call, now = self.calls.pop(position % len(self.calls)), self.now()
        found, of_model, of_provider = result
        for breaker, (generation, probe), verdict in (
            (self.models[call.attempt.group], call.of_model, of_model),
            (self.provider, call.of_provider, of_provider),
        ):
            breaker.record(now, generation, verdict, probe=probe)
        self.guard.settle(self.guard.open_context(call.attempt.group), call.attempt, found)

    @rule(seconds=st.sampled_from([5.0, 10.0, 20.0]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(model=st.sampled_from([None, *MODELS]), action=st.sampled_from(["open", "close", "release"]))
    def act(self, model: str | None, action: str) -> None:
        self.now()
        if model is not None and model not in self.known():
            return
        if model is not None:
            reached = [self.models[model]]
        else:
            reached = [self.provider, *(self.models.values() if action != "open" else ())]
        for breaker in reached:
            if action == "close" and breaker is not reached[0] and self.is_clean(breaker):
                continue  # it has no limiter to act on, or one that this changes nothing of
            {"open": breaker.force_open, "close": breaker.close, "release": breaker.release}[action]()
        getattr(self.guard, f"{action}_circuit")("openai", model=model)

    def known(self) -> set[str]:
        return {name for name in MODELS if any(limiter.name == f"openai|{name}" for limiter in self.guard.limiters())}

    @staticmethod
    def is_clean(breaker: CircuitBreaker) -> bool:
        return breaker.state is BreakerState.CLOSED and not breaker.failures

    @invariant()
    def each_is_as_if_it_had_always_been_there(self) -> None:
        now = self.clock.now()
        for model, breaker in self.models.items():
            expected = max(breaker.wait(now), self.provider.wait(now)) > 0
            assert self.guard.is_open(f"openai|{model}") is expected, model
        own = self.guard.limiter("openai").state()
        assert (own.breaker, own.consecutive_failures) == (self.provider.state, self.provider.failures)

    @rule()
    def a_provider_is_open_only_with_all_its_models(self) -> None:
        described = self.guard.status()["providers"]["openai"]
        states = {breaker.state for breaker in self.models.values()}
        shut = {BreakerState.OPEN, BreakerState.FORCED_OPEN}
        if described["health"] == "down" and self.provider.state not in shut:
            assert states & shut
        if self.provider.state in shut:
            assert described["health"] == "down"

    def teardown(self) -> None:
        for call in self.calls:
            self.guard.settle(self.guard.open_context(call.attempt.group), call.attempt, RESULTS[-1][0])
        assert not any(limiter.in_flight for limiter in self.guard.limiters())
        self.guard.close()


TestModelBreakers = ModelBreakers.TestCase
TestModelBreakers.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
