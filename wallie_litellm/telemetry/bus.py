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
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from itertools import chain, count
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
        self._complained_at = -_COMPLAIN_EVERY

    def forked(self) -> None:
        """This is a child: it has neither the thread, nor the right to the sink's connections."""
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
        """Have ``marker`` reached once everything before it has been handed on."""
        self._hurry.set()
        self._queue.put(marker)
        if not self._runs:  # it has come to its end, or this is a child that published nothing
            self._answer_the_rest()

    def stats(self) -> dict[str, int]:
        try:
            own = self.sink.stats()
        except Exception as error:  # noqa: BLE001 - whatever a sink raises is its own trouble
            self._complain("has no figures", error)
            own = {}
        return {**own, "queued": self._queue.qsize(), "overflowed": self.dropped, "errors": self.failed}

    def _start(self) -> None:
        threading.Thread(target=self._run, name=f"wallie-{self.sink.name}", daemon=True).start()
        self._runs = True
        _running.add(self)

    def _start_again(self) -> None:
        """Start in a forked child. Whoever comes in the middle of it, a finaliser perhaps, goes on: it is queued."""
        if not self._inherited or not self._starting.acquire(blocking=False):
            return
        try:
            if not self._runs:
                self.sink = self._make()
                self._start()
        except Exception as error:  # noqa: BLE001 - as above
            self._complain("could not be made in a forked process", error)
        finally:
            self._starting.release()

    def _run(self) -> None:
        while True:
            batch: list[Event] = []
            marker = self._fill(batch, self._queue.get())
            if batch:
                self._hand_on(batch)
            if marker is not None and self._answer(marker):
                break
        self._runs = self._inherited = False
        _running.discard(self)
        self._answer_the_rest()

    def _answer_the_rest(self) -> None:
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

    def _hand_on(self, batch: Sequence[Event]) -> None:
        try:
            self.sink.handle(batch)
        except BaseException as error:  # noqa: BLE001 - as above; CancelledError is no Exception
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
        except BaseException as error:  # noqa: BLE001 - as above
            self._complain("could not be flushed", error)
        marker.done.set()
        return isinstance(marker, _Stop)

    def _complain(self, what: str, error: BaseException) -> None:
        now = time.monotonic()
        if now - self._complained_at >= _COMPLAIN_EVERY:
            self._complained_at = now
            # The class alone: an error's text might quote what was being sent.
            logger.warning("the %s sink %s: %s", self.sink.name, what, type(error).__name__)


_running: set[_Line] = set()  # those whose end the process waits for, whether or not their bus is still in use


class Bus:
    """Hands every published event to every sink."""

    def __init__(self) -> None:
        self._lines: list[_Line] = []
        self._closed = False
        self._stops: list[_Flush] = []
        weakref.finalize(self, _signal, self._lines, _Stop, SHUTDOWN).atexit = False

    def add(self, make: Callable[[], Sink]) -> None:
        """Have the sink that ``make`` builds receive what is published from now on; a forked child builds its own."""
        self._lines.append(_Line(make))
        # What is registered last is called first: before the libraries behind the sinks put themselves away.
        atexit.unregister(_at_exit)
        atexit.register(_at_exit)

    def publish(self, event: Event) -> None:
        """Hand ``event`` to all sinks, some time soon. Never blocks, never raises."""
        if self._closed:
            self._note_late()
            return
        for line in self._lines:
            line.publish(event)

    def _note_late(self) -> None:
        for line in self._lines:
            if not line.dropped:
                logger.warning("the %s sink is closed: what happens from now on does not reach it", line.sink.name)
            line.dropped += 1

    async def flush(self, timeout: float = SHUTDOWN) -> bool:
        """Wait until everything published so far has been delivered or stored; ``False`` if time ran out first."""
        return await asyncio.to_thread(self.flush_blocking, timeout)

    def flush_blocking(self, timeout: float = SHUTDOWN) -> bool:
        """:meth:`flush` for code without an event loop."""
        return _wait(self._stops if self._closed else _signal(self._lines, _Flush, timeout))

    def close(self, timeout: float = SHUTDOWN) -> bool:
        """:meth:`flush`, and let go of the sinks. The second time, wait for the first to end."""
        if not self._closed:
            self._closed = True
            self._stops = _signal(self._lines, _Stop, timeout)
        return _wait(self._stops)

    def sinks(self) -> list[Sink]:
        """The sinks in the order in which they were added."""
        return [line.sink for line in self._lines]

    def stats(self) -> dict[str, dict[str, int]]:
        """Counters of every sink, by its name; the second of a name is ``NAME-2``."""
        found: dict[str, dict[str, int]] = {}
        for line in self._lines:
            names = chain([line.sink.name], (f"{line.sink.name}-{number}" for number in count(2)))
            found[next(name for name in names if name not in found)] = line.stats()
        return found


def _signal(lines: Iterable[_Line], kind: type[_Flush], timeout: float) -> list[_Flush]:
    markers = []
    for line in lines:
        markers.append(kind(timeout))
        line.signal(markers[-1])
    return markers


def _wait(markers: Sequence[_Flush]) -> bool:
    """Whether all of ``markers`` were answered well. A sink that takes a little longer than it may is waited for."""
    last = max((marker.deadline for marker in markers), default=0.0) + 1.0
    reached = [marker.done.wait(max(0.0, last - time.monotonic())) for marker in markers]
    return all(reached) and all(marker.ok for marker in markers)


def _at_exit() -> None:
    """Have a script that ends right after its last request lose nothing: daemon threads still run at this point."""
    _wait(_signal(list(_running), _Stop, SHUTDOWN))


def _forked() -> None:
    for line in list(_running):
        line.forked()
    _running.clear()


os.register_at_fork(after_in_child=_forked)
