"""Queues the guard's events for the sinks, without making a request wait.

Every sink has a queue and a daemon thread of its own, so that a sink that hangs or fails does not affect the others.
Publishing is a put into a ``SimpleQueue``, which is reentrant: events may be published from any thread, under any lock,
and from finalisers.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from itertools import chain, count
from queue import Empty, SimpleQueue
from typing import Final

from wallie_litellm.events import Event
from wallie_litellm.telemetry.sink import Sink

logger = logging.getLogger(__name__)

CAPACITY: Final = 50_000  # events that wait for one sink; more are counted and dropped
GATHER: Final = 0.05  # seconds that events gather before a thread passes them to the sink in one batch
LARGEST_BATCH: Final = 1_000  # events
SHUTDOWN: Final = 10.0  # seconds that the sinks have to finish at the end of the process

_WARN_EVERY: Final = 60.0  # seconds between two log lines about the same sink


class _Flush:
    """A marker in a queue: reached once everything before it has been passed to the sink."""

    def __init__(self, timeout: float) -> None:
        self.deadline = time.monotonic() + timeout
        self.done = threading.Event()
        self.ok = False


class _Stop(_Flush):
    """The last marker in a queue."""


class _SinkQueue:
    """One sink's queue and thread."""

    def __init__(self, make: Callable[[], Sink]) -> None:
        self._make = make
        self.sink = make()
        self._reset()
        self._start()

    def _reset(self) -> None:
        self._queue: SimpleQueue[Event | _Flush] = SimpleQueue()
        self._hurry = threading.Event()
        self._starting = threading.Lock()
        self._runs = False
        self._inherited = False
        self.dropped = 0
        self.failed = 0
        self._warned_at = -_WARN_EVERY

    def forked(self) -> None:
        """Begin anew in a forked child: the thread exists only in the parent, whose the sink's connections stay."""
        self._reset()
        self._inherited = True

    def publish(self, event: Event) -> None:
        if self._queue.qsize() >= CAPACITY:
            self.dropped += 1
            return
        self._queue.put(event)
        if not self._runs:
            self._start_again()

    def signal(self, marker: _Flush) -> None:
        """Append ``marker``, which is answered once everything before it has been passed to the sink."""
        self._hurry.set()
        self._queue.put(marker)
        if not self._runs:  # the thread has ended, or this is a forked child that published nothing
            self._answer_rest()

    def stats(self) -> dict[str, int]:
        try:
            own = self.sink.stats()
        except Exception as error:  # noqa: BLE001 - a sink may raise anything; it is logged
            self._warn("has no figures", error)
            own = {}
        return {**own, "queued": self._queue.qsize(), "overflowed": self.dropped, "errors": self.failed}

    def _start(self) -> None:
        threading.Thread(target=self._run, name=f"wallie-{self.sink.name}", daemon=True).start()
        self._runs = True
        _running.add(self)

    def _start_again(self) -> None:
        """Start in a forked child. A reentrant call, from a finaliser perhaps, returns at once: its event is queued."""
        if not self._inherited or not self._starting.acquire(blocking=False):
            return
        try:
            if not self._runs:
                self.sink = self._make()
                self._start()
        except Exception as error:  # noqa: BLE001 - as above
            self._warn("could not be made in a forked process", error)
        finally:
            self._starting.release()

    def _run(self) -> None:
        while True:
            batch: list[Event] = []
            marker = self._fill(batch, self._queue.get())
            if batch:
                self._pass_to_sink(batch)
            if marker is not None and self._answer(marker):
                break
        self._runs = self._inherited = False
        _running.discard(self)
        self._answer_rest()

    def _answer_rest(self) -> None:
        with suppress(Empty):
            while True:
                item = self._queue.get_nowait()
                if isinstance(item, _Flush):
                    item.ok = True
                    item.done.set()
                else:
                    self.dropped += 1

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

    def _pass_to_sink(self, batch: Sequence[Event]) -> None:
        try:
            self.sink.handle(batch)
        except BaseException as error:  # noqa: BLE001 - as above; CancelledError is no Exception
            self.failed += len(batch)
            self._warn(f"lost {len(batch)} events", error)

    def _answer(self, marker: _Flush) -> bool:
        """Flush or close the sink as ``marker`` requires; returns whether it was the last marker."""
        self._hurry.clear()
        left = max(0.0, marker.deadline - time.monotonic())
        try:
            if isinstance(marker, _Stop):
                self.sink.close(left)
                marker.ok = True
            else:
                marker.ok = self.sink.flush(left)
        except BaseException as error:  # noqa: BLE001 - as above
            self._warn("could not be flushed", error)
        marker.done.set()
        return isinstance(marker, _Stop)

    def _warn(self, what: str, error: BaseException) -> None:
        now = time.monotonic()
        if now - self._warned_at >= _WARN_EVERY:
            self._warned_at = now
            # The class alone: an error's text may quote what was being sent.
            logger.warning("the %s sink %s: %s", self.sink.name, what, type(error).__name__)


