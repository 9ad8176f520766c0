"""When to say that a limit is running out: once per threshold and window, and not again before it has recovered."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf

# A threshold that was reported is armed again this far below it, as a share of the limit.
REARM = 0.10
_TOLERANCE = 1e-6  # 0.8 - 0.1 is not 0.7


class ThresholdWatch:
    """The thresholds of one limit. Shares are used / limit, times seconds of the caller's clock.

    Whoever takes from the limit compares its share with two numbers, which is all that the usual case costs:
    :attr:`high`, at or above which :meth:`rose` may have something to say, and :attr:`low`, below which :meth:`fell`
    has to hear of it.
    """

    __slots__ = ("_armed", "_levels", "_silent_until", "high", "low")

    def __init__(self, levels: Mapping[str, float]) -> None:
        self._levels = sorted(levels.items(), key=lambda level: level[1])
        self._armed = dict.fromkeys(levels, True)
        self._silent_until = dict.fromkeys(levels, -inf)
        self._look_out()

    def rose(self, share: float, now: float, window_ends: float) -> list[str]:
        """The levels to report now that ``share`` is used, lowest first; they are silent until ``window_ends``."""
        reached = [level for level, threshold in self._levels if share >= threshold and self._armed[level]]
        news = [level for level in reached if now >= self._silent_until[level]]
        for level in news:
            self._armed[level] = False
            self._silent_until[level] = window_ends
        if news:
            self._look_out()
        return news

    def fell(self, share: float) -> None:
        """Note that the share had been as low as ``share``."""
        for level, threshold in self._levels:
            if share < threshold - REARM + _TOLERANCE:
                self._armed[level] = True
        self._look_out()

    def restart(self) -> None:
        """Begin a window in which nothing has been reported yet."""
        for level, _ in self._levels:
            self._armed[level] = True
            self._silent_until[level] = -inf
        self._look_out()

    def _look_out(self) -> None:
        armed = [threshold for level, threshold in self._levels if self._armed[level]]
        fired = [threshold for level, threshold in self._levels if not self._armed[level]]
        self.high = min(armed, default=inf)
        self.low = max(fired, default=-inf) - REARM + _TOLERANCE
