"""Webhooks: alerts, each posted to an address as it comes.

Alerts that are not accepted are sent again, in their order, until they are; or dropped after :data:`_MOST_TRIES`, so
that one which the receiver cannot take does not keep the others for ever.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Final

import httpx

from wallie_litellm.clock import Clock, SystemClock
from wallie_litellm.core.backoff import Backoff
from wallie_litellm.core.http_status import is_sent_again
from wallie_litellm.core.retry_after import parse_retry_after
from wallie_litellm.events import Event
from wallie_litellm.telemetry.alert_facts import Fact, FactSelector
from wallie_litellm.telemetry.http_log import hide_requests_of
from wallie_litellm.telemetry.sinks.webhook_messages import MESSAGES, Sender, body_of, headers_of, key_of

logger = logging.getLogger(__name__)

CAPACITY: Final = 1_000  # alerts that wait; of more, the oldest are dropped
_TIMEOUT: Final = 15.0  # seconds for each step of a request; Standard Webhooks recommends 15 to 30
_MOST_TRIES: Final = 30  # of an alert: with these waits, about four hours
_LONGEST_WAIT: Final = 600.0  # seconds between two tries
_GONE: Final = 410  # status of a receiver that wants no more (Standard Webhooks, "Delivery success and failure")
_MUTED_FOR: Final = 3600.0  # seconds until one that is gone is tried again


class _Delivery:
    """An alert that waits: its id, its body, and how often it was tried."""

    __slots__ = ("body", "id", "tries")

    def __init__(self, message_id: str, body: bytes) -> None:
        self.id = message_id
        self.body = body
        self.tries = 0


class WebhookSink:
    """A :class:`~wallie_litellm.telemetry.sink.Sink` that posts alerts to ``url``, on a thread of its own.

    ``events`` are patterns of the types that are sent. Requests are signed where there is a ``secret``. ``clock`` is
    for tests. An alert may arrive twice, under one ``webhook-id``, when the response to it was lost.
    """

    def __init__(
        self,
        name: str,
        url: str,
        sender: Sender,
        *,
        secret: str | None = None,
        form: str = "json",
        events: Sequence[str] = ("*",),
        clock: Clock | None = None,
    ) -> None:
        self.name = f"webhook-{name}"
        self._url = url
        self._message_of = MESSAGES[form]
        self._sender = sender
        self._key = None if secret is None else key_of(secret)
        self._patterns = tuple(events)
        self._clock: Clock = clock or SystemClock()
        self._owns_clock = clock is None
        self._facts = FactSelector()
        self._backoff = Backoff(initial=1.0, max=_LONGEST_WAIT)
        self._changed = threading.Condition()
        self._pending: deque[_Delivery] = deque()  # the first is being sent, where ``_sending``
        self._sending = self._closed = False
        self._thread: threading.Thread | None = None
        self._failures = 0  # in a row
        self._due = self._asked_until = self._muted_until = -math.inf
        self._counts = {"delivered": 0, "failed": 0, "dropped": 0}
        hide_requests_of(self._thread_name)

    @property
    def _thread_name(self) -> str:
        return f"wallie-{self.name}"

    def handle(self, events: Sequence[Event]) -> None:
        """Queue the alerts among ``events``. Never waits for the receiver."""
        facts = [fact for event in events if (fact := self._facts.of(event)) is not None and self._is_wanted(fact)]
        if not facts:
            return
        messages = [_Delivery(fact.event.id, body_of(self._message_of(fact, self._sender))) for fact in facts]
        with self._changed:
            if self._clock.now() < self._muted_until:
                self._counts["dropped"] += len(messages)
                return
            self._pending.extend(messages)
            while len(self._pending) > CAPACITY:
                del self._pending[1 if self._sending else 0]
                self._counts["dropped"] += 1
            self._start()
            self._changed.notify_all()

    def flush(self, timeout: float) -> bool:
        """Send what is pending within ``timeout`` seconds; returns whether all of it was accepted.

        A receiver that does not take one of them now is not waited for.
        """
        with self._changed:
            dropped, failed = self._counts["dropped"], self._counts["failed"]
            self._due = self._asked_until
            if self._pending:
                self._start()
            self._changed.notify_all()
            if self._asked_until <= self._clock.now():
                self._changed.wait_for(lambda: not self._pending or self._counts["failed"] > failed, timeout)
            return not self._pending and self._counts["dropped"] == dropped

    def close(self, timeout: float) -> None:
        """Flush within ``timeout`` seconds and stop; alerts that were not sent are dropped."""
        end = time.monotonic() + timeout
        self.flush(timeout)
        with self._changed:
            self._closed = True
            self._counts["dropped"] += len(self._pending)
            self._pending.clear()
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(max(0.0, end - time.monotonic()))
        if self._owns_clock:
            self._clock.close()

    def stats(self) -> dict[str, int]:
        """Alerts ``delivered``, ``dropped`` and ``pending``, and requests that ``failed``."""
        with self._changed:
            return {**self._counts, "pending": len(self._pending)}

    def _is_wanted(self, fact: Fact) -> bool:
        return any(fnmatchcase(fact.type, pattern) for pattern in self._patterns)

    def _start(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name=self._thread_name, daemon=True)
            self._thread.start()

    def _run(self) -> None:
        with httpx.Client(timeout=_TIMEOUT) as client:
            while (message := self._next()) is not None:
                self._deliver(client, message)

    def _next(self) -> _Delivery | None:
        with self._changed:
            while not self._closed:
                if self._pending and self._clock.now() >= self._due:
                    self._sending = True
                    return self._pending[0]
                self._wait()
            return None

    def _wait(self) -> None:
        disarm = self._clock.call_at(self._due, self._wake) if self._pending else None
        self._changed.wait()
        if disarm is not None:
            disarm()

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _deliver(self, client: httpx.Client, message: _Delivery) -> None:
        message.tries += 1
        headers = headers_of(message.id, self._clock.wall(), message.body, self._key)
        try:
            # The body of the answer is not read: it says nothing, and could take for ever.
            with client.stream("POST", self._url, content=message.body, headers=headers) as response:
                status, asked = response.status_code, parse_retry_after(response.headers, self._clock.wall())
        except Exception as error:  # noqa: BLE001 - whatever fails, the alert is kept and the thread goes on
            self._keep(message, type(error).__name__, None)
            return
        if 200 <= status < 300:
            self._finish(message, "delivered")
        elif is_sent_again(status):
            self._keep(message, f"HTTP {status}", asked)
        else:
            self._refused(message, status)

    def _keep(self, message: _Delivery, what: str, asked: float | None) -> None:
        with self._changed:
            self._counts["failed"] += 1
            self._failures += 1
            wait = max(self._backoff.seconds(self._failures), asked or 0.0)
            self._due = self._clock.now() + wait
            self._asked_until = self._due if asked is not None else -math.inf
            if self._failures == 1:
                logger.warning("%s did not take an alert (%s). It is sent again in %.0f s.", self.name, what, wait)
        if message.tries >= _MOST_TRIES:
            logger.error("%s did not take an alert in %d tries: it is dropped.", self.name, message.tries)
            self._finish(message, "dropped")
        else:
            self._finish(message, None)

    def _refused(self, message: _Delivery, status: int) -> None:
        with self._changed:
            self._counts["failed"] += 1
            if not self._failures:
                logger.error(
                    "%s refuses alerts (HTTP %d); they are dropped. Check wallie.telemetry.webhooks.", self.name, status
                )
            self._failures += 1
            if status == _GONE:
                self._muted_until = self._clock.now() + _MUTED_FOR
                self._counts["dropped"] += len(self._pending) - 1
                self._pending = deque([message])
        self._finish(message, "dropped")

    def _finish(self, message: _Delivery, count: str | None) -> None:
        """End a try: with a ``count`` the message is done with, without one it stays the first."""
        with self._changed:
            self._sending = False
            if count is not None and self._pending and self._pending[0] is message:
                self._pending.popleft()
                self._counts[count] += 1
            if count == "delivered":
                if self._failures:
                    logger.info("%s takes alerts again.", self.name)
                self._failures = 0
                self._due = self._asked_until = -math.inf
            self._changed.notify_all()
