"""Inserts each record exactly once, however often a write is retried."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from itertools import chain
from typing import Any, Final

from sqlalchemy import JSON, Connection, Table, Text, bindparam, cast, select
from sqlalchemy.dialects import postgresql, sqlite

from wallie_litellm.ledger.records import COLUMNS, Record, Row
from wallie_litellm.ledger.rollup import HISTOGRAM_KEY, HISTOGRAM_SUMS, USAGE_KEY, USAGE_SUMS, roll_up
from wallie_litellm.ledger.schema import RECORD_TABLES, histograms, usage

_LOOKUP: Final = 1000  # ids that are looked up at once
_ROWS_AT_ONCE: Final = (100, 10, 1)  # rows of a statement on SQLite, which is limited to 32,766 values
# Table of sums → the columns of its key, and those that are summed.
_SUMMED: Final = {usage: (USAGE_KEY, USAGE_SUMS), histograms: (HISTOGRAM_KEY, HISTOGRAM_SUMS)}


def insert_records(connection: Connection, records: Iterable[Record]) -> int:
    """Write the new ones of ``records``, and add them to the sums; returns how many were new.

    To be called in a transaction begun by ``engine.writing``.
    """
    kinds: dict[str, list[Row]] = defaultdict(list)
    for kind, values in records:
        kinds[kind].append(values)
    insert = _into_sqlite if connection.dialect.name == "sqlite" else _into_postgresql
    new = [Record(kind, row) for kind, rows in kinds.items() for row in insert(connection, kind, rows)]
    added = roll_up(new)
    _add(connection, usage, added.usage)
    _add(connection, histograms, added.histograms)
    return len(new)


def _into_sqlite(connection: Connection, kind: str, rows: Sequence[Row]) -> Sequence[Row]:
    insert = _sqlite_insert(RECORD_TABLES[kind])
    with connection.begin_nested() as attempt:
        if _execute_sqlite(connection, insert, rows) == len(rows):
            return rows
        attempt.rollback()
    # Some exist already. The write lock is held, so the ids found now stay valid.
    unknown = {row[0]: row for row in rows}
    table, ids = RECORD_TABLES[kind], list(unknown)
    for first in range(0, len(ids), _LOOKUP):
        for known in connection.scalars(select(table.c.id).where(table.c.id.in_(ids[first : first + _LOOKUP]))):
            del unknown[known]
    _execute_sqlite(connection, insert, list(unknown.values()))
    return list(unknown.values())


def _execute_sqlite(connection: Connection, insert: sqlite.Insert, rows: Sequence[Row]) -> int:
    """Insert ``rows`` unchanged; returns how many rows were written.

    As plain tuples, since SQLAlchemy's own parameters cost several times what SQLite does; and many to a statement,
    since the driver releases Python's lock for each statement and waits up to 5 ms for it beside a busy thread.
    """
    written = first = 0
    for size in _ROWS_AT_ONCE:
        upto = len(rows) - (len(rows) - first) % size
        if parameters := [tuple(chain.from_iterable(rows[at : at + size])) for at in range(first, upto, size)]:
            done = connection.exec_driver_sql(_sqlite_text(insert, size), parameters, {"preserve_rowcount": True})
            written += done.rowcount
        first = upto
    return written


@cache
def _sqlite_text(insert: sqlite.Insert, rows: int) -> str:
    text = str(insert.compile(dialect=sqlite.dialect(paramstyle="qmark")))
    head, _, rest = text.partition(" VALUES ")
    values, bracket, tail = rest.partition(")")
    return f"{head} VALUES {', '.join([values + bracket] * rows)}{tail}"


def _into_postgresql(connection: Connection, kind: str, rows: Sequence[Row]) -> Sequence[Row]:
    unknown = {row[0]: row for row in rows}
    parameters = [dict(zip(COLUMNS[kind], row, strict=True)) for row in unknown.values()]
    # RETURNING has the inserted rows alone, even when another transaction inserts the same ones.
    return [unknown[written] for written in connection.scalars(_postgresql_insert(RECORD_TABLES[kind]), parameters)]


@cache
def _sqlite_insert(table: Table) -> sqlite.Insert:
    return sqlite.insert(table).on_conflict_do_nothing()


@cache
def _postgresql_insert(table: Table) -> Any:
    metadata = {"metadata": cast(bindparam("metadata", type_=Text), JSON)} if "metadata" in table.c else {}
    return postgresql.insert(table).values(metadata).on_conflict_do_nothing().returning(table.c.id)


def _add(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    if not rows:
        return
    if connection.dialect.name == "sqlite":
        _execute_sqlite(connection, _upsert(table, sqlite.insert), rows)
    else:
        key, sums = _SUMMED[table]
        connection.execute(
            _upsert(table, postgresql.insert), [dict(zip((*key, *sums), row, strict=True)) for row in rows]
        )


@cache
def _upsert(table: Table, insert_into: Callable[[Table], Any]) -> Any:
    key, sums = _SUMMED[table]
    insert = insert_into(table)
    return insert.on_conflict_do_update(
        index_elements=key, set_={name: table.c[name] + insert.excluded[name] for name in sums}
    )
