"""The statements that add up attempts or requests, from the records or from the roll-ups, and reading their rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Float,
    Integer,
    Select,
    Table,
    case,
    cast,
    func,
    literal,
    select,
    union_all,
)

from wallie_litellm.core.demand import Outcome
from wallie_litellm.ledger.figures import EVERYTHING, Latency, Where
from wallie_litellm.ledger.percentiles import percentile
from wallie_litellm.ledger.ranges import Segment
from wallie_litellm.ledger.schema import BINS, BY_CALLER, attempts, requests, usage

Dimension = Literal["provider", "model", "feature", "user_id"]

DIMENSIONS: Final[tuple[Dimension, ...]] = ("provider", "model", "feature", "user_id")
_HISTOGRAM: Final = tuple(f"latency_{number:02d}" for number in range(BINS))
_PERCENTILES: Final = {"p50_ms": 0.50, "p95_ms": 0.95, "p99_ms": 0.99}

Key = tuple[Any, ...]  # the values of a question's key columns: the bucket, then the dimensions


class Question(NamedTuple):
    """The groups and conditions of a sum; ``step`` is a time bucket's length in whole seconds.

    ``top`` limits the groups to those with the largest of the facts' ``weight``.
    """

    by: tuple[Dimension, ...] = ()
    step: int | None = None
    where: Where = EVERYTHING
    percentiles: bool = True
    top: int | None = None

    @property
    def dimensions(self) -> frozenset[str]:
        """The dimensions of groups and conditions."""
        named = (name for name in DIMENSIONS if getattr(self.where, name) is not None)
        return frozenset((*self.by, *named))


class Facts(NamedTuple):
    """One kind of record: its table, the sums over its rows, and the roll-ups that have the same sums."""

    table: Table
    sums: Mapping[str, ColumnElement[Any]]
    measured: ColumnElement[bool]  # whether the row's latency counts: not of failures and cache hits
    views: Mapping[str, frozenset[str]]  # roll-up → its dimensions
    weight: str  # the sum by which groups are ordered

    def view(self, question: Question) -> str | None:
        """The roll-up that has the question's dimensions, or ``None`` when only the records do."""
        return next((view for view, has in self.views.items() if question.dimensions <= has), None)


