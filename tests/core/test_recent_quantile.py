"""A quantile of recent values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wallie_litellm.core.recent_quantile import KEPT, RecentQuantile


def filled(values: list[float], share: float = 0.5, least: int = 3) -> RecentQuantile:
    quantile = RecentQuantile(share, least)
    for value in values:
        quantile.add(value)
    return quantile


def test_there_is_none_before_there_are_enough_values() -> None:
    assert filled([1.0, 2.0]).value is None
    assert filled([1.0, 2.0, 3.0]).value == 2.0


@pytest.mark.parametrize(("share", "low", "high"), [(0.5, 45, 60), (0.9, 88, 96), (0.1, 5, 16)])
def test_a_quantile_of_even_values_is_near_their_share(share: float, low: float, high: float) -> None:
    values = [float(n * 37 % 100) for n in range(200)]  # 0 to 99, mixed
    assert low <= (filled(values, share).value or 0) <= high


def test_values_far_off_hardly_move_it() -> None:
    assert filled([100.0] * 20 + [1e9, 0.0]).value == 100.0


def test_what_changes_is_followed_within_a_few_dozen_values() -> None:
    quantile = filled([100.0] * 300)
    for _ in range(32):
        quantile.add(500.0)
    assert quantile.value == 500.0


@given(st.lists(st.floats(0, 1e9), min_size=3, max_size=3 * KEPT), st.floats(0, 1))
def test_it_is_one_of_the_values(values: list[float], share: float) -> None:
    assert filled(values, share).value in values
