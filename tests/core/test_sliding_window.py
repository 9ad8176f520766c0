"""What the last minute used, counted in slots of a quarter of a second."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wallie_litellm.core.sliding_window import SLOTS, SlidingWindow, slot_of

ORIGIN = 1000.0  # seconds


def test_use_counts_for_a_minute() -> None:
    window = SlidingWindow()
    window.add(ORIGIN, 5)
    window.add(ORIGIN + 30, 7)
    seen = [window.used(ORIGIN + age) for age in (30, 59.9, 60, 89.9, 90, 10_000)]
    assert seen == [12, 12, 7, 7, 0, 0]


@pytest.mark.parametrize("offset", [0.0, 0.1, 0.249])
def test_up_to_a_quarter_of_a_second_of_the_minute_is_missing(offset: float) -> None:
    window = SlidingWindow()
    window.add(ORIGIN + offset, 1)
    assert window.used(ORIGIN + offset + 59.75) == 1
    assert window.used(ORIGIN + offset + 60) == 0


def test_what_was_used_earlier_counts_from_then() -> None:
    window = SlidingWindow()
    window.add_at(ORIGIN, ORIGIN - 40, 3)
    window.add_at(ORIGIN, ORIGIN - 60, 5)  # a minute ago
    window.add_at(ORIGIN, ORIGIN + 9, 7)  # of a clock that is ahead: now
    assert [window.used(ORIGIN + after) for after in (0, 20, 60)] == [10, 7, 0]


def test_use_is_taken_back_where_it_counts() -> None:
    window = SlidingWindow()
    window.add(ORIGIN, 5)
    window.add(ORIGIN + 30, 7)
    window.take_back(ORIGIN + 31, ORIGIN, 4)
    assert [window.used(ORIGIN + after) for after in (31, 60)] == [8, 7]
    window.take_back(ORIGIN + 61, ORIGIN, 1)  # it has left the window
    assert window.used(ORIGIN + 61) == 7


def test_more_than_a_slot_holds_is_taken_from_the_following_ones() -> None:
    window = SlidingWindow()
    window.add(ORIGIN + 1, 5)
    window.take_back(ORIGIN + 2, ORIGIN, 2)  # by a clock that is a second behind
    assert window.used(ORIGIN + 2) == 3
    window.take_back(ORIGIN + 2, ORIGIN, 9)
    assert window.used(ORIGIN + 2) == 0


def test_nothing_from_before_a_reset_is_taken_back() -> None:
    window = SlidingWindow()
    window.add(ORIGIN, 5)
    window.reset(ORIGIN + 1)
    assert window.used(ORIGIN + 1) == 0
    window.add(ORIGIN + 1, 3)
    window.take_back(ORIGIN + 2, ORIGIN, 5)
    assert window.used(ORIGIN + 2) == 3


def test_another_process_count_takes_the_place_of_this_ones() -> None:
    window = SlidingWindow()
    window.add(ORIGIN, 5)
    window.replace(ORIGIN + 30, 40)
    window.add(ORIGIN + 31, 2)
    assert [window.used(ORIGIN + after) for after in (31, 59, 60, 89, 90, 91)] == [42, 42, 37, 37, 2, 0]


def test_what_another_process_counts_less_has_left_the_minute_first() -> None:
    window = SlidingWindow()
    for after in (0, 10, 20):
        window.add(ORIGIN + after, 5)
    window.replace(ORIGIN + 30, 7)
    assert list(window.recent(ORIGIN + 30, ORIGIN)) == [(ORIGIN + 10, 2), (ORIGIN + 20, 5)]


def test_a_count_without_times_is_spread_over_the_minute() -> None:
    window = SlidingWindow()
    window.spread(ORIGIN, 60)
    assert sum(units for _, units in window.recent(ORIGIN, ORIGIN - 4.75)) == pytest.approx(5)
    assert window.used(ORIGIN + 30) == pytest.approx(30)


def test_recent_use_is_listed_by_slot() -> None:
    window = SlidingWindow()
    for after in (0, 0.1, 30, 65):
        window.add(ORIGIN + after, 1)
    assert list(window.recent(ORIGIN + 66, ORIGIN)) == [(ORIGIN + 30, 1), (ORIGIN + 65, 1)]
    assert list(window.recent(ORIGIN + 66, ORIGIN + 31)) == [(ORIGIN + 65, 1)]


STEPS = st.lists(
    st.tuples(st.sampled_from(["add", "earlier", "back"]), st.floats(0, 50), st.floats(0, 70), st.integers(0, 9)),
    max_size=60,
)


@given(STEPS)
def test_the_window_is_the_sum_of_its_slots(steps: list[tuple[str, float, float, int]]) -> None:
    window, slots, now = SlidingWindow(), Counter[int](), ORIGIN
    for kind, pause, age, units in steps:
        now += pause
        at = now if kind == "add" else now - age
        if kind == "back":
            taken = min(units, slots[slot_of(at)])
            slots[slot_of(at)] -= taken
            window.take_back(now, at, taken)
        else:
            slots[slot_of(at)] += units
            window.add_at(now, at, units)
        held = {slot: units for slot, units in slots.items() if slot > slot_of(now) - SLOTS}
        assert window.used(now) == sum(held.values())