def _flag(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return case((condition, 1), else_=0)


def _of_answers(table: Table, measured: ColumnElement[bool]) -> ColumnElement[float]:
    return case((measured, table.c.latency_ms), else_=0.0)


_answered = attempts.c.outcome == Outcome.SUCCESS.value

ATTEMPTS: Final = Facts(
    attempts,
    {
        "count": literal(1, Integer),
        "successes": _flag(attempts.c.success),
        "by_caller": _flag(BY_CALLER),
        "cache_hits": _flag(attempts.c.outcome == Outcome.CACHE_HIT.value),
        "unpriced": _flag(attempts.c.unpriced),
        "estimated": _flag(attempts.c.estimated),
        "latency_ms": _of_answers(attempts, _answered),
        "waited_ms": attempts.c.waited_ms,
        "prompt_tokens": attempts.c.prompt_tokens,
        "completion_tokens": attempts.c.completion_tokens,
        "total_tokens": attempts.c.total_tokens,
        "cached_tokens": attempts.c.cached_tokens,
        "reasoning_tokens": attempts.c.reasoning_tokens,
        "cost_usd": func.coalesce(attempts.c.cost_usd, 0.0),  # unpriced attempts are counted separately
    },
    _answered,
    {"model": frozenset({"provider", "model", "feature"}), "user": frozenset({"user_id"})},
    "cost_usd",
)

REQUESTS: Final = Facts(
    requests,
    {
        "count": literal(1, Integer),
        "successes": _flag(requests.c.success),
        "by_caller": _flag(requests.c.by_caller),
        "fallbacks": _flag(requests.c.success & requests.c.used_fallback),
        "latency_ms": _of_answers(requests, requests.c.success == True),  # noqa: E712 - SQL, where `is` means nothing
        "waited_ms": requests.c.waited_ms,
    },
    requests.c.success == True,  # noqa: E712 - the same
    {"request": frozenset({"provider", "model", "feature"})},
    "count",
)


class Sums:
    """The sums of one key by name; ``percentiles`` are the exact ones, else the histogram's are used."""

    __slots__ = ("histogram", "percentiles", "values")

    def __init__(self, values: Mapping[str, Any], histogram: Sequence[int] = ()) -> None:
        self.values = dict(values)
        self.histogram = [int(count) for count in histogram]
        self.percentiles: Mapping[str, float | None] = {}

    def number(self, name: str) -> int:
        """A count; PostgreSQL returns sums as decimals."""
        return int(self.values[name])

    def latency(self) -> Latency:
        """Mean and percentiles of successes that did not come from a cache."""
        measured = self.number("successes") - int(self.values.get("cache_hits", 0))
        mean = float(self.values["latency_ms"]) / measured if measured > 0 else None
        found = {name: percentile(self.histogram, share) for name, share in _PERCENTILES.items()}
        return Latency(mean, **(self.percentiles or found))


def from_rollups(facts: Facts, question: Question, parts: Sequence[Segment]) -> Select[Any]:
    """Sums by key, over all of ``parts``."""
    names = (*facts.sums, *(_HISTOGRAM if question.percentiles else ()))
    # Grouped first by quarter or day, in the order of the table, and the few remaining rows then by key: sorting all of
    # the table's rows by key takes several times as long.
    rows = union_all(*(_rollup_part(facts, question, names, part) for part in parts)).subquery()
    keys: list[ColumnElement[Any]] = [rows.c[name] for name in question.by]
    if question.step is not None:
        keys.insert(0, rows.c.start - rows.c.start % literal(question.step, BigInteger, literal_execute=True))
    statement = select(*keys, *(func.sum(rows.c[name]) for name in names)).group_by(*keys)
    return _largest(statement, question, func.sum(rows.c[facts.weight]))


def _rollup_part(facts: Facts, question: Question, names: Sequence[str], part: Segment) -> Select[Any]:
    keys = [usage.c[name] for name in (*(("start",) if question.step is not None else ()), *question.by)]
    sums = (func.sum(usage.c[name]).label(name) for name in names)
    in_view = (usage.c.grain == part.grain, usage.c.view == facts.view(question), usage.c.start >= part.since)
    statement = select(*keys, *sums).where(*in_view, *_conditions(usage, question.where)).group_by(*keys)
    return statement if part.until is None else statement.where(usage.c.start < part.until)


def _largest(statement: Select[Any], question: Question, weight: ColumnElement[Any]) -> Select[Any]:
    return statement if question.top is None else statement.order_by(weight.desc()).limit(question.top)


def from_records(facts: Facts, question: Question, since: float, until: float | None, *, sqlite: bool) -> Select[Any]:
    """The same sums, over the records themselves."""
    keys = _record_keys(facts.table, question, sqlite=sqlite)
    sums = {name: func.sum(expression) for name, expression in facts.sums.items()}
    statement = select(*keys, *sums.values()).where(*_within(facts.table, question, since, until)).group_by(*keys)
    return _largest(statement, question, sums[facts.weight])


def latency_ranks(facts: Facts, question: Question, since: float, until: float | None, *, sqlite: bool) -> Select[Any]:
    """The exact percentiles by key: the values at the nearest rank by latency."""
    keys = [key.label(f"key_{number}") for number, key in enumerate(_record_keys(facts.table, question, sqlite=sqlite))]
    latency = facts.table.c.latency_ms
    rank = func.row_number().over(partition_by=keys or None, order_by=latency).label("rank")
    total = func.count().over(partition_by=keys or None).label("total")
    rows = (
        select(*keys, latency, rank, total)
        .where(facts.measured, *_within(facts.table, question, since, until))
        .subquery()
    )
    grouped = [rows.c[key.name] for key in keys]
    found = (
        func.min(case((rows.c["rank"] * 1000 >= rows.c.total * round(share * 1000), rows.c.latency_ms)))
        for share in _PERCENTILES.values()
    )
    return select(*grouped, *found).group_by(*grouped)


def by_key(facts: Facts, question: Question, rows: Iterable[Sequence[Any]]) -> dict[Key, Sums]:
    """The rows of :func:`from_rollups` or :func:`from_records`, by key, without the row that SQL has for nothing."""
    width, names = _width(question), tuple(facts.sums)
    end = width + len(names)
    return {
        tuple(row[:width]): Sums(dict(zip(names, row[width:end], strict=True)), row[end:]) for row in rows if row[width]
    }


def put_percentiles(question: Question, found: Mapping[Key, Sums], rows: Iterable[Sequence[Any]]) -> None:
    """Set the exact percentiles of ``found`` from the rows of :func:`latency_ranks`."""
    width = _width(question)
    for row in rows:
        key = tuple(row[:width])
        if key in found:
            found[key].percentiles = dict(zip(_PERCENTILES, row[width:], strict=True))


def named(question: Question, key: Key) -> tuple[int | None, str | None, str | None, str | None, str | None]:
    """``key`` as the bucket's start and the dimensions; ``None`` for those without groups."""
    bucket = None if question.step is None else int(key[0])
    values = dict(zip(question.by, key[_width(question) - len(question.by) :], strict=True))
    return bucket, values.get("provider"), values.get("model"), values.get("feature"), values.get("user_id")


def _width(question: Question) -> int:
    return len(question.by) + (question.step is not None)


def _record_keys(table: Table, question: Question, *, sqlite: bool) -> list[ColumnElement[Any]]:
    keys: list[ColumnElement[Any]] = [table.c[name] for name in question.by]
    if question.step is not None:
        # The cast truncates on SQLite and rounds on PostgreSQL; not every SQLite has floor().
        second = cast(table.c.at if sqlite else func.floor(table.c.at, type_=Float), BigInteger)
        keys.insert(0, second - second % literal(question.step, BigInteger, literal_execute=True))
    return keys


def _within(table: Table, question: Question, since: float, until: float | None) -> list[ColumnElement[bool]]:
    limits = [table.c.at >= since, *([] if until is None else [table.c.at < until])]
    return [*limits, *_conditions(table, question.where)]


def _conditions(table: Table, where: Where) -> list[ColumnElement[bool]]:
    columns: list[tuple[Column[Any], str | None]] = [(table.c[name], getattr(where, name)) for name in DIMENSIONS]
    return [column == value for column, value in columns if value is not None]
