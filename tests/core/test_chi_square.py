"""Pearson's chi-square test, against tables and against what sampling shows."""

from __future__ import annotations

import random

import pytest

from wallie_litellm.core.chi_square import p_value, survival

# Critical values of the chi-square distribution: NIST/SEMATECH e-Handbook of Statistical Methods, 1.3.6.7.4.
TABLE = [
    (1, 0.05, 3.841), (1, 0.001, 10.828), (2, 0.05, 5.991), (2, 0.001, 13.816), (3, 0.10, 6.251), (4, 0.025, 11.143),
    (5, 0.01, 15.086), (9, 0.05, 16.919),
]  # fmt: skip


@pytest.mark.parametrize(("degrees", "probability", "critical"), TABLE)
def test_the_survival_function_has_the_tables_values(degrees: int, probability: float, critical: float) -> None:
    assert survival(critical, degrees) == pytest.approx(probability, rel=2e-3)


def test_counts_as_they_should_be_are_certain_and_others_are_not() -> None:
    assert p_value([500, 500], [0.5, 0.5]) == 1.0
    assert p_value([600, 400], [0.5, 0.5]) == pytest.approx(2.5e-10, rel=0.05)
    assert p_value([100, 100, 100], [0.2, 0.4, 0.4]) == pytest.approx(5.78e-8, rel=0.01)


def test_too_few_counts_say_nothing() -> None:
    assert p_value([4, 4], [0.5, 0.5]) is None
    assert p_value([0, 40], [0.05, 0.95]) is None
    assert p_value([40], [1.0]) is None


def test_of_divisions_by_chance_one_in_a_hundred_is_below_one_per_cent() -> None:
    rng = random.Random(7)
    counts = (sum(rng.random() < 0.3 for _ in range(400)) for _ in range(1000))
    values = [p_value([count, 400 - count], [0.3, 0.7]) or 0.0 for count in counts]
    assert 2 <= sum(value < 0.01 for value in values) <= 20
