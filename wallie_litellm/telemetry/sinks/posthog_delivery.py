"""Delivers messages to a receiver that may be slow, down or gone: from memory first, else from a spool on disk.

One daemon thread sends, from memory and from the spool in turn. While the receiver accepts nothing, new messages go to
the spool, and one batch is tried again after each backoff. A flush does not wait for a request that hangs: the messages
of that request go to the spool too and may arrive twice; the receiver recognises them by their ids.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from typing import Final

from wallie_litellm.core.backoff import Backoff
from wallie_litellm.telemetry.sinks.posthog_bisect import (
    BisectingSender,
    Message,
    PostHogReply,
    Send,
    SendResult,
)
from wallie_litellm.telemetry.sinks.posthog_queue import BATCH_MESSAGES, MessageQueue
from wallie_litellm.telemetry.spool import Spool

logger = logging.getLogger(__name__)

_STUCK: Final = 1.0  # seconds that a request may take before what waits in memory goes to the spool
_LONGEST_WAIT: Final = 300.0  # seconds, whatever the receiver asks for
_ADOPT_EVERY: Final = 60.0  # seconds between two searches for the files of processes that have ended
_SPOOLING_SHARE: Final = 0.2  # of a flush's time, reserved for writing undelivered messages to disk
_LAST_RETRY: Final = 32  # a retry number at which a backoff has long reached its longest wait


class _Retry:
    """When the receiver may be tried again, and the reason that was logged last."""

    def __init__(self, name: str, backoff: Backoff) -> None:
        self._name = name
        self._backoff = backoff
        self._in_row = 0
        self._logged = ""
        self.failed = 0  # requests in all
        self.not_before = 0.0  # monotonic seconds

    def note(self, reply: PostHogReply) -> None:
        """Set the next time to try after ``reply``, and log a change of its reason."""
        if reply.result is SendResult.ACCEPTED:
            self._in_row, self.not_before = 0, 0.0
        else:
            self.failed += 1
            self._in_row += 1
            slowly = reply.result is SendResult.MISCONFIGURED
            wait = self._backoff.seconds(_LAST_RETRY if slowly else self._in_row)
            self.not_before = time.monotonic() + min(max(wait, reply.retry_after), _LONGEST_WAIT)
        self._log_change(reply)

    def _log_change(self, reply: PostHogReply) -> None:
        if reply.reason == self._logged:
            return
        self._logged = reply.reason
        if reply.result is SendResult.ACCEPTED:
            logger.info("%s takes events again", self._name)
        else:
            logger.warning("%s does not take events (%s); they are kept and sent again", self._name, reply.reason)


class Delivery:
    """Passes messages to ``send``, each at least once. ``interval`` is how many seconds they may gather in memory."""

    def __init__(self, name: str, send: Send, spool: Spool, *, timeout: float, interval: float, backoff: Backoff):
        self._name = name
        self._sender = BisectingSender(name, send)
        self._spool = spool
        self._timeout = timeout
        self._interval = interval
        self._state = threading.Condition()
        self._turn = threading.Lock()  # one batch at a time
        self._memory = MessageQueue()
        self._retry = _Retry(name, backoff)
        self._in_flight: Sequence[Message] = ()  # from memory; those of the spool stay in it until they are delivered
        self._sending_since = 0.0  # monotonic seconds; 0 while nothing is being sent
        self._flushing = 0  # flushes that wait
        self._spools_turn = False
        self._adopted_at = time.monotonic()
        self._closed = False
        self._thread: threading.Thread | None = None
        self._dropped = 0
        if spool.pending:
            self._start()

    def put(self, messages: Sequence[tuple[Message, int]]) -> None:
        """Accept messages with their sizes in bytes. Never waits for the receiver."""
        if not messages:
            return
        with self._state:
            if self._closed:
                self._dropped += len(messages)
                return
            self._memory.put(messages)
            if self._memory.is_overfull or self._is_stuck():
                self._spill()
            self._start()
            self._state.notify_all()

    def flush(self, timeout: float) -> bool:
        """Deliver everything within ``timeout`` seconds, or put it on disk; ``False`` if neither was possible."""
        deadline = time.monotonic() + timeout
        failures = self._retry.failed
        with self._state:
            self._flushing += 1
            self._retry.not_before = 0.0
            self._state.notify_all()
            try:
                self._wait_for_delivery(failures, deadline - timeout * _SPOOLING_SHARE)
            finally:
                self._flushing -= 1
            return self._spill(self._take_back())

    def close(self, timeout: float) -> None:
        """:meth:`flush`, then stop: what is in neither place is dropped."""
        self.flush(timeout)
        with self._state:
            self._closed = True
            self._drop_memory()
            self._spool.close()
            self._state.notify_all()

    def stats(self) -> dict[str, int]:
        """``delivered`` and ``dropped`` messages, ``failed`` requests; ``pending`` in memory, ``spooled`` on disk."""
        return {
            "delivered": self._sender.delivered,
            "failed": self._retry.failed,
            "dropped": self._dropped + self._sender.dropped + self._spool.dropped,
            "pending": len(self._memory) + len(self._in_flight),
            "spooled": self._spool.pending,
        }

    # Waiting. From here on ``_state`` is locked, unless stated otherwise.

    def _start(self) -> None:
        if self._thread is not None and self._thread.is_alive():
            return
        try:
            thread = threading.Thread(target=self._run, name=f"wallie-{self._name}-delivery", daemon=True)
            thread.start()
        except RuntimeError:  # the interpreter is ending and starts no threads: the flush sends
            return
        self._thread = thread

    def _run(self) -> None:
        """The thread. ``_state`` is not locked."""
        while True:
            with self._state:
                self._maintain()
                while not self._closed and (pause := self._pause()) > 0:
                    self._state.wait(pause)
                    self._maintain()
                if self._closed:
                    return
            self._send_one_batch(self._timeout)

    def _pause(self) -> float:
        """Seconds until the next batch is to be sent; 0 is now."""
        now = time.monotonic()
        gathered = self._gathered_at() - now if self._memory else _ADOPT_EVERY
        refrain = self._retry.not_before - now
        if refrain > 0:
            return min(refrain, gathered) if gathered > 0 else refrain
        return 0.0 if self._spool.pending else max(0.0, gathered)

    def _gathered_at(self) -> float:
        hurry = self._flushing or self._memory.has_full_batch
        return 0.0 if hurry else self._memory.gathering_since + self._interval

    def _maintain(self) -> None:
        """Move what has gathered to the spool while the receiver is not to be tried, and look for files to adopt."""
        now = time.monotonic()
        if self._memory and self._retry.not_before > now >= self._gathered_at():
            self._spill()
        if now - self._adopted_at >= _ADOPT_EVERY:
            self._adopted_at = now
            self._spool.adopt()

    def _wait_for_delivery(self, failures: int, deadline: float) -> None:
        """Return when all is delivered, when more than ``failures`` requests have failed, or at ``deadline``."""
        while not self._closed and self._has_work() and self._retry.failed == failures:
            left = deadline - time.monotonic()
            if left <= 0:
                return
            if self._thread is not None and self._thread.is_alive():
                self._state.wait(left)
            else:
                self._send_one_batch_unlocked(min(left, self._timeout))

    def _has_work(self) -> bool:
        return bool(self._memory or self._sending_since or self._spool.pending)

    def _send_one_batch_unlocked(self, timeout: float) -> None:
        self._state.release()
        try:
            self._send_one_batch(timeout)
        finally:
            self._state.acquire()

    # Sending

    def _send_one_batch(self, timeout: float) -> None:
        """Send one batch of the spool's or of memory's. ``_state`` is not locked."""
        try:
            with self._turn:
                if self._take_turn():
                    self._send_spooled(timeout)
                else:
                    self._send_memory(timeout)
        except Exception as error:  # noqa: BLE001 - the thread outlives whatever a disk or a receiver raises
            with self._state:
                self._note(PostHogReply(SendResult.UNAVAILABLE, type(error).__name__))

    def _take_turn(self) -> bool:
        """Whether the spool sends next: it and memory alternate."""
        with self._state:
            self._spools_turn = bool(self._spool.pending) and (not self._spools_turn or not self._memory)
            return self._spools_turn

    def _send_memory(self, timeout: float) -> None:
        with self._state:
            batch = self._in_flight = self._memory.take_batch()
            if not batch:
                return
            self._sending_since = time.monotonic()
        rest: Sequence[Message] = batch
        reply = PostHogReply(SendResult.UNAVAILABLE)
        try:
            rest, reply = self._sender.deliver([batch], timeout)
        finally:
            with self._state:
                ours = self._in_flight is batch  # a flush may have put it on disk meanwhile
                self._in_flight = ()
                self._note(reply)
                if ours and not self._closed and (rest or reply.result is not SendResult.ACCEPTED):
                    self._spill(rest)

    def _send_spooled(self, timeout: float) -> None:
        batch = self._spool.oldest()
        if batch is None:
            return
        with self._state:
            self._sending_since = time.monotonic()
        rest, reply = self._sender.deliver(_parts(batch.records), timeout)
        with self._state:
            self._note(reply)
            untouched = len(rest) == len(batch.records) and reply.result is not SendResult.REFUSED
            if self._closed or untouched:
                return
            self._spool.append(rest)  # behind the others, which may be accepted
            self._spool.done(batch)

    def _note(self, reply: PostHogReply) -> None:
        self._sending_since = 0.0
        self._retry.note(reply)
        self._state.notify_all()

    # Memory and disk

    def _is_stuck(self) -> bool:
        return bool(self._sending_since) and time.monotonic() - self._sending_since > _STUCK

    def _take_back(self) -> Sequence[Message]:
        taken, self._in_flight = self._in_flight, ()
        return taken

    def _spill(self, first: Sequence[Message] = ()) -> bool:
        """Put ``first`` and memory on disk. If the disk accepts neither, memory keeps what it has room for."""
        try:
            self._spool.append([*first, *self._memory.all()])
        except OSError as error:
            logger.warning("%s: events cannot be spooled: %s", self._name, error.strerror)
            self._dropped += self._memory.put_back(first)
            return False
        self._memory.clear()
        return True

    def _drop_memory(self) -> None:
        if self._memory:
            self._dropped += len(self._memory)
            logger.error("%s: %d events were dropped: no disk accepts them", self._name, len(self._memory))
        self._memory.clear()


def _parts(records: Sequence[Message]) -> list[Sequence[Message]]:
    return [records[start : start + BATCH_MESSAGES] for start in range(0, len(records), BATCH_MESSAGES)]
