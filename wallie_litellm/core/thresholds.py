"""When a limit that runs out is announced: once per threshold and window, and not again before it has recovered."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Final

REARM: Final = 0.10  # share of the limit by which usage must fall below a threshold to arm it again
_TOLERANCE: Final = 1e-6  # share of the limit; 0.8 - 0.1 is not 0.7


class ThresholdWatch:
    """The thresholds of one limit. Shares are used / limit, times seconds of the caller's clock.

    The usual case costs two comparisons with the share: at or above :attr:`high`, :meth:`rose` may return levels;
    below :attr:`low`, :meth:`fell` has to be called.
    """

    __slots__ = ("_armed", "_levels", "_silent_until", "high", "low")

    def __init__(self, levels: Mapping[str, float]) -> None:
        self._levels = sorted(levels.items(), key=lambda level: level[1])
        self._armed = dict.fromkeys(levels, True)
        self._silent_until = dict.fromkeys(levels, -inf)
        self._set_bounds()

    def use(self, levels: Mapping[str, float]) -> None:
        """Go by other thresholds; a level that has been announced stays so until usage has fallen below it."""
        self._levels = sorted(levels.items(), key=lambda level: level[1])
        self._armed = {level: self._armed.get(level, True) for level in levels}
        self._silent_until = {level: self._silent_until.get(level, -inf) for level in levels}
        self._set_bounds()

    def rose(self, share: float, now: float, window_ends: float) -> list[str]:
        """The levels to announce now that ``share`` is used, lowest first; they are silent until ``window_ends``."""
        reached = [level for level, threshold in self._levels if share >= threshold and self._armed[level]]
        announced = [level for level in reached if now >= self._silent_until[level]]
        for level in announced:
            self._armed[level] = False
            self._silent_until[level] = window_ends
        if announced:
            self._set_bounds()
        return announced

    def fell(self, share: float) -> None:
        """Note that the share had been as low as ``share``."""
        for level, threshold in self._levels:
            if share < threshold - REARM + _TOLERANCE:
                self._armed[level] = True
        self._set_bounds()

    def restart(self) -> None:
        """Begin a window in which no level has been announced yet."""
        for level, _ in self._levels:
            self._armed[level] = True
            self._silent_until[level] = -inf
        self._set_bounds()

    def _set_bounds(self) -> None:
        armed = [threshold for level, threshold in self._levels if self._armed[level]]
        fired = [threshold for level, threshold in self._levels if not self._armed[level]]
        self.high = min(armed, default=inf)
        self.low = max(fired, default=-inf) - REARM + _TOLERANCE
