"""What is believed of one limit of a vendor's, from what its answers have said.

A smaller amount is believed at once. A larger one is when two answers in a row have said it, or more: some vendors move
their limits with every answer. The limit to keep to then rises over some seconds.

After a 429 that names no limit, calls are sent at a share of it for a while: down at once, up slowly. And so they are
while little is left of a limit: another program uses it too. What is left then settles where both have their part.
"""

from __future__ import annotations

from math import floor, inf
from typing import Final

TWICE: Final = 2  # sightings in a row, after which a larger amount is believed
DOUBLES_IN: Final = 5.0  # seconds in which the limit to keep to may double: a tier of 30 times as much, in 25 s
MOST_DOUBLINGS: Final = 40.0  # by then it has risen to any amount there is
CUT: Final = 0.7  # share of the limit that is left by a 429 that says nothing
LEAST_SHARE: Final = 0.2  # below which such answers do not go
RECOVERY: Final = 0.005  # of the limit, which each second after such an answer gives back
HORIZON: Final = 10.0  # seconds of refill that what is left is taken to be old
RESERVE: Final = 0.04  # share of a limit that is left to others: below it, calls are sent more slowly
OTHERS: Final = 0.5  # share of what is refilled that others are taken to have used since an answer
SLOWEST: Final = 0.05  # share of the limit at which calls are sent when nothing is left of it


class LearnedLimit:
    """One limit of one model at one account, in one dimension. Times are seconds of the caller's monotonic clock."""

    __slots__ = ("_candidate", "_kept_to", "_rising_since", "_sightings", "amount", "seen_at", "source")

    def __init__(self) -> None:
        self.amount: int | None = None  # as the vendor says
        self.source = ""  # where it was said: headers, error, admin
        self.seen_at = -inf  # when it was said last
        self._candidate = 0  # what the last answer has said, if that was more than the amount
        self._sightings = 0  # of the amount, in a row
        self._kept_to: float | None = None  # the limit to keep to when it began to rise
        self._rising_since = -inf

    def see(self, amount: int, now: float, source: str, kept_to: int | None) -> None:
        """The vendor says this ``amount``; ``kept_to`` is the limit in force until the first one is believed."""
        self.seen_at = now
        believed = kept_to if self.amount is None else self.amount
        if amount == self.amount:
            self._sightings = self._sightings + 1 if not self._candidate else 1
            self.source, self._candidate = source, 0
        elif believed is not None and amount <= believed:
            self.amount, self.source, self._candidate, self._sightings = amount, source, 0, 1
        elif self._candidate:
            self._kept_to = believed if self.amount is None else self.limit(now)
            self._rising_since = now
            self._sightings = TWICE if amount == self._candidate else 1
            self.amount, self.source, self._candidate = min(amount, self._candidate), source, 0
        else:
            self._candidate = amount

    @property
    def is_confirmed(self) -> bool:
        """Whether the amount has been said twice in a row."""
        return self.amount is not None and not self._candidate and self._sightings >= TWICE

    def is_rising(self, now: float) -> bool:
        """Whether the limit to keep to is still below the amount."""
        limit = self.limit(now)
        return limit is not None and self.amount is not None and limit < self.amount

    def limit(self, now: float) -> float | None:
        """The limit to keep to, which rises once a second; ``None`` while nothing is believed."""
        if self.amount is None or self._kept_to is None:
            return self.amount
        doublings = floor(now - self._rising_since) / DOUBLES_IN
        if doublings > MOST_DOUBLINGS:
            self._kept_to = None
            return self.amount
        return min(float(self.amount), self._kept_to * float(2.0**doublings))


class Carefulness:
    """The share of a model's limits at which calls are sent, after answers with status 429 that name no limit."""

    __slots__ = ("_cut_at", "_share")

    def __init__(self) -> None:
        self._share = 1.0
        self._cut_at = -inf

    def cut(self, now: float, sent_at: float) -> bool:
        """Such an answer has come; those of calls that were sent before the last one say nothing new."""
        if sent_at <= self._cut_at:
            return False
        self._share = max(LEAST_SHARE, self.share(now) * CUT)
        self._cut_at = now
        return True

    def is_over(self, now: float) -> bool:
        """Whether all of the limit may be used."""
        return self._share >= 1.0 or self.share(now) >= 1.0

    def share(self, now: float) -> float:
        """The share at present."""
        if self._share >= 1.0:
            return 1.0
        share = min(1.0, self._share + (now - self._cut_at) * RECOVERY)
        if share >= 1.0:
            self._share = 1.0
        return share


def left_of(remaining: int, rounded_to: int, per_second: float, age: float, sent_since: float) -> float:
    """The units that are left of a limit, of which an answer has said that ``remaining`` were when its call was sent.

    That was ``age`` seconds ago; ``sent_since`` units were sent afterwards and are under way. Meanwhile a limit refills
    by ``per_second``. Of a long call only the last seconds are looked at: a vendor may as well have counted at its end.
    ``remaining`` may be rounded down to a multiple of ``rounded_to``.
    """
    looked_at = min(age, HORIZON)
    part = looked_at / age if age > 0 else 1.0
    return max(0.0, remaining + rounded_to + per_second * looked_at - sent_since * part)


def pace(remaining: int, rounded_to: int, limit: float, per_second: float, age: float) -> float:
    """The share of a ``limit`` at which to send calls when ``remaining`` were left, ``age`` seconds ago.

    The longer ago that was, the more may have been used meanwhile, and the more is left to others.
    """
    hidden = rounded_to - 1  # units that rounding down takes away at most
    reserve = max(limit * RESERVE, 2.0 * hidden + 1.0) + OTHERS * per_second * min(age, HORIZON)
    return min(1.0, max(SLOWEST, (remaining + rounded_to) / reserve))
