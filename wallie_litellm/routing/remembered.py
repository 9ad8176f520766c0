"""What is remembered of requests for a while."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from wallie_litellm.core.last_used import LastUsed

Value = TypeVar("Value")


class Remembered(Generic[Value]):
    """Values by key, each for so many seconds by ``now``, and at most ``most``. Safe to use from several threads."""

    def __init__(self, now: Callable[[], float], most: int) -> None:
        self._now = now
        self._kept: LastUsed[Hashable, tuple[float, Value]] = LastUsed(most)
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def find(self, key: Hashable) -> Value | None:
        """The value of ``key``; ``None`` where there is none any more."""
        with self._lock:
            found = self._kept.get(key)
        return None if found is None or found[0] < self._now() else found[1]

    def keep(self, key: Hashable, value: Value, seconds: float) -> None:
        """Remember ``value`` for ``seconds``."""
        with self._lock:
            self._kept.keep(key, (self._now() + seconds, value))
