"""The statements that add up attempts or requests, from the records or from the roll-ups, and reading their rows.

Percentiles are in ``distributions.py``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Float,
    Integer,
    Select,
    Subquery,
    Table,
    case,
    cast,
    func,
    literal,
    not_,
    select,
    union_all,
)

from wallie_litellm.core.demand import Outcome
from wallie_litellm.ledger.figures import EVERYTHING, Latency, Where
from wallie_litellm.ledger.ranges import Segment
from wallie_litellm.ledger.schema import (
    ALL_ATTEMPTS,
    ALL_REQUESTS,
    ATTEMPTS_BY_PROVIDER,
    BY_CALLER,
    FIRST_TOKEN,
    LATENCY,
    REQUESTS_BY_PROVIDER,
    attempts,
    requests,
    usage,
)

Dimension = Literal["provider", "model", "feature", "user_id", "proxy_key"]

DIMENSIONS: Final[tuple[Dimension, ...]] = ("provider", "model", "feature", "user_id", "proxy_key")

Key = tuple[Any, ...]  # the values of a question's key columns: the bucket, then the dimensions


class Question(NamedTuple):
    """The groups and conditions of a sum; ``step`` is a time bucket's length in whole seconds.

    ``top`` limits the groups to those with the largest of the facts' ``weight``, ``only`` to these values of the first
    dimension in ``by``. ``coarse`` says that the facts' coarse roll-ups have all of the range.
    """

    by: tuple[Dimension, ...] = ()
    step: int | None = None
    where: Where = EVERYTHING
    percentiles: bool = True
    top: int | None = None
    only: tuple[str, ...] | None = None
    coarse: bool = False

    @property
    def dimensions(self) -> frozenset[str]:
        """The dimensions of groups and conditions."""
        named = (name for name in DIMENSIONS if getattr(self.where, name) is not None)
        return frozenset((*self.by, *named))


class Facts(NamedTuple):
    """One kind of record: its table, the sums over its rows, and the roll-ups that have the same sums."""

    table: Table
    sums: Mapping[str, ColumnElement[Any]]
    # Measure → its column, and whether a row's value counts: the latency not of failures and cache hits
    measures: Mapping[str, tuple[Column[float], ColumnElement[bool]]]
    views: Mapping[str, frozenset[str]]  # roll-up → its dimensions
    coarse: Mapping[str, frozenset[str]]  # the same of roll-ups with fewer rows; with a dimension, without percentiles
    weight: str  # the sum by which groups are ordered

    def view(self, question: Question) -> str | None:
        """The roll-up that has the question's dimensions, or ``None`` when only the records do."""
        named = question.dimensions
        if question.coarse and not (named and question.percentiles):
            found = next((view for view, has in self.coarse.items() if named <= has), None)
            if found is not None:
                return found
        return next((view for view, has in self.views.items() if named <= has), None)


def _flag(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return case((condition, 1), else_=0)


def _of_answers(table: Table, measured: ColumnElement[bool]) -> ColumnElement[float]:
    return case((measured, table.c.latency_ms), else_=0.0)


_answered = attempts.c.outcome == Outcome.SUCCESS.value
_from_providers = requests.c.success & not_(requests.c.cache_hit)

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
        "first_tokens": _flag(attempts.c.first_token_ms.is_not(None)),
        "first_token_ms": func.coalesce(attempts.c.first_token_ms, 0.0),
        "prompt_tokens": attempts.c.prompt_tokens,
        "completion_tokens": attempts.c.completion_tokens,
        "total_tokens": attempts.c.total_tokens,
        "cached_tokens": attempts.c.cached_tokens,
        "cache_write_tokens": func.coalesce(attempts.c.cache_write_tokens, 0),
        "reasoning_tokens": attempts.c.reasoning_tokens,
        "cost_usd": func.coalesce(attempts.c.cost_usd, 0.0),  # unpriced attempts are counted separately
    },
    {
        LATENCY: (attempts.c.latency_ms, _answered),
        FIRST_TOKEN: (attempts.c.first_token_ms, attempts.c.first_token_ms.is_not(None)),
    },
    {
        "model": frozenset({"provider", "model", "feature"}),
        "user": frozenset({"user_id"}),
        "key": frozenset({"model", "proxy_key"}),
    },
    {ALL_ATTEMPTS: frozenset(), ATTEMPTS_BY_PROVIDER: frozenset({"provider"})},
    "cost_usd",
)

