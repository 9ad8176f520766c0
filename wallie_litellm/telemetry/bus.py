"""From the guard to the sinks, without ever making a request wait.

Every sink has a queue and a daemon thread of its own, so that one that hangs or fails is nobody else's trouble.
Publishing is a put into a ``SimpleQueue``, which takes no lock that anybody could be holding: events may be published
from any thread, under any lock, and from finalisers.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue

from wallie_litellm.events import Event
from wallie_litellm.telemetry.sink import Sink

logger = logging.getLogger(__name__)

CAPACITY = 50_000  # events that wait for one sink; more are counted and dropped
GATHER = 0.05  # seconds that a thread lets events gather before it hands them on in one batch
LARGEST_BATCH = 1_000
SHUTDOWN = 10.0  # seconds that the sinks are given at the end of the process

_COMPLAIN_EVERY = 60.0  # seconds between two log lines about the same sink


class _Flush:
    def __init__(self, timeout: float) -> None:
        self.deadline = time.monotonic() + timeout
        self.done = threading.Event()
        self.ok = False


class _Stop(_Flush):
    """The last thing in a queue."""


class _Line:
    """One sink's queue and thread."""

    def __init__(self, make: Callable[[], Sink]) -> None:
        self._make = make
        self.sink = make()
        self._lock = threading.Lock()
        self._reset()

    def _reset(self) -> None:
        self._queue: SimpleQueue[Event | _Flush] = SimpleQueue()
        self._hurry = threading.Event()
        self._thread: threading.Thread | None = None
        self._pid = os.getpid()
        self.dropped = 0
        self.failed = 0
        self._complained_at = -_COMPLAIN_EVERY

    def publish(self, event: Event) -> None:
        if self._pid != os.getpid() or self._thread is None:
            self._start()
        if self._queue.qsize() >= CAPACITY:
            self.dropped += 1
            return
        self._queue.put(event)

    def signal(self, marker: _Flush) -> None:
        """Have ``marker`` reached once everything before it has been handed on."""
        if self._thread is None or self._pid != os.getpid():
            if isinstance(marker, _Stop):
                self.sink.close(max(0.0, marker.deadline - time.monotonic()))
            marker.ok = True
            marker.done.set()
            return
        self._queue.put(marker)
        self._hurry.set()

    def stats(self) -> dict[str, int]:
        return {**self.sink.stats(), "queued": self._queue.qsize(), "overflowed": self.dropped, "errors": self.failed}

    def _start(self) -> None:
        with self._lock:
            if self._pid != os.getpid():  # a forked child has neither the thread nor the right to the connections
                self._reset()
                self.sink = self._make()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=f"wallie-{self.sink.name}", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while True:
            batch: list[Event] = []
            marker = self._fill(batch, self._queue.get())
            if batch:
                self._hand_on(batch)
            if marker is not None and self._answer(marker):
                return

    def _fill(self, batch: list[Event], item: Event | _Flush) -> _Flush | None:
        """Gather a batch that begins with ``item``; returns the marker that ended it."""
        if isinstance(item, _Flush):
            return item
        self._hurry.wait(GATHER)
        while True:
            batch.append(item)
            if len(batch) >= LARGEST_BATCH:
                return None
            try:
                item = self._queue.get_nowait()
            except Empty:
                return None
            if isinstance(item, _Flush):
                return item

    def _hand_on(self, batch: Sequence[Event]) -> None:
        try:
            self.sink.handle(batch)
        except Exception as error:  # noqa: BLE001 - whatever a sink raises is its own trouble
            self.failed += len(batch)
            self._complain(f"lost {len(batch)} events", error)

    def _answer(self, marker: _Flush) -> bool:
        """Do what ``marker`` asks for; returns whether it was the last one."""
        self._hurry.clear()
        left = max(0.0, marker.deadline - time.monotonic())
        try:
            if isinstance(marker, _Stop):
                self.sink.close(left)
                marker.ok = True
            else:
                marker.ok = self.sink.flush(left)
        except Exception as error:  # noqa: BLE001 - as above
            self._complain("could not be flushed", error)
        marker.done.set()
        return isinstance(marker, _Stop)

    def _complain(self, what: str, error: Exception) -> None:
        now = time.monotonic()
        if now - self._complained_at >= _COMPLAIN_EVERY:
            self._complained_at = now
            # The class alone: an error's text might quote what was being sent.
            logger.warning("the %s sink %s: %s", self.sink.name, what, type(error).__name__)


class Bus:
    """Hands every published event to every sink."""

    def __init__(self) -> None:
        self._lines: list[_Line] = []
        self._closed = False
        _at_exit(self)

    def add(self, make: Callable[[], Sink]) -> None:
        """Have the sink that ``make`` builds receive what is published from now on; a forked child builds its own."""
        self._lines.append(_Line(make))

    def publish(self, event: Event) -> None:
        """Hand ``event`` to all sinks, some time soon. Never blocks, never raises."""
        if self._closed:
            return
        for line in self._lines:
            line.publish(event)

    async def flush(self, timeout: float = SHUTDOWN) -> bool:
        """Wait until everything published so far has been delivered or stored; ``False`` if time ran out first."""
        return await asyncio.to_thread(self.flush_blocking, timeout)

    def flush_blocking(self, timeout: float = SHUTDOWN) -> bool:
        """:meth:`flush` for code without an event loop."""
        return self._signal(_Flush, timeout)

    def close(self, timeout: float = SHUTDOWN) -> bool:
        """:meth:`flush`, and let go of the sinks. Idempotent."""
        if self._closed:
            return True
        self._closed = True
        return self._signal(_Stop, timeout)

    def sinks(self) -> list[Sink]:
        """The sinks in the order in which they were added."""
        return [line.sink for line in self._lines]

    def stats(self) -> dict[str, dict[str, int]]:
        """Counters of every sink, by its name."""
        return {line.sink.name: line.stats() for line in self._lines}

    def _signal(self, kind: type[_Flush], timeout: float) -> bool:
        markers = [kind(timeout) for _ in self._lines]
        for line, marker in zip(self._lines, markers, strict=True):
            line.signal(marker)
        return all(
            marker.done.wait(max(0.0, marker.deadline - time.monotonic()) + 1.0) and marker.ok for marker in markers
        )


def _at_exit(bus: Bus) -> None:
    """Have a script that ends right after its last request lose nothing: daemon threads still run at this point."""
    reference = weakref.ref(bus)

    def close() -> None:
        if (alive := reference()) is not None:
            alive.close()

    atexit.register(close)
    weakref.finalize(bus, atexit.unregister, close).atexit = False
