"""A limiter at one moment: its limits, breaker and queue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from wallie_litellm.core.circuit_breaker import BreakerState
from wallie_litellm.limiter.store import LimitUsage


class ScopeState(NamedTuple):
    """The models that a pattern matches: the requests that wait for one, and the usage of their limits by dimension."""

    waiting: int
    usage: dict[str, LimitUsage]


@dataclass(frozen=True, slots=True)
class LimiterState:
    """One provider's limits, breaker and queue at one moment. Times are seconds from then."""

    breaker: BreakerState
    breaker_reason: str | None
    consecutive_failures: int
    next_probe_in: float
    paused_for: float
    in_flight: int
    waiting: int
    usage: dict[str, LimitUsage]
    models: dict[str, ScopeState]  # by pattern, in the order of the file
