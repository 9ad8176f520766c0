"""What limiters report to the guard: changes of a breaker, and thresholds of a limit that are reached."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from wallie_litellm.core.circuit_breaker import Breaker
from wallie_litellm.core.dimensions import DAY_DIMENSIONS
from wallie_litellm.core.limit_keys import limit_key
from wallie_litellm.core.overall_state import Counted, OverallState
from wallie_litellm.core.scopes import account_in, model_in
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


class BreakerChange(NamedTuple):
    """The state of the breaker of a provider, an account or a model, or its count of failures, has changed.

    ``overall_before`` and ``overall_after`` are the states of the provider, or the account, with all its models.
    ``outage`` is the name under which it is announced that the scope is down; ``None`` where it is no outage, or
    belongs to one that is announced.
    """

    scope: str
    before: Counted
    after: Counted
    breaker: Breaker
    now: float
    overall_before: OverallState
    overall_after: OverallState
    outage: str | None = None

    @property
    def provider(self) -> str:
        """The provider or the account."""
        return account_in(self.scope)

    @property
    def model(self) -> str | None:
        """The model at it whose breaker has changed; ``None`` where its own has."""
        return model_in(self.scope) or None


class GuardListener(Protocol):
    """Receives what a guard reports of its limiters, under their locks."""

    def on_breaker_change(self, change: BreakerChange) -> None:
        """A breaker's state or its count of failures has changed."""

    def on_threshold(self, provider: str, crossing: Crossing) -> None:
        """The use of a limit has reached a threshold."""


class LimiterListener(Protocol):
    """Receives what happens in a limiter, under its lock: methods are quick and do not call the limiter."""

    def on_breaker_change(
        self, name: str, before: Counted, after: Counted, breaker: Breaker, now: float, ours: bool, /
    ) -> None:
        """The breaker's state or its count of failures has changed; unless ``ours``, by another process' doing."""

    def on_threshold(self, provider: str, crossing: Crossing) -> None:
        """The use of a limit has reached a threshold."""


class OncePerFleet:
    """Passes each threshold on in one process of a fleet only; ``once`` has an action done once in the fleet."""

    def __init__(self, listener: LimiterListener, once: Once) -> None:
        self._once = once
        self._listener = listener

    def on_breaker_change(
        self, name: str, before: Counted, after: Counted, breaker: Breaker, now: float, ours: bool, /
    ) -> None:
        """The breaker's state or its count of failures has changed."""
        self._listener.on_breaker_change(name, before, after, breaker, now, ours)

    def on_threshold(self, provider: str, crossing: Crossing) -> None:
        """The use of a limit has reached a threshold."""
        daily = crossing.dimension in DAY_DIMENSIONS
        window = crossing.usage.reset_in if daily else SECONDS_PER_MINUTE
        limit = limit_key(crossing.dimension, crossing.scope)
        key = f"quota:{provider}:{limit}:{crossing.level}:{crossing.epoch}"
        self._once(key, window, lambda: self._listener.on_threshold(provider, crossing))
