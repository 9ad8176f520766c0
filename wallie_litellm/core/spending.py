"""What has been spent of a budget on a calendar day and in a calendar month, and what is reserved of it.

Money is in whole nano-dollars: sums of them are exact, also in Lua, up to 9 million US dollars.
"""

from __future__ import annotations

from collections.abc import Container
from datetime import UTC, datetime
from math import inf
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from wallie_litellm.core.daily_quota import last_midnight, next_midnight

NANO: Final = 1_000_000_000  # nano-dollars in a US dollar
MOST_USD: Final = 1_000_000.0  # US dollars, the largest amount that is counted at once: the largest budget


def nano_of(usd: float) -> int:
    """US dollars in nano-dollars; of one call at most :data:`MOST_USD`, whatever its price."""
    return round(max(0.0, min(MOST_USD, usd)) * NANO)


class Periods(NamedTuple):
    """The calendar day and month of a moment: when they began and when they end, in Unix seconds."""

    day: int
    month: int
    day_ends: int
    month_ends: int


def periods(wall: float, timezone: str) -> Periods:
    """The day and the month of the Unix time ``wall`` in ``timezone``."""
    zone = ZoneInfo(timezone)
    local = datetime.fromtimestamp(wall, UTC).astimezone(zone)
    following = (local.year + 1, 1) if local.month == 12 else (local.year, local.month + 1)
    month, month_ends = (
        int(datetime(year, number, 1, tzinfo=zone).timestamp())
        for year, number in ((local.year, local.month), following)
    )
    return Periods(int(last_midnight(wall, timezone)), month, int(next_midnight(wall, timezone)), month_ends)


class AccountName(NamedTuple):
    """Whose spending is counted: a feature's, a user's, a user's in one feature, or a key's. Empty is that of all."""

    feature: str = ""
    user: str = ""
    key: str = ""


class SpendingLimits(NamedTuple):
    """What may be spent a day and a month, in nano-dollars; ``None`` is no limit."""

    day: int | None = None
    month: int | None = None


class SpendingFigures(NamedTuple):
    """Nano-dollars spent in the day and the month that began at these Unix times, and reserved."""

    day: int
    month: int
    day_spent: int
    month_spent: int
    reserved: int


class SpendingAccount:
    """What has been spent under one :class:`AccountName`, and what is reserved, by worker.

    ``day`` and ``month`` are the Unix times at which the present ones began. Costs from before ``until`` were in the
    figures that the account began with.
    """

    __slots__ = ("day", "day_spent", "month", "month_spent", "reserved", "sequences", "until")

    def __init__(self, day: int, month: int, day_spent: int = 0, month_spent: int = 0, until: int = 0) -> None:
        self.day = day
        self.month = month
        self.day_spent = day_spent
        self.month_spent = month_spent
        self.until = until
        self.reserved: dict[str, int] = {}
        self.sequences: dict[str, int] = {}  # the last report of each worker that is counted

    def roll(self, day: int, month: int, latest: float = inf) -> None:
        """Begin the day and the month that began at these Unix times, if they are later ones, up to ``latest``.

        What begins after that is of a clock that is ahead: it ends as soon as another says so, with what was spent.
        """
        if self.day < day <= latest:
            self.day, self.day_spent = day, 0
        elif day < self.day > latest:
            self.day = day
        if self.month < month <= latest:
            self.month, self.month_spent = month, 0
        elif month < self.month > latest:
            self.month = month

    def spend(self, at: int, amount: int) -> None:
        """Count what was spent at the whole Unix second ``at``, in the periods that it lies in."""
        if at < self.until:
            return
        if at >= self.day:
            self.day_spent += amount
        if at >= self.month:
            self.month_spent += amount

    def forget(self, known: Container[str]) -> None:
        """Drop what is kept of workers that are not ``known`` any more."""
        for worker in [worker for worker in self.reserved if worker not in known]:
            del self.reserved[worker]
            self.sequences.pop(worker, None)

    def figures(self, live: Container[str]) -> SpendingFigures:
        """The account's figures; reservations are those of the workers that are ``live``."""
        reserved = sum(amount for worker, amount in self.reserved.items() if worker in live)
        return SpendingFigures(self.day, self.month, self.day_spent, self.month_spent, reserved)


def admits(figures: SpendingFigures, limits: SpendingLimits) -> bool:
    """Whether less than the limits is spent and reserved."""
    reserved = figures.reserved
    if limits.day is not None and figures.day_spent + reserved >= limits.day:
        return False
    return limits.month is None or figures.month_spent + reserved < limits.month
