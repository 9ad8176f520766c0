"""All limiters of one guard: a provider's each, and a feature's where it has limits of its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from wallie_litellm.clock import Clock
from wallie_litellm.config import LimitSettings, ProviderLimits, WallieConfig
from wallie_litellm.core.circuit_breaker import BreakerRules
from wallie_litellm.core.dimensions import DAY_DIMENSIONS
from wallie_litellm.core.token_bucket import SECONDS_PER_MINUTE
from wallie_litellm.guard.reporter import Reporter
from wallie_litellm.limiter.leased.leased_store import LeasedStore
from wallie_litellm.limiter.limiter import FEATURE, Limiter
from wallie_litellm.limiter.limits import Limits
from wallie_litellm.limiter.memory_store import MemoryStore

if TYPE_CHECKING:
    from wallie_litellm.limiter.redis.fleet import RedisFleet


class LimiterRegistry:
    """Finds a limiter by name, and builds it when it is first asked for."""

    def __init__(
        self,
        config: WallieConfig,
        clock: Clock,
        reporter: Reporter,
        processes: int = 1,
        fleet: RedisFleet | None = None,
    ) -> None:
        self._config = config
        self._clock = clock
        self._reporter = reporter
        self._fleet = fleet
        self._processes = processes  # that each keep to a part of the limits
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
        """The queue and the state of one provider; a provider without limits still has a breaker."""
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
        """The limiters of the features that have limits, by the feature's name."""
        return self._features

    @property
    def providers(self) -> Mapping[str, Limiter]:
        """The limiters of the providers, by name."""
        return self._providers

    def __iter__(self) -> Iterator[Limiter]:
        return iter([*self._providers.values(), *self._features.values()])

    def _build(self, name: str, limits: Limits) -> Limiter:
        limits = limits.share(self._processes)
        rules = BreakerRules(**dict(self._config.breaker))
        fleet, terms = self._fleet, (name, limits, rules, self._clock.wall, self._reporter.levels)
        store = MemoryStore(*terms) if fleet is None else LeasedStore(*terms, worker=fleet.worker)

        def on_crossing(dimension: str, level: str, share: float, now: float) -> None:
            use = store.use(now)[dimension]

            def tell() -> None:
                self._reporter.quota_crossed(name, dimension, level, share, use)

            if fleet is None or not isinstance(store, LeasedStore):
                tell()
            else:
                window = use.reset_in if dimension in DAY_DIMENSIONS else SECONDS_PER_MINUTE
                fleet.once(f"quota:{name}:{dimension}:{level}:{store.epoch}", window, tell)

        store.on_crossing = on_crossing
        limiter = Limiter(name, store, self._clock, self._config.admission.reservation_ttl)
        limiter.on_change = self._reporter.breaker_changed
        if fleet is not None:
            fleet.attach(limiter)
        return limiter


def _limits(settings: LimitSettings | None) -> Limits:
    if settings is None:
        return Limits()
    stated: dict[str, int] = {str(name): amount for name, amount in settings.by_dimension().items()}
    if not isinstance(settings, ProviderLimits):
        return Limits(stated)
    burst: dict[str, int] = {str(name): amount for name, amount in settings.burst.items()}
    return Limits(stated, burst, settings.headroom, settings.reset_timezone)
