"""The names of what charts show, for people: time buckets, and what is marked."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from wallie_litellm.clock import DAY
from wallie_litellm.dashboard.formats import Formats
from wallie_litellm.dashboard.translations import Translator
from wallie_litellm.dashboard.view_model import ChartEvent, Range


class BucketNames(NamedTuple):
    """The zone that a chart's times are in, and the names of its time buckets on its axis, and in full."""

    zone: str
    on_axis: Callable[[float], str]
    in_full: Callable[[float], str]


def bucket_names(chosen: Range, formats: Formats, t: Translator) -> BucketNames:
    """Those of a range. Days are UTC's in every zone: so the ledger sums them."""
    if chosen.step >= DAY:
        utc_day = formats.in_utc().day
        return BucketNames(t("zone.days"), utc_day, utc_day)
    if chosen.seconds > DAY:
        return BucketNames(formats.zone, formats.day, lambda at: f"{formats.day(at)} {formats.hour(at)}")
    return BucketNames(formats.zone, formats.hour, formats.hour)


def mark_text(t: Translator, clock: Callable[[float], str]) -> Callable[[ChartEvent], str]:
    """A function that says what is marked, and when it happened."""

    def text(one: ChartEvent) -> str:
        said = " ".join(filter(None, (clock(one.at), one.provider, one.model, t(f"mark.{one.kind}"))))
        return f"{said}: {one.reason}" if one.reason else said

    return text
