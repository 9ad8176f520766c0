"""How far one limit is used, and whom to tell."""

from __future__ import annotations

from math import ceil

from wallie_litellm.core.daily_quota import DailyQuota
from wallie_litellm.core.thresholds import ThresholdWatch
from wallie_litellm.core.token_bucket import SECONDS_PER_MINUTE, TokenBucket


class QuotaMeter:
    """How far one limit is used, and whom to tell. Amounts are units of the dimension."""

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
        self._look_out()

    def used(self, now: float) -> float:
        """Units used; may be below 0 for a bucket that is full."""
        if self.bucket is not None:
            return (self.bucket.full_at - now) * self._per_second
        return self._counter.used if self._counter is not None else 0

    def announce(self, now: float, before: float, held: int = 0) -> list[tuple[str, float]]:
        """The levels to report, each with the share that is used; ``before`` were used until a moment ago.

        ``held`` are those that are only reserved.
        """
        if before < self.low:
            self._watch.fell(max(0.0, before) / self._limit)
        share = ceil(max(0.0, self.used(now) - held - 1e-6)) / self._limit
        ends = now + SECONDS_PER_MINUTE if self._counter is None else self._counter.resets_at
        levels = self._watch.rose(share, now, ends)
        self._look_out()
        return [(level, share) for level in levels]

    def restart(self) -> None:
        """Begin a window in which nothing has been reported yet."""
        self._watch.restart()
        self._look_out()

    def _look_out(self) -> None:
        self.near = self._watch.high * self._limit - 1  # a part of a unit counts as one
        self.low = self._watch.low * self._limit
