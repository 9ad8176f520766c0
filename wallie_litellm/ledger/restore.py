"""Reads what a starting process continues from: usage that counts against limits, cost, alerts already announced."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import inf
from queue import Empty, SimpleQueue
from typing import Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, Table, false, func, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from wallie_litellm.config.values import mask_url
from wallie_litellm.core.demand import NOTHING, Demand
from wallie_litellm.core.dimensions import FEATURE
from wallie_litellm.errors import ConfigError
from wallie_litellm.ledger.database import reason
from wallie_litellm.ledger.engine import missing_file, open_engine, writing
from wallie_litellm.ledger.migrations import migrate, version_of
from wallie_litellm.ledger.schema import DAY, QUARTER, VERSION, actions, alerts, attempts, outside_usage, usage

logger = logging.getLogger(__name__)

# Provider, or ``feature:`` and a feature's name → the Unix times at which its day began, and from which usage affects
# the buckets of its limits.
Windows = Mapping[str, tuple[float, float]]

# Provider → the pattern of a model's own limits there, from LiteLLM's name of the model and that of its group; empty if
# it has none. Of providers that have such limits.
Patterns = Mapping[str, Callable[[str, str], str]]

_NO_PATTERNS: Final[Patterns] = {}


class ScopeUse(NamedTuple):
    """The charges of the models under one pattern: since the day began, and recently, as in :class:`Restored`."""

    day: Demand
    recent: list[tuple[float, Demand]]


@dataclass(frozen=True, slots=True)
class Restored:
    """The ledger's records of the current day, minutes and month.

    ``day`` has the charges of each provider and feature since its day began, or since an operator's reset; ``recent``
    the latest charges with the Unix times at which their attempts ended, oldest first. ``models`` has both of models
    with limits of their own, by provider and pattern. ``budget_levels`` are the levels announced this month (UTC),
    ``unpriced`` the deployments announced today (UTC).
    """

    day: dict[str, Demand] = field(default_factory=dict)
    recent: dict[str, list[tuple[float, Demand]]] = field(default_factory=dict)
    models: dict[str, dict[str, ScopeUse]] = field(default_factory=dict)
    month_cost: float = 0.0
    budget_levels: frozenset[str] = frozenset()
    unpriced: frozenset[str] = frozenset()


def restore(
    url: str, windows: Windows, patterns: Patterns = _NO_PATTERNS, *, wall: float | None = None, timeout: float = 5.0
) -> Restored | None:
    """Read the usage at ``wall`` (Unix time, by default now) from the ledger at ``url``, within ``timeout`` seconds.

    May be called with or without a running event loop. ``None`` if the database cannot be read, with a warning.

    Raises:
        ConfigError: the URL cannot be used, or a later version of this package has written the database.
    """
    if missing_file(url):
        return Restored()
    results: SimpleQueue[Restored | BaseException] = SimpleQueue()

    def read() -> None:
        try:
            at = time.time() if wall is None else wall
            results.put(asyncio.run(_read_within(url, windows, patterns, at, timeout)))
        except BaseException as error:  # noqa: BLE001 - raised or logged by the calling thread
            results.put(error)

    threading.Thread(target=read, name="wallie-restore", daemon=True).start()
    try:
        result = results.get(timeout=timeout + 1.0)
    except Empty:  # the thread is in a call that cannot be interrupted, such as the lookup of a host's address
        result = TimeoutError()
    if isinstance(result, ConfigError):
        raise result
    if isinstance(result, BaseException):
        logger.warning(
            "the ledger at %s cannot be read (%s): the limits begin anew, without what was used before this start",
            mask_url(url),
            reason(result),
        )
        return None
    return result


async def read_usage(
    connection: AsyncConnection, windows: Windows, wall: float, patterns: Patterns = _NO_PATTERNS
) -> Restored:
    """As :func:`restore`, over a ``connection`` to a database that has the ledger's tables."""
    return await connection.run_sync(_read, windows, patterns, wall)


async def _read_within(url: str, windows: Windows, patterns: Patterns, wall: float, timeout: float) -> Restored:
    engine = open_engine(url, pool_size=1, busy_timeout=timeout)
    try:
        async with asyncio.timeout(timeout):
            return await _read_engine(engine, windows, patterns, wall)
    finally:
        async with asyncio.timeout(1.0):
            await engine.dispose()


async def _read_engine(engine: AsyncEngine, windows: Windows, patterns: Patterns, wall: float) -> Restored:
    async with engine.connect() as connection:
        version = await connection.run_sync(version_of)
    if version is None:
        return Restored()
    if version != VERSION:
        async with writing(engine) as connection:
            await connection.run_sync(migrate)
    async with engine.connect() as connection:
        return await read_usage(connection, windows, wall, patterns)


