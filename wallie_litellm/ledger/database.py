"""The database that records are written to: its connection, its tables, and what its errors mean."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, StatementError

from wallie_litellm.ledger.engine import file_of, inode_of, open_engine, writing
from wallie_litellm.ledger.insert import insert_records
from wallie_litellm.ledger.migrations import migrate
from wallie_litellm.ledger.records import Record
from wallie_litellm.ledger.retention import prune

logger = logging.getLogger(__name__)

WRITE_TIMEOUT: Final = 30.0  # seconds that a transaction may take

MOST_REFUSED: Final = 1_000  # ids of refused records that are remembered
_BUSY_TIMEOUT: Final = 1.0  # seconds to wait for SQLite's lock; records go to the spool before the next try
_DISPOSE_TIMEOUT: Final = 3.0  # seconds
_LOCKED: Final = ("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_FULL")  # errors after which the connection is still good
_BAD_DATA: Final = ("22", "23")  # classes of SQLSTATE for invalid values
# SQLSTATEs of connections, rights and resources (PostgreSQL, Appendix A), whose texts have no value of a record.
_OF_SERVER: Final = ("08", "25", "28", "3D", "42501", "53", "55", "57", "58")


class _InvalidRecordError(Exception):
    """A value among the records is invalid: a retry of all of them fails too."""


class Database:
    """Writes records over one connection, each record once; for the event loop that it is first used in.

    Raises:
        ConfigError: ``url`` cannot be used.
    """

    def __init__(self, url: str) -> None:
        self._engine = open_engine(url, pool_size=1, busy_timeout=_BUSY_TIMEOUT)
        self._has_tables = False
        self._file = file_of(url)
        self._identity: tuple[int, int] | None = None
        self.written = 0
        self._refused: dict[object, None] = {}  # ids of the last records that were
        self.refused = 0  # records with a value that the database does not accept

    async def write(self, records: Sequence[Record]) -> None:
        """Write ``records`` and their sums; those that are there already are not changed.

        Raises:
            Exception: the database is unavailable; it is unknown which of the records it has.
        """
        try:
            async with asyncio.timeout(WRITE_TIMEOUT):
                await self._transact(records)
        except _InvalidRecordError as refused:
            await self._write_halves(records, refused)

    async def prune(self, now: float, retention: float) -> bool:
        """Remove a few of the rows that are older than ``retention`` seconds; returns whether more are left."""
        async with asyncio.timeout(WRITE_TIMEOUT):
            await self._make_tables()
            return await prune(self._engine, now, retention)

    async def reconnect(self, error: BaseException) -> None:
        """Open a new connection for the next transaction, unless ``error`` leaves the current one usable."""
        if getattr(getattr(error, "orig", None), "sqlite_errorname", "").startswith(_LOCKED):
            return
        self._has_tables = False
        await self.close()

    async def close(self) -> None:
        """Close the connection within a few seconds."""
        with suppress(Exception):  # whatever its state, the connection is not used again
            async with asyncio.timeout(_DISPOSE_TIMEOUT):
                await self._engine.dispose()

    async def _transact(self, records: Sequence[Record]) -> None:
        await self._make_tables()
        async with writing(self._engine) as connection:
            try:
                new = await connection.run_sync(insert_records, records)
            except Exception as error:
                if _is_of_data(error):
                    raise _InvalidRecordError from error
                raise
        self.written += new

    async def _make_tables(self) -> None:
        if self._has_tables and self._identity != inode_of(self._file):
            # SQLite goes on writing into a removed file without an error.
            logger.error("the ledger's file %s was removed or replaced: what was in it is gone", self._file)
            self._has_tables = False
            await self.close()
        if not self._has_tables:
            async with writing(self._engine) as connection:
                await connection.run_sync(migrate)
            self._identity = inode_of(self._file)
            self._has_tables = True

    async def _write_halves(self, records: Sequence[Record], refused: _InvalidRecordError) -> None:
        """Write the valid ones of records among which at least one is not."""
        if len(records) == 1:
            self._refuse(records[0], refused.__cause__ or refused)
            return
        middle = len(records) // 2
        await self.write(records[:middle])
        await self.write(records[middle:])

    def _refuse(self, record: Record, cause: BaseException) -> None:
        """Count a record once: one that a slow transaction had put on disk comes again."""
        if record.values[0] in self._refused:
            return
        self._refused[record.values[0]] = None
        if len(self._refused) > MOST_REFUSED:
            self._refused.pop(next(iter(self._refused)))
        self.refused += 1
        logger.error("the ledger's database refuses a record (%s): it is left out", reason(cause))


def reason(error: BaseException) -> str:
    """The name of an error, without the values that were being written; PostgreSQL's words where they have none."""
    cause = error
    if isinstance(error, DBAPIError) and error.orig is not None:
        cause = error.orig.__cause__ or error.orig  # asyncpg's errors are translated twice
    name = str(getattr(cause, "sqlite_errorname", None) or type(cause).__name__)
    lines = str(cause).splitlines()
    is_of_server = str(getattr(cause, "sqlstate", None) or "").startswith(_OF_SERVER)
    return f"{name}, {lines[0]}" if is_of_server and lines else name


def _is_of_data(error: Exception) -> bool:
    if not isinstance(error, DBAPIError):
        return isinstance(error, StatementError | ArithmeticError | ValueError | TypeError)
    state = getattr(error.orig, "sqlstate", None) or ""
    return isinstance(error, DataError | IntegrityError) or state.startswith(_BAD_DATA)
