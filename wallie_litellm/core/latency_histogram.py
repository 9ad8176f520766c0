"""What calls of one kind have taken in the last ten minutes: quantiles, within 5 %.

Latencies are counted in bins whose bounds grow by a tenth, in slots of a minute that leave as a whole.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from math import ceil, exp, floor, log
from typing import Final

WINDOW: Final = 600.0  # seconds
SLOT: Final = 60.0  # seconds
RATIO: Final = 1.1  # of a bin's upper bound to its lower one
SHORTEST: Final = 0.001  # seconds: what is shorter is in the first bin
_LOG_RATIO: Final = log(RATIO)


class LatencyTail:
    """What share of the calls take longer than so many seconds, estimated on the high side: by Laplace's rule.

    Beyond what any has taken the share falls with the square of the time, as in a heavy tail.
    """

    __slots__ = ("_beyond", "_count", "_longest")

    def __init__(self, bins: Mapping[int, int], count: int) -> None:
        self._count = count
        longest, left = max(bins, default=0), count
        self._longest = SHORTEST * exp(longest * _LOG_RATIO)
        self._beyond: list[int] = []  # calls in this bin and those above, by its number
        for number in range(longest + 1):
            self._beyond.append(left)
            left -= bins.get(number, 0)

    def share(self, seconds: float) -> float:
        """The share, above 0 and at most 1; those in the bin of ``seconds`` count as longer."""
        if seconds > self._longest:
            return (self._longest / seconds) ** 2 / (self._count + 1)
        return (self._beyond[min(_bin_of(seconds), len(self._beyond) - 1)] + 1) / (self._count + 1)


def _bin_of(seconds: float) -> int:
    return 0 if seconds <= SHORTEST else ceil(log(seconds / SHORTEST) / _LOG_RATIO)


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
        number = _bin_of(seconds)
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

    def tail(self, now: float) -> LatencyTail:
        """The shares of the calls that have taken longer than so many seconds."""
        self._expire(now)
        return LatencyTail(self._bins, self.count)

    def _expire(self, now: float) -> None:
        oldest = floor((now - WINDOW) / SLOT)
        while self._slots and self._slots[0][0] <= oldest:
            gone = self._slots.popleft()[1]
            self._bins -= gone
            self.count -= gone.total()
