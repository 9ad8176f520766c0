"""How far one limit is used, and which thresholds that has reached."""

from __future__ import annotations

from math import ceil

from wallie_litellm.core.daily_quota import DailyQuota
from wallie_litellm.core.thresholds import ThresholdWatch
from wallie_litellm.core.token_bucket import SECONDS_PER_MINUTE, TokenBucket


class QuotaMeter:
    """The usage of one limit against its thresholds. Amounts are units of the dimension.

    Usage from ``near`` on may have reached a threshold; usage below ``low`` re-arms one. Between them there is nothing
    to announce, which the hot path checks with these two numbers alone.
    """

    __slots__ = ("_counter", "_limit", "_per_second", "_watch", "bucket", "dimension", "kind", "low", "near")

    def __init__(
        self,
        dimension: str,
        kind: int,
        limit: float,
        watch: ThresholdWatch,
        bucket: TokenBucket | None,
        counter: DailyQuota | None,
    ) -> None:
        self.dimension = dimension
        self.kind = kind
        self.bucket = bucket
        self._counter = counter
        self._limit = limit
        self._watch = watch
        self._per_second = 1 / bucket.cost if bucket is not None else 0.0
        self._set_bounds()

    def used(self, now: float) -> float:
        """Units used; below 0 for a bucket that has been full for a while."""
        if self.bucket is not None:
            return (self.bucket.full_at - now) * self._per_second
        return self._counter.used if self._counter is not None else 0

    def announce(self, now: float, before: float, held: int = 0) -> list[tuple[str, float]]:
        """The levels to announce, each with the share that is used; ``before`` were used until a moment ago.

        ``held`` units are only reserved and do not count.
        """
        if before < self.low:
            self._watch.fell(max(0.0, before) / self._limit)
        share = ceil(max(0.0, self.used(now) - held - 1e-6)) / self._limit
        ends = now + SECONDS_PER_MINUTE if self._counter is None else self._counter.resets_at
        levels = self._watch.rose(share, now, ends)
        self._set_bounds()
        return [(level, share) for level in levels]

    def restart(self) -> None:
        """Begin a window in which no level has been announced yet."""
        self._watch.restart()
        self._set_bounds()

    def _set_bounds(self) -> None:
        self.near = self._watch.high * self._limit - 1  # usage is rounded up to whole units
        self.low = self._watch.low * self._limit
