"""Forecasts of a file's limits per day, as the ledger has their use."""

from __future__ import annotations

import asyncio
import time
from math import inf
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from wallie_litellm.config import RouterConfig
    from wallie_litellm.forecast.configured import StatedLimit
    from wallie_litellm.forecast.forecasts import Forecasts

_TIMEOUT: Final = 5.0  # seconds for all weeks of the ledger, besides what is read of Redis


async def learn_from_ledger(url: str, loaded: RouterConfig, now: float) -> tuple[Forecasts, list[StatedLimit], float]:
    """What the ledger at ``url`` has of the limits per day of the file, and the cost of the present month."""
    from wallie_litellm.core.budget import month_begins
    from wallie_litellm.core.model_patterns import ModelPatterns
    from wallie_litellm.forecast.configured import stated_limits
    from wallie_litellm.forecast.forecasts import forecasts_for
    from wallie_litellm.forecast.limits import MONTH_COST
    from wallie_litellm.ledger.daily_use import read_daily_use
    from wallie_litellm.ledger.reader import open_reader

    stated, forecasts = list(stated_limits(loaded)), forecasts_for(loaded.wallie, now)
    patterns = {one.limit.name: ModelPatterns(one.account.models, one.limit.name).find for one in stated}
    full = {MONTH_COST: inf, **{one.limit: one.full for one in stated}}
    since = {limit: forecasts.needed_since(limit, units, now) for limit, units in full.items()}
    async with open_reader(url) as engine, engine.connect() as connection:
        record = await read_daily_use(connection, patterns, since, now)
    for limit, units in full.items():
        forecasts.learn(limit, units, since[limit], record.quarters[limit], now)
    spent = sum(cost for start, cost in record.quarters[MONTH_COST] if start >= month_begins(now))
    return forecasts, stated, spent


def add_forecasts(report: dict[str, Any], loaded: RouterConfig) -> str:
    """Add the forecasts of limits per day to a fleet's report; returns what stands in the way of them, in one line."""
    from wallie_litellm.core.dimensions import FEATURE
    from wallie_litellm.ledger.engine import missing_file

    ledger, now = loaded.wallie.ledger, time.time()
    if ledger is None:
        return "no ledger is kept: when limits run out is known at --url alone"
    if missing_file(ledger.url):
        return ""
    try:
        forecasts, _, _ = asyncio.run(asyncio.wait_for(learn_from_ledger(ledger.url, loaded, now), _TIMEOUT))
    except Exception:  # noqa: BLE001 - of any database: the figures of usage say which, and the rest is shown
        return "when limits run out is not known, as the ledger cannot be read"
    for name, state in report["providers"].items():
        forecasts.add_to(name, state, now)
    for name, state in report["features"].items():
        forecasts.add_to(FEATURE + name, state, now)
    return ""
