"""Receivers that keep every event: a sink behind a real bus, and a bus that delivers at once."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TypeVar

from wallie_litellm.events import Event
from wallie_litellm.telemetry.bus import Bus

E = TypeVar("E", bound=Event)


class RecordingSink:
    """A :class:`wallie_litellm.telemetry.sink.Sink` that keeps every event, in order."""

    def __init__(self, name: str = "recording") -> None:
        self.name = name
        self.events: list[Event] = []
        self.batches: list[int] = []
        self.threads: set[int] = set()
        self.flushed = 0
        self.closed = 0

    def handle(self, events: Sequence[Event]) -> None:
        assert not self.closed, "handed something after it was closed"
        self.threads.add(threading.get_ident())
        self.batches.append(len(events))
        self.events += events

    def of(self, kind: type[E]) -> list[E]:
        """The events of one kind."""
        return [event for event in list(self.events) if isinstance(event, kind)]

    def flush(self, timeout: float) -> bool:
        self.flushed += 1
        return True

    def close(self, timeout: float) -> None:
        self.closed += 1

    def stats(self) -> dict[str, int]:
        return {"delivered": len(self.events)}


class RecordingBus(Bus):
    """Keeps each event in the publishing thread, so that there is nothing to flush. Other sinks may be added."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[Event] = []

    def publish(self, event: Event) -> None:
        self.events.append(event)
        super().publish(event)

    def of(self, kind: type[E]) -> list[E]:
        """The events of one kind."""
        return [event for event in list(self.events) if isinstance(event, kind)]
