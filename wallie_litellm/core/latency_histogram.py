"""What calls of one kind have taken in the last ten minutes: quantiles, within 5 %.

Latencies are counted in bins whose bounds grow by a tenth, in slots of a minute that leave as a whole.
"""

from __future__ import annotations

from collections import Counter, deque
from math import ceil, exp, floor, log
from typing import Final

WINDOW: Final = 600.0  # seconds
SLOT: Final = 60.0  # seconds
RATIO: Final = 1.1  # of a bin's upper bound to its lower one
SHORTEST: Final = 0.001  # seconds: what is shorter is in the first bin
_LOG_RATIO: Final = log(RATIO)


class LatencyHistogram:
    """Latencies in seconds; ``now`` is in seconds of one clock, which does not go back."""

    __slots__ = ("_bins", "_slots", "count")

    def __init__(self) -> None:
        self.count = 0
        self._bins: Counter[int] = Counter()
        self._slots: deque[tuple[int, Counter[int]]] = deque()

    def add(self, now: float, seconds: float) -> None:
        """Count one call."""
        self._expire(now)
        slot = floor(now / SLOT)
        if not self._slots or self._slots[-1][0] != slot:
            self._slots.append((slot, Counter()))
        number = 0 if seconds <= SHORTEST else ceil(log(seconds / SHORTEST) / _LOG_RATIO)
        self._slots[-1][1][number] += 1
        self._bins[number] += 1
        self.count += 1

    def counted(self, now: float) -> int:
        """How many calls the last ten minutes have."""
        self._expire(now)
        return self.count

    def quantile(self, now: float, share: float) -> float | None:
        """The seconds that this ``share`` of the calls took at most, 0 to 1; ``None`` without any."""
        self._expire(now)
        if not self.count:
            return None
        left = max(1, ceil(share * self.count))
        for number in sorted(self._bins):
            left -= self._bins[number]
            if left <= 0:
                return SHORTEST * exp((number - 0.5) * _LOG_RATIO) if number else SHORTEST
        raise AssertionError("the bins hold fewer calls than were counted")

    def _expire(self, now: float) -> None:
        oldest = floor((now - WINDOW) / SLOT)
        while self._slots and self._slots[0][0] <= oldest:
            gone = self._slots.popleft()[1]
            self._bins -= gone
            self.count -= gone.total()
