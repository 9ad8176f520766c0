"""The order in which waiting requests are served."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from wallie_litellm.core.demand import Demand
from wallie_litellm.core.wait_queue import WaitQueue


@dataclass(eq=False)
class Entry:
    demand: Demand
    priority: int = 0
    scope: str = ""


def drained(queue: WaitQueue[Entry]) -> Iterator[Entry]:
    while (head := queue.head()) is not None:
        yield head
        queue.remove(head)


def total(entries: Iterable[Entry]) -> Demand:
    return Demand(*(sum(entry.demand[kind] for entry in entries) for kind in range(4)))


def test_an_empty_queue_has_no_head() -> None:
    queue: WaitQueue[Entry] = WaitQueue()
    assert (queue.head(), len(queue), queue.ahead(0), list(queue.heads(0))) == (None, 0, {}, [])


@given(st.lists(st.tuples(st.integers(-2, 2), st.sampled_from(["", "a", "b"])), max_size=30))
@settings(deadline=None)
def test_entries_are_served_by_priority_and_then_in_the_order_of_arrival(given_: list[tuple[int, str]]) -> None:
    queue: WaitQueue[Entry] = WaitQueue()
    entries = [Entry(Demand(), priority, scope) for priority, scope in given_]
    for entry in entries:
        queue.push(entry)
    assert list(drained(queue)) == sorted(entries, key=lambda entry: -entry.priority)


def test_a_new_entry_is_behind_its_own_priority_and_higher_ones() -> None:
    queue: WaitQueue[Entry] = WaitQueue()
    for priority, tokens in [(0, 1), (1, 10), (2, 100), (1, 20)]:
        queue.push(Entry(Demand(1, tokens), priority))
    assert [queue.ahead(priority)[""].tokens for priority in (-1, 0, 1, 2)] == [131, 131, 130, 100]
    assert queue.ahead(3) == {}


class QueueMachine(RuleBasedStateMachine):
    """Compared with a list that is sorted anew at each step."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: WaitQueue[Entry] = WaitQueue()
        self.model: list[Entry] = []

    @rule(priority=st.integers(-1, 2), tokens=st.integers(0, 9), scope=st.sampled_from(["", "a", "b"]))
    def push(self, priority: int, tokens: int, scope: str) -> None:
        entry = Entry(Demand(1, tokens), priority, scope)
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
        assert len(self.queue) == len(self.model)
        for passed in ((), ("",), ("a", "b"), ("", "a", "b")):
            left = [entry for entry in in_order if entry.scope not in passed]
            assert self.queue.head(passed) is (left[0] if left else None)
        for priority in range(-2, 4):
            ahead = [entry for entry in in_order if entry.priority >= priority]
            first: dict[str, Entry] = {}
            for entry in ahead:
                first.setdefault(entry.scope, entry)
            assert list(self.queue.heads(priority)) == list(first.values())
            assert self.queue.ahead(priority) == {
                scope: total([entry for entry in ahead if entry.scope == scope]) for scope in first
            }
        for scope in ("", "a", "b"):
            own = [entry for entry in self.model if entry.scope == scope]
            assert (self.queue.waiting(scope), self.queue.demand(scope)) == (len(own), total(own))


TestQueueMachine = QueueMachine.TestCase
TestQueueMachine.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
