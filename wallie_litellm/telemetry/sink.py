"""What a receiver of events looks like."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from wallie_litellm.events import Event


class Sink(Protocol):
    """Receives events, in order, on a thread of its own that nobody waits for.

    A sink may therefore block; it is told about batches, and what it raises is counted, logged and forgotten.
    """

    name: str

    def handle(self, events: Sequence[Event]) -> None:
        """Take in a batch; events of kinds that are of no interest are to be passed over."""

    def flush(self, timeout: float) -> bool:
        """Hand on everything taken in so far, within ``timeout`` seconds; whether that was possible."""

    def close(self, timeout: float) -> None:
        """Flush, and let go of every resource. Nothing is handed in afterwards."""

    def stats(self) -> dict[str, int]:
        """Counters for status and metrics, such as ``delivered``, ``failed``, ``dropped``, ``pending``, ``spooled``."""
