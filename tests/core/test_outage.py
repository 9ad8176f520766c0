"""What a worker may use during an outage of the lease server, and what it charges afterwards."""

from __future__ import annotations

from math import inf

import pytest

from wallie_litellm.core.outage import DayAtDisconnect, Outage, RateAtDisconnect

NOW = 1000.0
MIDNIGHT = 5000.0
DAYS = {"rpd": MIDNIGHT}


def outage(
    *, used: float = 0.0, leased: float = 0.0, in_hand: float = 0.0, workers: int = 2, of_day: float = 0.0
) -> Outage:
    """An outage with 60 requests a minute, of which ``used`` are missing, and a daily limit of 1000."""
    rate = RateAtDisconnect(NOW + used, 1.0, 60.0, leased, in_hand)
    day = DayAtDisconnect(of_day, MIDNIGHT, leased, in_hand)
    return Outage.begin(NOW, workers, {"rpm": rate}, {"rpd": day})


@pytest.mark.parametrize(
    ("used", "leased", "in_hand", "missing"),
    [
        (0.0, 0.0, 0.0, 0.0),
        (40.0, 0.0, 0.0, 20.0),  # half of it is this worker's part
        (40.0, 10.0, 0.0, 25.0),  # what other workers hold is as good as used
        (40.0, 10.0, 10.0, 15.0),  # what this worker holds is its own
        (0.0, 10.0, 10.0, 0.0),
    ],
)
def test_usage_and_leases_of_the_fleet_are_missing_from_a_workers_part(
    used: float, leased: float, in_hand: float, missing: float
) -> None:
    carried = outage(used=used, leased=leased, in_hand=in_hand, of_day=used).carried_usage(NOW, DAYS)
    assert carried == {"rpm": pytest.approx(missing), "rpd": pytest.approx(missing)}


def test_carried_usage_of_a_rate_refills_at_the_workers_part_of_the_rate() -> None:
    begun = outage(used=40.0)
    assert begun.carried_usage(NOW + 10, DAYS)["rpm"] == pytest.approx(15.0)
    assert begun.carried_usage(NOW + 41, DAYS)["rpm"] == 0


def test_carried_usage_of_a_day_ends_with_the_day() -> None:
    begun = outage(of_day=300.0)
    assert begun.carried_usage(NOW, {"rpd": MIDNIGHT + 0.5})["rpd"] == 150  # the clocks differ a little
    assert begun.carried_usage(NOW, {"rpd": MIDNIGHT + 86_400})["rpd"] == 0


def test_the_server_is_charged_with_what_was_used_beyond_the_carried_usage_in_whole_units() -> None:
    begun = outage(used=40.0, of_day=40.0)
    assert begun.reconcile(NOW, {"rpm": 22.5, "rpd": 23.0}, {}, DAYS) == {"rpm": 3, "rpd": 3}


def test_nothing_is_charged_where_nothing_was_used() -> None:
    begun = outage(used=40.0, of_day=40.0)
    assert begun.reconcile(NOW + 10, begun.carried_usage(NOW + 10, DAYS), {}, DAYS) == {}


def test_a_second_reconnect_in_one_outage_charges_only_what_was_used_since_the_first() -> None:
    begun = outage()
    assert begun.reconcile(NOW, {"rpm": 5.0, "rpd": 5.0}, {}, DAYS) == {"rpm": 5, "rpd": 5}
    assert begun.reconcile(NOW, {"rpm": 7.0, "rpd": 7.0}, {}, DAYS) == {"rpm": 2, "rpd": 2}


def test_uncounted_usage_is_charged_in_full_for_a_day_and_up_to_a_full_bucket_for_a_rate() -> None:
    charge = outage().reconcile(NOW, {"rpm": 0.0, "rpd": 0.0}, {"rpm": 500, "rpd": 500}, DAYS)
    assert charge == {"rpm": 60, "rpd": 500}


def test_a_reconnect_without_an_answer_resumes_the_usage_less_what_refilled_since() -> None:
    begun = outage()
    assert begun.resumed_usage(NOW) == {}
    begun.reconcile(NOW, {"rpm": 10.0, "rpd": 10.0}, {}, DAYS)
    assert begun.resumed_usage(NOW + 8) == {"rpm": pytest.approx(6.0), "rpd": 10.0}


def test_a_day_without_an_end_yet_is_not_a_new_one() -> None:
    begun = Outage.begin(NOW, 1, {}, {"rpd": DayAtDisconnect(3.0, inf, 0.0, 0.0)})
    assert begun.carried_usage(NOW, {"rpd": inf}) == {"rpd": 3.0}
