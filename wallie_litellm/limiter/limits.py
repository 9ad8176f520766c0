"""What a provider's account allows, and what it allows for some of its models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self


@dataclass(frozen=True, slots=True)
class ScopeLimits:
    """What each dimension allows, per minute, per day or at once. Amounts are units of it."""

    per_dimension: Mapping[str, int] = field(default_factory=dict)
    burst: Mapping[str, int] = field(default_factory=dict)
    headroom: float = 0.0

    def usable(self, dimension: str) -> float:
        """The limit less the headroom."""
        return self.per_dimension[dimension] * (1 - self.headroom)

    def capacity(self, dimension: str) -> float:
        """What the bucket of a rate holds: at least one unit, or it would admit nothing."""
        return max(1.0, self.burst.get(dimension, self.per_dimension[dimension]) * (1 - self.headroom))

    def per_minute(self, dimension: str) -> float:
        """What of a rate counts as all of it: :meth:`usable`, and at least one unit."""
        return max(1.0, self.usable(dimension))

    def whole(self, dimension: str) -> int:
        """:meth:`usable`, in whole units: at least one, or it would admit nothing."""
        return max(1, int(self.usable(dimension) + 1e-9))  # 100 * (1 - 0.9) is a little below 10

    def terms(self, dimension: str) -> tuple[float, float]:
        """What of a limit is usable, and what its bucket holds."""
        return self.usable(dimension), self.capacity(dimension)

    def with_limit(self, dimension: str, amount: int) -> Self:
        """These limits with ``amount`` in place of one; its burst changes in proportion."""
        burst, before = dict(self.burst), self.per_dimension.get(dimension)
        if dimension in burst and before:
            burst[dimension] = max(1, burst[dimension] * amount // before)
        return replace(self, per_dimension={**self.per_dimension, dimension: amount}, burst=burst)

    def without_limit(self, dimension: str) -> Self:
        """These limits without that of one dimension."""
        left = {name: amount for name, amount in self.per_dimension.items() if name != dimension}
        return replace(self, per_dimension=left)

    def share(self, processes: int) -> Self:
        """One process's part, at least 1 unit, where ``processes`` divide these limits without communicating.

        Raises:
            ValueError: ``processes`` is less than 1.
        """
        if processes < 1:
            raise ValueError(f"processes: found {processes}, expected at least 1")
        if processes == 1:
            return self
        stated, burst = (
            {dimension: max(1, amount // processes) for dimension, amount in amounts.items()}
            for amounts in (self.per_dimension, self.burst)
        )
        return replace(self, per_dimension=stated, burst=burst)


@dataclass(frozen=True, slots=True)
class AccountLimits(ScopeLimits):
    """A provider's limits: the account's, which all models share, and by pattern those of some of its models."""

    reset_timezone: str = "UTC"
    models: Mapping[str, ScopeLimits] = field(default_factory=dict)

    def share(self, processes: int) -> Self:
        """As :meth:`ScopeLimits.share`, of all scopes."""
        own = ScopeLimits.share(self, processes)  # not super(): a class with slots is made twice
        models = {pattern: limits.share(processes) for pattern, limits in self.models.items()}
        return replace(own, models=models)
