"""The database that records go to: its connection, its tables, and what its errors mean."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, StatementError

from wallie_litellm.ledger.engine import file_of, inode_of, open_engine, writing
from wallie_litellm.ledger.insert import insert_records
from wallie_litellm.ledger.migrations import migrate
from wallie_litellm.ledger.records import Record
from wallie_litellm.ledger.retention import prune

logger = logging.getLogger(__name__)

WRITE_TIMEOUT = 30.0  # seconds that a transaction may take

_BUSY_TIMEOUT = 1.0  # seconds; whoever holds SQLite's lock longer is waited for with records safely on disk
_DISPOSE_TIMEOUT = 3.0  # seconds
_LOCKED = ("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_FULL")
_BAD_DATA = ("22", "23")  # the classes of SQLSTATE that blame the values


class _Refused(Exception):  # noqa: N818 - it says what happened
    """A value among the records is to blame, and will be however often they are tried."""


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
        self.refused = 0  # records that the database would not take whatever was tried

    async def write(self, records: Sequence[Record]) -> None:
        """Write ``records`` and their sums; those that are there already are left alone.

        Raises:
            Exception: the database is away, and some or all of them may be in it or not.
        """
        try:
            async with asyncio.timeout(WRITE_TIMEOUT):
                await self._transact(records)
        except _Refused as refused:
            await self._write_halves(records, refused)

    async def prune(self, now: float, retention: float) -> bool:
        """See :func:`wallie_litellm.ledger.retention.prune`."""
        async with asyncio.timeout(WRITE_TIMEOUT):
            await self._make_tables()
            return await prune(self._engine, now, retention)

    async def reconnect(self, error: BaseException) -> None:
        """Begin with a new connection, unless ``error`` says that the present one is good."""
        if getattr(getattr(error, "orig", None), "sqlite_errorname", "").startswith(_LOCKED):
            return
        self._has_tables = False
        await self.close()

    async def close(self) -> None:
        """Let go of the connection, within a few seconds."""
        with suppress(Exception):  # whatever state it was in, it is not used again
            async with asyncio.timeout(_DISPOSE_TIMEOUT):
                await self._engine.dispose()

    async def _transact(self, records: Sequence[Record]) -> None:
        await self._make_tables()
        async with writing(self._engine) as connection:
            try:
                new = await connection.run_sync(insert_records, records)
            except Exception as error:
                if _blames_data(error):
                    raise _Refused from error
                raise
        self.written += new

    async def _make_tables(self) -> None:
        if self._has_tables and self._identity != inode_of(self._file):
            # SQLite goes on writing into a file that has no name any more, and says nothing.
            logger.error("the ledger's file %s was removed or replaced: what was in it is gone", self._file)
            self._has_tables = False
            await self.close()
        if not self._has_tables:
            async with writing(self._engine) as connection:
                await connection.run_sync(migrate)
            self._identity = inode_of(self._file)
            self._has_tables = True

    async def _write_halves(self, records: Sequence[Record], refused: _Refused) -> None:
        """Write what can be written of records among which at least one is refused."""
        if len(records) == 1:
            self.refused += 1
            logger.error(
                "the ledger's database refuses a record (%s): it is left out", reason(refused.__cause__ or refused)
            )
            return
        middle = len(records) // 2
        await self.write(records[:middle])
        await self.write(records[middle:])


def reason(error: BaseException) -> str:
    """What went wrong in a word or two, without a value that was being written."""
    cause = error
    if isinstance(error, DBAPIError) and error.orig is not None:
        cause = error.orig.__cause__ or error.orig  # asyncpg's errors are translated twice
    return str(getattr(cause, "sqlite_errorname", None) or type(cause).__name__)


def _blames_data(error: Exception) -> bool:
    if not isinstance(error, DBAPIError):
        return isinstance(error, StatementError | ArithmeticError | ValueError | TypeError)
    state = getattr(error.orig, "sqlstate", None) or ""
    return isinstance(error, DataError | IntegrityError) or state.startswith(_BAD_DATA)
