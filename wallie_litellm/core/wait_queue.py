"""The order in which waiting requests are served: higher priority first, first come first served within one.

Requests for models with limits of their own have lanes of their own, so that those that wait for one model's limit can
be passed by the others.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator
from typing import Generic, Protocol, TypeVar

from wallie_litellm.core.demand import NOTHING, Demand


class QueueEntry(Protocol):
    """What a queue reads of an entry; ``scope`` is the pattern of its model's limits, empty where it has none."""

    demand: Demand
    priority: int
    scope: str


T = TypeVar("T", bound=QueueEntry)


class _Lane(Generic[T]):
    __slots__ = ("demand", "entries", "length")

    def __init__(self) -> None:
        self.entries: deque[tuple[int, T]] = deque()  # with the order of their arrival
        self.demand = NOTHING
        self.length = 0

    def add(self, arrival: int, entry: T) -> None:
        self.entries.append((arrival, entry))
        self.length += 1
        self.demand = self.demand.plus(entry.demand)


def _minus(total: Demand, part: Demand) -> Demand:
    return Demand(*(whole - some for whole, some in zip(total, part, strict=True)))


class WaitQueue(Generic[T]):
    """A priority queue with lanes, that also has the sum of the demands ahead of a new entry."""

    def __init__(self) -> None:
        self._lanes: dict[int, dict[str, _Lane[T]]] = {}  # by priority, and by scope
        self._order: list[int] = []
        self._removed: set[int] = set()
        self._arrivals = 0

    def __len__(self) -> int:
        return sum(lane.length for lanes in self._lanes.values() for lane in lanes.values())

    def waiting(self, scope: str) -> int:
        """The entries of one scope."""
        return sum(lanes[scope].length for lanes in self._lanes.values() if scope in lanes)

    def push(self, entry: T) -> None:
        """Add ``entry`` behind the others of its priority."""
        lanes = self._lanes.get(entry.priority)
        if lanes is None:
            lanes = self._lanes[entry.priority] = {}
            self._order = sorted(self._lanes, reverse=True)
        lane = lanes.get(entry.scope)
        if lane is None:
            lane = lanes[entry.scope] = _Lane()
        self._arrivals += 1
        lane.add(self._arrivals, entry)

    def change(self, update: Callable[[T], object]) -> None:
        """Have ``update`` change the scope and the demand of every entry; each keeps its place."""
        for lanes in self._lanes.values():
            entries = [one for lane in lanes.values() for one in lane.entries if id(one[1]) not in self._removed]
            lanes.clear()
            for arrival, entry in sorted(entries, key=lambda one: one[0]):
                update(entry)
                lanes.setdefault(entry.scope, _Lane()).add(arrival, entry)
        self._removed.clear()

    def head(self, passed: Collection[str] = ()) -> T | None:
        """The entry to be served next, still in the queue; those whose scope is in ``passed`` are left out."""
        for priority in self._order:
            found: tuple[int, T] | None = None
            for scope, lane in self._lanes[priority].items():
                if scope in passed:
                    continue
                first = self._first(lane)
                if first is not None and (found is None or first[0] < found[0]):
                    found = first
            if found is not None:
                return found[1]
        return None

    def heads(self, priority: int) -> Iterator[T]:
        """The first entry of each scope of ``priority`` or more, in the order in which they are to be served."""
        seen: set[str] = set()
        for other in self._order:
            if other < priority:
                return
            lanes = self._lanes[other]
            found = [first for scope, lane in lanes.items() if scope not in seen and (first := self._first(lane))]
            for _, entry in sorted(found, key=lambda one: one[0]):
                seen.add(entry.scope)
                yield entry

    def demand(self, scope: str) -> Demand:
        """The sum of the demands of one scope."""
        total = NOTHING
        for lanes in self._lanes.values():
            if scope in lanes:
                total = total.plus(lanes[scope].demand)
        return total

    def _first(self, lane: _Lane[T]) -> tuple[int, T] | None:
        entries = lane.entries
        while entries:
            if id(entries[0][1]) not in self._removed:
                return entries[0]
            self._removed.discard(id(entries.popleft()[1]))
        return None

    def remove(self, entry: T) -> None:
        """Remove ``entry``, which is anywhere in the queue."""
        lane = self._lanes[entry.priority][entry.scope]
        lane.length -= 1
        lane.demand = _minus(lane.demand, entry.demand)
        if lane.entries and lane.entries[0][1] is entry:
            lane.entries.popleft()
        else:
            self._removed.add(id(entry))

    def ahead(self, priority: int) -> dict[str, Demand]:
        """The sums of the demands that a new entry of ``priority`` would be behind, by scope."""
        ahead: dict[str, Demand] = {}
        for other in self._order:
            if other < priority:
                break
            for scope, lane in self._lanes[other].items():
                if lane.length:
                    ahead[scope] = ahead.get(scope, NOTHING).plus(lane.demand)
        return ahead
