"""What is under way at a guard that closes: waits between two attempts, and streams that are being read."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

from wallie_litellm.clock import Clock, wakeup


class UnderWay:
    """The waits and the streams of one guard, and what else its end ends. Streams may begin and end in any thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.on_end: list[Callable[[], object]] = []  # called once
        self.has_ended = False
        self._sleepers: set[Callable[[], None]] = set()
        self._streams: weakref.WeakSet[Any] = weakref.WeakSet()

    async def sleep(self, seconds: float) -> None:
        """Wait between two attempts, by the guard's clock; :meth:`wake` ends it."""
        over, wake = wakeup()
        cancel = self._clock.call_at(self._clock.now() + seconds, wake)
        self._sleepers.add(wake)
        try:
            await over
        finally:
            self._sleepers.discard(wake)
            cancel()

    def end(self) -> bool:
        """Call what is to be called at the end; ``False``, and without effect, the second time."""
        if self.has_ended:
            return False
        self.has_ended = True
        for callback in self.on_end:
            callback()
        return True

    def wake(self) -> None:
        """End all waits."""
        for wake in tuple(self._sleepers):
            wake()

    def read(self, stream: Any) -> None:
        """A stream is being read from now on."""
        self._streams.add(stream)

    def being_read(self) -> Sequence[Any]:
        """The streams that are still being read."""
        while True:
            try:
                return list(self._streams)
            except RuntimeError:  # another thread has begun a stream
                continue
