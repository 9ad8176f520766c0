"""What sinks share that post alerts to an address: a thread of their own that sends, and tries again."""

from __future__ import annotations

import math
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Generic, TypeVar

import httpx

from wallie_litellm.clock import Clock, SystemClock
from wallie_litellm.core.backoff import Backoff
from wallie_litellm.core.http_status import is_sent_again
from wallie_litellm.core.retry_after import parse_retry_after
from wallie_litellm.events import Event
from wallie_litellm.telemetry.alert_facts import Fact, FactSelector
from wallie_litellm.telemetry.http_log import hide_requests_of

Message = TypeVar("Message")


class AlertSink(ABC, Generic[Message]):
    """The frame of a :class:`~wallie_litellm.telemetry.sink.Sink` that posts what its subclass makes of alerts.

    ``name`` is the sink's. ``longest_wait`` is in seconds, between two tries; ``timeout`` for each step of a request.
    ``clock`` is for tests. Methods whose name begins with an underscore, but for :meth:`_request`, are called with
    ``_changed`` held.
    """

    def __init__(self, name: str, *, timeout: float, longest_wait: float, clock: Clock | None) -> None:
        self.name = name
        self._timeout = timeout
        self._clock: Clock = clock or SystemClock()
        self._owns_clock = clock is None
        self._backoff = Backoff(initial=1.0, max=longest_wait)
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._failures = 0  # in a row
        self._muted_until = -math.inf
        self._counts = {"delivered": 0, "failed": 0, "dropped": 0}
        self._facts = FactSelector()
        hide_requests_of(self._thread_name)

    @property
    def _thread_name(self) -> str:
        return f"wallie-{self.name}"

    @abstractmethod
    def _is_wanted(self, fact: Fact) -> bool:
        """Whether the fact is sent."""

    @abstractmethod
    def _add(self, facts: Sequence[Fact]) -> None:
        """Have the facts wait to be sent."""

    @abstractmethod
    def _take(self) -> Message | None:
        """The message that is to be sent now; it is under way until one of the three methods below is called."""

    @abstractmethod
    def _due(self) -> float | None:
        """When a message is to be sent, ``None`` if none waits."""

    @abstractmethod
    def _request(self, client: httpx.Client, message: Message) -> tuple[int, httpx.Headers, str]:
        """Post the message: the answer's status, headers and text."""

    @abstractmethod
    def _accepted(self, message: Message) -> None:
        """The message was taken."""

    @abstractmethod
    def _kept(self, message: Message, what: str, wait: float, *, asked: bool) -> None:
        """The message was not taken, for the reason ``what``, and is sent again in ``wait`` seconds, if ``asked`` those
        that the receiver named."""

    @abstractmethod
    def _refused(self, message: Message, status: int, text: str) -> None:
        """The message will never be taken."""

    @abstractmethod
    def _leave(self) -> None:
        """The sink is closed: no message is sent any more."""

    @abstractmethod
    def flush(self, timeout: float) -> bool:
        """Send what waits."""

    def handle(self, events: Sequence[Event]) -> None:
        """Queue the alerts among ``events``. Never waits for the receiver."""
        facts = [fact for event in events if (fact := self._facts.of(event)) is not None and self._is_wanted(fact)]
        if not facts:
            return
        with self._changed:
            if self._clock.now() < self._muted_until:
                self._counts["dropped"] += len(facts)
                return
            self._add(facts)
            self._start()

    def close(self, timeout: float) -> None:
        """Flush within ``timeout`` seconds, and stop."""
        end = time.monotonic() + timeout
        self.flush(timeout)
        with self._changed:
            self._closed = True
            self._leave()
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(max(0.0, end - time.monotonic()))
        if self._owns_clock:
            self._clock.close()

    def _start(self) -> None:
        """Have the thread look for a message."""
        if self._thread is None or not self._thread.is_alive():  # a forked child has the object but not the thread
            self._thread = threading.Thread(target=self._run, name=self._thread_name, daemon=True)
            self._thread.start()
        self._changed.notify_all()

    def _run(self) -> None:
        with httpx.Client(timeout=self._timeout) as client:
            while (message := self._next()) is not None:
                self._deliver(client, message)

    def _next(self) -> Message | None:
        with self._changed:
            while not self._closed:
                message = self._take()
                if message is not None:
                    return message
                self._wait()
            return None

    def _wait(self) -> None:
        due = self._due()
        disarm = None if due is None else self._clock.call_at(due, self._wake)
        self._changed.wait()
        if disarm is not None:
            disarm()

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _deliver(self, client: httpx.Client, message: Message) -> None:
        try:
            status, headers, text = self._request(client, message)
        except Exception as error:  # noqa: BLE001 - whatever fails, the message is kept and the thread goes on
            self._failed(message, type(error).__name__, None)
            return
        if is_sent_again(status):
            self._failed(message, f"HTTP {status}", parse_retry_after(headers, self._clock.wall()))
            return
        with self._changed:
            if 200 <= status < 300:
                self._accepted(message)
                self._failures = 0
            else:
                self._counts["failed"] += 1
                self._refused(message, status, text)
            self._changed.notify_all()

    def _failed(self, message: Message, what: str, asked: float | None) -> None:
        with self._changed:
            self._counts["failed"] += 1
            self._failures += 1
            wait = max(self._backoff.seconds(self._failures), asked or 0.0)
            self._kept(message, what, wait, asked=asked is not None)
            self._changed.notify_all()
