"""What features, users and the proxy's keys have spent in the present day and month, as budgets begin with it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping
from queue import Empty, SimpleQueue
from typing import Any

from sqlalchemy import Connection, Select, func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from wallie_litellm.core.spending import AccountName, Periods, nano_of
from wallie_litellm.ledger.engine import missing_file, open_engine
from wallie_litellm.ledger.migrations import version_of
from wallie_litellm.ledger.ranges import Segment, segments
from wallie_litellm.ledger.schema import QUARTER, VERSION, attempts, usage

Spent = Mapping[AccountName, tuple[int, int]]  # nano-dollars of the day and of the month


class SpendingReader:
    """Reads the ledger at ``url``, within ``timeout`` seconds; ``processes`` divide what it has on record.

    May be called with or without a running event loop.
    """

    def __init__(self, url: str, timeout: float, processes: int = 1) -> None:
        self._url = url
        self._timeout = timeout
        self._processes = processes

    def __call__(self, untils: Mapping[AccountName, float], now: Periods) -> Spent:
        """What was spent in the day and the month of ``now``, of each name before its Unix time.

        Raises:
            Exception: the database cannot be read.
        """
        if missing_file(self._url) or not untils:
            return {}
        results: SimpleQueue[Spent | BaseException] = SimpleQueue()

        def read() -> None:
            try:
                results.put(asyncio.run(self._read(untils, now)))
            except BaseException as error:  # noqa: BLE001 - raised by the calling thread
                results.put(error)

        threading.Thread(target=read, name="wallie-spending", daemon=True).start()
        try:
            result = results.get(timeout=self._timeout + 1.0)
        except Empty:
            raise TimeoutError from None
        if isinstance(result, BaseException):
            raise result
        return {name: (day // self._processes, month // self._processes) for name, (day, month) in result.items()}

    async def _read(self, untils: Mapping[AccountName, float], now: Periods) -> Spent:
        engine = open_engine(self._url, pool_size=1, busy_timeout=self._timeout)
        try:
            async with asyncio.timeout(self._timeout):
                return await _read_engine(engine, untils, now)
        finally:
            async with asyncio.timeout(1.0):
                await engine.dispose()


async def _read_engine(engine: AsyncEngine, untils: Mapping[AccountName, float], now: Periods) -> Spent:
    async with engine.connect() as connection:
        if await connection.run_sync(version_of) != VERSION:
            return {}
        return await connection.run_sync(_spent, untils, now)


def _spent(connection: Connection, untils: Mapping[AccountName, float], now: Periods) -> Spent:
    return {
        name: (spent_between(connection, name, now.day, until), spent_between(connection, name, now.month, until))
        for name, until in untils.items()
    }


def spent_between(connection: Connection, name: AccountName, since: int, until: float) -> int:
    """Nano-dollars that were spent under ``name`` from ``since`` on, and before ``until``, both in Unix seconds."""
    return sum(nano_of(float(connection.scalar(part) or 0.0)) for part in _parts(name, since, until))


def _parts(name: AccountName, since: int, until: float) -> Iterator[Select[Any]]:
    """Sums of whole days and quarters of an hour, and of the records at the edges; a user's in a feature of these."""
    if name.user and name.feature:
        yield _of_records(name, since, until)
        return
    first, last = -(-since // QUARTER) * QUARTER, int(until // QUARTER) * QUARTER
    if first >= last:
        yield _of_records(name, since, until)
        return
    yield _of_records(name, since, first)
    for segment in segments(first, last):
        yield _of_sums(name, segment)
    yield _of_records(name, last, until)


def _of_records(name: AccountName, since: int, until: float) -> Select[Any]:
    found = select(func.sum(attempts.c.cost_usd)).where(attempts.c.at >= since, attempts.c.at < until)
    if name.feature:
        found = found.where(attempts.c.feature == name.feature)
    if name.key:
        found = found.where(attempts.c.proxy_key == name.key)
    return found.where(attempts.c.user_id == name.user) if name.user else found


def _of_sums(name: AccountName, segment: Segment) -> Select[Any]:
    """Of a feature, of a user over all features, of a key, whose view has it in the user's column, or of all."""
    view = usage.c.view == ("key" if name.key else "user" if name.user else "model")
    found = select(func.sum(usage.c.cost_usd)).where(usage.c.grain == segment.grain, view)
    found = found.where(usage.c.start >= segment.since, usage.c.start < segment.until)
    if name.user or name.key:
        return found.where(usage.c.user_id == (name.user or name.key))
    return found.where(usage.c.feature == name.feature) if name.feature else found
