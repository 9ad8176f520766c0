"""Removes records that are older than the retention. Their sums stay."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Connection, Table, delete, func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from wallie_litellm.ledger.engine import writing
from wallie_litellm.ledger.schema import DAY, QUARTER, RECORD_TABLES, VIEWS, histograms, usage

INTERVAL: Final = 3600.0  # seconds between two rounds
DAYS_KEPT: Final = 400  # days of daily sums: a year and the month before

_CHUNK: Final = 2_000  # records of a kind in one transaction, so that writers wait only briefly for the lock
_HOURS: Final = 3600  # seconds of quarterly sums in one transaction
# The limiter's usage is restored from these, which are kept for at least two days.
_KEPT_FOR_RESTORE: Final = ("action", "outside_usage")
_RESTORED: Final = 2 * DAY  # seconds


async def prune(engine: AsyncEngine, now: float, retention: float) -> bool:
    """Remove a few of the rows that at ``now`` are older than ``retention`` seconds; returns whether more are left.

    Several processes may do it at once.
    """
    async with writing(engine) as connection:
        return await connection.run_sync(_prune, now, retention)


def _prune(connection: Connection, now: float, retention: float) -> bool:
    restored = now - max(retention, _RESTORED)
    more = False
    for kind, table in RECORD_TABLES.items():
        if kind == "experiment":  # few, and what they say holds until the file changes
            continue
        more |= _prune_records(connection, table, restored if kind in _KEPT_FOR_RESTORE else now - retention)
    more |= _prune_usage(connection, QUARTER, restored)
    return _prune_usage(connection, DAY, now - DAYS_KEPT * DAY) or more


def _prune_records(connection: Connection, table: Table, before: float) -> bool:
    oldest: Any = select(table.c.id).where(table.c.at < before).order_by(table.c.at).limit(_CHUNK)
    if connection.dialect.name == "postgresql":
        oldest = oldest.with_for_update(skip_locked=True)  # rows that another process removes
    removed = connection.execute(delete(table).where(table.c.id.in_(oldest.scalar_subquery())))
    return removed.rowcount == _CHUNK


def _prune_usage(connection: Connection, grain: int, before: float) -> bool:
    # View by view, the order in which the rows are stored.
    firsts = (
        select(func.min(usage.c.start)).where(usage.c.grain == grain, usage.c.view == view).scalar_subquery()
        for view in VIEWS
    )
    oldest = min((start for start in connection.execute(select(*firsts)).one() if start is not None), default=None)
    if oldest is None or oldest + grain > before:
        return False
    upto = min(oldest + max(_HOURS, grain), before - grain + 1)
    for table in (usage, histograms):
        of_grain = (table.c.grain == grain, table.c.view.in_(VIEWS))
        connection.execute(delete(table).where(*of_grain, table.c.start < upto))
    return True
