"""Histograms of milliseconds as the roll-ups keep them, and their percentiles. Pure: counts in, milliseconds out.

Bin ``n`` holds values from edge ``n - 1`` to below edge ``n``; each edge is ``BIN_RATIO`` times the one before. Within
a bin the values are assumed to lie evenly on a logarithmic scale, as latencies roughly do. The true value lies in the
same bin, so a percentile is at most ``BIN_RATIO`` times too large or too small: 4.5 %. Below the first edge (5 ms) its
error is at most that edge; above the last one (70 minutes) the result is that edge.

Version 1 of the ledger's tables had bins of :data:`OLD_RATIO`; :func:`from_old_bins` divides each evenly among the
``SPLIT`` bins it covers, so a percentile of them is at most 1.3 times too large or too small.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Final

OLD_RATIO: Final = 1.3  # of a bin's upper edge to that of the bin before, in version 1
OLD_BINS: Final = 41  # bins of version 1, the first below 5 ms, the last from 139 s
SPLIT: Final = 6  # bins that one of version 1 covers
FIRST_EDGE_MS: Final = 5.0  # ms, the upper edge of bin 0
BIN_RATIO: Final[float] = OLD_RATIO ** (1 / SPLIT)  # of a bin's upper edge to that of the bin before: 1.0447
BINS: Final = 52 * SPLIT + 2  # from 5 ms to 70 minutes, one bin below and one above
BIN_EDGES_MS: Final[tuple[float, ...]] = tuple(
    FIRST_EDGE_MS * OLD_RATIO ** (number / SPLIT) for number in range(BINS - 1)
)


def bin_of(milliseconds: float) -> int:
    """The number of the bin that ``milliseconds`` belong to."""
    return bisect_right(BIN_EDGES_MS, milliseconds)


def from_old_bins(counts: Sequence[int]) -> list[int]:
    """The histogram for the ``OLD_BINS`` counts of version 1, those above 139 s in the first bin above."""
    found = [0] * BINS
    found[0] = counts[0]
    for number, count in enumerate(counts[1:-1]):
        for part in range(SPLIT):  # a single value goes into the bin in the middle
            found[1 + number * SPLIT + part] = _rounded((part + 1) * count) - _rounded(part * count)
    found[1 + (OLD_BINS - 2) * SPLIT] += counts[-1]
    return found


def percentile(counts: Sequence[int], share: float) -> float | None:
    """The milliseconds that ``share`` (0 to 1) of the counted values do not exceed; ``None`` without a value.

    The rank is the nearest: of 10 values, the 0.95 percentile is the tenth.
    """
    total = sum(counts)
    if total <= 0:
        return None
    rank = nearest_rank(total, share)
    before = 0
    for number, count in enumerate(counts):
        if before + count >= rank:
            return _within(number, (rank - before - 0.5) / count)
        before += count
    raise AssertionError("a rank is at most the total")


def nearest_rank(total: int, share: float) -> int:
    """The rank, from 1, of the percentile ``share`` among ``total`` sorted values: the ceiling of their product."""
    per_mille = round(share * 1000)  # in whole numbers, as in SQL
    return max(1, -(-total * per_mille // 1000))


def _rounded(sixths: int) -> int:
    return (sixths + SPLIT // 2) // SPLIT


def _within(number: int, part: float) -> float:
    if number == 0:
        return BIN_EDGES_MS[0] * part
    if number == BINS - 1:
        return BIN_EDGES_MS[-1]
    return float(BIN_EDGES_MS[number - 1] * BIN_RATIO**part)
