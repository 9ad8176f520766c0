"""All limiters of one guard: one per provider, and one per feature with limits of its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from wallie_litellm.clock import Clock
from wallie_litellm.config import Limits as LimitSettings
from wallie_litellm.config import ProviderLimits, WallieConfig
from wallie_litellm.core.circuit_breaker import BreakerRules
from wallie_litellm.core.dimensions import FEATURE
from wallie_litellm.limiter.leased.leased_limiter import LeasedLimiter
from wallie_litellm.limiter.leased.leased_store import LeasedStore
from wallie_litellm.limiter.limiter import Limiter
from wallie_litellm.limiter.limits import AccountLimits
from wallie_litellm.limiter.listener import LimiterListener, OncePerFleet
from wallie_litellm.limiter.memory_store import MemoryStore

if TYPE_CHECKING:
    from wallie_litellm.limiter.redis.fleet import RedisFleet


class LimiterRegistry:
    """Finds a limiter by name; a provider's is built at its first use."""

    def __init__(
        self,
        config: WallieConfig,
        clock: Clock,
        listener: LimiterListener,
        processes: int = 1,
        fleet: RedisFleet | None = None,
    ) -> None:
        self._config = config
        self._clock = clock
        self._listener = listener
        self._levels = {"warning": config.quota.warning, "critical": config.quota.critical}
        self._fleet = fleet
        self._processes = processes  # each keeps to its part of the limits
        self._lock = threading.Lock()
        self._features = {
            name: self._build(FEATURE + name, _limits(settings.limits))
            for name, settings in config.features.items()
            if settings.limits.by_dimension()
        }
        self._providers: dict[str, Limiter] = {}
        for name in config.providers:
            self.provider(name)

    def provider(self, name: str) -> Limiter:
        """The limiter of one provider; without limits it still has a breaker."""
        limiter = self._providers.get(name)
        if limiter is None:
            with self._lock:
                limits = _limits(self._config.providers.get(name))
                limiter = self._providers.get(name) or self._build(name, limits)
                self._providers[name] = limiter
        return limiter

    def known(self, name: str) -> Limiter:
        """:meth:`provider`, for names that people type.

        Raises:
            ValueError: there is no such provider.
        """
        limiter = self._providers.get(name)
        if limiter is None:
            raise ValueError(f"unknown provider {name!r}; known: {', '.join(sorted(self._providers))}")
        return limiter

    @property
    def features(self) -> Mapping[str, Limiter]:
        """The limiters of features, by the feature's name."""
        return self._features

    @property
    def providers(self) -> Mapping[str, Limiter]:
        """The limiters of providers, by name."""
        return self._providers

    def __iter__(self) -> Iterator[Limiter]:
        return iter([*self._providers.values(), *self._features.values()])

    def _build(self, name: str, limits: AccountLimits) -> Limiter:
        limits, rules = limits.share(self._processes), BreakerRules(**dict(self._config.breaker))
        ttl, fleet = self._config.admission.reservation_ttl, self._fleet
        terms = (name, limits, rules, self._clock.wall, self._levels)
        if fleet is None:
            return Limiter(name, MemoryStore(*terms, self._listener), self._clock, ttl, self._listener)
        store = LeasedStore(*terms, OncePerFleet(self._listener, fleet.once), worker=fleet.worker)
        limiter = LeasedLimiter(name, store, self._clock, ttl, self._listener)
        fleet.attach(limiter)
        return limiter


def _limits(settings: LimitSettings | None) -> AccountLimits:
    if settings is None:
        return AccountLimits()
    stated: dict[str, int] = {str(name): amount for name, amount in settings.by_dimension().items()}
    if not isinstance(settings, ProviderLimits):
        return AccountLimits(stated)
    burst: dict[str, int] = {str(name): amount for name, amount in settings.burst.items()}
    return AccountLimits(stated, burst, settings.headroom, settings.reset_timezone)
