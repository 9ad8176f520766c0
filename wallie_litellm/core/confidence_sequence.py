"""Differences of two means, with intervals that hold at every look, however often one looks.

The intervals are asymptotic confidence sequences: Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas, "Time-uniform
central limit theory and asymptotic confidence sequences" (Annals of Statistics, 2024), with rho as in their appendix.
With probability 1 - :data:`ALPHA` an interval contains the true difference at all looks together, where one of a
fixed-size test does so at a single look.

What is assigned to an arm is a unit, a user for example, whose requests resemble each other. A mean is over requests;
its variance is that between units, so that one user with many requests does not count as many users.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import log, sqrt
from typing import Final, NamedTuple

ALPHA: Final = 0.05  # share of experiments in which an interval may, at any look, leave out the true difference
TUNED_FOR: Final = 1_000  # units of both arms together at which intervals are narrowest, for their number of units
FEWEST: Final = 20  # units of an arm below which there is no interval: the theory is one of large numbers


class ArmSums(NamedTuple):
    """An arm's observations, added up: of each unit the number of its requests, and the total of their values."""

    units: int = 0
    requests: int = 0
    total: float = 0.0  # of their values
    squared_totals: float = 0.0  # sum over units of the total's square
    products: float = 0.0  # sum over units of the total times the number
    squared_counts: float = 0.0  # sum over units of the number's square

    @property
    def mean(self) -> float | None:
        """Mean value of a request; ``None`` without one."""
        return self.total / self.requests if self.requests else None

    def plus(self, total: float, count: int = 1) -> ArmSums:
        """These sums and another unit's."""
        return ArmSums(
            self.units + 1,
            self.requests + count,
            self.total + total,
            self.squared_totals + total * total,
            self.products + total * count,
            self.squared_counts + count * count,
        )


class Interval(NamedTuple):
    """A difference and the bounds that hold at every look."""

    low: float
    estimate: float
    high: float


def difference(of: ArmSums, against: ArmSums, alpha: float = ALPHA, *, bounded: bool = False) -> Interval | None:
    """The mean of ``of`` less that of ``against``; ``None`` while one of them has fewer than :data:`FEWEST` units.

    Values that are ``bounded`` by 0 and 1 have a variance even where all of an arm's are equal.
    """
    if min(of.units, against.units) < FEWEST:
        return None
    estimate = of.total / of.requests - against.total / against.requests
    # That of both together where an arm's own is less: a few units may lack the rare values that make the variance.
    together = _spread(_joined(of, against), bounded)
    variances = (
        max(together, _spread(sums, bounded)) * sums.squared_counts / sums.requests**2 for sums in (of, against)
    )
    margin = sqrt(sum(variances)) * width(of.units + against.units, alpha)
    return Interval(estimate - margin, estimate, estimate + margin)


def winner(arms: Sequence[ArmSums], *, lower_is_better: bool, bounded: bool, epsilon: float = 0.0) -> int | None:
    """The number of the arm that is better than each other by more than ``epsilon``; ``None`` without one.

    All pairs of arms together have the error :data:`ALPHA`, so that the winner may be named at any look.
    """
    means = [sums.mean for sums in arms]
    if len(arms) < 2 or any(mean is None for mean in means):
        return None
    best = (min if lower_is_better else max)(range(len(arms)), key=lambda number: means[number] or 0.0)
    alpha = alpha_of_pair(len(arms))
    for number, other in enumerate(arms):
        if number == best:
            continue
        worse, better = (arms[best], other) if lower_is_better else (other, arms[best])
        ahead = difference(better, worse, alpha, bounded=bounded)
        if ahead is None or ahead.low <= epsilon:
            return None
    return best


def alpha_of_pair(arms: int) -> float:
    """The error that is left to each pair of that many ``arms`` (Bonferroni)."""
    return ALPHA / max(1, arms * (arms - 1) // 2)


def width(units: int, alpha: float = ALPHA) -> float:
    """Half of an interval after ``units``, in standard errors."""
    # With n units of variance v the bound is sqrt(v (n r + 1) / (n² r) ln((n r + 1) / alpha²)), where r is rho squared.
    spread = units * _rho_squared(alpha)
    return sqrt((spread + 1) / spread * log((spread + 1) / (alpha * alpha)))


def _rho_squared(alpha: float) -> float:
    certainty = -2 * log(alpha)
    return (certainty + log(certainty + 1)) / TUNED_FOR


def _joined(one: ArmSums, other: ArmSums) -> ArmSums:
    units, requests, *sums = (own + others for own, others in zip(one, other, strict=True))
    return ArmSums(int(units), int(requests), *sums)


def _spread(sums: ArmSums, bounded: bool) -> float:
    """The variance of a request's value that the spread of the units' totals about the mean shows.

    The variance of the mean, a ratio of two sums over units, is that times ``squared_counts`` and over the square of
    ``count`` (linearised: the delta method).
    """
    mean = sums.total / sums.requests
    squares = sums.squared_totals - 2 * mean * sums.products + mean * mean * sums.squared_counts
    if bounded:  # as if two more units had been seen, with the lowest and the highest value
        squares += 0.5 * sums.squared_counts / sums.units
    return max(0.0, squares) / sums.squared_counts * sums.units / (sums.units - 1)


def lower_bound(share: float, count: int, z: float) -> float:
    """The lower bound of a ``share`` of ``count``, ``z`` standard deviations of its distribution below it.

    Wilson's: E. B. Wilson, "Probable inference", Journal of the American Statistical Association 22 (1927).
    """
    square = z * z / count
    centre = share + square / 2
    return (centre - z * sqrt(share * (1 - share) / count + square / (4 * count))) / (1 + square)


def add_up(units: Iterable[tuple[float, int]]) -> ArmSums:
    """The sums over units, each with the total of its values and their number."""
    sums = ArmSums()
    for total, count in units:
        sums = sums.plus(total, count)
    return sums
