"""Messages on their way to a receiver that may be slow, down or gone: memory first, then a spool on disk.

One daemon thread sends, memory and spool in turn. While the receiver takes nothing, what comes in goes to the spool,
and one batch is tried again after each backoff. Whoever flushes does not wait for a request that hangs: its messages
go to the spool too, and may then arrive twice; the receiver tells by their ids.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence

from wallie_litellm.core.backoff import Backoff
from wallie_litellm.telemetry.sinks.posthog_bisect import Dispatch, Message, PostHogReply, Send, SendResult
from wallie_litellm.telemetry.spool import Spool

logger = logging.getLogger(__name__)

BATCH_MESSAGES = 500
BATCH_BYTES = 4 * 2**20
MEMORY_MESSAGES = 5_000  # more go to the spool
MEMORY_BYTES = 16 * 2**20

_STUCK = 1.0  # seconds after which a request under way is taken for a sign of trouble: memory goes to the spool
_LONGEST_WAIT = 300.0  # seconds, whatever the receiver asks for
_ADOPT_EVERY = 60.0  # seconds between two looks for what dead processes have left
_SPOOLING_SHARE = 0.2  # of a flush's time, kept for writing to disk what was not delivered


class Delivery:
    """Hands messages to ``send``, each at least once. ``interval`` is how many seconds they may gather in memory."""

    def __init__(self, name: str, send: Send, spool: Spool, *, timeout: float, interval: float, backoff: Backoff):
        self._name = name
        self._dispatch = Dispatch(name, send)
        self._spool = spool
        self._timeout = timeout
        self._interval = interval
        self._backoff = backoff
        self._state = threading.Condition()
        self._turn = threading.Lock()  # one batch at a time
        self._memory: deque[tuple[Message, int]] = deque()
        self._bytes = 0
        self._gathering_since = 0.0
        self._in_flight: Sequence[Message] = ()  # of memory's; the spool's own stay in it until they are delivered
        self._sending_since = 0.0  # 0 while nothing is being sent
        self._failures = 0  # in a row
        self._not_before = 0.0
        self._trouble = ""  # the reason that was logged last
        self._flushing = 0
        self._spools_turn = False
        self._adopted_at = time.monotonic()
        self._closed = False
        self._thread: threading.Thread | None = None
        self.failed = self.dropped = 0
        if spool.pending:
            self._start()

    def put(self, messages: Sequence[tuple[Message, int]]) -> None:
        """Take in messages with their sizes in bytes. Never waits for the receiver."""
        if not messages:
            return
        with self._state:
            if self._closed:
                self.dropped += len(messages)
                return
            if not self._memory:
                self._gathering_since = time.monotonic()
            self._memory.extend(messages)
            self._bytes += sum(size for _, size in messages)
            if self._overfull() or self._stuck():
                self._spill()
            self._start()
            self._state.notify_all()

    def flush(self, timeout: float) -> bool:
        """Deliver everything within ``timeout`` seconds, or put it on disk; ``False`` if some is in neither place."""
        deadline = time.monotonic() + timeout
        failures = self.failed
        with self._state:
            self._flushing += 1
            self._not_before = 0.0
            self._state.notify_all()
            try:
                self._wait_for_delivery(failures, deadline - timeout * _SPOOLING_SHARE)
            finally:
                self._flushing -= 1
            return self._spill(self._taken_back())

    def close(self, timeout: float) -> None:
        """:meth:`flush`, and end."""
        self.flush(timeout)
        with self._state:
            self._closed = True
            self._forget_memory()
            self._spool.close()
            self._state.notify_all()

    def stats(self) -> dict[str, int]:
        """``delivered`` and ``dropped`` messages, ``failed`` requests; ``pending`` in memory, ``spooled`` on disk."""
        return {
            "delivered": self._dispatch.delivered,
            "failed": self.failed,
            "dropped": self.dropped + self._dispatch.dropped + self._spool.dropped,
            "pending": len(self._memory) + len(self._in_flight),
            "spooled": self._spool.pending,
        }

    # Waiting. From here on the state is locked, unless said otherwise.

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
        """The thread. The state is not locked."""
        while True:
            with self._state:
                self._keep_house()
                while not self._closed and (pause := self._pause()) > 0:
                    self._state.wait(pause)
                    self._keep_house()
                if self._closed:
                    return
            self._take_turn(self._timeout)

    def _pause(self) -> float:
        """Seconds until the next turn at sending; 0 is now."""
        now = time.monotonic()
        gathered = self._gathered_at() - now if self._memory else _ADOPT_EVERY
        refrain = self._not_before - now
        if refrain > 0:
            return min(refrain, gathered) if gathered > 0 else refrain
        return 0.0 if self._spool.pending else max(0.0, gathered)

    def _gathered_at(self) -> float:
        hurry = self._flushing or len(self._memory) >= BATCH_MESSAGES or self._bytes >= BATCH_BYTES
        return 0.0 if hurry else self._gathering_since + self._interval

    def _keep_house(self) -> None:
        now = time.monotonic()
        if self._memory and self._not_before > now >= self._gathered_at():
            self._spill()
        if now - self._adopted_at >= _ADOPT_EVERY:
            self._adopted_at = now
            self._spool.adopt()

    def _wait_for_delivery(self, failures: int, deadline: float) -> None:
        """Until all is delivered, an attempt fails, or it is ``deadline``."""
        while not self._closed and self._waiting() and self.failed == failures:
            left = deadline - time.monotonic()
            if left <= 0:
                return
            if self._thread is not None and self._thread.is_alive():
                self._state.wait(left)
            else:
                self._take_turn_unlocked(min(left, self._timeout))

    def _waiting(self) -> bool:
        return bool(self._memory or self._sending_since or self._spool.pending)

    def _take_turn_unlocked(self, timeout: float) -> None:
        self._state.release()
        try:
            self._take_turn(timeout)
        finally:
            self._state.acquire()

    # Sending

    def _take_turn(self, timeout: float) -> None:
        """Send one batch, of the spool's or of memory's. The state is not locked."""
        try:
            with self._turn:
                if self._whose_turn():
                    self._send_spooled(timeout)
                else:
                    self._send_memory(timeout)
        except Exception as error:  # noqa: BLE001 - the thread has to outlive whatever a disk or a receiver comes up with
            with self._state:
                self._note(PostHogReply(SendResult.UNAVAILABLE, type(error).__name__))

    def _whose_turn(self) -> bool:
        """Whether it is the spool's."""
        with self._state:
            self._spools_turn = bool(self._spool.pending) and (not self._spools_turn or not self._memory)
            return self._spools_turn

    def _send_memory(self, timeout: float) -> None:
        with self._state:
            batch = self._in_flight = self._next_batch()
            if not batch:
                return
            self._sending_since = time.monotonic()
        rest: Sequence[Message] = batch
        reply = PostHogReply(SendResult.UNAVAILABLE)
        try:
            rest, reply = self._dispatch.deliver([batch], timeout)
        finally:
            with self._state:
                ours = self._in_flight is batch
                self._in_flight = ()
                self._note(reply)
                if ours and not self._closed and (rest or reply.answer is not SendResult.ACCEPTED):
                    self._spill(rest)

    def _send_spooled(self, timeout: float) -> None:
        batch = self._spool.oldest()
        if batch is None:
            return
        with self._state:
            self._sending_since = time.monotonic()
        rest, reply = self._dispatch.deliver(_parts(batch.records), timeout)
        with self._state:
            self._note(reply)
            untouched = len(rest) == len(batch.records) and reply.answer is not SendResult.REFUSED
            if self._closed or untouched:
                return
            self._spool.append(rest)  # behind the others, which may fare better
            self._spool.done(batch)

    def _note(self, reply: PostHogReply) -> None:
        """Remember how it went, and when to try again."""
        self._sending_since = 0.0
        if reply.answer is SendResult.ACCEPTED:
            self._failures, self._not_before = 0, 0.0
        else:
            self.failed += 1
            self._failures += 1
            slowly = reply.answer is SendResult.MISCONFIGURED
            wait = self._backoff.seconds(_LAST_RETRY if slowly else self._failures)
            self._not_before = time.monotonic() + min(max(wait, reply.retry_after), _LONGEST_WAIT)
        self._tell(reply)
        self._state.notify_all()

    def _tell(self, reply: PostHogReply) -> None:
        """One line for each change of fortune."""
        if reply.reason == self._trouble:
            return
        self._trouble = reply.reason
        if reply.answer is SendResult.ACCEPTED:
            logger.info("%s takes events again", self._name)
        else:
            logger.warning("%s does not take events (%s); they are kept and sent again", self._name, reply.reason)

    # Memory and disk

    def _next_batch(self) -> Sequence[Message]:
        batch: list[Message] = []
        size = 0
        while self._memory and len(batch) < BATCH_MESSAGES and (not batch or size + self._memory[0][1] <= BATCH_BYTES):
            message, bytes_ = self._memory.popleft()
            batch.append(message)
            size += bytes_
        self._bytes -= size
        return batch

    def _overfull(self) -> bool:
        return len(self._memory) > MEMORY_MESSAGES or self._bytes > MEMORY_BYTES

    def _stuck(self) -> bool:
        return bool(self._sending_since) and time.monotonic() - self._sending_since > _STUCK

    def _taken_back(self) -> Sequence[Message]:
        taken, self._in_flight = self._in_flight, ()
        return taken

    def _spill(self, first: Sequence[Message] = ()) -> bool:
        """Put ``first`` and memory on disk. If the disk does not take them, memory keeps what it has room for."""
        messages = [*first, *(message for message, _ in self._memory)]
        try:
            self._spool.append(messages)
        except OSError as error:
            logger.warning("%s: events cannot be spooled: %s", self._name, error.strerror)
            self._keep(first)
            return False
        self._memory.clear()
        self._bytes = 0
        return True

    def _keep(self, first: Sequence[Message]) -> None:
        size = self._bytes // len(self._memory) if self._memory else BATCH_BYTES // BATCH_MESSAGES
        self._memory.extendleft((message, size) for message in reversed(first))
        self._bytes += size * len(first)
        while self._overfull():
            _, bytes_ = self._memory.popleft()
            self._bytes -= bytes_
            self.dropped += 1

    def _forget_memory(self) -> None:
        if self._memory:
            self.dropped += len(self._memory)
            logger.error("%s: %d events were dropped: there is no disk to keep them on", self._name, len(self._memory))
        self._memory.clear()
        self._bytes = 0


_LAST_RETRY = 32  # of a backoff that has long reached its longest wait


def _parts(records: Sequence[Message]) -> list[Sequence[Message]]:
    return [records[start : start + BATCH_MESSAGES] for start in range(0, len(records), BATCH_MESSAGES)]
