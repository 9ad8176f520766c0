"""Webhooks: alerts, each posted to an address as it comes.

Alerts that are not accepted are sent again, in their order, until they are; meanwhile they wait in a spool on disk,
from which the next process goes on. One is dropped after :data:`_MOST_TRIES`, or once it is a day old, so that one
which the receiver cannot take does not keep the others for ever.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

import httpx

from wallie_litellm.clock import DAY, Clock
from wallie_litellm.telemetry.alert_facts import Fact
from wallie_litellm.telemetry.alert_sink import AlertSink
from wallie_litellm.telemetry.sinks.webhook_messages import MESSAGES, Sender, body_of, headers_of, key_of
from wallie_litellm.telemetry.spool import Batch, Spool
from wallie_litellm.telemetry.spool_file import Record

logger = logging.getLogger(__name__)

CAPACITY: Final = 1_000  # alerts that wait in memory; of more, the oldest are dropped
_TIMEOUT: Final = 15.0  # seconds for each step of a request; Standard Webhooks recommends 15 to 30
_MOST_TRIES: Final = 30  # of an alert in one process: with these waits, about four hours
_LONGEST_WAIT: Final = 600.0  # seconds between two tries
_GONE: Final = 410  # status of a receiver that wants no more (Standard Webhooks, "Delivery success and failure")
_MUTED_FOR: Final = 3600.0  # seconds until one that is gone is tried again
_READ_AGAIN: Final = 60.0  # seconds until a spool that could not be read is tried again


class _Delivery:
    """An alert that waits: its id, its body, its Unix time, how often it was tried, and its place in the spool."""

    __slots__ = ("at", "batch", "body", "id", "tries")

    def __init__(self, message_id: str, body: bytes, at: float, tries: int = 0, batch: Batch | None = None) -> None:
        self.id, self.body, self.at = message_id, body, at
        self.tries = tries
        self.batch = batch

    def record(self) -> Record:
        return {"id": self.id, "body": self.body.decode(), "at": self.at, "tries": self.tries}

    @classmethod
    def spooled(cls, batch: Batch) -> _Delivery:
        """That of a batch in the spool, each of which has one record."""
        record = batch.records[0]
        return cls(record["id"], record["body"].encode(), record["at"], record["tries"], batch)


class WebhookSink(AlertSink[_Delivery]):
    """A :class:`~wallie_litellm.telemetry.sink.Sink` that posts alerts to ``url``, on a thread of its own.

    ``spool_directory`` is where alerts wait on disk. ``events`` are patterns of the types that are sent. Requests are
    signed where there is a ``secret``. ``clock`` is for tests. An alert may arrive twice, under one ``webhook-id``,
    when the response to it was lost.
    """

    def __init__(
        self,
        name: str,
        url: str,
        sender: Sender,
        spool_directory: Path,
        *,
        secret: str | None = None,
        form: str = "json",
        events: Sequence[str] = ("*",),
        clock: Clock | None = None,
    ) -> None:
        super().__init__(f"webhook-{name}", timeout=_TIMEOUT, longest_wait=_LONGEST_WAIT, clock=clock)
        self._url = url
        self._message_of = MESSAGES[form]
        self._sender = sender
        self._key = None if secret is None else key_of(secret)
        self._patterns = tuple(events)
        self._pending: deque[_Delivery] = deque()  # in memory, later than those in the spool
        self._first: _Delivery | None = None  # the one whose turn it is
        self._not_before = self._asked_until = -math.inf
        self._disk_failed = False
        self._spool = Spool(spool_directory, "webhook", batch=1)
        with self._changed:
            if self._spool.pending:  # of a process that has ended
                self._start()

    def flush(self, timeout: float) -> bool:
        """Send what is pending within ``timeout`` seconds; returns whether all of it was accepted.

        A receiver that does not take one of them now is not waited for.
        """
        with self._changed:
            dropped, failed = self._counts["dropped"], self._counts["failed"]
            self._not_before = self._asked_until
            if self._waiting():
                self._start()
            if self._asked_until <= self._clock.now():
                self._changed.wait_for(lambda: not self._waiting() or self._counts["failed"] > failed, timeout)
            return not self._waiting() and self._counts["dropped"] == dropped

    def stats(self) -> dict[str, int]:
        """Alerts ``delivered``, ``dropped``, ``pending`` in memory and ``spooled``, and requests that ``failed``."""
        with self._changed:
            return {
                **self._counts,
                "dropped": self._counts["dropped"] + self._spool.dropped,
                "pending": len(self._pending) + self._is_first_in_memory(),
                "spooled": self._spool.pending,
            }

    def _is_first_in_memory(self) -> bool:
        return self._first is not None and self._first.batch is None

    def _waiting(self) -> bool:
        return self._first is not None or bool(self._pending) or self._spool.pending > 0

    def _is_wanted(self, fact: Fact) -> bool:
        return any(fnmatchcase(fact.type, pattern) for pattern in self._patterns)

    def _add(self, facts: Sequence[Fact]) -> None:
        for fact in facts:
            body = body_of(self._message_of(fact, self._sender))
            self._pending.append(_Delivery(fact.event.id, body, self._clock.wall()))
        if self._failures and not self._is_first_in_memory():
            self._spill()
        self._drop_oldest()
        self._spool.adopt()  # of processes that have ended meanwhile

    def _drop_oldest(self) -> None:
        while len(self._pending) + self._is_first_in_memory() > CAPACITY:
            self._pending.popleft()
            self._counts["dropped"] += 1

    def _due(self) -> float | None:
        return self._not_before if self._waiting() else None

    def _take(self) -> _Delivery | None:
        if self._clock.now() < self._not_before:
            return None
        while (first := self._oldest()) is not None and self._clock.wall() - first.at > DAY:
            self._drop(first, "in a day")
        return first

    def _oldest(self) -> _Delivery | None:
        if self._first is None:
            batch = self._oldest_on_disk()
            if batch is not None:
                self._first = _Delivery.spooled(batch)
            elif self._pending:
                self._first = self._pending.popleft()
        return self._first

    def _oldest_on_disk(self) -> Batch | None:
        try:
            return self._spool.oldest()
        except OSError as error:
            self._note_disk(error)
            self._not_before = self._clock.now() + _READ_AGAIN
            return None

    def _request(self, client: httpx.Client, message: _Delivery) -> tuple[int, httpx.Headers, str]:
        message.tries += 1
        headers = headers_of(message.id, self._clock.wall(), message.body, self._key)
        # The body of the answer is not read: it says nothing, and could take for ever.
        with client.stream("POST", self._url, content=message.body, headers=headers) as response:
            return response.status_code, response.headers, ""

    def _accepted(self, message: _Delivery) -> None:
        if self._failures:
            logger.info("%s takes alerts again.", self.name)
        self._not_before = self._asked_until = -math.inf
        self._finish(message, "delivered")

    def _kept(self, message: _Delivery, what: str, wait: float, *, asked: bool) -> None:
        self._not_before = self._clock.now() + wait
        self._asked_until = self._not_before if asked else -math.inf
        if self._failures == 1:
            logger.warning("%s did not take an alert (%s). It is sent again in %.0f s.", self.name, what, wait)
        if message.tries >= _MOST_TRIES:
            self._drop(message, f"in {message.tries} tries")
        self._spill()

    def _refused(self, message: _Delivery, status: int, text: str) -> None:
        if not self._failures:
            logger.error(
                "%s refuses alerts (HTTP %d); they are dropped. Check wallie.telemetry.webhooks.", self.name, status
            )
        self._failures += 1
        self._finish(message, "dropped")
        if status == _GONE:
            self._muted_until = self._clock.now() + _MUTED_FOR
            while (first := self._oldest()) is not None:
                self._finish(first, "dropped")

    def _leave(self) -> None:
        if not self._spill():
            self._counts["dropped"] += len(self._pending)
            logger.error("%s lost %d alerts: neither it nor the disk took them.", self.name, len(self._pending))
            self._pending.clear()
        self._first = None
        self._spool.close()

    def _drop(self, message: _Delivery, after: str) -> None:
        logger.error("%s did not take an alert %s: it is dropped.", self.name, after)
        self._finish(message, "dropped")

    def _finish(self, message: _Delivery, count: str) -> None:
        if message is not self._first:  # it was left to the next process meanwhile
            return
        self._first = None
        self._counts[count] += 1
        if message.batch is not None:
            self._spool.done(message.batch)

    def _spill(self) -> bool:
        """Put on disk what waits in memory, what is under way included; returns whether that was possible."""
        if self._first is not None and self._first.batch is None:
            self._pending.appendleft(self._first)
            self._first = None
        try:
            self._spool.append([message.record() for message in self._pending])
        except OSError as error:
            self._note_disk(error)
            return False
        self._pending.clear()
        self._disk_failed = False
        return True

    def _note_disk(self, error: OSError) -> None:
        if not self._disk_failed:
            logger.warning("the spool of %s cannot be used (%s): alerts wait in memory.", self.name, error.strerror)
        self._disk_failed = True
