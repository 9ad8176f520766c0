"""Leased capacity, spent without an exchange: a part of it is free now, the rest refills as time passes."""

from __future__ import annotations

from collections import deque
from math import inf
from typing import Final

_EPSILON: Final = 1e-6  # units; the sum of many small parts may fall short of a whole


class LeaseBalance:
    """One limit's lease. Amounts are units of its dimension, times seconds of the caller's clock."""

    __slots__ = ("_refills", "kept", "kind", "left", "not_before", "ready", "refill_below", "returned", "spent")

    def __init__(self, kind: int) -> None:
        self.kind = kind
        self.ready = 0.0  # may be spent now
        self.left = 0  # leased and not spent, ready or not
        self.kept = 0  # of what others need, for calls that wait here
        self.spent = 0  # and not yet reported
        self.returned = 0  # unspent, and not yet reported
        self.refill_below = 0.0  # when less than this is left, more is asked for ...
        self.not_before = -inf  # ... from then on
        self._refills: deque[list[float]] = deque()  # [from when, units a second, units]

    def add(self, now: float, amount: int, at_once: float, delay: float, rate: float) -> None:
        """Put in ``amount``: ``at_once`` of it now, the rest as it is refilled, beginning in ``delay`` seconds."""
        self.left += amount
        self.ready += at_once
        if amount > at_once:
            self._refills.append([now + delay, rate, amount - at_once])

    def refill(self, now: float) -> None:
        """Make ready what has been refilled by now."""
        for part in self._refills:
            start, rate, units = part
            refilled = min(units, (now - start) * rate)
            if refilled > 0:
                self.ready += refilled
                part[0], part[2] = start + refilled / rate, units - refilled
        while self._refills and self._refills[0][2] <= _EPSILON:
            self.ready += self._refills.popleft()[2]

    def has(self, now: float, amount: int) -> bool:
        """Whether ``amount`` is ready."""
        if self.ready + _EPSILON < amount and self._refills:
            self.refill(now)
        return self.ready + _EPSILON >= amount

    def ready_in(self, now: float, amount: int) -> float:
        """Seconds until ``amount`` is ready; ``inf`` if it is more than is leased."""
        self.refill(now)
        missing = amount - self.ready - _EPSILON
        wait = 0.0
        for start, rate, units in self._refills:
            if missing <= 0:
                break
            wait = max(wait, start - now + min(units, missing + _EPSILON) / rate)
            missing -= units
        return wait if missing <= 0 else inf

    def spend(self, now: float, amount: int) -> int:
        """Take as much of ``amount`` as is ready; returns how much that is."""
        self.refill(now)
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

    def release(self, keep: int = 0) -> None:
        """Return what is left beyond ``keep``, the latest refills first."""
        gone = max(0, self.left - keep)
        self.left -= gone
        self.returned += gone
        if not self.left:
            self.ready = 0.0
            self._refills.clear()
            return
        over: float = gone
        while over > _EPSILON and self._refills:
            part = self._refills[-1]
            taken = min(over, part[2])
            part[2] -= taken
            over -= taken
            if part[2] <= _EPSILON:
                self._refills.pop()
        self.ready -= over

    def forget(self) -> None:
        """Drop all of it, unreported: the server has charged it."""
        self.release()
        self.spent = self.returned = 0
