from __future__ import annotations

from bisect import bisect_right

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wallie_litellm.ledger.percentiles import nearest_rank, percentile
from wallie_litellm.ledger.rollup import BIN_EDGES_MS
from wallie_litellm.ledger.schema import BIN_RATIO, BINS

SHARES = (0.5, 0.95, 0.99)


def histogram(latencies: list[float]) -> list[int]:
    counts = [0] * BINS
    for latency in latencies:
        counts[bisect_right(BIN_EDGES_MS, latency)] += 1
    return counts


@given(
    st.lists(st.floats(BIN_EDGES_MS[0], BIN_EDGES_MS[-1] * 0.999), min_size=1, max_size=300), st.sampled_from(SHARES)
)
def test_a_percentile_is_at_most_one_bin_off_the_exact_one(latencies: list[float], share: float) -> None:
    exact = sorted(latencies)[nearest_rank(len(latencies), share) - 1]
    found = percentile(histogram(latencies), share)
    assert found is not None
    assert exact / BIN_RATIO <= found * (1 + 1e-9)
    assert found <= exact * BIN_RATIO * (1 + 1e-9)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=100))
def test_percentiles_do_not_decrease(latencies: list[float]) -> None:
    found = [percentile(histogram(latencies), share) or 0.0 for share in SHARES]
    assert found == sorted(found)


def test_there_is_no_percentile_of_nothing() -> None:
    assert percentile([0] * BINS, 0.95) is None
    assert percentile([], 0.95) is None


@pytest.mark.parametrize(("latency", "found"), [(1.0, 2.5), (500_000.0, BIN_EDGES_MS[-1])])
def test_beyond_the_outer_edges_the_edge_is_the_bound(latency: float, found: float) -> None:
    assert percentile(histogram([latency]), 0.95) == found


def test_percentiles_of_evenly_spread_values_are_close() -> None:
    latencies = [BIN_EDGES_MS[10] * BIN_RATIO ** (number / 1000) for number in range(10_000)]
    for share in SHARES:
        assert percentile(histogram(latencies), share) == pytest.approx(
            BIN_EDGES_MS[10] * BIN_RATIO ** (10 * share), rel=0.01
        )


@pytest.mark.parametrize(
    ("total", "share", "rank"), [(1, 0.5, 1), (10, 0.95, 10), (20, 0.95, 19), (100, 0.99, 99), (1000, 0.5, 500)]
)
def test_the_rank_is_the_nearest(total: int, share: float, rank: int) -> None:
    assert nearest_rank(total, share) == rank
