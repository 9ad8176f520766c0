"""Percentiles from the latency histogram that the roll-ups keep. Pure: counts in, milliseconds out.

Within a bin the values are assumed to lie evenly on a logarithmic scale, as latencies roughly do. The true value lies
in the same bin, so a result is at most ``BIN_RATIO`` times too large or too small. Below the first edge its error is at
most that edge; above the last one (139 s) the result is that edge.
"""

from __future__ import annotations

from collections.abc import Sequence

from wallie_litellm.ledger.rollup import BIN_EDGES_MS
from wallie_litellm.ledger.schema import BIN_RATIO, BINS


def percentile(counts: Sequence[int], share: float) -> float | None:
    """The latency, in ms, that ``share`` (0 to 1) of the counted values do not exceed; ``None`` without a value.

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


def _within(number: int, part: float) -> float:
    if number == 0:
        return BIN_EDGES_MS[0] * part
    if number == BINS - 1:
        return BIN_EDGES_MS[-1]
    return float(BIN_EDGES_MS[number - 1] * BIN_RATIO**part)
