"""The protocol of a sink."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from wallie_litellm.events import Event

_USUAL: Final = 1_000  # records that may wait in memory for the next transaction or request of a sink that has a spool


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


class SinkBacklog(NamedTuple):
    """Records of a sink that ``wait``, ``on_disk`` those of them in its spool, and that are ``lost``."""

    wait: int
    on_disk: int
    lost: int


def backlog_of(counts: Mapping[str, int]) -> SinkBacklog | None:
    """What the counters of a sink say of one that does not get rid of its records, or has lost some; else ``None``.

    A few records wait at any time: those of a sink with a spool count once they are in it, or too many for memory,
    as they are if the disk is full too; those of another sink once a request has failed.
    """
    on_disk, lost = counts.get("spooled", 0), counts.get("dropped", 0) + counts.get("overflowed", 0)
    wait = on_disk + counts.get("pending", 0) + counts.get("queued", 0)
    usual = _USUAL if "spooled" in counts else 0
    stuck = on_disk > 0 or (wait > usual and counts.get("failed", 0) > 0)
    return SinkBacklog(wait, on_disk, lost) if stuck or lost else None


def backlogs_of(sinks: Mapping[str, Mapping[str, int]]) -> list[tuple[str, SinkBacklog]]:
    """Those of sinks' counters, by the sinks' names."""
    found = ((name, backlog_of(counts)) for name, counts in sinks.items())
    return [(name, backlog) for name, backlog in found if backlog is not None]
