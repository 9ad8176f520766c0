from __future__ import annotations

from hypothesis import assume, given
from hypothesis import strategies as st

from wallie_litellm.ledger.ranges import Segment, align, segments
from wallie_litellm.ledger.schema import DAY, QUARTER

quarters = st.integers(0, 1000).map(lambda number: number * QUARTER)


def test_a_range_is_widened_to_quarters_and_one_that_reaches_the_present_has_no_end() -> None:
    assert align(1000.5, 1801.0, now=10_000) == (900, 2700)
    assert align(900, 1800, now=10_000) == (900, 1800)
    assert align(900, 9999.0, now=9999.5) == (900, None)
    assert align(900, None, now=9999.5) == (900, None)


def test_whole_days_are_read_as_days_and_the_edges_as_quarters() -> None:
    assert segments(DAY - 900, 2 * DAY + 900) == [
        Segment(QUARTER, DAY - 900, DAY),
        Segment(DAY, DAY, 2 * DAY),
        Segment(QUARTER, 2 * DAY, 2 * DAY + 900),
    ]
    assert segments(DAY - 900, None) == [Segment(QUARTER, DAY - 900, DAY), Segment(DAY, DAY, None)]
    assert segments(900, 1800) == [Segment(QUARTER, 900, 1800)]
    assert segments(0, 3 * DAY, step=3600) == [Segment(QUARTER, 0, 3 * DAY)]


def test_an_edge_whose_quarters_are_pruned_is_widened_to_its_day() -> None:
    assert segments(DAY + 900, 3 * DAY + 900, kept=3 * DAY) == [
        Segment(DAY, DAY, 3 * DAY),
        Segment(QUARTER, 3 * DAY, 3 * DAY + 900),
    ]
    assert segments(DAY + 900, DAY + 1800, kept=3 * DAY) == [Segment(DAY, DAY, 2 * DAY)]


def test_the_day_in_which_the_quarters_begin_is_not_widened_at_its_end() -> None:
    assert segments(0, DAY + 900, kept=DAY + 1800) == [Segment(DAY, 0, DAY), Segment(QUARTER, DAY, DAY + 900)]
    assert segments(DAY, DAY + 900, kept=DAY + 1800) == [Segment(QUARTER, DAY, DAY + 900)]


@given(quarters, quarters, st.sampled_from([None, QUARTER, 3600, DAY, 7 * DAY]))
def test_every_quarter_is_read_exactly_once(since: int, until: int, step: int | None) -> None:
    assume(since < until)
    parts = segments(since, until, step)
    read = [second for part in parts for second in range(part.since, part.until or 0, QUARTER)]
    assert read == list(range(since, until, QUARTER))
    assert all(part.since % part.grain == 0 == (part.until or 0) % part.grain for part in parts)
