from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wallie_litellm.ledger.percentiles import (
    BIN_EDGES_MS,
    BIN_RATIO,
    BINS,
    FIRST_EDGE_MS,
    OLD_BINS,
    OLD_RATIO,
    bin_of,
    from_old_bins,
    nearest_rank,
    percentile,
)

SHARES = (0.5, 0.95, 0.99)


def histogram(latencies: list[float]) -> list[int]:
    counts = [0] * BINS
    for latency in latencies:
        counts[bin_of(latency)] += 1
    return counts


def old_histogram(latencies: list[float]) -> list[int]:
    """The histogram of version 1."""
    counts = [0] * OLD_BINS
    for latency in latencies:
        number, edge = 0, FIRST_EDGE_MS
        while latency >= edge and number < OLD_BINS - 1:
            number, edge = number + 1, edge * OLD_RATIO
        counts[number] += 1
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


def test_a_bin_is_less_than_5_percent_wide() -> None:
    assert BIN_RATIO < 1.05


@pytest.mark.parametrize("spread", [0.0, 0.3, 0.6])
def test_a_difference_of_10_percent_shows(spread: float) -> None:
    """Of a thousand calls, whether they all take equally long or not."""
    chance = random.Random(1)
    latencies = [800.0 * math.exp(spread * chance.gauss(0, 1)) for _ in range(1000)]
    for share in SHARES:
        before = percentile(histogram(latencies), share)
        after = percentile(histogram([latency * 1.1 for latency in latencies]), share)
        assert before is not None
        assert after is not None
        assert 1.045 <= after / before <= 1.155


@given(st.lists(st.floats(0, 130_000), min_size=1, max_size=200), st.sampled_from(SHARES))
def test_a_percentile_of_version_1_is_at_most_one_of_its_bins_off(latencies: list[float], share: float) -> None:
    exact = sorted(latencies)[nearest_rank(len(latencies), share) - 1]
    converted = from_old_bins(old_histogram(latencies))
    assert sum(converted) == len(latencies)
    found = percentile(converted, share)
    assert found is not None
    if exact < FIRST_EDGE_MS:
        assert found < FIRST_EDGE_MS
    else:
        assert exact / OLD_RATIO <= found * (1 + 1e-9)
        assert found <= exact * OLD_RATIO * (1 + 1e-9)


def test_latencies_above_version_1s_last_edge_are_found_there() -> None:
    converted = from_old_bins(old_histogram([500_000.0]))
    assert percentile(converted, 0.5) == pytest.approx(139_000, rel=0.05)


@given(st.lists(st.floats(0, 1e7), min_size=1, max_size=100))
def test_percentiles_do_not_decrease(latencies: list[float]) -> None:
    found = [percentile(histogram(latencies), share) or 0.0 for share in SHARES]
    assert found == sorted(found)


def test_there_is_no_percentile_of_nothing() -> None:
    assert percentile([0] * BINS, 0.95) is None
    assert percentile([], 0.95) is None


@pytest.mark.parametrize(("latency", "found"), [(1.0, 2.5), (5_000_000.0, BIN_EDGES_MS[-1])])
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
