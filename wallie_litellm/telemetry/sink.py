"""The protocol of a sink."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from wallie_litellm.events import Event


class Sink(Protocol):
    """Receives events in order and in batches, on a thread of its own.

    No request waits for that thread, so a sink may block. Errors that a sink raises are counted and logged.
    """

    name: str

    def handle(self, events: Sequence[Event]) -> None:
        """Process a batch; events of kinds that the sink does not use are skipped."""

    def flush(self, timeout: float) -> bool:
        """Deliver everything received so far within ``timeout`` seconds; returns whether that was possible."""

    def close(self, timeout: float) -> None:
        """Flush, and release every resource. No events follow."""

    def stats(self) -> dict[str, int]:
        """Counters for status and metrics, such as ``delivered``, ``failed``, ``dropped``, ``pending``, ``spooled``."""
