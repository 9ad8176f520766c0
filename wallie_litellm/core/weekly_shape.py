"""The weekly shape of what is used: what each day of the week uses in all, and which share of it by which hour.

A day's usual total is the median, over the same weekday of the last weeks, of that day's total times what the seven
days before the present one used against the seven days before it: so growth is followed, and no single day counts for
much. Its curve is the median of the shares that those days had used by each quarter of an hour.

Of how far today is from usual by now, half is taken to go on: on days with steady noise the other half is chance.
A surprise that is larger than nearly all earlier ones at this time of day, such as a batch job, is cut to those, and
widens the interval to both ends: that it goes on, and that it is over. Else the interval is what the same forecast,
made at this time of each of the last four weeks' days, missed by: a split conformal interval (Lei et al.,
"Distribution-Free Predictive Inference for Regression", JASA 2018), with the errors in logarithms of the day's rest.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import accumulate
from math import ceil, exp, log
from statistics import median
from typing import Final, NamedTuple

from wallie_litellm.core.local_day import SLOTS

WEEK: Final = 7  # days
_WEEKS: Final = 6  # most weeks of which a weekday is the median
_REPLAYED: Final = 28  # most days at which the forecast is repeated
_FEWEST: Final = 5  # times that a forecast of several days is repeated, to judge it
_CARRIED: Final = 0.5  # power of the surprise by which the rest of a day follows what is used already
_COVERED: Final = 0.8  # share of the days that an interval has to hold
_SLACK: Final = 0.02  # share of a day's total that is added to both sides of a ratio: near 0 they mean nothing
_LEAST_SURPRISE: Final = 0.05  # logarithm; a smaller one is never out of shape


class Rest(NamedTuple):
    """What is still to come of a day, in units, and the interval of it."""

    expected: float
    low: float
    high: float


class _Outlook(NamedTuple):
    """A day at one moment: its usual rest in units, and how far what is used is above the usual, as a logarithm."""

    rest: float
    surprise: float
    slack: float  # units


class WeeklyShape:
    """What is usual, by ``days``: for each of consecutive days, the last of them yesterday, units by slot.

    Days are numbered from the first; today is number ``present``. A moment of a day is its slot, with the
    fraction of it that has passed. Days that are ``guessed`` in part show what is usual, and no forecast's error.
    """

    def __init__(self, days: Sequence[Sequence[float]], guessed: Collection[int] = ()) -> None:
        self.present = len(days)
        self.guessed = guessed
        self._sums = [[0.0, *accumulate(day)] for day in days]
        self._totals = [sums[-1] for sums in self._sums]
        self._usual: dict[int, tuple[float, list[float]]] = {}
        self._spreads: dict[int, float] = {}

    @property
    def is_known(self) -> bool:
        """Whether there is a week of days, and a weekday like today's with any use."""
        return self.present >= WEEK and self.usual(self.present)[0] > 0

    def usual(self, day: int) -> tuple[float, list[float]]:
        """The usual total of ``day``, and the shares of it used at the beginning of each slot, and at its end."""
        if day not in self._usual:
            alike = list(range(day - WEEK, -1, -WEEK))[:_WEEKS]
            used = [[sum_ / self._totals[one] for sum_ in self._sums[one]] for one in alike if self._totals[one] > 0]
            shares = list(map(median, zip(*used, strict=True))) if used else [0.0] * (SLOTS + 1)
            self._usual[day] = self.ahead(0, day), shares
        return self._usual[day]

    def ahead(self, days: int, known: int | None = None) -> float:
        """The usual total of the day so many days after today, or after day ``known``, by the days before that one."""
        known = self.present if known is None else known
        last = known + days % WEEK - WEEK
        alike = list(range(last, -1, -WEEK))[:_WEEKS]
        until = known if last + WEEK == known else last  # both weeks begin with the same weekday
        return median([self._totals[one] * self._growth(one, until) for one in alike]) if alike else 0.0

    def spread(self, days: int) -> float:
        """How far such totals of so many days together were off, as a logarithm; of too few such times, of one day."""
        if days not in self._spreads:
            begins = range(max(WEEK, self.present - days - _REPLAYED), self.present - days)
            misses = [self._missed_sum(begin, days) for begin in begins]
            is_enough = len(misses) >= _FEWEST or days <= 1
            self._spreads[days] = _quantile(misses, default=log(2)) if is_enough else self.spread(1)
        return self._spreads[days]

    def _missed_sum(self, begin: int, days: int) -> float:
        came = sum(self._totals[begin + 1 : begin + days + 1])
        usual = sum(self.ahead(number, begin) for number in range(1, days + 1))
        slack = max(came, usual) * _SLACK
        return abs(log((came + slack) / (usual + slack))) if slack else 0.0

    def used(self, day: int, slot: float = SLOTS) -> float:
        """What an earlier day had used at ``slot``, by default in all."""
        return _at(self._sums[day], slot)

    def _growth(self, earlier: int, later: int) -> float:
        """What the week before day ``later`` used, as a multiple of the week before day ``earlier``."""
        pairs = [
            (self._totals[later - back], self._totals[earlier - back]) for back in range(1, min(WEEK, earlier) + 1)
        ]
        ratios = [after / before for after, before in pairs if before > 0]
        return median(ratios) if ratios else 1.0

    def rest(self, slot: float, used: float, day: int | None = None) -> Rest:
        """What is to come of today, of which ``used`` units are used at ``slot``; or of an earlier ``day``."""
        day = self.present if day is None else day
        now = self._outlook(day, slot, used)
        looks = [
            (past, self._outlook(past, slot, _at(self._sums[past], slot)))
            for past in range(max(WEEK, day - _REPLAYED), day)
        ]
        bound = max(_LEAST_SURPRISE, _quantile([abs(look.surprise) for _, look in looks], default=log(2)))
        misses = [self._missed(past, slot, look, bound) for past, look in looks if past not in self.guessed]
        wide = _quantile(misses, default=log(2))
        expected = _expected(now, bound)
        low, high = _scaled(expected, -wide, now.slack), _scaled(expected, wide, now.slack)
        if abs(now.surprise) > bound:
            goes_on, is_over = _scaled(now.rest, now.surprise, now.slack), now.rest
            low = min(low, goes_on, _scaled(is_over, -wide, now.slack))
            high = max(high, goes_on, _scaled(is_over, wide, now.slack))
        return Rest(expected, low, high)

    def _outlook(self, day: int, slot: float, used: float) -> _Outlook:
        total, shares = self.usual(day)
        done, slack = _at(shares, slot), max(total, used) * _SLACK
        surprise = log((used + slack) / (total * done + slack)) if slack else 0.0
        return _Outlook(total * (1 - done), surprise, slack)

    def _missed(self, day: int, slot: float, look: _Outlook, bound: float) -> float:
        """How far the forecast of an earlier day's rest was from it, as a logarithm."""
        came = self._totals[day] - _at(self._sums[day], slot)
        return abs(log((came + look.slack) / (_expected(look, bound) + look.slack))) if look.slack else 0.0


def _expected(look: _Outlook, bound: float) -> float:
    return look.rest * exp(_CARRIED * max(-bound, min(bound, look.surprise)))


def _scaled(units: float, by: float, slack: float) -> float:
    return max(0.0, (units + slack) * exp(by) - slack)


def between(sums: Sequence[float], start: float, end: float) -> float:
    """What a curve rises by between two moments of a day."""
    return _at(sums, min(end, SLOTS)) - _at(sums, start)


def _at(sums: Sequence[float], slot: float) -> float:
    """The value of a curve between two of its points."""
    before = min(int(slot), SLOTS - 1)
    return sums[before] + (sums[before + 1] - sums[before]) * (slot - before)


def _quantile(values: Sequence[float], default: float) -> float:
    """The value that the next one is at most :data:`_COVERED` of the time, by its rank."""
    if not values:
        return default
    return sorted(values)[min(len(values), ceil((len(values) + 1) * _COVERED)) - 1]