REQUESTS: Final = Facts(
    requests,
    {
        "count": literal(1, Integer),
        "successes": _flag(requests.c.success),
        "by_caller": _flag(requests.c.by_caller),
        "fallbacks": _flag(requests.c.success & requests.c.used_fallback),
        "cache_hits": _flag(requests.c.cache_hit),
        "hedged": _flag(requests.c.hedged),
        "latency_ms": _of_answers(requests, _from_providers),
        "waited_ms": requests.c.waited_ms,
        "wasted_usd": requests.c.wasted_usd,
        "saved_usd": func.coalesce(requests.c.saved_usd, 0.0),
        "auto_saved_usd": func.coalesce(requests.c.auto_saved_usd, 0.0),
    },
    {LATENCY: (requests.c.latency_ms, _from_providers)},
    {"request": frozenset({"provider", "model", "feature"})},
    {ALL_REQUESTS: frozenset(), REQUESTS_BY_PROVIDER: frozenset({"provider"})},
    "count",
)


class Sums:
    """The sums of one key by name, and the percentiles of each measure."""

    __slots__ = ("percentiles", "values")

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = dict(values)
        self.percentiles: dict[str, Mapping[str, float | None]] = {}

    def number(self, name: str) -> int:
        """A count; PostgreSQL returns sums as decimals."""
        return int(self.values[name])

    def latency(self) -> Latency:
        """Mean and percentiles of successes that did not come from a cache."""
        measured = self.number("successes") - int(self.values.get("cache_hits", 0))
        return self._latency(LATENCY, "latency_ms", measured)

    def first_token(self) -> Latency:
        """Mean and percentiles of the time to the first token."""
        return self._latency(FIRST_TOKEN, "first_token_ms", self.number("first_tokens"))

    def _latency(self, measure: str, total: str, count: int) -> Latency:
        mean = float(self.values[total]) / count if count > 0 else None
        return Latency(mean, **self.percentiles.get(measure, {}))


def from_rollups(facts: Facts, question: Question, parts: Sequence[Segment]) -> Select[Any]:
    """Sums by key, over all of ``parts``."""
    statement, rows = summed(usage, facts, question, parts, tuple(facts.sums))
    return _largest(statement, question, func.sum(rows.c[facts.weight]))


def summed(
    table: Table,
    facts: Facts,
    question: Question,
    parts: Sequence[Segment],
    names: Sequence[str],
    inner: Mapping[str, Sequence[Any]] = MappingProxyType({}),
) -> tuple[Select[Any], Subquery]:
    """The sums of the columns ``names`` of a roll-up ``table`` by key and ``inner`` columns, and their subquery.

    ``inner`` has all values of columns that come before the key's in the order of the table.
    """
    # Grouped first by quarter or day, in the order of the table, and the few remaining rows then by key: sorting all of
    # the table's rows by key takes several times as long.
    selects = (_rollup_part(table, facts, question, names, inner, part) for part in parts)
    rows = union_all(*selects).subquery()
    keys: list[ColumnElement[Any]] = [rows.c[name] for name in (*question.by, *inner)]
    if question.step is not None:
        keys.insert(0, rows.c.start - rows.c.start % literal(question.step, BigInteger, literal_execute=True))
    return select(*keys, *(func.sum(rows.c[name]) for name in names)).group_by(*keys), rows


def _rollup_part(
    table: Table,
    facts: Facts,
    question: Question,
    names: Sequence[str],
    inner: Mapping[str, Sequence[Any]],
    part: Segment,
) -> Select[Any]:
    keys = {
        name: _column(table, name)
        for name in (*inner, *(("start",) if question.step is not None else ()), *question.by)
    }
    sums = (func.sum(table.c[name]).label(name) for name in names)
    in_view = (table.c.grain == part.grain, table.c.view == facts.view(question), table.c.start >= part.since)
    values = (table.c[name].in_(possible) for name, possible in inner.items())
    named_keys = (column.label(name) for name, column in keys.items())
    statement = select(*named_keys, *sums).where(*in_view, *values, *_conditions(table, question))
    statement = statement.group_by(*keys.values())
    return statement if part.until is None else statement.where(table.c.start < part.until)


