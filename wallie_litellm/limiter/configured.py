"""What a configuration says of limiters, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from wallie_litellm.config import LimitSettings, ProviderLimits, WallieConfig
from wallie_litellm.config.limits import AssumedLimits, BurstLimits
from wallie_litellm.core.circuit_breaker import BreakerRules
from wallie_litellm.limiter.learn_rules import keeps_to, learn_rules
from wallie_litellm.limiter.limits import AccountLimits, ScopeLimits


class LimiterSettings(NamedTuple):
    """What holds for one limiter.

    ``reservation_ttl`` is in seconds; ``levels`` are the shares of a limit at which an alert is raised.
    """

    limits: AccountLimits
    rules: BreakerRules
    reservation_ttl: float
    levels: Mapping[str, float] | None = None


@dataclass(frozen=True, slots=True)
class ConfiguredLimiters:
    """The limiters of one configuration; ``processes`` divide every limit among them."""

    config: WallieConfig
    processes: int = 1

    @property
    def keeps_all(self) -> bool:
        """Whether every model that is called has a breaker: one that goes by a rate counts successes too."""
        return self.config.breaker.per == "model" and self.config.breaker.rules.counts_all

    def features(self) -> list[str]:
        """The features with limits."""
        return [name for name, feature in self.config.features.items() if feature.limits.by_dimension()]

    def of_feature(self, name: str) -> LimiterSettings:
        """What holds for the limiter of a feature."""
        feature = self.config.features.get(name)
        return self.with_limits(None if feature is None else feature.limits)

    def are_stated(self, provider: str) -> bool:
        """Whether the file has all limits of a provider, whatever its address."""
        is_assumed = isinstance(self.config.providers.get(provider), AssumedLimits)
        return self.config.states_limits_of(provider) and not is_assumed

    def of_provider(self, name: str, *, elsewhere: bool = False) -> LimiterSettings:
        """What holds for the limiter of a provider, which may be ``elsewhere`` than at its vendor's own address."""
        return self.with_limits(self.config.limits_elsewhere(name) if elsewhere else self.config.providers.get(name))

    def with_limits(self, limits: LimitSettings | None) -> LimiterSettings:
        """What holds for a limiter with these limits."""
        config, quota = self.config, self.config.quota
        levels = {"warning": quota.warning, "critical": quota.critical}
        own = account_limits(limits).share(self.processes)
        return LimiterSettings(own, config.breaker.rules, config.admission.reservation_ttl, levels)

    def keeps_to(self, provider: str, configured: Mapping[tuple[str, str], int]) -> Callable[[str, str], bool]:
        """Whether a limit that a provider's vendor tells is kept to, by scope and dimension."""
        return keeps_to(learn_rules(self.config.providers.get(provider), configured))


def account_limits(settings: LimitSettings | None) -> AccountLimits:
    """The limits of a section of the file; none without one."""
    if settings is None:
        return AccountLimits()
    own = _scope_limits(settings)
    if not isinstance(settings, ProviderLimits):
        return AccountLimits(own.per_dimension)
    models = {pattern: _scope_limits(limits) for pattern, limits in settings.models.items()}
    return AccountLimits(own.per_dimension, own.burst, own.headroom, settings.reset_timezone, models)


def _scope_limits(settings: LimitSettings) -> ScopeLimits:
    stated: dict[str, int] = {str(name): amount for name, amount in settings.by_dimension().items()}
    if not isinstance(settings, BurstLimits):
        return ScopeLimits(stated)
    return ScopeLimits(stated, {str(name): amount for name, amount in settings.burst.items()}, settings.headroom)
