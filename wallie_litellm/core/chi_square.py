"""Whether counts are divided as they should be: Pearson's chi-square test."""

from __future__ import annotations

from collections.abc import Sequence
from math import erfc, exp, lgamma, log, sqrt


def p_value(counts: Sequence[int], shares: Sequence[float]) -> float | None:
    """The probability of counts that differ from ``shares`` at least as much; ``None`` where there are too few.

    Too few are fewer than five expected in a class (Cochran's rule).
    """
    total = sum(counts)
    expected = [total * share for share in shares]
    if len(counts) < 2 or min(expected) < 5:
        return None
    statistic = sum((count - wanted) ** 2 / wanted for count, wanted in zip(counts, expected, strict=True))
    return survival(statistic, len(counts) - 1)


def survival(statistic: float, degrees: int) -> float:
    """The probability of a chi-square of ``degrees`` of freedom above ``statistic``."""
    # The upper incomplete gamma function Q(degrees / 2, x), from Q(1/2) or Q(1) by its recurrence.
    x = statistic / 2
    if x <= 0:
        return 1.0
    half, found = (0.5, erfc(sqrt(x))) if degrees % 2 else (1.0, exp(-x))
    while half < degrees / 2:
        found += exp(half * log(x) - x - lgamma(half + 1))
        half += 1
    return min(1.0, found)
