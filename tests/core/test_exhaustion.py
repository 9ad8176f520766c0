"""When a limit per minute is used up: demand against the refill."""

from __future__ import annotations

import pytest

from wallie_litellm.core.exhaustion import seconds_to_empty


@pytest.mark.parametrize(
    ("left", "demanded", "waiting", "expected"),
    [
        (60, {5.0: 15, 30.0: 90}, 0, 30.0),  # 3/s of which 1/s is refilled
        (60, {5.0: 5, 30.0: 30}, 0, None),  # as fast as it is refilled
        (60, {5.0: 50, 30.0: 30}, 0, None),  # a burst that half a minute takes in
        (60, {5.0: 0, 30.0: 300}, 0, None),  # a burst that is over
        (60, {5.0: 15, 30.0: 90}, 30, 30 / 3),  # what waits is demand too: 4/s over 30 s, less the refill
        (0, {5.0: 0, 30.0: 0}, 1, 0.0),
        (0, {5.0: 0, 30.0: 0}, 0, None),
    ],
)
def test_a_limit_runs_out_where_demand_is_above_the_refill_now_and_for_half_a_minute(
    left: float, demanded: dict[float, float], waiting: float, expected: float | None
) -> None:
    assert seconds_to_empty(left, 1.0, demanded, waiting) == pytest.approx(expected)