def _largest(statement: Select[Any], question: Question, weight: ColumnElement[Any]) -> Select[Any]:
    return statement if question.top is None else statement.order_by(weight.desc()).limit(question.top)


def ranked(facts: Facts, groups: Select[Any], top: int) -> Select[Any]:
    """The ``top`` of ``groups``, which have one key and the facts' sums, and the sums of all others in one row.

    A row is its place, from 1, the key, the number of groups in it, and the sums; the others' place is ``top + 1``.
    """
    inner = groups.subquery()
    key, *sums = inner.c
    weight, count = (sums[list(facts.sums).index(name)] for name in (facts.weight, "count"))
    number = func.row_number().over(order_by=(weight.desc(), count.desc(), key))
    placed = select(case((number <= top, number), else_=top + 1).label("place"), *inner.c).subquery()
    place, key, *sums = placed.c
    return select(place, func.min(key), func.count(), *map(func.sum, sums)).group_by(place).order_by(place)


def by_place(facts: Facts, rows: Iterable[Sequence[Any]], top: int) -> tuple[dict[Key, Sums], int, Sums | None]:
    """The rows of :func:`ranked`: the first ones by key, the number of the other groups, and their sums."""
    names, found, others, rest = tuple(facts.sums), {}, 0, None
    for place, key, groups, *values in rows:
        sums = Sums(dict(zip(names, values, strict=True)))
        if place <= top:
            found[(key,)] = sums
        else:
            others, rest = int(groups), sums
    return found, others, rest


def from_records(facts: Facts, question: Question, since: float, until: float | None, *, sqlite: bool) -> Select[Any]:
    """The same sums, over the records themselves."""
    keys = record_keys(facts.table, question, sqlite=sqlite)
    sums = {name: func.sum(expression) for name, expression in facts.sums.items()}
    statement = select(*keys, *sums.values()).where(*within(facts.table, question, since, until)).group_by(*keys)
    return _largest(statement, question, sums[facts.weight])


def by_key(facts: Facts, question: Question, rows: Iterable[Sequence[Any]]) -> dict[Key, Sums]:
    """The rows of :func:`from_rollups` or :func:`from_records`, by key, without the row that SQL has for nothing."""
    at, names = width(question), tuple(facts.sums)
    return {tuple(row[:at]): Sums(dict(zip(names, row[at:], strict=True))) for row in rows if row[at]}


def named(question: Question, key: Key) -> dict[str, Any]:
    """``key`` as the bucket's ``start`` and the dimensions; ``None`` for those without groups."""
    bucket = None if question.step is None else int(key[0])
    values = dict(zip(question.by, key[width(question) - len(question.by) :], strict=True))
    return {"start": bucket, **{name: values.get(name) for name in DIMENSIONS}}


def width(question: Question) -> int:
    """How many columns of an answer's row are its key."""
    return len(question.by) + (question.step is not None)


def record_keys(table: Table, question: Question, *, sqlite: bool) -> list[ColumnElement[Any]]:
    """The key's columns, of the records themselves."""
    keys: list[ColumnElement[Any]] = [table.c[name] for name in question.by]
    if question.step is not None:
        # The cast truncates on SQLite and rounds on PostgreSQL; not every SQLite has floor().
        second = cast(table.c.at if sqlite else func.floor(table.c.at, type_=Float), BigInteger)
        keys.insert(0, second - second % literal(question.step, BigInteger, literal_execute=True))
    return keys


def within(table: Table, question: Question, since: float, until: float | None) -> list[ColumnElement[bool]]:
    """The conditions on a record: its time, and the question's."""
    limits = [table.c.at >= since, *([] if until is None else [table.c.at < until])]
    return [*limits, *_conditions(table, question)]


def _conditions(table: Table, question: Question) -> list[ColumnElement[bool]]:
    stated = ((name, getattr(question.where, name)) for name in DIMENSIONS)
    found: list[ColumnElement[bool]] = [_column(table, name) == value for name, value in stated if value is not None]
    if "proxy_key" in question.by:  # the roll-up has only what came with one
        found.append(_column(table, "proxy_key") != "")
    return found if question.only is None else [*found, _column(table, question.by[0]).in_(question.only)]


def _column(table: Table, name: str) -> Column[Any]:
    """The column of a dimension; a roll-up has the proxy's key in that of the user, see ``schema.usage``."""
    return table.c["user_id" if name == "proxy_key" and "proxy_key" not in table.c else name]
