"""Percentiles of latency and of the time to the first token: exactly from records, or from the roll-ups' histograms."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Select, case, func, select

from wallie_litellm.ledger.aggregates import Facts, Key, Question, Sums, record_keys, summed, width, within
from wallie_litellm.ledger.percentiles import BINS, from_old_bins, percentile
from wallie_litellm.ledger.ranges import Segment
from wallie_litellm.ledger.rollup import HISTOGRAM_SUMS
from wallie_litellm.ledger.schema import BAND, BANDS, LATENCY, histograms, old_bins

_SHARES: Final = {"p50_ms": 0.50, "p95_ms": 0.95, "p99_ms": 0.99}
_OLD: Final = tuple(column.name for column in old_bins.columns if column.name.startswith("latency_"))

Histograms = dict[tuple[Key, str], list[int]]  # by key and measure


def ranks(
    facts: Facts, measure: str, question: Question, since: float, until: float | None, *, sqlite: bool
) -> Select[Any]:
    """The exact percentiles of ``measure`` by key: the values at the nearest rank."""
    column, counts = facts.measures[measure]
    keys = [key.label(f"key_{number}") for number, key in enumerate(record_keys(facts.table, question, sqlite=sqlite))]
    value = column.label("value")
    rank = func.row_number().over(partition_by=keys or None, order_by=column).label("rank")
    total = func.count().over(partition_by=keys or None).label("total")
    rows = select(*keys, value, rank, total).where(counts, *within(facts.table, question, since, until)).subquery()
    grouped = [rows.c[key.name] for key in keys]
    found = (
        func.min(case((rows.c["rank"] * 1000 >= rows.c.total * round(share * 1000), rows.c.value)))
        for share in _SHARES.values()
    )
    return select(*grouped, *found).group_by(*grouped)


def put_ranks(question: Question, measure: str, found: Mapping[Key, Sums], rows: Iterable[Sequence[Any]]) -> None:
    """Set the exact percentiles of ``found`` from the rows of :func:`ranks`."""
    at = width(question)
    for row in rows:
        key = tuple(row[:at])
        if key in found:
            found[key].percentiles[measure] = dict(zip(_SHARES, row[at:], strict=True))


def bands(facts: Facts, question: Question, parts: Sequence[Segment]) -> Select[Any]:
    """The histograms of all measures by key, a row for each band."""
    inner = {"measure": tuple(facts.measures), "band": BANDS}
    return summed(histograms, facts, question, parts, HISTOGRAM_SUMS, inner)[0]


def old_histograms(facts: Facts, question: Question, parts: Sequence[Segment]) -> Select[Any]:
    """The histograms that version 1 has written of latencies, by key."""
    return summed(old_bins, facts, question, parts, _OLD)[0]


def put_histograms(
    question: Question,
    found: Mapping[Key, Sums],
    bands: Iterable[Sequence[Any]],
    old: Iterable[Sequence[Any]] = (),
) -> None:
    """Set the percentiles of ``found`` from the rows of :func:`bands` and :func:`old_histograms`."""
    at = width(question)
    counts: Histograms = defaultdict(lambda: [0] * BINS)
    for row in bands:
        measure, band = row[at : at + 2]
        _add(counts[tuple(row[:at]), measure], band * BAND, row[at + 2 :])
    for row in old:
        if any(row[at:]):
            _add(counts[tuple(row[:at]), LATENCY], 0, from_old_bins([int(count) for count in row[at:]]))
    for (key, measure), histogram in counts.items():
        if key in found:
            found[key].percentiles[measure] = {name: percentile(histogram, share) for name, share in _SHARES.items()}


def _add(histogram: list[int], first: int, counts: Sequence[Any]) -> None:
    for number, count in enumerate(counts, first):
        if count:
            histogram[number] += int(count)
