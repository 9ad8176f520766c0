"""The messages that wait in memory for PostHog, with their sizes in bytes."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from typing import Final

from wallie_litellm.telemetry.sinks.posthog_bisect import Message

BATCH_MESSAGES: Final = 500  # of one request
BATCH_BYTES: Final = 4 * 2**20  # of one request, unless a single message is larger
MEMORY_MESSAGES: Final = 5_000  # more go to the spool
MEMORY_BYTES: Final = 16 * 2**20  # more go to the spool


class MessageQueue:
    """First in, first out. Not thread-safe: its owner locks."""

    def __init__(self) -> None:
        self._messages: deque[tuple[Message, int]] = deque()
        self._bytes = 0
        self.gathering_since = 0.0  # monotonic seconds: when the first message came into the empty queue

    def __len__(self) -> int:
        return len(self._messages)

    @property
    def has_full_batch(self) -> bool:
        """Whether the next request would be as large as one may be."""
        return len(self._messages) >= BATCH_MESSAGES or self._bytes >= BATCH_BYTES

    @property
    def is_overfull(self) -> bool:
        """Whether more wait than memory is meant to hold."""
        return len(self._messages) > MEMORY_MESSAGES or self._bytes > MEMORY_BYTES

    def put(self, messages: Sequence[tuple[Message, int]]) -> None:
        """Append ``messages``, each with its size in bytes."""
        if not self._messages:
            self.gathering_since = time.monotonic()
        self._messages.extend(messages)
        self._bytes += sum(size for _, size in messages)

    def take_batch(self) -> Sequence[Message]:
        """Remove and return the messages of one request, the oldest first."""
        batch: list[Message] = []
        taken = 0
        while self._messages and len(batch) < BATCH_MESSAGES:
            message, size = self._messages[0]
            if batch and taken + size > BATCH_BYTES:
                break
            self._messages.popleft()
            batch.append(message)
            taken += size
        self._bytes -= taken
        return batch

    def all(self) -> list[Message]:
        """Every message, the oldest first."""
        return [message for message, _ in self._messages]

    def clear(self) -> None:
        """Remove every message."""
        self._messages.clear()
        self._bytes = 0

    def put_back(self, oldest: Sequence[Message]) -> int:
        """Prepend ``oldest``, whose sizes are estimated; returns how many messages were dropped to make room."""
        size = self._bytes // len(self._messages) if self._messages else BATCH_BYTES // BATCH_MESSAGES
        self._messages.extendleft((message, size) for message in reversed(oldest))
        self._bytes += size * len(oldest)
        dropped = 0
        while self.is_overfull:
            _, removed = self._messages.popleft()
            self._bytes -= removed
            dropped += 1
        return dropped