def _read(connection: Connection, windows: Windows, patterns: Patterns, wall: float) -> Restored:
    today = datetime.fromtimestamp(wall, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    month = today.replace(day=1)
    resets = _last_resets(connection, windows)
    announced = [
        alerts.c.type == "budget",
        alerts.c.dimension == "",
        alerts.c.at >= month.timestamp(),
        alerts.c.detail == f"{month:%Y-%m}",
    ]
    unpriced = [alerts.c.type == "unpriced", alerts.c.at >= today.timestamp()]
    own_resets = _last_resets(connection, windows, of_models=True)
    models = {}
    for name, pattern_of in patterns.items():
        whole = resets.get((name, ""), -inf)
        reset = {pattern: max(at, whole) for (provider, pattern), at in own_resets.items() if provider == name}
        models[name] = _models(connection, name, windows[name], pattern_of, reset, whole)
    return Restored(
        day={name: _day(connection, name, start, resets.get((name, ""))) for name, (start, _) in windows.items()},
        recent={
            name: _recent(connection, name, max(since, resets.get((name, ""), since)))
            for name, (_, since) in windows.items()
        },
        models=models,
        month_cost=_cost(connection, month.timestamp()),
        budget_levels=frozenset(connection.scalars(select(alerts.c.level).where(*announced))),
        unpriced=frozenset(connection.scalars(select(alerts.c.detail).where(*unpriced))),
    )


def _last_resets(connection: Connection, windows: Windows, *, of_models: bool = False) -> dict[tuple[str, str], float]:
    """When the quota was reset last, by provider and, ``of_models``, by pattern."""
    earliest = min((min(window) for window in windows.values()), default=0.0)
    found = select(actions.c.provider, actions.c.model, func.max(actions.c.at))
    found = found.where(actions.c.action == "reset_quota", actions.c.at >= earliest)
    found = found.where(actions.c.model != "" if of_models else actions.c.model == "")
    rows = connection.execute(found.group_by(actions.c.provider, actions.c.model))
    return {(provider, pattern): at for provider, pattern, at in rows}


def _models(
    connection: Connection,
    name: str,
    window: tuple[float, float],
    pattern_of: Callable[[str, str], str],
    resets: Mapping[str, float],
    reset: float,
) -> dict[str, ScopeUse]:
    """The charges of a provider's models with limits of their own, since the reset of these, or of all.

    Sums of records are by group alone, and a pattern may be of the model's name: so the records are read.
    """
    start, since = window
    days: dict[str, Demand] = {}
    for begin in {max(start, reset), *(max(start, at) for at in resets.values())}:
        sums = select(
            attempts.c.deployment, attempts.c.model, *(func.sum(column) for column in charged_columns(attempts))
        )
        sums = sums.where(attempts.c.at >= begin, attempts.c.provider == name)
        for model, group, *charged in connection.execute(sums.group_by(attempts.c.deployment, attempts.c.model)):
            pattern = pattern_of(model, group)
            if max(start, resets.get(pattern, reset)) == begin:
                days[pattern] = days.get(pattern, NOTHING).plus(Demand(*(int(amount or 0) for amount in charged)))
    recent: dict[str, list[tuple[float, Demand]]] = {}
    rows = select(attempts.c.at, attempts.c.deployment, attempts.c.model, *charged_columns(attempts)).order_by(
        attempts.c.at
    )
    for at, model, group, *charged in connection.execute(
        rows.where(attempts.c.at >= max(since, reset), attempts.c.provider == name)
    ):
        pattern = pattern_of(model, group)
        if at >= resets.get(pattern, reset):
            recent.setdefault(pattern, []).append((at, Demand(*charged)))
    used = {*days, *recent} - {""}
    return {pattern: ScopeUse(days.get(pattern, NOTHING), _by_second(recent.get(pattern, ()))) for pattern in used}


def _day(connection: Connection, name: str, start: float, reset: float | None) -> Demand:
    """The charges since ``start``, or since ``reset`` if that is later."""
    since = start if reset is None else max(start, reset)
    # Whole quarters of an hour are read from their sums; the time before the first of them from the records.
    summed = -(-since // QUARTER) * QUARTER
    return (
        _sum(connection, attempts, name, attempts.c.at >= since, attempts.c.at < summed)
        .plus(_sum(connection, outside_usage, name, outside_usage.c.at >= since))
        .plus(_sum(connection, usage, name, *_sums("model", QUARTER, summed)))
    )


def _sums(view: str, grain: int, start: float) -> Iterator[ColumnElement[bool]]:
    yield usage.c.grain == grain
    yield usage.c.start >= int(start)
    yield usage.c.view == view


def _sum(connection: Connection, table: Table, name: str, *conditions: ColumnElement[bool]) -> Demand:
    sums = select(*(func.sum(column) for column in charged_columns(table)))
    row = connection.execute(sums.where(charged_to(table, name), *conditions)).one()
    return Demand(*(int(amount or 0) for amount in row))


def charged_columns(table: Table) -> tuple[ColumnElement[int], ...]:
    """What was charged to limits, in the order of a :class:`Demand`."""
    return table.c.charged_requests, table.c.charged_tokens, table.c.charged_input, table.c.charged_output


def _recent(connection: Connection, name: str, since: float) -> list[tuple[float, Demand]]:
    """The charges since ``since``, summed by second; the time of each sum is the last one in its second.

    A charge counts from the attempt's end, though most of it was made at admission: usage beyond the estimate is
    charged at the end, and a limit may be kept too strictly but not exceeded.
    """
    uses: list[tuple[float, Demand]] = []
    for table in (attempts, outside_usage):
        found = select(table.c.at, *charged_columns(table)).where(table.c.at >= since, charged_to(table, name))
        uses += ((at, Demand(*charged)) for at, *charged in connection.execute(found))
    return _by_second(uses)


def _by_second(uses: Iterable[tuple[float, Demand]]) -> list[tuple[float, Demand]]:
    seconds: dict[int, tuple[float, Demand]] = {}
    for at, charged in uses:
        last, sum_ = seconds.get(int(at), (at, NOTHING))
        seconds[int(at)] = (max(last, at), sum_.plus(charged))
    return [use for _, use in sorted(seconds.items()) if use[1] != NOTHING]


def charged_to(table: Table, name: str) -> ColumnElement[bool]:
    """The rows that count against the limits of a provider, or of a feature."""
    if not name.startswith(FEATURE):
        return table.c.provider == name
    return table.c.feature == name.removeprefix(FEATURE) if "feature" in table.c else false()


def _cost(connection: Connection, since: float) -> float:
    cost = select(func.sum(usage.c.cost_usd)).where(*_sums("model", DAY, since))
    return float(connection.scalar(cost) or 0.0)
