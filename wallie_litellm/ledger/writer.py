"""The sink that writes events into the ledger, on a thread of its own."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from wallie_litellm.config.values import mask_url
from wallie_litellm.core.backoff import Backoff
from wallie_litellm.errors import ConfigError
from wallie_litellm.events import Event
from wallie_litellm.ledger.backlog import Backlog
from wallie_litellm.ledger.database import Database, reason
from wallie_litellm.ledger.records import from_json, record_of
from wallie_litellm.ledger.retention import INTERVAL
from wallie_litellm.telemetry.spool import Batch, Spool

logger = logging.getLogger(__name__)

LARGEST_BATCH: Final = 10_000  # records of a transaction
STUCK: Final = 1.0  # seconds of waiting for the database after which records in memory are put on disk
LAST_TRIES: Final = 2.0  # seconds for which an unavailable database is tried when the sink is closed

_READ_AGAIN: Final = 5.0  # seconds after which a spool that could not be read is tried again
_HOLD_BACK: Final = 0.9  # seconds for which ``handle`` waits while events come faster than they are written


class LedgerSink:
    """Writes events into the database at ``url``, each event once, however often a write is retried.

    A thread of its own gathers events for ``flush_interval`` seconds and writes them and their sums in one transaction.
    While the database is unavailable or slow, records wait in memory, up to ``memory`` of them, then in files under
    ``spool_directory``, and if the disk is full too, in memory, up to ``most``. Records older than ``retention``
    seconds are removed. ``worker`` names this process in them.

    Raises:
        ConfigError: ``url`` cannot be used.
    """

    name = "ledger"

    def __init__(
        self,
        url: str,
        spool_directory: Path,
        *,
        worker: str,
        retention: float,
        flush_interval: float = 0.25,
        memory: int = 20_000,
        most: int = 200_000,
    ) -> None:
        self._url = url
        self._database = Database(url)
        self._backlog = Backlog(Spool(spool_directory, self.name), memory, most)
        self._worker = worker
        self._retention = retention
        self._interval = flush_interval
        self._backoff = Backoff(initial=0.1, max=5.0)
        self._failed = self._failures_in_row = 0  # transactions
        self._down_since: float | None = None
        self._stuck = False
        self._try_again_at = self._prune_at = 0.0
        self._closes_at: float | None = None
        self._progress = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._work_to_do = asyncio.Event()
        self._hurry = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="wallie-ledger-writer", daemon=True)
        self._thread.start()

    def handle(self, events: Sequence[Event]) -> None:
        """Queue ``events``. Returns within a second, whatever state the database is in."""
        self._backlog.add([record_of(event, self._worker) for event in events])
        self._signal(self._work_to_do)
        if self._backlog.overfull:
            self._signal(self._hurry)
            with self._progress:
                self._progress.wait_for(self._may_take_more, _HOLD_BACK)
            if self._backlog.overfull:
                self._backlog.spill()

    def flush(self, timeout: float) -> bool:
        """Write everything within ``timeout`` seconds, records on disk included; put what is left on disk."""
        self._signal(self._work_to_do, self._hurry)
        with self._progress:
            if self._progress.wait_for(self._is_drained, timeout):
                return True
        self._backlog.spill()
        return False

    def close(self, timeout: float) -> None:
        """Write everything within ``timeout`` seconds, or put it on disk for the next process."""
        if self._closes_at is not None:
            return
        self._closes_at = time.monotonic() + timeout
        self._signal(self._work_to_do, self._hurry)
        self._thread.join(timeout)
        if not self._backlog.spill() and (left := self._backlog.pending):
            logger.error("the ledger lost %d records: neither its database nor its spool took them", left)
        self._backlog.spool.close()

    def stats(self) -> dict[str, int]:
        """Records ``delivered``, ``pending`` in memory, ``spooled`` and ``dropped``; ``failed`` counts transactions."""
        return {
            "delivered": self._database.written,
            "pending": self._backlog.pending,
            "spooled": self._backlog.spool.pending,
            "dropped": self._backlog.dropped + self._backlog.spool.dropped + self._database.refused,
            "failed": self._failed,
        }

    def _may_take_more(self) -> bool:
        return not self._backlog.overfull or self._down_since is not None or self._stuck

    def _is_drained(self) -> bool:
        return not self._backlog.pending and not self._backlog.spool.pending

    def _signal(self, *events: asyncio.Event) -> None:
        with suppress(RuntimeError):  # the loop is closed: the thread has ended
            for event in events:
                self._loop.call_soon_threadsafe(event.set)

    # The methods below run on the sink's own thread.

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._work())
        except Exception:
            logger.exception("the ledger's writer failed; later records wait on disk")
        finally:
            self._loop.close()

    async def _work(self) -> None:
        while not self._is_over():
            if time.monotonic() >= self._try_again_at or self._hurry.is_set():
                self._hurry.clear()
                await self._write_some()
            elif self._down_for() >= STUCK:
                self._backlog.spill()
            with self._progress:
                self._progress.notify_all()
            await self._gather()
        await self._database.close()

    def _is_over(self) -> bool:
        """Whether the sink is closing and has nothing left to write, or no time left."""
        if self._closes_at is None:
            return False
        left = self._closes_at - time.monotonic()
        return self._is_drained() or left <= 0 or (self._down_since is not None and self._down_for() >= LAST_TRIES)

    def _down_for(self) -> float:
        return 0.0 if self._down_since is None else time.monotonic() - self._down_since

    async def _gather(self) -> None:
        """Wait until there is something to write, and a little longer so that records gather."""
        now = time.monotonic()
        if now < self._try_again_at:
            await _within(self._hurry, min(STUCK, self._try_again_at - now))
        elif self._closes_at is not None:
            return
        elif self._is_drained():
            await _within(self._work_to_do, max(0.0, self._prune_at - now))
            self._work_to_do.clear()
            await _within(self._hurry, self._interval)
        elif self._backlog.pending < LARGEST_BATCH and not self._backlog.spool.pending:
            await _within(self._hurry, self._interval)

    async def _write_some(self) -> None:
        """Write one transaction from memory and one from disk; without either, remove what is too old if it is time."""
        records = self._backlog.take(LARGEST_BATCH)
        if records and not await self._succeeds(self._database.write(records)):
            self._backlog.put_back()
            return
        self._backlog.written()
        batch = self._spooled()
        if batch is not None:
            readable = [record for record in map(from_json, batch.records) if record is not None]
            if not await self._succeeds(self._database.write(readable)):
                return
            self._backlog.spool.done(batch)
        elif not records and time.monotonic() >= self._prune_at:
            await self._prune()

    def _spooled(self) -> Batch | None:
        try:
            return self._backlog.spool.oldest()
        except OSError as error:
            logger.warning("the ledger's spool cannot be read: %s", error.strerror)
            self._try_again_at = time.monotonic() + _READ_AGAIN
            return None

    async def _prune(self) -> None:
        more = False

        async def prune() -> None:
            nonlocal more
            more = await self._database.prune(time.time(), self._retention)

        if await self._succeeds(prune()) and not more:
            self._prune_at = time.monotonic() + INTERVAL
            self._backlog.spool.adopt()  # the files of processes that have ended

    async def _succeeds(self, work: Coroutine[Any, Any, None]) -> bool:
        """Whether ``work`` succeeds. While it takes long, records in memory are put on disk."""
        task = asyncio.ensure_future(work)
        while not (await asyncio.wait({task}, timeout=STUCK))[0]:
            self._stuck = True
            self._backlog.spill()
            if self._closes_at is not None and time.monotonic() >= self._closes_at:
                task.cancel()
        self._stuck = False
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is not None:
            await self._note_failure(error)
        else:
            self._note_success()
        return error is None

    def _note_success(self) -> None:
        if self._down_since is not None:
            logger.warning("the ledger at %s can be written to again", mask_url(self._url))
        self._down_since, self._failures_in_row, self._try_again_at = None, 0, 0.0

    async def _note_failure(self, error: BaseException) -> None:
        self._failed += 1
        self._failures_in_row += 1
        self._try_again_at = time.monotonic() + self._backoff.seconds(self._failures_in_row)
        if self._down_since is None:
            self._down_since = time.monotonic()
            # An error's text may quote records, except that of our own, which states the remedy.
            what = str(error) if isinstance(error, ConfigError) else reason(error)
            logger.warning("the ledger at %s cannot be written to, its records wait: %s", mask_url(self._url), what)
        await self._database.reconnect(error)


async def _within(event: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
