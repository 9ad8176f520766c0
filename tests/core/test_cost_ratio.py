"""What calls cost of their estimates."""

from __future__ import annotations

import pytest

from wallie_litellm.core.cost_ratio import CostRatio


@pytest.mark.parametrize(
    ("costs", "expected"),
    [
        ([300] * 9, 1.0),  # too few
        ([300] * 10, 3.0),
        ([50] * 100, 1.0),  # what is reserved too much is free again soon
        ([0, 600] * 50, 3.0),
        ([300] * 20 + [100] * 400, 1.0),
        ([10**9] * 10, 1_000.0),
    ],
)
def test_the_ratio_is_that_of_the_sums_of_recent_calls(costs: list[int], expected: float) -> None:
    ratio = CostRatio()
    for cost in costs:
        ratio.add(100, cost)
    assert ratio.value == pytest.approx(expected, rel=0.02)


def test_calls_without_an_estimate_are_expected_to_cost_what_the_last_ones_did() -> None:
    ratio = CostRatio()
    assert ratio.expected(0) == 0
    for cost in (40, 40, 40):
        ratio.add(0, cost)
    assert (ratio.expected(0), ratio.expected(100)) == (40, 100)
    for _ in range(200):
        ratio.add(0, 80)
    assert ratio.expected(0) == pytest.approx(80, abs=2)


def test_a_large_call_counts_for_as_much_as_it_costs() -> None:
    ratio = CostRatio()
    for _ in range(20):
        ratio.add(10, 10)
        ratio.add(1_000, 2_000)
    assert ratio.value == pytest.approx(2, rel=0.02)
