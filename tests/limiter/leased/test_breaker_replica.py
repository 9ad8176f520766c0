"""A fleet's breaker at one worker, between an operator's action and the lease server's answer to it."""

from __future__ import annotations

from math import inf
from typing import Any, cast

import pytest

from wallie_litellm.core.circuit_breaker import BreakerRules, BreakerState
from wallie_litellm.core.lease_exchange import BreakerAnswer
from wallie_litellm.limiter.leased.breaker_replica import BreakerReplica

CLOSED, OPEN, HALF_OPEN = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN
FORCED_OPEN, DISABLED = BreakerState.FORCED_OPEN, BreakerState.DISABLED


def answer(state: BreakerState, generation: int = 1, **more: Any) -> BreakerAnswer:
    """The lease server's answer about its breaker."""
    usual: dict[str, Any] = {
        "failures": 0,
        "reason": "because",
        "reopens_in": 0.0,
        "open_for": 30.0,
        "probe_free_in": 0.0,
        "permit": 0,
    }
    return cast(BreakerAnswer, {"state": state.value, "generation": generation, **usual, **more})


def replica(state: BreakerState, **more: Any) -> BreakerReplica:
    breaker = BreakerReplica(BreakerRules())
    breaker.update(0.0, answer(state, **more))
    return breaker


@pytest.mark.parametrize(
    ("state", "after"),
    [(FORCED_OPEN, HALF_OPEN), (DISABLED, CLOSED), (CLOSED, CLOSED), (OPEN, OPEN), (HALF_OPEN, HALF_OPEN)],
)
def test_a_release_is_reported_whatever_the_replicas_state_is(state: BreakerState, after: BreakerState) -> None:
    breaker = replica(state)
    breaker.release()
    assert (breaker.state, breaker.urgent) == (after, True)
    assert breaker.report() == ([], ["release"])


def test_a_released_breaker_asks_for_a_permit_and_lets_no_call_pass_without_one() -> None:
    breaker = replica(FORCED_OPEN)
    assert (breaker.wait(1.0), breaker.needs_permit(1.0)) == (inf, False)
    breaker.release()
    assert (breaker.wait(1.0), breaker.needs_permit(1.0), breaker.reason) == (0, True, "released by the operator")
    breaker.report()
    breaker.update(1.0, answer(HALF_OPEN, 2, permit=1))
    assert (breaker.needs_permit(1.0), breaker.enter(1.0)) == (False, 1)


def test_an_answer_from_before_an_action_does_not_undo_it() -> None:
    breaker = replica(FORCED_OPEN)
    breaker.release()
    breaker.update(1.0, answer(FORCED_OPEN))
    assert breaker.state is HALF_OPEN


def test_a_permit_of_another_worker_from_before_an_action_is_not_waited_for() -> None:
    breaker = replica(HALF_OPEN, probe_free_in=30.0)
    assert breaker.wait(0.0) == 30
    breaker.force_open()
    breaker.release()
    assert breaker.wait(0.0) == 0


def test_the_snapshot_of_a_released_breaker_has_no_wait_before_the_probe() -> None:
    breaker = replica(FORCED_OPEN, reopens_in=30.0)  # it was open before it was forced open
    breaker.release()
    assert (breaker.snapshot(1.0)["state"], breaker.snapshot(1.0)["reopens_in"]) == ("open", 0)
    breaker.report()
    breaker.update(2.0, answer(HALF_OPEN, 2, reopens_in=28.0))
    assert breaker.snapshot(2.0)["reopens_in"] == 0


def test_the_snapshot_of_an_open_breaker_has_the_seconds_until_it_reopens() -> None:
    assert replica(OPEN, reopens_in=30.0).snapshot(2.0)["reopens_in"] == 28
