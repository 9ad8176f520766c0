"""How many of the last calls failed."""

from __future__ import annotations

from collections import deque


class RecentOutcomes:
    """Calls and failures of the last ``window`` seconds, added in lots. Times are seconds that do not go back."""

    __slots__ = ("_lots", "_window", "calls", "failures")

    def __init__(self, window: float) -> None:
        self._window = window
        self._lots: deque[tuple[float, int, int]] = deque()  # with the time at which each was added
        self.calls = 0
        self.failures = 0

    def add(self, now: float, calls: int, failures: int) -> None:
        """Count a lot of calls that have ended by now."""
        self._lots.append((now, calls, failures))
        self.calls += calls
        self.failures += failures

    def forget(self, now: float) -> None:
        """Leave out what is older than the window."""
        while self._lots and self._lots[0][0] <= now - self._window:
            _, calls, failures = self._lots.popleft()
            self.calls -= calls
            self.failures -= failures

    @property
    def share(self) -> float:
        """The share of failures; 0 without calls."""
        return self.failures / self.calls if self.calls else 0.0
