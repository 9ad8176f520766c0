"""The limits per day that a file states, for reports that have no guard."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from wallie_litellm.config import RouterConfig
from wallie_litellm.config.used_providers import used_providers
from wallie_litellm.core.dimensions import DAY_DIMENSIONS, FEATURE
from wallie_litellm.core.limit_keys import ACCOUNT
from wallie_litellm.forecast.limits import DayLimit
from wallie_litellm.limiter.configured import ConfiguredLimiters
from wallie_litellm.limiter.limits import AccountLimits


class StatedLimit(NamedTuple):
    """A limit per day: its amount, less the headroom, and the account's other limits that it is among."""

    limit: DayLimit
    full: int
    account: AccountLimits


def stated_limits(loaded: RouterConfig) -> Iterator[StatedLimit]:
    """The limits per day of the providers that the models of a file use, and of its features."""
    configured = ConfiguredLimiters(loaded.wallie)
    for name, elsewhere in {one.provider: not one.is_vendors_own for one in used_providers(loaded)}.items():
        yield from _of(name, configured.of_provider(name, elsewhere=elsewhere).limits)
    for feature in configured.features():
        yield from _of(FEATURE + feature, configured.of_feature(feature).limits)


def _of(name: str, account: AccountLimits) -> Iterator[StatedLimit]:
    for scope, limits in {ACCOUNT: account, **account.models}.items():
        for dimension in DAY_DIMENSIONS:
            if dimension in limits.per_dimension:
                yield StatedLimit(DayLimit(name, scope, dimension), limits.whole(dimension), account)
