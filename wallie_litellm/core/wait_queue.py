"""The order in which waiting requests are served: higher priority first, first come first served within one."""

from __future__ import annotations

from collections import deque
from typing import Generic, Protocol, TypeVar

from wallie_litellm.core.demand import NOTHING, Demand


class QueueEntry(Protocol):
    """What a queue reads of an entry."""

    demand: Demand
    priority: int


T = TypeVar("T", bound=QueueEntry)


class _Lane(Generic[T]):
    __slots__ = ("demand", "entries", "length")

    def __init__(self) -> None:
        self.entries: deque[T | None] = deque()
        self.demand = NOTHING
        self.length = 0


def _minus(total: Demand, part: Demand) -> Demand:
    return Demand(*(whole - some for whole, some in zip(total, part, strict=True)))


class WaitQueue(Generic[T]):
    """A priority queue that also has the sum of the demands ahead of a new entry."""

    def __init__(self) -> None:
        self._lanes: dict[int, _Lane[T]] = {}
        self._order: list[int] = []
        self._removed: set[int] = set()

    def __len__(self) -> int:
        return sum(lane.length for lane in self._lanes.values())

    def push(self, entry: T) -> None:
        """Add ``entry`` behind the others of its priority."""
        lane = self._lanes.get(entry.priority)
        if lane is None:
            lane = self._lanes[entry.priority] = _Lane()
            self._order = sorted(self._lanes, reverse=True)
        lane.entries.append(entry)
        lane.length += 1
        lane.demand = lane.demand.plus(entry.demand)

    def head(self) -> T | None:
        """The entry to be served next, still in the queue."""
        for priority in self._order:
            entries = self._lanes[priority].entries
            while entries:
                entry = entries[0]
                if entry is not None and id(entry) not in self._removed:
                    return entry
                self._removed.discard(id(entries.popleft()))
        return None

    def remove(self, entry: T) -> None:
        """Remove ``entry``, which is anywhere in the queue."""
        lane = self._lanes[entry.priority]
        lane.length -= 1
        lane.demand = _minus(lane.demand, entry.demand)
        if lane.entries and lane.entries[0] is entry:
            lane.entries.popleft()
        else:
            self._removed.add(id(entry))

    def ahead(self, priority: int) -> Demand:
        """The sum of the demands that a new entry of ``priority`` would be behind."""
        total = NOTHING
        for other in self._order:
            if other < priority:
                break
            total = total.plus(self._lanes[other].demand)
        return total
