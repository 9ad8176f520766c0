"""What the last 60 seconds used of a limit per minute: the utilisation that operators see.

A token bucket decides about admission, and its level says little about a steady load: at 97 % of the limit it refills
as fast as it is emptied. The window counts use in slots of a quarter of a second. A slot leaves as a whole, so that up
to a quarter of a second of the minute is missing, and nothing counts for longer.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import floor, inf
from typing import Final

SLOTS_PER_SECOND: Final = 4
SLOTS: Final = 60 * SLOTS_PER_SECOND  # in a minute


def slot_of(at: float) -> int:
    """The number of the slot that an instant, in seconds, belongs to."""
    return floor(at * SLOTS_PER_SECOND)


class SlidingWindow:
    """Units used in each slot of the last minute. Times are seconds of the caller's clock, which does not go back.

    ``total`` is what the minute before the last call of a method used.
    """

    __slots__ = ("_begin", "_index", "_newest", "_next_at", "_units", "total")

    def __init__(self) -> None:
        self._begin = self._newest = -SLOTS  # the slots of the last reset and of the last look
        self._next_at = -inf  # when the slot after the newest begins
        self._index = 0  # of the newest
        self._units: list[float] = [0] * SLOTS  # a ring: slot n is at n % SLOTS
        self.total: float = 0

    def used(self, now: float) -> float:
        """Units used in the minute before ``now``."""
        if now >= self._next_at:
            self._move_to(slot_of(now))
        return self.total

    def add(self, now: float, units: float) -> None:
        """Count ``units`` as used now."""
        if now >= self._next_at:
            self._move_to(slot_of(now))
        self._units[self._index] += units
        self.total += units

    def add_at(self, now: float, at: float, units: float) -> None:
        """Count ``units`` as used at ``at``; without effect where that is more than a minute ago."""
        self.used(now)
        slot = min(slot_of(at), self._newest)
        if slot > self._newest - SLOTS:
            self._units[slot % SLOTS] += units
            self.total += units

    def take_back(self, now: float, at: float, units: float) -> None:
        """Undo an :meth:`add` of ``units`` at ``at``; without effect where that has left the window, or was reset.

        What that slot does not hold is taken from the following ones: clocks of processes differ by a little.
        """
        self.used(now)
        slot = slot_of(at)
        if slot <= self._newest - SLOTS or slot < self._begin:
            return
        for each in range(min(slot, self._newest), self._newest + 1):
            taken = min(units, self._units[each % SLOTS])
            self._units[each % SLOTS] -= taken
            self.total -= taken
            units -= taken
            if units <= 0:
                return

    def reset(self, now: float) -> None:
        """Forget what was used before ``now``."""
        self.replace(now, 0)
        self._begin = self._newest

    def replace(self, now: float, units: float) -> None:
        """Take ``units`` for what the last minute used: another process has counted it.

        What they are more than what is known was used just now; what they are less has left the minute first.
        """
        self.used(now)
        more = units - self.total
        self._units[self._index] += max(0, more)
        for slot in range(self._newest - SLOTS + 1, self._newest + 1):
            if more >= 0:
                break
            gone = min(self._units[slot % SLOTS], -more)
            self._units[slot % SLOTS] -= gone
            more += gone
        self.total = units

    def spread(self, now: float, units: float) -> None:
        """As :meth:`replace`, where nothing is known of when in the minute they were used."""
        self.used(now)
        self._units = [units / SLOTS] * SLOTS
        self.total = units

    def recent(self, now: float, since: float) -> Iterator[tuple[float, float]]:
        """The slots from ``since`` on in which something was used: their beginnings, and units."""
        self.used(now)
        for slot in range(max(slot_of(since), self._newest - SLOTS + 1), self._newest + 1):
            if units := self._units[slot % SLOTS]:
                yield slot / SLOTS_PER_SECOND, units

    def _move_to(self, slot: int) -> None:
        if slot - self._newest >= SLOTS:
            self._units = [0] * SLOTS
            self.total = 0
        elif self.total:
            for gone in range(self._newest + 1, slot + 1):
                self.total -= self._units[gone % SLOTS]
                self._units[gone % SLOTS] = 0
        self._newest, self._index, self._next_at = slot, slot % SLOTS, (slot + 1) / SLOTS_PER_SECOND
