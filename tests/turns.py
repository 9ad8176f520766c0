"""A clock for judging how long something took on a busy machine."""

from __future__ import annotations

import threading
import time
from typing import Self

_STEP = 0.005  # seconds
_MOST = 4 * _STEP  # seconds that one step may count for


class Turns:
    """Seconds in which this process had a processor: while it waits for one, this clock stands still.

    A thread sleeps for a moment, again and again. What a sleep takes too long is time in which nothing in this process
    could have run. Other threads that wait or compute do not delay this one.
    """

    def __init__(self) -> None:
        self._passed = 0.0
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run, name="turns", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join()

    def now(self) -> float:
        assert self._thread.is_alive()
        return self._passed

    def _run(self) -> None:
        last = time.monotonic()
        while not self._ends.is_set():
            time.sleep(_STEP)
            now = time.monotonic()
            self._passed += min(now - last, _MOST)
            last = now
