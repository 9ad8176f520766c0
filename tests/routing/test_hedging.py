"""Whether a late call is hedged: percentiles, budgets, outages and switches."""

from __future__ import annotations

from typing import Any

import pytest
from fake_clock import FakeClock

from wallie_litellm.config import WallieConfig
from wallie_litellm.routing.hedging import SUPPRESSED, HedgePolicy, Hedging
from wallie_litellm.routing.switches import Switches


class Measured:
    """Percentiles of a sample, as measured: ``None`` below 20 calls."""

    def __init__(self, seconds: list[float]) -> None:
        self.seconds = sorted(seconds)
        self.asked = 0

    def first_token(self, scope: str, streamed: bool, quantile: float) -> float | None:
        self.asked += 1
        if len(self.seconds) < 20:
            return None
        return self.seconds[min(len(self.seconds) - 1, int(quantile * len(self.seconds)))]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def policy(clock: FakeClock, seconds: list[float] | None = None, processes: int = 1, **hedge: Any) -> HedgePolicy:
    config = WallieConfig.model_validate({"features": {"chat": {"hedge": {"budget": 1, **hedge}}, "batch": {}}})
    percentiles = None if seconds is None else Measured(seconds)
    found = Hedging(config, clock, Switches(), percentiles, processes).of("chat")
    assert found is not None
    return found


def late_after(made: HedgePolicy) -> float | None:
    call = made.begin("p", streamed=True)
    return None if call is None else pytest.approx(call.late_at - call.began)


def test_only_the_features_that_ask_for_it_have_hedges(clock: FakeClock) -> None:
    config = WallieConfig.model_validate({"features": {"chat": {"hedge": {}}, "batch": {}}})
    switches = Switches()
    hedging = Hedging(config, clock, switches)
    assert hedging
    assert hedging.of("chat") is not None
    assert [hedging.of(feature) for feature in ("batch", "other", None)] == [None, None, None]
    switches.set("hedge", on=False)
    assert hedging.of("chat") is None
    assert not Hedging(WallieConfig.model_validate({"features": {"batch": {}}}), clock, switches)


def test_a_duration_needs_no_measurements(clock: FakeClock) -> None:
    assert late_after(policy(clock, after="4s")) == 4.0


def test_a_percentile_of_too_few_calls_hedges_nothing(clock: FakeClock) -> None:
    made = policy(clock, [0.5] * 19)
    assert late_after(made) is None
    assert made.describe()["suppressed"]["few_calls"] == 1


def test_a_percentile_of_a_smooth_distribution_is_that_percentile(clock: FakeClock) -> None:
    smooth = [0.2 + 0.001 * n for n in range(1_000)]
    assert late_after(policy(clock, smooth)) == 0.2 + 0.95
    assert late_after(policy(clock, smooth, after="p98")) == 0.2 + 0.98


def test_calls_of_equal_length_are_hedged_no_sooner_than_others_are_seen_to_be_late(clock: FakeClock) -> None:
    assert late_after(policy(clock, [0.4] * 100)) == 0.6


@pytest.mark.parametrize("tail", [30, 49, 51, 70])  # of 1,000: on either side of the share that p95 is about
def test_a_tail_of_about_that_share_is_hedged_before_its_own_time(clock: FakeClock, tail: int) -> None:
    found = late_after(policy(clock, [0.5] * (1_000 - tail) + [10.0] * tail))
    assert found == 0.75


def test_percentiles_are_looked_up_once_a_second(clock: FakeClock) -> None:
    made = policy(clock, [0.5] * 100)
    for _ in range(10):
        made.begin("p", streamed=True)
    asked = made._percentiles.asked
    clock.advance(1.0)
    made.begin("p", streamed=True)
    assert made._percentiles.asked == 2 * asked


def test_the_budget_is_a_share_of_the_requests(clock: FakeClock) -> None:
    made = policy(clock, after="4s", budget=0.1)
    for _ in range(10):
        made.count_request()
    call = made.begin("p", streamed=True)
    assert made.denial(call) is None
    assert made.spend(None) is None
    assert made.denial(call) == "budget"
    assert made.spend(None) == "budget"
    assert made.describe()["suppressed"]["budget"] == 2


def test_dollars_are_taken_as_estimated_and_corrected_by_what_was_wasted(clock: FakeClock) -> None:
    made = policy(clock, after="4s", max_usd_day=1.0)
    for _ in range(4):
        made.count_request()
    assert made.spend(0.75) is None
    assert made.spend(0.5) == "max_usd_day"
    made.settle(0.75, 0.25, won=True)
    assert made.spend(0.5) is None
    made.take_back(0.5, "capacity")
    described = made.describe()
    assert described["usd_left_today"] == pytest.approx(0.75)
    assert (described["sent"], described["won"], described["wasted_usd"]) == (1, 1, 0.25)
    assert described["suppressed"] == {**dict.fromkeys(SUPPRESSED, 0), "max_usd_day": 1, "capacity": 1}
    assert described["budget_left"] == 3
    assert described["late_after"] == {}
    made.begin("p", streamed=False)
    assert made.describe()["late_after"] == {"p": {"whole": 4.0}}


def test_without_a_price_nothing_is_hedged_where_dollars_are_limited(clock: FakeClock) -> None:
    made = policy(clock, after="4s", max_usd_day=1.0)
    made.count_request()
    assert made.spend(None) == "unpriced"
    free = policy(clock, after="4s")
    free.count_request()
    assert free.spend(None) is None


def test_the_processes_of_a_machine_divide_the_dollars(clock: FakeClock) -> None:
    assert policy(clock, after="4s", max_usd_day=1.0, processes=4).describe()["usd_left_today"] == 0.25


def test_in_an_outage_of_everything_no_hedge_is_sent(clock: FakeClock) -> None:
    made = policy(clock, [0.45] * 100, after="p95")
    for _ in range(100):
        made.count_request()
        call = made.begin("p", streamed=True)
        clock.advance(0.05)
        made.answered(call)
    hanging = []
    for _ in range(40):
        made.count_request()
        hanging.append(made.begin("p", streamed=True))
        clock.advance(0.05)
        late = [call for call in hanging if call.late_at <= clock.now()]
        assert [made.denial(call) for call in late] == ["outage"] * len(late)
    assert made.describe()["suppressed"]["outage"] > 0


def test_calls_that_fail_early_or_are_cancelled_early_are_told_apart(clock: FakeClock) -> None:
    made = policy(clock, after="4s")
    for _ in range(20):
        made.count_request()
        made.forget(made.begin("p", streamed=True))
    clock.advance(1.0)
    late = made.begin("p", streamed=True)
    clock.advance(4.0)
    assert made.denial(late) is None
    for _ in range(20):
        made.failed(made.begin("p", streamed=True))
    assert made.denial(late) == "outage"
