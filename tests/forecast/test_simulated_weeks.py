"""How good forecasts and alerts are over simulated weeks; `python -m benchmarks forecast` has more of them."""

from __future__ import annotations

import pytest
from forecast_simulation import (
    Traffic,
    alert_scores,
    last_score,
    limit_of,
    mean_of,
    scores_at,
    simulate,
)

WEEKS_OF_WORK = Traffic("weekday shape, growth, noise")
SEEDS = range(2, 6)


def with_batch(day: list[float]) -> list[float]:
    """A day of about 27,000 units with 10,000 more from 09:00 to 10:00."""
    return [units + (2_500 if 36 <= slot < 40 else 0) for slot, units in enumerate(day)]


@pytest.fixture(scope="module")
def runs() -> list[list[list[float]]]:
    return [simulate(WEEKS_OF_WORK, seed) for seed in SEEDS]


def test_the_days_end_is_foretold_at_noon_and_far_better_than_by_a_line(runs: list[list[list[float]]]) -> None:
    found = mean_of([scores_at(days) for days in runs])

    assert found.close >= 0.80
    assert found.error <= found.linear_error / 2
    assert 0.80 <= found.covered <= 0.95


def test_alerts_come_an_hour_before_a_limit_runs_out_and_seldom_else(runs: list[list[list[float]]]) -> None:
    days, seed = runs[1], SEEDS[1]

    found = alert_scores(days, limit_of(days, seed))

    assert found.exhausted >= 10
    assert found.in_time >= 0.95 * found.exhausted
    assert found.false <= found.days / 7


def test_a_batch_job_out_of_shape_widens_the_interval_instead_of_fooling_it(runs: list[list[list[float]]]) -> None:
    tuesdays = [days[:51] for days in runs]
    batches = [[*days[:-1], with_batch(days[-1])] for days in tuesdays]

    usual, found = mean_of([*map(last_score, tuesdays)]), mean_of([*map(last_score, batches)])

    assert found.covered >= usual.covered
    assert found.width > 1.5 * usual.width
    assert found.error < 0.10  # as if the whole day were as busy: above 0.30
