"""What is believed of one limit of a vendor's, from what its answers have said.

A smaller amount is believed at once, a larger one when it has been said twice in a row; the limit to keep to then rises
over some seconds. An answer that is older than another one already read says nothing.

After a 429 that names no limit the limit to keep to is a share of itself for a while: down at once, up slowly.
"""

from __future__ import annotations

from math import inf
from typing import Final

TWICE: Final = 2  # equal sightings in a row, after which a larger amount is believed
DOUBLES_IN: Final = 5.0  # seconds in which the limit to keep to may double: a tier of 30 times as much, in 25 s
CUT: Final = 0.7  # share of the limit that is left by a 429 that says nothing
LEAST_SHARE: Final = 0.2  # below which such answers do not go
RECOVERY: Final = 0.005  # of the limit, which each second after such an answer gives back
LATE: Final = 1.0  # seconds: the resolution of an answer's date
HORIZON: Final = 10.0  # seconds of refill that what is left is taken to be old


class LearnedLimit:
    """One limit of one model at one account, in one dimension; ``configured`` is the file's amount, if it has one.

    Times are seconds of the caller's monotonic clock, but for ``as_of``, the vendor's, when it said so.
    """

    __slots__ = ("_as_of", "_candidate", "_kept_to", "_rising_since", "_sightings", "amount", "seen_at", "source")

    def __init__(self) -> None:
        self.amount: int | None = None  # as the vendor says
        self.source = ""  # where it was said: headers, error, admin
        self.seen_at = -inf  # when it was said last
        self._as_of = -inf
        self._candidate: int | None = None
        self._sightings = 0
        self._kept_to: float | None = None  # the limit to keep to when it began to rise
        self._rising_since = -inf

    def is_late(self, as_of: float | None) -> bool:
        """Whether an answer of that date is older than another one; of two in a row, either may come first."""
        if as_of is None:
            return False
        if as_of > self._as_of:
            self._as_of = as_of
        return as_of < self._as_of - LATE

    def see(self, amount: int, now: float, source: str, kept_to: int | None) -> bool:
        """The vendor says this ``amount``; whether that changes what is believed.

        ``kept_to`` is the limit in force until the first is believed, if there is one.
        """
        self.seen_at = now
        if amount == self.amount:
            self._candidate = None
            self.source = source
            return False
        believed = kept_to if self.amount is None else self.amount
        if believed is None or amount > believed:
            self._sightings = self._sightings + 1 if amount == self._candidate else 1
            self._candidate = amount
            if self._sightings < TWICE:
                return False
            self._kept_to, self._rising_since = self._limit_before(now, believed), now
        else:
            self._kept_to = None
        self.amount, self.source, self._candidate = amount, source, None
        return True

    def _limit_before(self, now: float, believed: int | None) -> float | None:
        return believed if self.amount is None else self.limit(now)

    def is_rising(self, now: float) -> bool:
        """Whether the limit to keep to is still below the amount."""
        limit = self.limit(now)
        return limit is not None and self.amount is not None and limit < self.amount

    def limit(self, now: float) -> float | None:
        """The limit to keep to; ``None`` while nothing is believed."""
        if self.amount is None or self._kept_to is None:
            return self.amount
        doublings = (now - self._rising_since) / DOUBLES_IN
        if doublings > 40:  # by then it has risen to any amount there is
            self._kept_to = None
            return self.amount
        return min(float(self.amount), self._kept_to * float(2.0**doublings))


class Carefulness:
    """The share of a model's limits to keep to after answers with status 429 that name no limit."""

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
