"""The dashboard's connection to the ledger: opened when it is first used, and again after it has failed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from typing import Any, Final, NamedTuple, TypeVar

from sqlalchemy.ext.asyncio import AsyncEngine

from wallie_litellm.config.models import LedgerSettings
from wallie_litellm.errors import ConfigError
from wallie_litellm.ledger.engine import file_of, inode_of
from wallie_litellm.ledger.export import Format, export
from wallie_litellm.ledger.queries import LedgerQueries
from wallie_litellm.ledger.reader import open_reader, reason

T = TypeVar("T")

LEDGER_RETRY: Final = 3.0  # seconds after which a ledger that could not be read is tried again


class LedgerUnavailable(Exception):  # noqa: N818 - it says what happened
    """There is no ledger, or it cannot be read; ``problem`` is one line that says why."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem


class LedgerReader:
    """Reads the ledger of ``settings``, which are ``None`` where none is configured.

    Belongs to one event loop. ``now`` is the wall clock.
    """

    def __init__(self, settings: LedgerSettings | None, now: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._now = now
        self._opened: _Opened | None = None
        self._opening = asyncio.Lock()
        self._failure: tuple[str, float] | None = None  # the problem, and when it was met

    async def ask(self, question: Callable[[LedgerQueries], Awaitable[T]]) -> T:
        """The answer to ``question``.

        Raises:
            LedgerUnavailable: the ledger cannot be read.
        """
        engine = await self._engine()
        try:
            return await question(LedgerQueries(engine, self._now))
        except (ValueError, LedgerUnavailable):
            raise
        except Exception as error:
            await self.close()
            raise self._unavailable(f"the ledger cannot be read: {reason(error)}") from error

    async def ping(self) -> None:
        """Read one value from the ledger's tables.

        Raises:
            LedgerUnavailable: the ledger cannot be read.
        """
        await self.ask(lambda queries: queries.first_record_at())

    async def open_export(
        self, form: Format, kinds: Sequence[str], since: float | None, until: float | None
    ) -> AsyncIterator[Any]:
        """The records of ``kinds`` between ``since`` and ``until`` (Unix seconds), in chunks.

        Raises:
            LedgerUnavailable: the ledger cannot be read. Later failures are those of the database.
        """
        await self.ping()  # an export that has begun can no longer answer with an error
        return export(await self._engine(), form, kinds, since, until)

    async def close(self) -> None:
        """Close the database's connections; the next question opens them again."""
        opened, self._opened = self._opened, None
        if opened is not None:
            with suppress(Exception):
                await opened.stack.aclose()

    async def _engine(self) -> AsyncEngine:
        if self._settings is None:
            raise LedgerUnavailable("there is no ledger: the configuration says 'ledger: null'")
        async with self._opening:
            inode = inode_of(file_of(self._settings.url))
            if self._opened is not None and self._opened.inode != inode:  # the file was removed, or replaced
                await self.close()
            if self._opened is None:
                self._opened = await self._open(self._settings.url)
            return self._opened.engine

    async def _open(self, url: str) -> _Opened:
        if self._failure is not None and self._now() - self._failure[1] < LEDGER_RETRY:
            raise LedgerUnavailable(self._failure[0])
        stack = AsyncExitStack()
        try:
            engine = await stack.enter_async_context(open_reader(url))
        except ConfigError as error:
            raise self._unavailable("; ".join(error.problems)) from error
        self._failure = None
        return _Opened(engine, stack, inode_of(file_of(url)))

    def _unavailable(self, problem: str) -> LedgerUnavailable:
        self._failure = problem, self._now()
        return LedgerUnavailable(problem)


class _Opened(NamedTuple):
    """An open ledger; ``inode`` is its file's, ``None`` for a server."""

    engine: AsyncEngine
    stack: AsyncExitStack
    inode: tuple[int, int] | None
