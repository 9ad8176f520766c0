"""Reads what forecasts learn from: the use of limits per day by quarter of an hour, and the alerts already raised."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Final

from sqlalchemy import ColumnElement, Connection, Table, and_, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from wallie_litellm.core.dimensions import DIMENSION_KINDS
from wallie_litellm.core.limit_keys import ACCOUNT
from wallie_litellm.forecast.limits import COST, DayLimit
from wallie_litellm.forecast.watch import RecordedUse
from wallie_litellm.ledger.engine import missing_file, open_engine
from wallie_litellm.ledger.forks import BARRIER
from wallie_litellm.ledger.migrations import version_of
from wallie_litellm.ledger.restore import Patterns, charged_columns, charged_to
from wallie_litellm.ledger.schema import DAY, QUARTER, VERSION, alerts, attempts, outside_usage, usage

_NOTHING: Final = RecordedUse({}, {})
_ANNOUNCED: Final = 32 * DAY  # seconds in which alerts are looked up: a month's budget has one a month


def read_record(url: str, patterns: Callable[[], Patterns], since: Mapping[DayLimit, float], now: float) -> RecordedUse:
    """The record of each limit ``since`` a Unix time, in the ledger at ``url``; for a thread without an event loop.

    Without a ledger of this version, which a writer is about to create or to convert, there is none yet.
    """
    if missing_file(url):
        return _NOTHING
    with BARRIER.transaction():  # a child that is forked meanwhile would have the locks held for ever
        return asyncio.run(_read_url(url, patterns(), since, now))


async def _read_url(url: str, patterns: Patterns, since: Mapping[DayLimit, float], now: float) -> RecordedUse:
    engine = open_engine(url, pool_size=1)
    try:
        async with engine.connect() as connection:
            if await connection.run_sync(version_of) != VERSION:
                return _NOTHING
            return await read_daily_use(connection, patterns, since, now)
    finally:
        await engine.dispose()


async def read_daily_use(
    connection: AsyncConnection, patterns: Patterns, since: Mapping[DayLimit, float], now: float
) -> RecordedUse:
    """As :func:`read_record`, over a ``connection`` to a database that has the ledger's tables."""
    return await connection.run_sync(_read, patterns, since, now)


def _read(connection: Connection, patterns: Patterns, since: Mapping[DayLimit, float], now: float) -> RecordedUse:
    groups = {
        name: _groups(connection, name, pattern_of, now - DAY)
        for name, pattern_of in patterns.items()
        if any(limit.name == name and _is_of_models(limit) for limit in since)
    }
    quarters = {
        limit: _quarters(connection, limit, at, groups.get(limit.name, {}).get(limit.scope, []))
        for limit, at in since.items()
    }
    return RecordedUse(quarters, _announced(connection, now - _ANNOUNCED))


def _groups(
    connection: Connection, name: str, pattern_of: Callable[[str, str], str], since: float
) -> dict[str, list[str]]:
    """The model groups that have lately been served by models of each pattern: sums are by group, patterns may not."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    pairs = select(attempts.c.deployment, attempts.c.model).distinct()
    for model, group in connection.execute(pairs.where(attempts.c.at >= since, attempts.c.provider == name)):
        pattern = pattern_of(model, group)
        if group not in found[pattern]:
            found[pattern].append(group)
    return found


def _quarters(connection: Connection, limit: DayLimit, since: float, groups: list[str]) -> list[tuple[float, float]]:
    first = int(since // QUARTER) * QUARTER
    of_models = _is_of_models(limit)
    in_view = [usage.c.grain == QUARTER, usage.c.view == "model", usage.c.start >= first]
    if of_models:
        in_view.append(usage.c.model.in_(groups))
    units = usage.c.cost_usd if limit.dimension == COST else _units(usage, limit)
    if limit.name:
        in_view.append(charged_to(usage, limit.name))
    sums = select(usage.c.start, func.sum(units)).where(*in_view)
    found = defaultdict(
        float, {float(start): float(sum_) for start, sum_ in connection.execute(sums.group_by(usage.c.start))}
    )
    if not of_models and limit.dimension != COST:  # what is reported from outside is the account's
        outside = select(outside_usage.c.at, _units(outside_usage, limit))
        rows = and_(outside_usage.c.at >= first, charged_to(outside_usage, limit.name))
        for at, amount in connection.execute(outside.where(rows)):
            found[at // QUARTER * QUARTER] += amount
    return sorted(found.items())


def _is_of_models(limit: DayLimit) -> bool:
    return limit.scope != ACCOUNT and limit.dimension != COST


def _units(table: Table, limit: DayLimit) -> ColumnElement[int]:
    return charged_columns(table)[DIMENSION_KINDS[limit.dimension]]


def _announced(connection: Connection, since: float) -> dict[DayLimit, float]:
    last = select(alerts.c.provider, alerts.c.model, alerts.c.dimension, func.max(alerts.c.at))
    last = last.where(alerts.c.type == "forecast", alerts.c.at >= since)
    rows = connection.execute(last.group_by(alerts.c.provider, alerts.c.model, alerts.c.dimension))
    return {DayLimit(name, scope, dimension): at for name, scope, dimension, at in rows}