_running: set[_SinkQueue] = set()  # queues to be closed when the process ends, even without a bus


class Bus:
    """Passes every published event to every sink."""

    def __init__(self) -> None:
        self._queues: list[_SinkQueue] = []
        self._closed = False
        self._stops: list[_Flush] = []
        weakref.finalize(self, _signal, self._queues, _Stop, SHUTDOWN).atexit = False

    def add(self, make: Callable[[], Sink]) -> None:
        """Add the sink that ``make`` builds for later events; a forked child builds a sink of its own."""
        self._queues.append(_SinkQueue(make))
        # The last function registered is called first: before the exit functions of the libraries behind the sinks.
        atexit.unregister(_at_exit)
        atexit.register(_at_exit)

    def publish(self, event: Event) -> None:
        """Queue ``event`` for all sinks. Never blocks, never raises."""
        if self._closed:
            self._note_late()
            return
        for queue in self._queues:
            queue.publish(event)

    def _note_late(self) -> None:
        for queue in self._queues:
            if not queue.dropped:
                logger.warning("the %s sink is closed: later events do not reach it", queue.sink.name)
            queue.dropped += 1

    async def flush(self, timeout: float = SHUTDOWN) -> bool:
        """Wait until everything published so far has been delivered or stored; ``False`` after ``timeout`` seconds."""
        return await asyncio.to_thread(self.flush_blocking, timeout)

    def flush_blocking(self, timeout: float = SHUTDOWN) -> bool:
        """:meth:`flush` for code without an event loop."""
        return _wait(self._stops if self._closed else _signal(self._queues, _Flush, timeout))

    def close(self, timeout: float = SHUTDOWN) -> bool:
        """Flush and close the sinks. A second call waits for the first to end."""
        if not self._closed:
            self._closed = True
            self._stops = _signal(self._queues, _Stop, timeout)
        return _wait(self._stops)

    def sinks(self) -> list[Sink]:
        """The sinks in the order in which they were added."""
        return [queue.sink for queue in self._queues]

    def stats(self) -> dict[str, dict[str, int]]:
        """Counters of every sink, by its name; the second of a name is ``NAME-2``."""
        found: dict[str, dict[str, int]] = {}
        for queue in self._queues:
            names = chain([queue.sink.name], (f"{queue.sink.name}-{number}" for number in count(2)))
            found[next(name for name in names if name not in found)] = queue.stats()
        return found


def _signal(queues: Iterable[_SinkQueue], kind: type[_Flush], timeout: float) -> list[_Flush]:
    markers = []
    for queue in queues:
        markers.append(kind(timeout))
        queue.signal(markers[-1])
    return markers


def _wait(markers: Sequence[_Flush]) -> bool:
    """Whether all of ``markers`` were answered with success, at the latest a second after their deadlines."""
    last = max((marker.deadline for marker in markers), default=0.0) + 1.0
    reached = [marker.done.wait(max(0.0, last - time.monotonic())) for marker in markers]
    return all(reached) and all(marker.ok for marker in markers)


def _at_exit() -> None:
    """Deliver the last events of a script that ends: daemon threads still run at this point."""
    _wait(_signal(list(_running), _Stop, SHUTDOWN))


def _forked() -> None:
    for queue in list(_running):
        queue.forked()
    _running.clear()


os.register_at_fork(after_in_child=_forked)
