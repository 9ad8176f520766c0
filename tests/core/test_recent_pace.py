from __future__ import annotations

import random

from wallie_litellm.core.recent_pace import KEPT, RecentPace

USUAL, LATE = 0.5, 1.0  # seconds


def traffic(pace, rate, seconds, took, since=100.0):
    """Calls at a ``rate`` per second, in the order of their beginnings, each answered after ``took()`` seconds."""
    calls = []
    for number in range(int(rate * seconds)):
        call = pace.begin(since + number / rate, USUAL, LATE)
        if (seconds_taken := took()) is not None:
            call.answered_at = call.began + seconds_taken
        calls.append(call)
    return calls


def test_a_tail_is_no_outage():
    pace, dice = RecentPace(), random.Random(3)
    calls = traffic(pace, 20, 60, lambda: 10.0 if dice.random() < 0.05 else dice.uniform(0.3, 0.6))
    late = [call for call in calls if call.answered_at > call.late_at]
    assert late
    assert not any(pace.most_are_late(call.late_at, call) for call in late if call.late_at <= 160.0)


def test_the_first_call_of_an_outage_that_is_late_shows_it_by_those_that_began_after_it():
    pace = RecentPace()
    traffic(pace, 20, 10, lambda: 0.45)
    first, *_ = traffic(pace, 20, 1, lambda: None, since=110.0)
    assert pace.most_are_late(first.late_at, first)


def test_an_outage_of_a_burst_shows_in_those_that_began_with_it():
    pace = RecentPace()
    calls = [pace.begin(100.0, USUAL, LATE) for _ in range(8)]
    assert all(pace.most_are_late(101.0, call) for call in calls)


def test_an_outage_of_rare_calls_shows_once_more_than_half_of_the_last_ones_were_late():
    pace, found = RecentPace(), []
    traffic(pace, 0.5, 20, lambda: 0.45)
    for number in range(20):
        call = pace.begin(120.0 + 2 * number, USUAL, LATE)
        found.append(pace.most_are_late(call.late_at, call))
    assert found[0] is False
    assert found[-1] is True


def test_calls_that_fail_count_as_late_ones():
    pace = RecentPace()
    for call in traffic(pace, 10, 1, lambda: None):
        call.failed = True
    late = pace.begin(101.0, USUAL, LATE)
    assert pace.most_are_late(101.0 + LATE, late)


def test_the_end_of_an_outage_is_noticed():
    pace = RecentPace()
    traffic(pace, 10, 10, lambda: None)
    traffic(pace, 10, 4, lambda: 0.45, since=110.0)
    late = pace.begin(114.0, USUAL, LATE)
    traffic(pace, 10, 1, lambda: 0.45, since=114.0)
    assert not pace.most_are_late(115.0, late)


def test_of_very_many_calls_those_kept_reach_back_as_long_as_one_takes():
    pace = RecentPace()
    traffic(pace, 2_000, 10, lambda: 0.45)
    assert len(pace._calls) == KEPT
    assert pace._calls[-1].began - pace._calls[0].began > USUAL
