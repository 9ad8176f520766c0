"""A clock that stands still until a test moves it."""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable


class FakeClock:
    """A :class:`wallie_litellm.clock.Clock` whose timers fire, in order, while :meth:`advance` passes them."""

    def __init__(self, now: float = 1000.0, wall: float = 1_790_000_000.0) -> None:
        self._now = now
        self._wall = wall
        self._timers: list[tuple[float, int, list[Callable[[], object]]]] = []
        self._sequence = itertools.count()
        self._lock = threading.RLock()

    def now(self) -> float:
        return self._now

    def wall(self) -> float:
        return self._wall

    def call_at(self, when: float, callback: Callable[[], object]) -> Callable[[], None]:
        cell = [callback]
        with self._lock:
            heapq.heappush(self._timers, (when, next(self._sequence), cell))
        return cell.clear

    def close(self) -> None:
        with self._lock:
            self._timers.clear()

    @property
    def armed(self) -> int:
        """Timers that will still fire."""
        with self._lock:
            return sum(bool(cell) for _, _, cell in self._timers)

    def advance(self, seconds: float) -> None:
        """Let ``seconds`` pass."""
        end = self._now + seconds
        for _ in range(100_000):  # a timer that re-arms itself without time passing must not hang the tests
            with self._lock:
                if not self._timers or self._timers[0][0] > end:
                    break
                when, _, cell = heapq.heappop(self._timers)
            self._move(max(when, self._now))
            if cell:
                cell[0]()
        else:
            raise AssertionError(f"timers keep firing at {self._now}")
        self._move(end)

    def lag(self, seconds: float) -> None:
        """Let ``seconds`` pass without any timer firing, as when the timers' thread is not scheduled."""
        self._move(self._now + seconds)

    def move_wall(self, seconds: float) -> None:
        """Set the wall clock, as an administrator or a machine that slept does; :meth:`now` does not notice."""
        self._wall += seconds

    def _move(self, to: float) -> None:
        self._wall += to - self._now
        self._now = to
