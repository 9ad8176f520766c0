"""The limits per day that a guard has, and their names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from wallie_litellm.core.dimensions import DAY_DIMENSIONS, FEATURE
from wallie_litellm.core.limit_keys import ACCOUNT
from wallie_litellm.limiter.limiter import Limiter
from wallie_litellm.limiter.store import LimitUsage


class DayLimit(NamedTuple):
    """One limit per day: of a provider or a feature, whose limiter has this name, or of the models of a pattern."""

    name: str
    scope: str
    dimension: str


COST: Final = "cost_usd"  # the dimension of what is spent, in US dollars
#: The cost of all requests, whose limit is one per month (UTC).
MONTH_COST: Final = DayLimit("", "", COST)


BUDGETS: Final = {"day": "daily_usd", "month": "monthly_usd"}  # dimensions of budgets by window: their keys in the file


def budget_of(feature: str | None, window: str) -> DayLimit:
    """The budget of a feature, or of all requests, for a day or a month."""
    return DayLimit(FEATURE + feature if feature else "", "", BUDGETS[window])


def spending_of(feature: str | None) -> DayLimit:
    """The cost of a feature's requests, or of all, whose budgets are by day and month in a time zone of their own."""
    return DayLimit(FEATURE + feature if feature else "", "budgets", COST)


def day_limits(limiters: Iterable[Limiter]) -> Iterator[tuple[DayLimit, LimitUsage]]:
    """All limits per day, with their usage now."""
    for limiter in limiters:
        state = limiter.state()
        for scope, usage in {ACCOUNT: state.usage, **{name: own.usage for name, own in state.models.items()}}.items():
            for dimension in DAY_DIMENSIONS:
                if dimension in usage:
                    yield DayLimit(limiter.name, scope, dimension), usage[dimension]
