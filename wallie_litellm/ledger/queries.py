"""The queries of the dashboard, the KPIs and the budget."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, TypeVar
from zoneinfo import ZoneInfo

from sqlalchemy import Select, func, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from wallie_litellm.config import ExperimentSettings
from wallie_litellm.ledger import incidents
from wallie_litellm.ledger.aggregates import (
    ATTEMPTS,
    DIMENSIONS,
    REQUESTS,
    Dimension,
    Facts,
    Key,
    Question,
    Sums,
    by_key,
    by_place,
    from_records,
    from_rollups,
    named,
    ranked,
)
from wallie_litellm.ledger.distributions import bands, old_histograms, put_histograms, put_ranks, ranks
from wallie_litellm.ledger.experiments import ExperimentFigures, measure_experiment
from wallie_litellm.ledger.figures import (
    EVERYTHING,
    Action,
    Alert,
    Cost,
    FailureKind,
    FallbackCount,
    Latency,
    MonthCost,
    Ranking,
    RecordedFailure,
    RequestTotals,
    Totals,
    Transition,
    Where,
)
from wallie_litellm.ledger.ranges import EXACT_UP_TO, Segment, align, segments
from wallie_litellm.ledger.request_log import RequestFilter, attempts_of, latest_requests, one_request
from wallie_litellm.ledger.schema import DAY, QUARTER, actions, alerts, attempts, schema_version, transitions, usage

FEW: Final = 50_000  # attempts, up to which a ranking of users or keys asks the records for what no roll-up has
_WITHOUT_HISTOGRAMS: Final = frozenset({"user", "key"})  # views whose percentiles are those of the records
_USERS_BY_QUARTER: Final = 7.0 * DAY  # seconds; over longer ranges users are summed by day

_ALERT: Final = tuple(alerts.c[name] for name in Alert.__dataclass_fields__)
_ACTION: Final = tuple(actions.c[name] for name in Action.__dataclass_fields__)
_TRANSITION: Final = tuple(transitions.c[name] for name in Transition.__dataclass_fields__)


class LedgerQueries:
    """Queries of the database behind ``engine``, which belongs to one event loop. ``now`` is for tests.

    A range goes from ``since`` to before ``until``, in Unix seconds; without ``until`` it has no end. Ranges of up to
    two hours are computed exactly, from the records, if those are still kept. Longer ones are computed from the
    roll-ups and are widened to whole quarters of an hour, ``since`` down and ``until`` up; buckets are then a multiple
    of a quarter long, and percentiles come from a histogram and are at most 4.5 % too large or too small, those of what
    version 1 has recorded 30 %.
    Where the quarters have been pruned, only whole UTC days are left, and shorter buckets are empty; users over more
    than a week are counted by whole UTC days too.
    The roll-ups have providers, models and features, or users, or models and the proxy's keys. Sums by a user and
    another dimension, requests by user or key, and their percentiles are computed from the records: exactly, slowly,
    and as far back as the records are kept. Sums by key are of what came with one.
    """

    def __init__(self, engine: AsyncEngine, now: Callable[[], float] = time.time) -> None:
        self._engine = engine
        self._now = now
        self._sqlite = engine.dialect.name == "sqlite"

    async def totals(
        self,
        since: float,
        until: float | None = None,
        *,
        by: Sequence[Dimension] = (),
        step: float | None = None,
        where: Where = EVERYTHING,
        percentiles: bool = True,
        top: int | None = None,
    ) -> list[Totals]:
        """Sums over attempts, by each of ``by`` and by time buckets of ``step`` seconds, counted from 1970 in UTC.

        In order of time, then of cost, the highest first. Groups without an attempt are missing; without ``by`` and
        ``step`` there is exactly one result. ``top`` keeps only that many groups, those of the highest cost;
        ``percentiles=False`` saves time with hundreds of groups.

        Raises:
            ValueError: an unknown dimension, a ``step`` or ``top`` that is not above 0, or both of them.
        """
        question = _question(by, step, where, percentiles, top)
        found = await self._sums(ATTEMPTS, question, since, until)
        answers = [_totals(question, key, sums) for key, sums in found.items()] or _none(question, _NO_ATTEMPTS)
        return sorted(answers, key=lambda one: (one.start or 0, -(one.cost_usd or 0.0), -one.attempts))

    async def requests(
        self,
        since: float,
        until: float | None = None,
        *,
        by: Sequence[Dimension] = (),
        step: float | None = None,
        where: Where = EVERYTHING,
        percentiles: bool = True,
        top: int | None = None,
        only: Sequence[str] | None = None,
    ) -> list[RequestTotals]:
        """Sums over requests, as :meth:`totals`; in order of time, then of number, by which ``top`` selects too.

        ``only`` are values of the first of ``by``.
        """
        question = _question(by, step, where, percentiles, top)
        question = question._replace(only=None if only is None else tuple(only))
        found = await self._sums(REQUESTS, question, since, until)
        answers = [_request_totals(question, key, sums) for key, sums in found.items()] or _none(question, _NO_REQUESTS)
        return sorted(answers, key=lambda one: (one.start or 0, -one.requests))

    async def ranking(self, by: Dimension, since: float, until: float | None = None, *, top: int = 50) -> Ranking:
        """Sums over attempts of the ``top`` groups of highest cost, with percentiles, and of all others together.

        Users and keys of more than ``FEW`` attempts, or of which records have been pruned, have no percentiles: no
        roll-up has them.
        """
        question = _question((by,), None, EVERYTHING, True, top)._replace(top=None)
        async with self._engine.connect() as connection:
            sources = await self._sources(connection, ATTEMPTS, question, since, until)
            if sources.parts is not None and not sources.parts:
                return Ranking((), 0, None)
            found, others, rest = by_place(
                ATTEMPTS, await connection.execute(self._ranked(question, sources, top)), top
            )
            count = sum(sums.number("count") for sums in (*found.values(), *([] if rest is None else [rest])))
            question = question._replace(only=tuple(key[0] for key in found))
            rolled_up = sources.parts is None or ATTEMPTS.view(question) not in _WITHOUT_HISTOGRAMS
            if found and (rolled_up or (sources.kept and count <= FEW)):
                await self._put_percentiles(connection, ATTEMPTS, question, found, sources)
        summed = None if rest is None else _totals(question._replace(by=()), (), rest)
        return Ranking([_totals(question, key, sums) for key, sums in found.items()], others, summed)

    def _ranked(self, question: Question, sources: _Sources, top: int) -> Select[Any]:
        if sources.parts is None:
            groups = from_records(ATTEMPTS, question, sources.since, sources.until, sqlite=self._sqlite)
        else:
            groups = from_rollups(ATTEMPTS, question, sources.parts)
        return ranked(ATTEMPTS, groups, top)

    async def cost(self, since: float, until: float | None = None, where: Where = EVERYTHING) -> Cost:
        """The cost of a range."""
        (total,) = await self.totals(since, until, where=where, percentiles=False)
        return Cost(since, total.cost_usd, total.unpriced, total.estimated)

    async def cost_today(self, timezone: str = "UTC") -> Cost:
        """The cost since the last midnight in ``timezone``, an IANA name."""
        today = self._local(timezone)
        return await self.cost(_midnight(today).timestamp())

    async def cost_of_month(self, timezone: str = "UTC") -> MonthCost:
        """The cost since the month began in ``timezone``, and projected to its end.

        The projection assumes for the rest of the month the mean cost per second since the month's first attempt, or
        since a day ago if that is earlier.
        """
        today = self._local(timezone)
        begins = _midnight(today.replace(day=1))
        spent = await self.cost(begins.timestamp())
        first = await self._first(begins.timestamp())
        projected = None
        if spent.cost_usd is not None and first is not None:
            rest = _next_month(begins).timestamp() - self._now()
            projected = spent.cost_usd + spent.cost_usd / max(self._now() - first, DAY) * rest
        return MonthCost(f"{begins:%Y-%m}", spent, projected)

    async def alerts(self, limit: int = 20) -> list[Alert]:
        """The last ``limit`` alerts, the latest first."""
        return [Alert(*row) for row in await self._rows(select(*_ALERT).order_by(alerts.c.id.desc()).limit(limit))]

    async def count_alerts(self, level: str, since: float, until: float | None = None) -> int:
        """How many alerts of ``level`` (``warning``, ``critical``) there were."""
        statement = select(func.count()).where(alerts.c.at >= since, alerts.c.level == level)
        return int(await self._scalar(statement if until is None else statement.where(alerts.c.at < until)))

    async def transitions(self, limit: int = 20) -> list[Transition]:
        """The last ``limit`` changes of breakers, health and, by fallback, models; the latest first."""
        statement = select(*_TRANSITION).order_by(transitions.c.id.desc()).limit(limit)
        return [Transition(*row) for row in await self._rows(statement)]

    async def actions(self, limit: int = 20) -> list[Action]:
        """The last ``limit`` actions of operators, the latest first."""
        return [Action(*row) for row in await self._rows(select(*_ACTION).order_by(actions.c.id.desc()).limit(limit))]

    async def latest_requests(self, wanted: RequestFilter, limit: int = 50) -> list[dict[str, Any]]:
        """The last ``limit`` requests that are wanted, the latest first, by the names of the table's columns."""
        return [dict(row._mapping) for row in await self._rows(latest_requests(wanted, limit))]

    async def request(self, request_id: str) -> tuple[dict[str, Any] | None, list[dict[str, Any]]] | None:
        """A request and its attempts, in order; ``None`` where neither is on record.

        A request goes on record when it ends: until then there are its attempts alone.

        Raises:
            ValueError: that is no request's id.
        """
        found = await self._rows(one_request(request_id))
        calls = [dict(row._mapping) for row in await self._rows(attempts_of(request_id))]
        if not found and not calls:
            return None
        return dict(found[0]._mapping) if found else None, calls

    async def last_failures(self, since: float) -> list[RecordedFailure]:
        """The last failed attempt of each provider that had any; those that the caller caused do not count."""
        return [RecordedFailure(*row) for row in await self._rows(incidents.last_failures(since))]

    async def failures(
        self, provider: str, since: float, limit: int = 20, *, until: float | None = None
    ) -> list[RecordedFailure]:
        """The last failed attempts of a provider, the latest first."""
        statement = incidents.failures_of(provider, since, until, limit)
        return [RecordedFailure(*row) for row in await self._rows(statement)]

    async def failure_kinds(
        self, provider: str, since: float, limit: int = 20, *, until: float | None = None
    ) -> list[FailureKind]:
        """The failed attempts of a provider by error and status, the most frequent first."""
        statement = incidents.failure_kinds(provider, since, until, limit)
        return [FailureKind(*row) for row in await self._rows(statement)]

    async def fallbacks(self, since: float) -> list[FallbackCount]:
        """From which provider to which model requests went on, the most frequent first."""
        return [FallbackCount(*row) for row in await self._rows(incidents.fallback_counts(since))]

    async def changes(
        self, since: float, provider: str | None = None, limit: int = 500, *, until: float | None = None
    ) -> list[Transition]:
        """The last changes of breakers and health, of one provider or of all, the latest first."""
        statement = incidents.changes(since, until, ("breaker", "health"), provider, limit)
        return [Transition(*row) for row in await self._rows(statement)]

    async def experiments(self, of: Mapping[str, ExperimentSettings]) -> list[ExperimentFigures]:
        """The figures of experiments, each since it was started."""
        async with self._engine.connect() as connection:
            return [await measure_experiment(connection, name, settings) for name, settings in of.items()]

    async def first_record_at(self) -> float | None:
        """When the oldest attempt ended; the beginning of its day (UTC) once its record has been pruned."""
        return await self._first(0)

    async def _sums(self, facts: Facts, question: Question, since: float, until: float | None) -> dict[Key, Sums]:
        async with self._engine.connect() as connection:
            sources = await self._sources(connection, facts, question, since, until)
            if sources.parts is None:
                statement = from_records(facts, question, since, until, sqlite=self._sqlite)
            elif sources.parts:
                question = question._replace(step=_in_quarters(question.step), coarse=sources.coarse)
                statement = from_rollups(facts, question, sources.parts)
            else:
                return {}
            found = by_key(facts, question, await connection.execute(statement))
            if question.percentiles and found:
                await self._put_percentiles(connection, facts, question, found, sources)
            return found

    async def _sources(
        self, connection: AsyncConnection, facts: Facts, question: Question, since: float, until: float | None
    ) -> _Sources:
        """What the sums of a range are read from."""
        if facts.view(question) is None:
            return _Sources(since, until)
        oldest, first_quarter, first_day, created, totals_from = (await connection.execute(_oldest(0))).one()
        length = (self._now() if until is None else until) - since
        kept = _are_kept(since, oldest, first_day)
        if length <= EXACT_UP_TO and kept:
            return _Sources(since, until)
        # Hundreds of users are thousands of rows a day, and many times that by quarters.
        coarse = length > _USERS_BY_QUARTER and facts.view(question) == "user"
        first = sys.maxsize if coarse else first_quarter
        parts = segments(*align(since, until, self._now()), _in_quarters(question.step), first)
        return _Sources(since, until, parts, created, kept, bool(parts) and parts[0].since >= totals_from)

    async def _put_percentiles(
        self,
        connection: AsyncConnection,
        facts: Facts,
        question: Question,
        found: Mapping[Key, Sums],
        sources: _Sources,
    ) -> None:
        parts = sources.parts
        if parts is None:
            await self._put_ranks(connection, facts, question, found, sources.since, sources.until)
        elif parts and facts.view(question) in _WITHOUT_HISTOGRAMS:
            await self._put_ranks(connection, facts, question, found, parts[0].since, parts[-1].until)
        elif parts:
            new = await connection.execute(bands(facts, question, parts))
            old = await connection.execute(old_histograms(facts, question, parts)) if sources.created < 2 else ()
            put_histograms(question, found, new, old)

    async def _put_ranks(
        self,
        connection: AsyncConnection,
        facts: Facts,
        question: Question,
        found: Mapping[Key, Sums],
        since: float,
        until: float | None,
    ) -> None:
        for measure in facts.measures:
            statement = ranks(facts, measure, question, since, until, sqlite=self._sqlite)
            put_ranks(question, measure, found, await connection.execute(statement))

    async def _first(self, since: float) -> float | None:
        """When the oldest attempt from ``since`` on ended, or the beginning of its day if it has been pruned."""
        async with self._engine.connect() as connection:
            oldest, _, first_day, *_ = (await connection.execute(_oldest(since))).one()
        pruned = first_day is not None and (oldest is None or oldest >= first_day + DAY)
        return float(first_day) if pruned else oldest

    async def _rows(self, statement: Select[Any]) -> Sequence[Any]:
        async with self._engine.connect() as connection:
            found: Sequence[Any] = (await connection.execute(statement)).all()
            return found

    async def _scalar(self, statement: Select[Any]) -> Any:
        async with self._engine.connect() as connection:
            return await connection.scalar(statement)

    def _local(self, timezone: str) -> datetime:
        return datetime.fromtimestamp(self._now(), UTC).astimezone(ZoneInfo(timezone))


