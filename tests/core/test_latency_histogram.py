"""What calls of one kind have taken in the last ten minutes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wallie_litellm.core.latency_histogram import RATIO, LatencyHistogram


@given(st.lists(st.floats(0.002, 500), min_size=1, max_size=60), st.floats(0.01, 1))
def test_a_quantile_is_that_of_the_calls_within_a_bin(latencies: list[float], share: float) -> None:
    histogram = LatencyHistogram()
    for latency in latencies:
        histogram.add(0.0, latency)
    wanted = sorted(latencies)[max(1, -int(-share * len(latencies) // 1)) - 1]
    found = histogram.quantile(0.0, share)
    assert found is not None
    assert wanted / RATIO <= found <= wanted * RATIO


def test_calls_leave_after_ten_minutes() -> None:
    histogram = LatencyHistogram()
    histogram.add(0.0, 9.0)
    histogram.add(300.0, 1.0)
    assert histogram.quantile(300.0, 1.0) == pytest.approx(9.0, rel=0.05)
    assert histogram.counted(661.0) == 1
    assert histogram.quantile(661.0, 1.0) == pytest.approx(1.0, rel=0.05)
    assert histogram.quantile(1_000.0, 0.5) is None
