"""What a provider's account allows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace


@dataclass(frozen=True, slots=True)
class AccountLimits:
    """A provider's limits: what each dimension allows, per minute, per day or at once. Amounts are units of it."""

    per_dimension: Mapping[str, int] = field(default_factory=dict)
    burst: Mapping[str, int] = field(default_factory=dict)
    headroom: float = 0.0
    reset_timezone: str = "UTC"

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
        """:meth:`usable`, in whole units."""
        return int(self.usable(dimension) + 1e-9)  # 100 * (1 - 0.9) is a little below 10

    def share(self, processes: int) -> AccountLimits:
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
