"""The month's cost against its budget. Months are those of UTC."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from math import inf


def month_of(wall: float) -> str:
    """The month of a Unix time, such as ``2026-11``."""
    return datetime.fromtimestamp(wall, UTC).strftime("%Y-%m")


def month_begins(wall: float) -> float:
    """The Unix time at which the month of ``wall`` began."""
    day = datetime.fromtimestamp(wall, UTC)
    return datetime(day.year, day.month, 1, tzinfo=UTC).timestamp()


def month_ends(wall: float) -> float:
    """The Unix time at which the month of ``wall`` is over."""
    day = datetime.fromtimestamp(wall, UTC)
    year, month = (day.year + 1, 1) if day.month == 12 else (day.year, day.month + 1)
    return datetime(year, month, 1, tzinfo=UTC).timestamp()


class Budget:
    """What has been spent in the present month, in US dollars, and which levels of the limit that has reached."""

    def __init__(self, limit: float, levels: Mapping[str, float]) -> None:
        self.limit = limit
        self.spent = 0.0
        self._levels = sorted(levels.items(), key=lambda level: level[1])
        self._announced: set[str] = set()
        self._begins, self._ends = inf, -inf
        self._next = 0.0

    def use(self, limit: float, levels: Mapping[str, float]) -> None:
        """Go by another limit and other levels; what is spent and what has been announced stays."""
        self.limit = limit
        self._levels = sorted(levels.items(), key=lambda level: level[1])
        self._set_next()

    def restore(self, wall: float, spent: float, announced: Collection[str]) -> None:
        """Go on with what an earlier process had counted and announced in this month."""
        self._begin_month(wall)
        self.spent = spent
        self._announced = set(announced)
        self._set_next()

    def add(self, wall: float, cost: float) -> list[str]:
        """Count ``cost``; returns the levels reached for the first time this month, lowest first."""
        if not self._begins <= wall < self._ends:  # a clock may also be set back
            self._begin_month(wall)
        self.spent += cost
        if self.spent < self._next:
            return []
        reached = [
            level
            for level, share in self._levels
            if level not in self._announced and self.spent >= share * self.limit > 0
        ]
        self._announced.update(reached)
        self._set_next()
        return reached

    def spent_at(self, wall: float) -> float:
        """What has been spent in the month of ``wall``, in US dollars."""
        return self.spent if self._begins <= wall < self._ends else 0.0

    @property
    def utilization(self) -> float:
        """The share of the budget that is spent."""
        return self.spent / self.limit if self.limit else 0.0

    def _begin_month(self, wall: float) -> None:
        self._begins, self._ends = month_begins(wall), month_ends(wall)
        self.spent = 0.0
        self._announced.clear()
        self._set_next()

    def _set_next(self) -> None:
        ahead = [share * self.limit for level, share in self._levels if level not in self._announced]
        self._next = min(ahead, default=inf) if self.limit > 0 else inf
