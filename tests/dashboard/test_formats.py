"""Numbers as people read them, and where the bars of a chart go."""

from __future__ import annotations

import math

import pytest

from wallie_litellm.dashboard import charts
from wallie_litellm.dashboard.formats import UNKNOWN, Formats
from wallie_litellm.dashboard.view_model import ChartEvent, Series, TimeBucket

EN, ES = Formats("en"), Formats("es")


def plain(text: str) -> str:
    return text.replace("\u202f", " ")


@pytest.mark.parametrize(
    ("dollars", "english", "spanish"),
    [
        (0, "$0.00", "0,00 US$"),
        (0.000066, "$0.000066", "0,000066 US$"),
        (0.0123, "$0.0123", "0,0123 US$"),
        (0.5, "$0.50", "0,50 US$"),
        (1234.567, "$1,234.57", "1.234,57 US$"),
        (-2.5, "-$2.50", "-2,50 US$"),
        (None, UNKNOWN, UNKNOWN),
        (math.nan, UNKNOWN, UNKNOWN),
    ],
)
def test_money(dollars: float | None, english: str, spanish: str) -> None:
    assert (plain(EN.money(dollars)), plain(ES.money(dollars))) == (english, spanish)


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0, "0 %"),
        (1, "100 %"),
        (0.8, "80.0 %"),
        (0.9995, "99.95 %"),
        (0.0042, "0.42 %"),
        (16.2, "1,620 %"),
        (None, UNKNOWN),
    ],
)
def test_shares(share: float | None, text: str) -> None:
    assert plain(EN.share(share)) == text


@pytest.mark.parametrize("share", [0.99999, 0.00001])
def test_a_share_between_0_and_1_is_not_rounded_to_either(share: float) -> None:
    assert plain(EN.share(share)) not in ("0 %", "100 %", "100.0 %", "100.00 %", "0.00 %")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "1 s"), (59, "59 s"), (300, "5 min"), (86_000, "24 h"), (10 * 86_400, "10 d"), (None, UNKNOWN)],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert plain(EN.duration(seconds)) == text


def test_latencies_and_counts() -> None:
    assert plain(EN.milliseconds(830.4)) == "830 ms"
    assert plain(ES.milliseconds(2_440)) == "2,4 s"
    assert (EN.number(1_234_567), ES.number(1_234_567), EN.number(None)) == ("1,234,567", "1.234.567", UNKNOWN)


def bucket(start: int, **cost: float) -> TimeBucket:
    return TimeBucket(start, cost, {}, 0, None)


def test_the_bars_of_a_bucket_are_stacked_within_the_chart() -> None:
    buckets = [bucket(0, a=1, b=3), bucket(60), bucket(120, a=2)]
    chart = charts.stacked(buckets, lambda one: [one.cost_usd.get("a", 0.0), one.cost_usd.get("b", 0.0)])
    assert chart.top == 5
    assert [len(slot.bars) for slot in chart.slots] == [2, 0, 1]
    for slot in chart.slots:
        for bar in slot.bars:
            assert slot.x <= bar.x
            assert bar.x + bar.width <= slot.x + slot.width + 0.1
            assert bar.y >= 0
            assert bar.y + bar.height <= charts.HEIGHT + 0.1
    lower, upper = chart.slots[0].bars
    assert upper.y + upper.height == pytest.approx(lower.y, abs=0.1)
    assert upper.height == pytest.approx(3 * lower.height, abs=0.1)


def test_a_chart_of_nothing_is_empty() -> None:
    for buckets in ([], [bucket(0), bucket(60)]):
        chart = charts.stacked(buckets, lambda one: [0.0])
        assert not any(slot.bars for slot in chart.slots)
        assert charts.line(buckets, lambda one: one.mean_ms).lines == []


def test_a_line_is_broken_at_buckets_without_a_value() -> None:
    buckets = [TimeBucket(number * 60, {}, {}, 0, mean) for number, mean in enumerate((100.0, 120.0, None, 80.0))]
    chart = charts.line(buckets, lambda one: one.mean_ms)
    assert [one.series for one in chart.lines] == [0, 0]
    both = charts.line(buckets, lambda one: one.mean_ms, lambda one: 200.0)
    assert [one.series for one in both.lines] == [0, 0, 1]
    assert [len(one.points.split()) for one in both.lines] == [2, 2, 4]


def test_events_are_marked_where_they_happened_and_those_of_one_kind_that_would_overlap_are_one_mark() -> None:
    buckets = [bucket(number * 60) for number in range(10)]
    events = [
        ChartEvent(at, kind)
        for at, kind in (
            (-5, "closed"),
            (60, "opened"),
            (62, "closed"),
            (63, "opened"),
            (300, "opened"),
            (700, "closed"),
        )
    ]
    marks = charts.marks(Series(0, None, 60, buckets, events))
    assert [(mark.x, mark.kind, len(mark.events)) for mark in marks] == [
        (10.0, "opened", 2),
        (pytest.approx(10.33, abs=0.01), "closed", 1),
        (50.0, "opened", 1),
    ]
    assert charts.marks(Series(0, None, 60, (), events)) == []


def test_times_are_those_of_the_zone() -> None:
    noon = 1_795_867_200.0  # 2026-11-28 12:00 UTC
    berlin, york = Formats("en", "Europe/Berlin"), Formats("es", "America/New_York")
    assert (EN.minute(noon, noon), berlin.minute(noon, noon)) == ("12:00 UTC", "13:00 CET")
    assert (berlin.clock(noon, noon), york.clock(noon - 9 * 3600, noon + 86_400)) == ("13:00:00", "27 nov 22:00")
    assert (berlin.zone, york.in_utc().day(noon - 9 * 3600)) == ("Europe/Berlin", "28 nov")
