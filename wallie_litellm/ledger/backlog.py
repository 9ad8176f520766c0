"""Records that wait to be written: in memory, then on disk, and dropped only when there is room in neither."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from wallie_litellm.ledger.records import Record, as_json
from wallie_litellm.telemetry.spool import Spool

logger = logging.getLogger(__name__)

_CHUNK: Final = 5_000  # records that are put on disk at once
_SPOOL_AGAIN: Final = 1.0  # seconds between two tries to write to a disk that failed


class Backlog:
    """Records in memory, up to ``memory`` of them, or up to ``most`` while the disk fails too.

    Safe to use from several threads. One of them writes: records that it has taken are pending until :meth:`written`.
    """

    def __init__(self, spool: Spool, memory: int, most: int, now: Callable[[], float] = time.monotonic) -> None:
        self.spool = spool
        self.memory = memory  # records
        self.dropped = 0
        self._most = most
        self._now = now
        self._lock = threading.Lock()
        self._spilling = threading.Lock()
        self._waiting: deque[Record] = deque()
        self._taken: Sequence[Record] = ()
        self._moving = 0
        self._spool_again_at = now()
        self._spool_failed = False

    @property
    def pending(self) -> int:
        """Records in memory."""
        return len(self._waiting) + len(self._taken) + self._moving

    @property
    def overfull(self) -> bool:
        """Whether more than ``memory`` records wait in memory."""
        return self.pending > self.memory

    def add(self, records: Sequence[Record]) -> None:
        """Append ``records``."""
        with self._lock:
            self._waiting.extend(records)
            self._drop_excess()

    def take(self, limit: int) -> Sequence[Record]:
        """Take up to ``limit`` of the oldest records; for the one thread that writes."""
        with self._lock:
            self._taken = [self._waiting.popleft() for _ in range(min(limit, len(self._waiting)))]
            return self._taken

    def written(self) -> None:
        """Forget the taken records: they are in the database."""
        with self._lock:
            self._taken = ()

    def put_back(self) -> None:
        """Put the taken records back: they may not be in the database."""
        with self._lock:
            self._waiting.extendleft(reversed(self._taken))
            self._taken = ()
            self._drop_excess()

    def spill(self) -> bool:
        """Move everything in memory to disk, taken records included; returns whether that was possible."""
        with self._spilling:
            if self._now() < self._spool_again_at:
                return self.pending == 0
            with self._lock:
                moving = [*self._taken, *self._waiting]
                self._moving, self._taken = len(moving), ()
                self._waiting.clear()
            left = self._spooled(moving)
            with self._lock:
                self._waiting.extendleft(reversed(left))
                self._moving = 0
                self._drop_excess()
            return not left

    def _spooled(self, moving: Sequence[Record]) -> Sequence[Record]:
        """Write ``moving`` to disk; returns those for which there was no room."""
        for first in range(0, len(moving), _CHUNK):
            try:
                self.spool.append([as_json(record) for record in moving[first : first + _CHUNK]])
            except OSError as error:
                self._note_failure(error)
                return moving[first:]
        self._spool_failed = False
        return ()

    def _note_failure(self, error: OSError) -> None:
        self._spool_again_at = self._now() + _SPOOL_AGAIN
        if not self._spool_failed:
            self._spool_failed = True
            logger.warning("the ledger's spool in %s takes no records: %s", self.spool.directory, error.strerror)

    def _drop_excess(self) -> None:
        excess = min(len(self._waiting), len(self._waiting) + len(self._taken) - self._most)
        if excess <= 0:
            return
        if not self.dropped:
            logger.error("the ledger drops its oldest records: neither its database nor its spool takes any")
        self.dropped += excess
        for _ in range(excess):
            self._waiting.popleft()
