"""Capacity that was lent, spent without asking anybody: some of it now, some only as time passes."""

from __future__ import annotations

from collections import deque
from math import inf

_EPSILON = 1e-6  # of a unit; the sum of many small parts may fall short of a whole


class LeaseBalance:
    """One dimension's loan. Amounts are units of the dimension, times seconds of the caller's clock."""

    __slots__ = ("_later", "back", "kind", "left", "low", "ready", "spent")

    def __init__(self, kind: int) -> None:
        self.kind = kind
        self.ready = 0.0  # may be spent now
        self.left = 0  # lent and not spent, whether or not it is ready
        self.spent = 0  # and not yet reported
        self.back = 0  # given up, and not yet reported
        self.low = 0.0  # when less than this is left, it is time to ask for more
        self._later: deque[list[float]] = deque()  # [from when, units a second, units]

    def add(self, now: float, amount: int, at_once: float, delay: float, rate: float) -> None:
        """Put in ``amount``: ``at_once`` of it now, the rest as it is refilled, beginning in ``delay`` seconds."""
        self.left += amount
        self.ready += at_once
        if amount > at_once:
            self._later.append([now + delay, rate, amount - at_once])

    def ripen(self, now: float) -> None:
        """Make ready what has been refilled by now."""
        for part in self._later:
            start, rate, units = part
            come = min(units, (now - start) * rate)
            if come > 0:
                self.ready += come
                part[0], part[2] = start + come / rate, units - come
        while self._later and self._later[0][2] <= _EPSILON:
            self.ready += self._later.popleft()[2]

    def has(self, now: float, amount: int) -> bool:
        """Whether ``amount`` is ready."""
        if self.ready + _EPSILON < amount and self._later:
            self.ripen(now)
        return self.ready + _EPSILON >= amount

    def ready_in(self, now: float, amount: int) -> float:
        """Seconds until ``amount`` is ready; ``inf`` if it is more than was lent."""
        self.ripen(now)
        missing = amount - self.ready - _EPSILON
        wait = 0.0
        for start, rate, units in self._later:
            if missing <= 0:
                break
            wait = max(wait, start - now + min(units, missing + _EPSILON) / rate)
            missing -= units
        return wait if missing <= 0 else inf

    def spend(self, now: float, amount: int) -> int:
        """Take as much of ``amount`` as is ready; returns how much that is."""
        self.ripen(now)
        taken = max(0, min(amount, self.left, int(self.ready + _EPSILON)))
        self.ready -= taken
        self.left -= taken
        self.spent += taken
        return taken

    def unspend(self, amount: int) -> int:
        """Undo the spending of ``amount``, as far as it has not been reported; returns how much that is."""
        undone = min(amount, self.spent)
        self.ready += undone
        self.left += undone
        self.spent -= undone
        return undone

    def give_up(self, keep: int = 0) -> None:
        """Take out what is left beyond ``keep``, what ripens last first."""
        gone = max(0, self.left - keep)
        self.left -= gone
        self.back += gone
        if not self.left:
            self.ready = 0.0
            self._later.clear()
            return
        over: float = gone
        while over > _EPSILON and self._later:
            part = self._later[-1]
            taken = min(over, part[2])
            part[2] -= taken
            over -= taken
            if part[2] <= _EPSILON:
                self._later.pop()
        self.ready -= over

    def empty(self) -> None:
        """Forget all of it: the lender has charged it."""
        self.give_up()
        self.spent = self.back = 0
