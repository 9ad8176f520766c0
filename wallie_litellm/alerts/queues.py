"""Queues that stand: as many requests wait at every look of a while.

A burst that is served within the wait that callers accept is what a queue is for. A queue whose *shortest* length over
a while is long is one that demand keeps long; so CoDel tells the two apart (RFC 8289, section 3: "good queue" and "bad
queue"). The episode is over once at no look of as long a while more than half as many wait.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from wallie_litellm.alerts.episodes import Episodes
from wallie_litellm.events import QueueCrossed, new_id

OVER_BELOW: Final = 0.5  # of the limit: at most so many waiting requests end an episode


class _Queue:
    """Since when a queue has been long at every look, and since when short; ``None`` where it is not."""

    __slots__ = ("is_short_since", "length", "long_since", "shortest")

    def __init__(self) -> None:
        self.length = self.shortest = 0
        self.long_since: float | None = None
        self.is_short_since: float | None = None

    def note(self, length: int, limit: int, now: float) -> None:
        self.length = length
        if length < limit:
            self.long_since = None
        elif self.long_since is None:
            self.long_since, self.shortest = now, length
        self.shortest = min(self.shortest, length)
        if length > limit * OVER_BELOW:
            self.is_short_since = None
        elif self.is_short_since is None:
            self.is_short_since = now


class StandingQueues:
    """The queues of one process, by provider or feature, and the episodes of those that stand.

    One stands where at least ``limit`` requests wait for ``seconds``. Times are seconds of the guard's clock; ``wall``
    is the wall clock.
    """

    def __init__(self, limit: int, seconds: float, episodes: Episodes, wall: Callable[[], float]) -> None:
        self._limit = limit
        self._while = seconds
        self._episodes = episodes
        self._wall = wall
        self._queues: dict[str, _Queue] = {}

    def look(self, waiting: Mapping[str, int], now: float) -> None:
        """Note how many requests are ``waiting``, by name, and announce what is due."""
        for name in {*waiting, *self._queues}:
            queue = self._queues.setdefault(name, _Queue())
            queue.note(waiting.get(name, 0), self._limit, now)
            if queue.long_since is not None and now - queue.long_since >= self._while:
                self._episodes.begin((name,), now, partial(self._event, name, queue.shortest))
            elif queue.is_short_since is not None and now - queue.is_short_since >= self._while:
                self._episodes.end((name,), now, partial(self._event, name, queue.length))
                del self._queues[name]

    def going_on(self) -> list[dict[str, Any]]:
        """The episodes that go on, ready for JSON but for ``since``, in seconds of the guard's clock."""
        queues = self._queues
        return [
            {
                "type": "queue",
                "provider": name,
                "model": None,
                "value": queues[name].length if name in queues else 0,
                "limit": self._limit,
                "since": since,
            }
            for (name,), since in self._episodes.since()
        ]

    def _event(self, name: str, waiting: int, is_over: bool, lasted: float) -> QueueCrossed:
        wall = self._wall()
        return QueueCrossed(new_id(wall), wall, name, waiting, self._limit, self._while, is_over, lasted)