class _Sources(NamedTuple):
    """The range, and the parts of the roll-ups that are read for it, ``None`` where its records are read themselves.

    ``created`` is the version of the tables that created ``wallie_usage``, ``kept`` whether all records are there yet,
    ``coarse`` whether the coarse roll-ups have all of the range.
    """

    since: float
    until: float | None
    parts: Sequence[Segment] | None = None
    created: int = 0
    kept: bool = True
    coarse: bool = False


def _oldest(since: float) -> Select[Any]:
    """The time of the oldest attempt from ``since`` on, the beginnings of the first quarter and day with one.

    And the version of the tables that created ``wallie_usage``, and from when on the coarse roll-ups are complete.
    """
    first = select(func.min(usage.c.start)).where(usage.c.view == "model", usage.c.start >= since)
    return select(
        select(func.min(attempts.c.at)).where(attempts.c.at >= since).scalar_subquery(),
        *(first.where(usage.c.grain == grain).scalar_subquery() for grain in (QUARTER, DAY)),
        select(schema_version.c.created).scalar_subquery(),
        select(schema_version.c.totals_from).scalar_subquery(),
    )


def _are_kept(since: float, oldest: float | None, first_day: int | None) -> bool:
    """Whether no record from ``since`` on has been pruned."""
    if oldest is None:
        return first_day is None
    return since >= oldest or first_day is None or oldest < first_day + DAY


