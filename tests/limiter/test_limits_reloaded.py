"""A limiter that goes by other settings of the file: what is used, waits and is under way stays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fake_clock import FakeClock
from limiter_support import RecordedQueue, assert_balances, assert_scopes_hold, denied, granted, new_limiter, tokens

from wallie_litellm.core.circuit_breaker import BreakerRules, BreakerState, Verdict
from wallie_litellm.core.demand import ONE_REQUEST
from wallie_litellm.limiter.configured import LimiterSettings
from wallie_litellm.limiter.limiter import Limiter
from wallie_litellm.limiter.limits import AccountLimits, ScopeLimits
from wallie_litellm.limiter.store import DenialReason, Reservation

pytestmark = pytest.mark.usefixtures("every_store")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def reload(
    limiter: Limiter,
    limits: dict[str, int],
    rules: BreakerRules | None = None,
    pattern_of: Callable[[str], str] = lambda _model: "",
    **more: Any,
) -> None:
    levels = {"warning": 0.8, "critical": 0.95}
    settings = LimiterSettings(AccountLimits(limits, **more), rules or BreakerRules(), 600.0, levels)
    limiter.configure(settings, pattern_of)


def admit_all(limiter: Limiter, scope: str = "") -> int:
    """How many requests are admitted at once."""
    admitted = 0
    while isinstance(limiter.reserve(ONE_REQUEST, scope=scope), Reservation):
        admitted += 1
    return admitted


@pytest.mark.parametrize(
    ("before", "used", "after", "at_once", "in_a_minute"),
    [
        pytest.param({"rpm": 60}, 60, {"rpm": 120}, 60, 120, id="raised: the new room is free, the used is not"),
        pytest.param({"rpm": 60}, 0, {"rpm": 6}, 6, 6, id="lowered: no more than the new capacity"),
        pytest.param({"rpm": 60}, 60, {"rpm": 6}, 0, 6, id="lowered and used up: no more than is refilled"),
        pytest.param({"rpm": 60}, 10, {"rpm": 60}, 50, 60, id="as before"),
        pytest.param({"rpd": 10}, 8, {"rpd": 9}, 1, 0, id="a day's count stays, under a lower limit"),
        pytest.param({"rpd": 10}, 8, {"rpd": 20}, 12, 0, id="a day's count stays, under a higher one"),
        pytest.param({"rpm": 60, "rpd": 100}, 5, {"rpd": 100}, 95, 0, id="a rate is dropped"),
        pytest.param({"rpd": 100}, 5, {"rpm": 6, "rpd": 100}, 6, 6, id="a rate is added"),
    ],
)
def test_levels_and_counts_stay_when_limits_change(
    clock: FakeClock, before: dict[str, int], used: int, after: dict[str, int], at_once: int, in_a_minute: int
) -> None:
    limiter = new_limiter(clock, before)
    for _ in range(used):
        limiter.settle(granted(limiter.reserve(ONE_REQUEST)), ONE_REQUEST)

    reload(limiter, after)

    assert admit_all(limiter) == at_once
    clock.advance(60.0)
    assert admit_all(limiter) == in_a_minute


def test_requests_in_the_queue_keep_their_places_and_go_by_the_new_limit(clock: FakeClock) -> None:
    limiter = new_limiter(clock, {"rpm": 1})
    granted(limiter.reserve(ONE_REQUEST))
    queue = RecordedQueue(clock, limiter)
    first, second, urgent = queue.join(ONE_REQUEST), queue.join(ONE_REQUEST), queue.join(ONE_REQUEST, priority=1)

    reload(limiter, {"rpm": 60})
    clock.advance(3.0)

    assert queue.answered == [urgent, first, second]
    assert all(isinstance(waiter.result, Reservation) for waiter in queue.answered)


def test_requests_in_the_queue_pass_the_limit_that_their_model_has_now(clock: FakeClock) -> None:
    limiter = new_limiter(clock, {"rpm": 60})
    for _ in range(60):
        limiter.settle(granted(limiter.reserve(ONE_REQUEST)), ONE_REQUEST)
    queue = RecordedQueue(clock, limiter)
    waiters = [queue.join(ONE_REQUEST) for _ in range(4)]
    for waiter, model in zip(waiters, ["mini", "large", "large", "mini"], strict=True):
        waiter.model = model

    models = {"large": ScopeLimits({"rpm": 1})}
    reload(limiter, {"rpm": 60}, pattern_of=lambda model: "large" if model == "large" else "", models=models)
    clock.advance(10.0)

    assert [waiter.scope for waiter in waiters] == ["", "large", "large", ""]
    assert queue.answered == [waiters[0], waiters[1], waiters[3]]
    served = [(at, demand, waiter.scope) for (at, demand), waiter in zip(queue.admissions, queue.answered, strict=True)]
    assert_scopes_hold(served, limiter)


def test_calls_under_way_settle_exactly_when_their_models_limit_is_gone(clock: FakeClock) -> None:
    limiter = new_limiter(clock, {"tpm": 1000}, models={"large": ScopeLimits({"tpm": 500, "concurrency": 2})})
    kept = granted(limiter.reserve(tokens(100), scope="large"))
    ended = granted(limiter.reserve(tokens(100), scope="large"))

    reload(limiter, {"tpm": 1000})
    assert limiter.settle(ended, tokens(40))

    usage = limiter.state().usage
    assert limiter.scopes == ()
    assert_balances({"tpm": usage["tpm"].balance}, [kept.demand])
    assert limiter.settle(kept, tokens(100))
    assert not limiter.settle(kept, tokens(100))


def test_a_refund_from_before_a_day_limit_is_none_of_its_count(clock: FakeClock) -> None:
    limiter = new_limiter(clock, {"rpm": 60})
    before = granted(limiter.reserve(tokens(100)))
    clock.advance(0.1)

    reload(limiter, {"rpm": 60, "tpd": 100})
    limiter.settle(before, tokens(10))

    granted(limiter.reserve(tokens(100)))
    assert denied(limiter.reserve(tokens(1))).reason is DenialReason.LIMIT


def test_guessed_output_that_waits_is_cut_to_a_smaller_limit(clock: FakeClock) -> None:
    limiter = new_limiter(clock, {"tpm": 600})
    limiter.settle(granted(limiter.reserve(tokens(600))), tokens(600))
    queue = RecordedQueue(clock, limiter)
    demand = ONE_REQUEST._replace(tokens=200, input=20, output=180)
    guessed, stated = queue.join(demand), queue.join(demand)
    guessed.guessed = True

    reload(limiter, {"tpm": 60})
    clock.advance(61.0)

    assert isinstance(guessed.result, Reservation)
    assert guessed.demand.tokens == 60
    assert denied(stated.result).reason is DenialReason.TOO_LARGE


def test_a_breaker_keeps_its_state_and_goes_by_the_new_rules(clock: FakeClock) -> None:
    limiter = new_limiter(clock, {}, BreakerRules(failures=1, open_for=100.0, max_open_for=100.0))
    limiter.settle(granted(limiter.reserve(ONE_REQUEST)), ONE_REQUEST, Verdict.FAILURE)
    limiter.pause(30.0)

    reload(limiter, {"rpm": 5}, BreakerRules(failures=2, open_for=1.0))

    assert limiter.state().breaker is BreakerState.OPEN
    assert limiter.state().paused_for == pytest.approx(30.0)
    clock.advance(100.0)
    limiter.settle(granted(limiter.reserve(ONE_REQUEST)), ONE_REQUEST, Verdict.SUCCESS)
    limiter.settle(granted(limiter.reserve(ONE_REQUEST)), ONE_REQUEST, Verdict.FAILURE)
    assert limiter.state().breaker is BreakerState.CLOSED
    limiter.settle(granted(limiter.reserve(ONE_REQUEST)), ONE_REQUEST, Verdict.FAILURE)
    assert limiter.state().breaker is BreakerState.OPEN
    assert limiter.state().next_probe_in == pytest.approx(1.0)
