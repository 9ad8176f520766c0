"""Positions of a chart's bars and lines, in the units of its SVG's view box."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import floor, isfinite, log10
from typing import Final

from wallie_litellm.dashboard.view_model import ChartEvent, Series, TimeBucket

WIDTH: Final = 600
HEIGHT: Final = 120
SERIES: Final = 8  # number of colours; further series share the last
_GAP: Final = 0.18  # share of a bucket's width between two bars
_APART: Final = 1.2  # per cent of the width below which marks of one kind are one
_STEPS: Final = (1.0, 2.0, 2.5, 5.0, 10.0)  # ends of a scale, times a power of ten


@dataclass(frozen=True, slots=True)
class Bar:
    """A rectangle of the series with this number."""

    x: float
    y: float
    width: float
    height: float
    series: int


@dataclass(frozen=True, slots=True)
class Slot:
    """One bucket on the chart: its ``values`` by series, and the bars of those above 0."""

    start: int
    x: float
    width: float
    values: Sequence[float | None]
    bars: Sequence[Bar]


@dataclass(frozen=True, slots=True)
class Tick:
    """A time below the chart; ``x`` is its share, in per cent, of the width."""

    x: float
    at: int


@dataclass(frozen=True, slots=True)
class Polyline:
    """The points of a part of the line of the series with this number."""

    points: str
    series: int


@dataclass(frozen=True, slots=True)
class Mark:
    """Events of one kind at one place; ``x`` is its share, in per cent, of the width."""

    x: float
    kind: str
    events: Sequence[ChartEvent]


@dataclass(frozen=True, slots=True)
class Chart:
    """``top`` is the value at the upper edge, 0 where there is nothing to show."""

    top: float
    slots: Sequence[Slot]
    lines: Sequence[Polyline]
    ticks: Sequence[Tick]


def stacked(buckets: Sequence[TimeBucket], values: Callable[[TimeBucket], Sequence[float]]) -> Chart:
    """Each bucket's ``values`` on top of each other, in the order of the series."""
    stacks = [list(values(bucket)) for bucket in buckets]
    top = _scale(max((sum(stack) for stack in stacks), default=0.0))
    wide = WIDTH / max(1, len(buckets))
    slots = [
        Slot(bucket.start, _short(number * wide), _short(wide), stack, _pile(stack, top, number * wide, wide))
        for number, (bucket, stack) in enumerate(zip(buckets, stacks, strict=True))
    ]
    return Chart(top, slots, (), _ticks(buckets))


def line(buckets: Sequence[TimeBucket], *values: Callable[[TimeBucket], float | None]) -> Chart:
    """A line for each of ``values``, through the buckets that have one, broken where they have none."""
    found = [[value(bucket) for value in values] for bucket in buckets]
    top = _scale(max((one for row in found for one in row if one is not None), default=0.0))
    wide = WIDTH / max(1, len(buckets))
    lines = [
        Polyline(points, series)
        for series in range(len(values))
        for points in _parts([row[series] for row in found], top, wide)
    ]
    slots = [
        Slot(bucket.start, _short(number * wide), _short(wide), row, ())
        for number, (bucket, row) in enumerate(zip(buckets, found, strict=True))
    ]
    return Chart(top, slots, lines, _ticks(buckets))


def marks(series: Series) -> list[Mark]:
    """The events of ``series`` on its charts: those of one kind that would lie on each other are one mark."""
    if not series.buckets:
        return []
    begins, length = series.buckets[0].start, len(series.buckets) * series.step
    found: list[Mark] = []
    for event in series.events:
        x = _short((event.at - begins) / length * 100)
        last = next((mark for mark in reversed(found) if mark.kind == event.kind), None)
        if last is not None and x - last.x < _APART:
            found[found.index(last)] = replace(last, events=[*last.events, event])
        elif 0 <= x <= 100:
            found.append(Mark(x, event.kind, [event]))
    return found


def _parts(values: Sequence[float | None], top: float, wide: float) -> list[str]:
    """The points of a line, in parts where it is broken."""
    parts: list[list[str]] = [[]]
    for number, one in enumerate(values):
        if one is None or top <= 0:
            parts.append([])
        else:
            parts[-1].append(f"{_short((number + 0.5) * wide)},{_short(HEIGHT * (1 - one / top))}")
    # A single point is doubled: a line needs two.
    return [" ".join(points * 2 if len(points) == 1 else points) for points in parts if points]


def _pile(stack: Sequence[float], top: float, x: float, wide: float) -> list[Bar]:
    bars, below = [], 0.0
    for series, value in enumerate(stack):
        if value > 0 and top > 0:
            height = value / top * HEIGHT
            bars.append(
                Bar(
                    _short(x + wide * _GAP / 2),
                    _short(HEIGHT - below - height),
                    _short(wide * (1 - _GAP)),
                    _short(height),
                    min(series, SERIES - 1),
                )
            )
            below += height
    return bars


def _scale(highest: float) -> float:
    """The round number at which a scale that shows ``highest`` ends."""
    if highest <= 0 or not isfinite(highest):
        return 0.0
    power = 10.0 ** floor(log10(highest))
    return next((step * power for step in _STEPS if step * power >= highest), highest)


def _ticks(buckets: Sequence[TimeBucket]) -> list[Tick]:
    """About five times, evenly spaced."""
    every = max(1, -(-len(buckets) // 5))
    return [
        Tick(_short((number + 0.5) * 100 / len(buckets)), bucket.start)
        for number, bucket in enumerate(buckets)
        if number % every == every // 2
    ]


def _short(value: float) -> float:
    return round(value, 2)
