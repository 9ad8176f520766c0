"""Numbers and times for people. An unknown one is a dash."""

from __future__ import annotations

from datetime import datetime
from math import isfinite
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from wallie_litellm.clock import DAY
from wallie_litellm.core.iso_time import iso_time

UNKNOWN: Final = "\u2013"  # a dash
_NARROW: Final = "\u202f"  # a space at which no line breaks
_SWAPPED: Final = str.maketrans(",.", ".,")
_MONTHS: Final = {
    "en": ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
    "es": ("ene", "feb", "mar", "abr", "may", "jun", "jul", "ago", "sep", "oct", "nov", "dic"),
}


class ShownZone(NamedTuple):
    """The time zone of a page, by its IANA name; ``is_viewers``: it is the viewer's where that is known."""

    name: str
    is_viewers: bool = False


IN_UTC: Final = ShownZone("UTC")  # where nothing else is stated


class Formats:
    """For one language: Spanish has a decimal comma and dots between thousands. Times are in ``zone``, an IANA name."""

    def __init__(self, language: str, zone: str = "UTC") -> None:
        self.zone: Final = zone
        self._zone = ZoneInfo(zone)
        self._language = language
        self._swap = language == "es"
        self._months = _MONTHS[language]

    def in_utc(self) -> Formats:
        """The same with times in UTC."""
        return Formats(self._language)

    def number(self, value: float | None, places: int = 0) -> str:
        """A number with separated thousands."""
        if value is None or not isfinite(value):
            return UNKNOWN
        text = f"{value:,.{places}f}"
        return text.translate(_SWAPPED) if self._swap else text

    def money(self, dollars: float | None) -> str:
        """US dollars to the cent; less than ten cents to fractions of one."""
        if dollars is None or not isfinite(dollars):
            return UNKNOWN
        amount = abs(dollars)
        places = 2 if amount == 0 or amount >= 0.1 else 4 if amount >= 0.001 else 6
        text, sign = self.number(amount, places), "-" if dollars < 0 else ""
        return f"{sign}{text}{_NARROW}US$" if self._swap else f"{sign}${text}"

    def share(self, value: float | None) -> str:
        """A share of 1 in per cent, rounded so that neither 0 % nor 100 % is shown for another value."""
        if value is None or not isfinite(value):
            return UNKNOWN
        percent = value * 100
        if percent in (0, 100) or abs(percent) >= 1000:
            return f"{self.number(percent)}{_NARROW}%"
        if 0 < percent < 0.01:
            return f"<{_NARROW}{self.number(0.01, 2)}{_NARROW}%"
        if abs(percent) < 1:
            return f"{self.number(percent, 2)}{_NARROW}%"
        if 99 < percent < 100:
            return f"{self.number(min(percent, 99.99), 2)}{_NARROW}%"
        return f"{self.number(percent, 1)}{_NARROW}%"

    def ratio(self, value: float | None) -> str:
        """How many times one amount is another."""
        if value is None or not isfinite(value):
            return UNKNOWN
        return f"{self.number(value, 2 if value < 10 else 0)}{_NARROW}\u00d7"

    def milliseconds(self, value: float | None) -> str:
        """A latency, in milliseconds below one second."""
        if value is None or not isfinite(value):
            return UNKNOWN
        if round(value) < 1000:
            return f"{self.number(value)}{_NARROW}ms"
        return f"{self.number(value / 1000, 1)}{_NARROW}s"

    def duration(self, seconds: float | None) -> str:
        """A duration in its most fitting unit, rounded up, so that none is shown as over too early."""
        if seconds is None or not isfinite(seconds):
            return UNKNOWN
        seconds = max(0.0, seconds)
        for limit, unit, name in ((120, 1, "s"), (7_200, 60, "min"), (2 * DAY, 3_600, "h")):
            if seconds < limit:
                return f"{self.number(-(-seconds // unit))}{_NARROW}{name}"
        return f"{self.number(-(-seconds // DAY))}{_NARROW}d"

    def clock(self, at: float, now: float) -> str:
        """A time of day, after its date unless it is within twelve hours of ``now``."""
        return f"{self._at(at):%H:%M:%S}" if abs(now - at) < DAY / 2 else f"{self.day(at)} {self.hour(at)}"

    def minute(self, at: float, now: float) -> str:
        """A time of day to the minute with its zone, after its date as :meth:`clock` has it."""
        text = f"{self.hour(at)} {self._at(at):%Z}"
        return text if abs(now - at) < DAY / 2 else f"{self.day(at)} {text}"

    def expected(self, earliest: float | None, at: float, latest: float | None) -> str:
        """A time of day that is forecast, to the minute, with its interval; to the second where it has none."""
        if earliest is None:
            return f"{self._at(at):%H:%M:%S}"
        low, middle, high = ("" if one is None else self.hour(one) for one in (earliest, at, latest))
        return f"{middle} ({low}{UNKNOWN}{high})"

    def field(self, at: float) -> str:
        """A local time to the minute as a form's field has it, without its zone."""
        return f"{self._at(at):%Y-%m-%dT%H:%M}"

    def span(self, since: float, until: float) -> str:
        """Two local times to the minute; with their zones where the clocks are changed between them."""
        first, last = self._at(since), self._at(until)
        form = "%Y-%m-%d %H:%M" if first.utcoffset() == last.utcoffset() else "%Y-%m-%d %H:%M %Z"
        return f"{first:{form}} {UNKNOWN} {last:{form}}"

    def hour(self, at: float) -> str:
        """A time of day to the minute."""
        return f"{self._at(at):%H:%M}"

    def day(self, at: float) -> str:
        """A date without its year."""
        when = self._at(at)
        return f"{when.day} {self._months[when.month - 1]}"

    def _at(self, at: float) -> datetime:
        return datetime.fromtimestamp(at, self._zone)


def iso(at: float) -> str:
    """ISO 8601, to the second."""
    return iso_time(at, "seconds")
