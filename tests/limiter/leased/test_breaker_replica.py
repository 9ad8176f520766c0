"""A fleet's breaker as one worker sees it, between an order and the lender's answer to it."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest

from wallie_litellm.core.circuit_breaker import BreakerRules, BreakerState
from wallie_litellm.limiter.leased.breaker_replica import BreakerReplica

CLOSED, OPEN, HALF_OPEN = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN
FORCED_OPEN, DISABLED = BreakerState.FORCED_OPEN, BreakerState.DISABLED


def told(state: BreakerState, generation: int = 1, **more: Any) -> dict[str, Any]:
    """What the lender says of its breaker."""
    usual = {"failures": 0, "reason": "because", "reopens_in": 0.0, "open_for": 30.0, "probe_free_in": 0.0, "permit": 0}
    return {"state": state.value, "generation": generation, **usual, **more}


def knowing(state: BreakerState, **more: Any) -> BreakerReplica:
    breaker = BreakerReplica(BreakerRules())
    breaker.update(0.0, told(state, **more))
    return breaker


@pytest.mark.parametrize(
    ("state", "after"),
    [(FORCED_OPEN, HALF_OPEN), (DISABLED, CLOSED), (CLOSED, CLOSED), (OPEN, OPEN), (HALF_OPEN, HALF_OPEN)],
)
def test_a_release_goes_to_the_lender_whatever_is_known_here(state: BreakerState, after: BreakerState) -> None:
    breaker = knowing(state)
    breaker.release()
    assert (breaker.state, breaker.urgent) == (after, True)
    assert breaker.report() == ([], ["release"])


def test_a_released_breaker_asks_for_a_permit_and_lets_nobody_pass_without() -> None:
    breaker = knowing(FORCED_OPEN)
    assert (breaker.wait(1.0), breaker.needs_permit(1.0)) == (inf, False)
    breaker.release()
    assert (breaker.wait(1.0), breaker.needs_permit(1.0), breaker.reason) == (0, True, "released by the operator")
    breaker.report()
    breaker.update(1.0, told(HALF_OPEN, 2, permit=1))
    assert (breaker.needs_permit(1.0), breaker.enter(1.0)) == (False, 1)


def test_an_answer_from_before_the_order_does_not_undo_it() -> None:
    breaker = knowing(FORCED_OPEN)
    breaker.release()
    breaker.update(1.0, told(FORCED_OPEN))
    assert breaker.state is HALF_OPEN


def test_the_permit_of_others_from_before_the_orders_is_not_waited_for() -> None:
    breaker = knowing(HALF_OPEN, probe_free_in=30.0)
    assert breaker.wait(0.0) == 30
    breaker.force_open()
    breaker.release()
    assert breaker.wait(0.0) == 0


def test_a_lender_without_memory_is_not_told_to_wait_before_it_probes_what_was_released() -> None:
    breaker = knowing(FORCED_OPEN, reopens_in=30.0)  # it was open before it was forced open
    breaker.release()
    assert (breaker.snapshot(1.0)["state"], breaker.snapshot(1.0)["reopens_in"]) == ("open", 0)
    breaker.report()
    breaker.update(2.0, told(HALF_OPEN, 2, reopens_in=28.0))
    assert breaker.snapshot(2.0)["reopens_in"] == 0


def test_a_lender_without_memory_is_told_how_long_an_open_breaker_stays_so() -> None:
    assert knowing(OPEN, reopens_in=30.0).snapshot(2.0)["reopens_in"] == 28
