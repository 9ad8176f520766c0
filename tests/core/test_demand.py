"""What an attempt is charged for its outcome."""

from __future__ import annotations

import pytest

from wallie_litellm.core.demand import NOTHING, Demand, Outcome, charge
from wallie_litellm.core.dimensions import DIMENSION_KINDS, DIMENSIONS

ESTIMATE = Demand(1, 250, 100, 150)


@pytest.mark.parametrize(
    ("outcome", "usage", "charged"),
    [
        # A success is charged what it used, more or less than estimated; without a report the estimate stands.
        (Outcome.SUCCESS, Demand(1, 90, 60, 30), Demand(1, 90, 60, 30)),
        (Outcome.SUCCESS, Demand(1, 900, 600, 300), Demand(1, 900, 600, 300)),
        (Outcome.SUCCESS, None, ESTIMATE),
        # What never reached the provider costs nothing.
        (Outcome.CACHE_HIT, None, NOTHING),
        (Outcome.CACHE_HIT, Demand(1, 90, 60, 30), NOTHING),
        (Outcome.NOT_SENT, None, NOTHING),
        # A provider counts a request that it rejects, but not its tokens.
        (Outcome.REJECTED, None, Demand(1, 0, 0, 0)),
        (Outcome.REJECTED, Demand(1, 90, 60, 30), Demand(1, 0, 0, 0)),
        # Of a call cut short, a provider has had the prompt, and has worked on what came: not on all that might have.
        (Outcome.CUT, None, Demand(1, 100, 100, 0)),
        (Outcome.CUT, Demand(1, 90, 60, 30), Demand(1, 90, 60, 30)),
        (Outcome.CUT, Demand(1, 400, 90, 310), Demand(1, 400, 90, 310)),
        (Outcome.CUT, Demand(0, 400, 90, 310), Demand(1, 400, 90, 310)),
    ],
)
def test_the_charge_of_every_outcome(outcome: Outcome, usage: Demand | None, charged: Demand) -> None:
    assert charge(outcome, ESTIMATE, usage) == charged


def test_a_success_costs_as_many_requests_as_were_reserved() -> None:
    assert charge(Outcome.SUCCESS, Demand(3, 10, 10, 0), Demand(1, 20, 5, 15)) == Demand(3, 20, 5, 15)


def test_a_rejection_costs_as_many_requests_as_were_reserved() -> None:
    assert charge(Outcome.REJECTED, Demand(3, 10, 10, 0), None) == Demand(3, 0, 0, 0)


def test_each_dimension_counts_its_kind() -> None:
    amounts = {dimension: Demand(1, 2, 3, 4).of(dimension) for dimension in DIMENSIONS}
    assert amounts == {"rpm": 1, "tpm": 2, "itpm": 3, "otpm": 4, "rpd": 1, "tpd": 2, "concurrency": 1}
    assert set(DIMENSIONS) == set(DIMENSION_KINDS)


def test_demands_add_up_kind_by_kind() -> None:
    assert Demand(1, 2, 3, 4).plus(Demand(10, 20, 30, 40)) == Demand(11, 22, 33, 44)
