"""How far one limit is used, and which thresholds that has reached."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil

from wallie_litellm.core.daily_quota import DailyQuota
from wallie_litellm.core.sliding_window import SlidingWindow
from wallie_litellm.core.thresholds import ThresholdWatch
from wallie_litellm.core.token_bucket import SECONDS_PER_MINUTE


class QuotaMeter:
    """The usage of one limit, known by its ``key``, against its thresholds. Amounts are units of the dimension.

    Usage from ``near`` on may have reached a threshold; usage below ``low`` re-arms one. Between them there is nothing
    to announce, which the hot path checks with these two numbers alone.
    """

    __slots__ = ("_counter", "_limit", "_watch", "_window", "key", "kind", "low", "near")

    def __init__(
        self, key: str, kind: int, limit: float, watch: ThresholdWatch, source: SlidingWindow | DailyQuota
    ) -> None:
        self.key = key
        self.kind = kind
        self._window = source if isinstance(source, SlidingWindow) else None
        self._counter = source if isinstance(source, DailyQuota) else None
        self._limit = limit
        self._watch = watch
        self._set_bounds()

    @property
    def is_daily(self) -> bool:
        """Whether the limit is one per day."""
        return self._counter is not None

    def used(self, now: float, reserved: int = 0) -> float:
        """Units used, ``reserved`` ones not among them: a daily counter has them, the window of a minute has not."""
        if self._window is not None:
            return self._window.used(now)
        return self._counter.used - reserved if self._counter is not None else 0

    def announce(self, now: float, before: float, reserved: int = 0) -> list[tuple[str, int]]:
        """The levels to announce, each with the units that are used; ``before`` were used until a moment ago."""
        if before < self.low:
            self._watch.fell(max(0.0, before) / self._limit)
        used = ceil(max(0.0, self.used(now, reserved) - 1e-6))
        ends = now + SECONDS_PER_MINUTE if self._counter is None else self._counter.resets_at
        levels = self._watch.rose(used / self._limit, now, ends)
        self._set_bounds()
        return [(level, used) for level in levels]

    def restart(self) -> None:
        """Begin a window in which no level has been announced yet."""
        self._watch.restart()
        self._set_bounds()

    def resize(self, limit: float) -> None:
        """Measure against another limit from now on."""
        self._limit = limit
        self._set_bounds()

    def use(self, levels: Mapping[str, float]) -> None:
        """Go by other thresholds from now on."""
        self._watch.use(levels)
        self._set_bounds()

    def _set_bounds(self) -> None:
        self.near = self._watch.high * self._limit - 1  # usage is rounded up to whole units
        self.low = self._watch.low * self._limit
