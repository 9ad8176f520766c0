"""What this process knows of one account."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil
from typing import NamedTuple

from wallie_litellm.budgets.rules import Entry
from wallie_litellm.core.spending import Periods, SpendingAccount, SpendingFigures, admits

Levels = Sequence[tuple[str, float]]  # names and shares of a limit, the lowest first; the last is all of it
_WINDOWS = ("day", "month")


class Crossed(NamedTuple):
    """An account has reached a level of a limit for the first time in the present day or month."""

    entry: Entry
    window: str
    level: str
    spent: int
    limit: int
    begins: int


class LocalAccount:
    """One account in this process. Amounts are nano-dollars, times Unix seconds.

    ``spent`` are the figures with all that is known: what was heard of Redis last, or read from the ledger, and what
    this process has spent since. ``is_known``: they are not those of this process alone. ``reserved`` is its own,
    ``elsewhere`` the other workers'. ``unsent`` is what was spent here, by the second, and is not counted in Redis.
    """

    __slots__ = (
        "created_at", "elsewhere", "entry", "is_known", "is_shared", "reached", "reserved", "seed_from", "sent",
        "spent", "unsent", "used_at",
    )  # fmt: skip

    def __init__(self, entry: Entry, now: Periods, created_at: float) -> None:
        self.entry = entry
        self.spent = SpendingAccount(now.day, now.month)
        self.created_at = created_at
        self.is_known = False
        self.is_shared = False  # Redis has, or has had, the account
        self.reserved = 0
        self.elsewhere = 0
        self.sent = 0  # ``reserved`` as the last message to Redis has it
        self.unsent: dict[int, int] = {}
        self.seed_from: float | None = None  # when the ledger has all that Redis has lost, in the clock's seconds
        self.used_at = 0.0
        self.reached = {"day": 0, "month": 0}  # levels that were announced in the present periods

    def figures(self, now: Periods) -> SpendingFigures:
        """The figures of the present day and month."""
        self._roll(now)
        spent = self.spent
        return SpendingFigures(
            spent.day, spent.month, spent.day_spent, spent.month_spent, self.reserved + self.elsewhere
        )

    def admits(self, now: Periods) -> bool:
        """Whether less than the limits is spent and reserved."""
        return admits(self.figures(now), self.entry.rule.limits)

    def spend(self, at: int, amount: int, now: Periods) -> None:
        """Count what was spent at the second ``at``."""
        self._roll(now)
        self.spent.spend(at, amount)

    def restore(self, day_spent: int, month_spent: int, now: Periods, levels: Levels) -> None:
        """Add what the ledger has on record of the time before the account was made; what it reaches is announced."""
        self._roll(now)
        self.spent.day_spent += day_spent
        self.spent.month_spent += month_spent
        self.is_known = True
        for _ in self.crossings(now, levels):
            pass

    def configure(self, entry: Entry, now: Periods, levels: Levels) -> None:
        """Have the account under other limits; what it has reached of them already is not announced."""
        self.entry = entry
        self.reached = {"day": 0, "month": 0}
        for _ in self.crossings(now, levels):
            pass

    def begin_anew(self, entry: Entry, now: Periods, created_at: float) -> None:
        """Count from ``created_at`` on: what was spent before is read from the ledger."""
        self.entry = entry
        self.spent = SpendingAccount(now.day, now.month)
        self.created_at = created_at
        self.is_known = False
        self.reached = {"day": 0, "month": 0}

    def hear(self, figures: SpendingFigures, now: Periods) -> None:
        """Redis has these figures, in which ``unsent`` is not counted, and ``sent`` is."""
        self._roll(Periods(figures.day, figures.month, 0, 0))
        spent = self.spent
        spent.day, spent.month, spent.day_spent, spent.month_spent = figures[:4]
        self.is_known = self.is_shared = True
        self.elsewhere = max(0, figures.reserved - self.sent)
        self._roll(now)
        for at, amount in self.unsent.items():
            spent.spend(at, amount)

    def crossings(self, now: Periods, levels: Levels) -> Iterator[Crossed]:
        """The levels reached for the first time in the present day and month."""
        figures = self.figures(now)
        amounts = zip(_WINDOWS, self.entry.rule.limits, figures[2:4], figures[:2], strict=True)
        for window, limit, spent, begins in amounts:
            while limit is not None and (reached := self.reached[window]) < len(levels):
                level, share = levels[reached]
                if spent < ceil(share * limit):
                    break
                self.reached[window] = reached + 1
                yield Crossed(self.entry, window, level, spent, limit, begins)

    def _roll(self, now: Periods) -> None:
        spent = self.spent
        if now.day > spent.day:
            self.reached["day"] = 0
        if now.month > spent.month:
            self.reached["month"] = 0
        spent.roll(now.day, now.month)
