"""What limiters report to the guard: changes of a breaker, and thresholds of a limit that are reached."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from wallie_litellm.core.circuit_breaker import Breaker, BreakerState
from wallie_litellm.core.dimensions import DAY_DIMENSIONS
from wallie_litellm.core.limit_keys import limit_key
from wallie_litellm.core.token_bucket import SECONDS_PER_MINUTE
from wallie_litellm.limiter.store import LimitUsage

Once = Callable[[str, float, Callable[[], object]], object]


class Crossing(NamedTuple):
    """A threshold that the use of one limit has reached.

    ``share`` is the part of the limit that is used, 0 to 1. ``epoch`` counts the resets of the provider's quota: the
    same threshold is announced again after one.
    """

    dimension: str
    level: str
    share: float
    usage: LimitUsage
    epoch: int
    scope: str = ""


class LimiterListener(Protocol):
    """Receives what happens in a limiter, under its lock: methods are quick and do not call the limiter."""

    def on_breaker_change(
        self,
        provider: str,
        before: tuple[BreakerState, int],
        after: tuple[BreakerState, int],
        breaker: Breaker,
        now: float,
    ) -> None:
        """The breaker's state or its count of failures, the two in ``before`` and ``after``, has changed."""

    def on_threshold(self, provider: str, crossing: Crossing) -> None:
        """The use of a limit has reached a threshold."""


class OncePerFleet:
    """Passes each threshold on in one process of a fleet only; ``once`` has an action done once in the fleet."""

    def __init__(self, listener: LimiterListener, once: Once) -> None:
        self._once = once
        self._listener = listener

    def on_breaker_change(
        self,
        provider: str,
        before: tuple[BreakerState, int],
        after: tuple[BreakerState, int],
        breaker: Breaker,
        now: float,
    ) -> None:
        """The breaker's state or its count of failures has changed."""
        self._listener.on_breaker_change(provider, before, after, breaker, now)

    def on_threshold(self, provider: str, crossing: Crossing) -> None:
        """The use of a limit has reached a threshold."""
        daily = crossing.dimension in DAY_DIMENSIONS
        window = crossing.usage.reset_in if daily else SECONDS_PER_MINUTE
        limit = limit_key(crossing.dimension, crossing.scope)
        key = f"quota:{provider}:{limit}:{crossing.level}:{crossing.epoch}"
        self._once(key, window, lambda: self._listener.on_threshold(provider, crossing))
