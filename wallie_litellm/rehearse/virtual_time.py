"""An event loop whose time passes only while all of it waits, and then at once.

Client and simulated providers share the loop, so that between two timers everything that is left to do is either ready
or in a socket of this machine. When nothing is, the time becomes that of the next timer: an hour of waiting takes no
time, and order and length of all waits are those of an hour.

The loop's time, ``time.time`` and ``time.monotonic`` are one clock, process-wide: HTTP clients, caches and limits then
agree. ``datetime.now`` and waits of other threads keep the machine's.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Callable
from typing import Any, Final

STUCK_AFTER: Final = 60.0  # seconds of the machine without a timer or an event, after which the loop is given up
_SKIPS: Final = 32  # rounds of the loop that may pass without a look at the sockets while there is other work


class VirtualTime:
    """The clock: ``elapsed`` seconds since ``start``, in Unix seconds."""

    def __init__(self, start: float) -> None:
        self.start = start
        self.elapsed = 0.0

    def monotonic(self) -> float:
        """In place of ``time.monotonic``."""
        return self.elapsed

    def wall(self) -> float:
        """In place of ``time.time``."""
        return self.start + self.elapsed

    def install(self) -> None:
        """Have this process' ``time`` module tell this time: before anything else binds its functions."""
        time.time = self.wall
        time.monotonic = self.monotonic
        import anyio.to_thread  # not before: it binds the functions too

        anyio.to_thread.run_sync = _at_once  # type: ignore[assignment]  # the same but for its keywords, which are let go


async def _at_once(func: Callable[..., Any], *args: Any, **_: Any) -> Any:
    """In place of anyio's worker threads, which the loop does not know: time would pass before they report."""
    return func(*args)


class _JumpingSelector(selectors.DefaultSelector):
    """Never waits for a timer: the time jumps to it."""

    def __init__(self, virtual: VirtualTime) -> None:
        super().__init__()
        self._virtual = virtual
        self._skipped = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """What is ready now; where nothing is, the time is ``timeout`` seconds later.

        Raises:
            TimeoutError: nothing is ready, and no timer is set, for :data:`STUCK_AFTER`.
        """
        if timeout is not None and timeout <= 0:
            self._skipped += 1
            if self._skipped < _SKIPS:
                return []
        self._skipped = 0
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        if timeout is not None:
            self._virtual.elapsed += timeout
            return []
        ready = super().select(STUCK_AFTER)  # a thread has still to report
        if not ready:
            raise TimeoutError(f"nothing has happened for {STUCK_AFTER:.0f} s, and no timer is set")
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """The event loop of a :class:`VirtualTime`. Work for its thread pool is done at once, in order, in its thread."""

    def __init__(self, virtual: VirtualTime) -> None:
        self._virtual = virtual
        super().__init__(_JumpingSelector(virtual))

    def time(self) -> float:
        """The virtual time."""
        return self._virtual.elapsed

    def run_in_executor(  # type: ignore[override] # of any kinds
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """The result of ``func``: a pool's threads would end in another order each time."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - it belongs to who awaits the future
            future.set_exception(error)
        return future


class LoopClock:
    """The guard's clock on a virtual loop: its timers are the loop's."""

    def __init__(self, loop: VirtualLoop, virtual: VirtualTime) -> None:
        self._loop = loop
        self.now = virtual.monotonic
        self.wall = virtual.wall

    def call_at(self, when: float, callback: Callable[[], object]) -> Callable[[], None]:
        """Have the loop call ``callback`` at ``when``; returns what cancels it."""
        return self._loop.call_at(when, callback).cancel

    def close(self) -> None:
        """The loop ends its timers itself."""
