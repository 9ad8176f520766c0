"""The order in which waiting requests are served."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from wallie_litellm.core.demand import NOTHING, Demand
from wallie_litellm.core.wait_queue import WaitQueue


@dataclass(eq=False)
class Entry:
    demand: Demand
    priority: int = 0


def drained(queue: WaitQueue[Entry]) -> Iterator[Entry]:
    while (head := queue.head()) is not None:
        yield head
        queue.remove(head)


def test_an_empty_queue_has_no_head() -> None:
    queue: WaitQueue[Entry] = WaitQueue()
    assert (queue.head(), len(queue), queue.ahead(0)) == (None, 0, NOTHING)


@given(st.lists(st.integers(-2, 2), max_size=30))
@settings(deadline=None)
def test_entries_are_served_by_priority_and_then_in_the_order_of_arrival(priorities: list[int]) -> None:
    queue: WaitQueue[Entry] = WaitQueue()
    entries = [Entry(Demand(), priority) for priority in priorities]
    for entry in entries:
        queue.push(entry)
    assert list(drained(queue)) == sorted(entries, key=lambda entry: -entry.priority)


def test_a_new_entry_is_behind_its_own_priority_and_higher_ones() -> None:
    queue: WaitQueue[Entry] = WaitQueue()
    for priority, tokens in [(0, 1), (1, 10), (2, 100), (1, 20)]:
        queue.push(Entry(Demand(1, tokens), priority))
    assert [queue.ahead(priority).tokens for priority in (-1, 0, 1, 2, 3)] == [131, 131, 130, 100, 0]


class QueueMachine(RuleBasedStateMachine):
    """Compared with a list that is sorted anew at each step."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: WaitQueue[Entry] = WaitQueue()
        self.model: list[Entry] = []

    @rule(priority=st.integers(-1, 2), tokens=st.integers(0, 9))
    def push(self, priority: int, tokens: int) -> None:
        entry = Entry(Demand(1, tokens), priority)
        self.queue.push(entry)
        self.model.append(entry)

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        entry = data.draw(st.sampled_from(self.model))
        self.queue.remove(entry)
        self.model.remove(entry)

    @precondition(lambda self: self.model)
    @rule()
    def serve(self) -> None:
        head = self.queue.head()
        assert head is not None
        self.queue.remove(head)
        self.model.remove(head)

    @invariant()
    def agrees(self) -> None:
        in_order = sorted(self.model, key=lambda entry: -entry.priority)
        assert self.queue.head() is (in_order[0] if in_order else None)
        assert len(self.queue) == len(self.model)
        for priority in range(-2, 4):
            ahead = [entry.demand for entry in self.model if entry.priority >= priority]
            assert self.queue.ahead(priority) == Demand(*(sum(d[kind] for d in ahead) for kind in range(4)))


TestQueueMachine = QueueMachine.TestCase
TestQueueMachine.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
