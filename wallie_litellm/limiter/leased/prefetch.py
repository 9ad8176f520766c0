"""When more capacity is asked for before a call has to wait for it, and how much."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from math import ceil, inf
from typing import Final

from wallie_litellm.core.demand import Demand
from wallie_litellm.core.lease_exchange import GrantedUnits

SMALLEST_CHUNK: Final = 4.0  # requests' worth of capacity
LARGEST_CHUNK: Final = 4096.0  # requests' worth of capacity
CHUNK_TOO_SMALL: Final = 0.5  # seconds: a chunk that is spent sooner is doubled
SMOOTHING: Final = 0.3  # weight of a report's mean demand in the running mean


class PrefetchState(Enum):
    """Whether a lease is short, and whether the server has been asked for more."""

    IDLE = 0
    WANTED = 1
    ASKED = 2


@dataclass
class PrefetchChunk:
    """How much of one scope's limits to lease beyond the need: several requests of the mean demand."""

    size: float = SMALLEST_CHUNK  # requests' worth of capacity
    asked_for: Mapping[str, int] = field(default_factory=dict)  # units by limit, in the last request
    mean_demand: list[float] = field(default_factory=lambda: [1.0, 0.0, 0.0, 0.0])  # units a request, by kind
    granted_at: float = -inf  # seconds of the worker's clock

    def cover(self, demand: Demand) -> None:
        """Have it hold several of ``demand``."""
        self.mean_demand = list(map(max, self.mean_demand, demand))

    def note_spent(self, kind: int, units_per_request: float) -> None:
        """Follow the mean demand."""
        self.mean_demand[kind] += SMOOTHING * (units_per_request - self.mean_demand[kind])

    def units(self, kind: int, queued: int, left: int) -> int:
        """Units to ask for, where ``left`` are on lease."""
        chunk = ceil(self.size * max(self.mean_demand[kind], 1.0 if kind == 0 else 0.0))
        return max(0, max(chunk, queued) - left)

    def resize(self, now: float, grants: Mapping[str, GrantedUnits]) -> None:
        """Grow where it was spent soon, and shrink where it lasts or was not granted in full."""
        since, self.granted_at = now - self.granted_at, now
        if any(name not in grants or grants[name][0] < units for name, units in self.asked_for.items() if units):
            # Something is scarce: that it is soon spent does not show how much to have of the rest.
            self.size = max(self.size / 2, SMALLEST_CHUNK)
        elif since < CHUNK_TOO_SMALL:
            self.size = min(self.size * 2, LARGEST_CHUNK)
        elif since > 4 * CHUNK_TOO_SMALL:
            self.size = max(self.size / 2, SMALLEST_CHUNK)


@dataclass
class Prefetch:
    """Whether to lease beyond the need, and how much by scope."""

    state: PrefetchState = PrefetchState.IDLE
    chunks: dict[str, PrefetchChunk] = field(default_factory=dict)

    def chunk(self, scope: str) -> PrefetchChunk:
        """That of the account's limits, or of a model's."""
        return self.chunks.setdefault(scope, PrefetchChunk())

    def want(self) -> None:
        """Ask for more with the next request."""
        if self.state is PrefetchState.IDLE:
            self.state = PrefetchState.WANTED
