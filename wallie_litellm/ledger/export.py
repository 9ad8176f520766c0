"""The ledger's records as CSV or JSON Lines, in memory that does not grow with their number.

A row begins with its ``kind``; ``at`` is ISO 8601 in UTC; the rows of a kind are in order of time. In CSV the columns
are those of all requested kinds, ``metadata`` is JSON, and text that a spreadsheet would take for a formula (it begins
with ``=``, ``+``, ``-``, ``@``, a tab or a carriage return) is preceded by an apostrophe. JSON Lines have every value
unchanged. Attempts without a price have no ``cost_usd`` (empty, null) and are ``unpriced``.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Any, Final, Literal, NamedTuple

from sqlalchemy import RowMapping, select
from sqlalchemy.ext.asyncio import AsyncEngine

from wallie_litellm.core.iso_time import iso_time
from wallie_litellm.ledger.schema import RECORD_TABLES

Format = Literal["csv", "jsonl"]
Values = RowMapping
_Formatter = Callable[[str, Sequence[Values]], str]

BATCH: Final = 1000  # rows in memory at a time
_to_json: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


class Chunk(NamedTuple):
    """Some lines of an export, and the number of their rows."""

    text: str
    rows: int


async def export(
    engine: AsyncEngine,
    form: Format,
    kinds: Sequence[str] = tuple(RECORD_TABLES),
    since: float | None = None,
    until: float | None = None,
) -> AsyncGenerator[Chunk, None]:
    """The records of ``kinds`` (keys of ``RECORD_TABLES``) from ``since`` to before ``until``, in Unix seconds.

    All are read from one snapshot, taken when the export begins. CSV begins with its header.
    """
    kinds = tuple(dict.fromkeys(kinds))
    if form == "csv":
        columns = columns_of(kinds)
        yield Chunk(_csv_lines([columns]), 0)
        write: _Formatter = _csv_writer(columns)
    else:
        write = _json_lines
    async with aclosing(_batches(engine, kinds, since, until)) as batches:
        async for kind, batch in batches:
            yield Chunk(write(kind, batch), len(batch))


def columns_of(kinds: Sequence[str]) -> list[str]:
    """The columns of a CSV export of ``kinds``."""
    names = (column.name for kind in kinds for column in RECORD_TABLES[kind].columns)
    return ["kind", *dict.fromkeys(names)]


async def _batches(
    engine: AsyncEngine, kinds: Sequence[str], since: float | None, until: float | None
) -> AsyncGenerator[tuple[str, Sequence[Values]], None]:
    async with engine.connect() as connection:
        # One snapshot for all kinds, as every transaction of SQLite has.
        if engine.dialect.name == "postgresql":
            await connection.execution_options(isolation_level="REPEATABLE READ")
        for kind in kinds:
            table = RECORD_TABLES[kind]
            rows = select(table).order_by(table.c.at, table.c.id)
            rows = rows if since is None else rows.where(table.c.at >= since)
            rows = rows if until is None else rows.where(table.c.at < until)
            # Not as a context manager: SQLAlchemy's fails on the GeneratorExit of a generator that is closed.
            result = await connection.stream(rows, execution_options={"yield_per": BATCH})
            try:
                async for batch in result.mappings().partitions():
                    yield kind, batch
            finally:
                await result.close()


def _json_lines(kind: str, batch: Sequence[Values]) -> str:
    lines = ({"kind": kind, **{name: _plain(name, value) for name, value in row.items()}} for row in batch)
    return "".join(_to_json(line) + "\n" for line in lines)


def _plain(name: str, value: Any) -> Any:
    if name == "at":
        return iso_time(value, "microseconds")
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _csv_writer(columns: Sequence[str]) -> _Formatter:
    def write(kind: str, batch: Sequence[Values]) -> str:
        places = [name if name in RECORD_TABLES[kind].c else None for name in columns[1:]]
        return _csv_lines([[kind, *(name and _cell(name, row[name]) for name in places)] for row in batch])

    return write


def _csv_lines(rows: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)  # lines end with CR LF, as RFC 4180 requires; None is empty
    return text.getvalue()


def _cell(name: str, value: Any) -> Any:
    if isinstance(value, str):
        return f"'{value}" if value.startswith(_FORMULA) else value
    if isinstance(value, bool):
        return "true" if value else "false"
    if name == "at":
        return iso_time(value, "microseconds")
    return _to_json(value) if name == "metadata" else value
