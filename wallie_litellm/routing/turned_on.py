"""Which decisions a file turns on, by the names of their switches."""

from __future__ import annotations

from collections.abc import Iterator

from wallie_litellm.config import WallieConfig
from wallie_litellm.config.values import AUTO_FIRST_TOKEN


def turned_on(config: WallieConfig) -> frozenset[str]:
    """The switches of ``config`` that make a difference."""
    return frozenset(_names(config))


def _names(config: WallieConfig) -> Iterator[str]:
    features, routing = config.features.values(), config.routing
    if "latency" in (routing.order, *(feature.order for feature in features)):
        yield "order"
    bounds = [feature.first_token for feature in features]
    if any(bound is AUTO_FIRST_TOKEN for bound in (*bounds, *(own.first_token for own in config.providers.values()))):
        yield "first_token"
    if config.breaker.slow_call is not None:
        yield "slow_call"
    if config.breaker.ramp is not None:
        yield "ramp"
    if routing.auto is not None:
        yield "auto"
    if any(feature.cache is not None for feature in features):
        yield "cache"
    budgets = (config.budget, *(feature.budget for feature in features if feature.budget is not None))
    if any(True for budget in budgets for _ in budget.parts()):
        yield "budgets"
    if config.experiments:
        yield "experiments"
    if any(feature.hedge is not None for feature in features):
        yield "hedge"
    if routing.warm_prefix or any(feature.prompt_cache is not None for feature in features):
        yield "warm_prefix"