def _question(
    by: Sequence[Dimension], step: float | None, where: Where, percentiles: bool, top: int | None
) -> Question:
    for name in by:
        if name not in DIMENSIONS:
            raise ValueError(f"by: found {name!r}, expected some of {', '.join(DIMENSIONS)}")
    if step is not None and not step >= 1:
        raise ValueError(f"step: found {step!r}, expected whole seconds above 0")
    if top is not None and (top < 1 or step is not None):
        raise ValueError(f"top: found {top!r}, expected a whole number above 0, without step")
    return Question(tuple(dict.fromkeys(by)), None if step is None else int(step), where, percentiles, top)


def _in_quarters(step: int | None) -> int | None:
    return None if step is None else -(-step // QUARTER) * QUARTER


def _totals(question: Question, key: Key, sums: Sums) -> Totals:
    unpriced, cost = sums.number("unpriced"), float(sums.values["cost_usd"])
    return Totals(
        **named(question, key),
        attempts=sums.number("count"),
        successes=sums.number("successes"),
        by_caller=sums.number("by_caller"),
        cache_hits=sums.number("cache_hits"),
        latency=sums.latency(),
        first_token=sums.first_token(),
        waited_ms=float(sums.values["waited_ms"]),
        prompt_tokens=sums.number("prompt_tokens"),
        completion_tokens=sums.number("completion_tokens"),
        total_tokens=sums.number("total_tokens"),
        cached_tokens=sums.number("cached_tokens"),
        cache_write_tokens=sums.number("cache_write_tokens"),
        reasoning_tokens=sums.number("reasoning_tokens"),
        cost_usd=None if unpriced and cost == 0 else cost,
        unpriced=unpriced,
        estimated=sums.number("estimated"),
    )


def _request_totals(question: Question, key: Key, sums: Sums) -> RequestTotals:
    return RequestTotals(
        **named(question, key),
        requests=sums.number("count"),
        successes=sums.number("successes"),
        by_caller=sums.number("by_caller"),
        fallbacks=sums.number("fallbacks"),
        latency=sums.latency(),
        waited_ms=float(sums.values["waited_ms"]),
        cache_hits=sums.number("cache_hits"),
        hedged=sums.number("hedged"),
        wasted_usd=float(sums.values["wasted_usd"]),
        saved_usd=float(sums.values["saved_usd"]),
        auto_saved_usd=float(sums.values["auto_saved_usd"]),
    )


_NO_GROUP: Final = (None,) * 5  # no bucket, and no dimension
_NO_ATTEMPTS: Final = Totals(*_NO_GROUP, 0, 0, 0, 0, Latency(), Latency(), 0.0, 0, 0, 0, 0, 0, 0, 0.0, 0, 0)
_NO_REQUESTS: Final = RequestTotals(*_NO_GROUP, 0, 0, 0, 0, Latency(), 0.0)


_Answer = TypeVar("_Answer", Totals, RequestTotals)


def _none(question: Question, nothing: _Answer) -> list[_Answer]:
    return [] if question.by or question.step is not None else [nothing]


def _midnight(day: datetime) -> datetime:
    return day.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)


def _next_month(begins: datetime) -> datetime:
    return begins.replace(year=begins.year + begins.month // 12, month=begins.month % 12 + 1)
