"""How long a call may say nothing, by what calls of its kind have taken."""

from __future__ import annotations

import pytest
from fake_clock import FakeClock
from traffic import Call

from wallie_litellm.core.attempt_result import AttemptResult
from wallie_litellm.core.circuit_breaker import Verdict
from wallie_litellm.core.demand import Demand, Outcome
from wallie_litellm.routing import first_token
from wallie_litellm.routing.first_token import FirstTokenBounds
from wallie_litellm.routing.latencies import MOST_KINDS, Latencies
from wallie_litellm.routing.switches import Switches

SERVED = AttemptResult(Outcome.SUCCESS, Verdict.SUCCESS, Demand(1, 20, 10, 10))


class Bounds:
    """Bounds by calls that are made on a fake clock."""

    def __init__(self) -> None:
        self.clock, self.switches = FakeClock(), Switches()
        self.latencies = Latencies(self.clock.now)
        self.bounds = FirstTokenBounds(self.latencies, self.clock.now, self.switches)

    def serve(self, takes: float, times: int = 20, scope: str = "openai|m") -> None:
        for _ in range(times):
            call = Call(scope, self.clock.now())
            self.latencies.begin(call, False)
            self.clock.advance(takes)
            self.latencies.end(call, SERVED)

    def of(self, scope: str = "openai|m") -> float | None:
        return self.bounds.of(scope, False)


def test_it_is_four_times_the_99th_percentile_and_never_below_five_seconds() -> None:
    quick, slow = Bounds(), Bounds()
    quick.serve(0.3)
    assert quick.of() == 5.0
    slow.serve(10.0)
    assert slow.of() == pytest.approx(40.0, rel=0.06)


def test_before_twenty_calls_there_is_none() -> None:
    bounds = Bounds()
    bounds.serve(0.3, times=19)
    assert bounds.of() is None
    bounds.serve(0.3, times=1)
    assert bounds.of() == 5.0


def test_a_bound_that_was_known_stays_without_answers_and_doubles_every_ten_minutes() -> None:
    bounds = Bounds()
    bounds.serve(0.3)
    assert bounds.of() == 5.0
    bounds.clock.advance(599)
    assert bounds.of() == 5.0
    for passes, expected in ((2, 10.0), (600, 20.0), (600, 40.0)):
        bounds.clock.advance(passes)
        assert bounds.of() == expected


def test_switched_off_there_is_none() -> None:
    bounds = Bounds()
    bounds.serve(0.3)
    bounds.switches.set("first_token", on=False)
    assert bounds.of() is None


def test_invented_models_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_token, "MOST_KINDS", 50)
    bounds = Bounds()
    for number in range(120):
        bounds.of(f"openai|invented-{number}")
    assert not bounds.bounds.describe()
    for number in range(60):
        bounds.serve(0.01, scope=f"openai|{number}")
        bounds.of(f"openai|{number}")
    assert len(bounds.bounds.describe()) == 50
    assert MOST_KINDS > 50
