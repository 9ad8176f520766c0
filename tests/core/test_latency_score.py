"""How fast a model answers at present."""

from __future__ import annotations

import random

import pytest

from wallie_litellm.core.latency_score import LatencyScore, normalised, since_change


def test_answers_of_different_lengths_compare_as_answers_of_one_length() -> None:
    for tokens in (50, 200, 1_000):
        assert normalised(0.3, 0.3 + tokens * 0.01, tokens, streamed=True) == pytest.approx(1.3)
    assert normalised(2.0, 2.0, 200, streamed=False) == pytest.approx(1.0)
    assert normalised(0.4, 0.4, 3, streamed=False) == pytest.approx(0.4)
    assert normalised(0.4, 0.5, 3, streamed=True) == pytest.approx(0.4)


def score_of(*seconds: float) -> LatencyScore:
    score = LatencyScore()
    for at, taken in enumerate(seconds):
        score.add(float(at), taken)
    return score


def test_what_was_before_the_last_change_does_not_count() -> None:
    for after in (5.0, 0.05):
        pace = score_of(*[0.5] * 40, *[after] * 10).pace(60.0)
        assert pace is not None
        assert (pace.seconds, pace.last_few, pace.best_of_few) == pytest.approx((after, after, after))
        assert pace.calls == 10
    there_and_back = score_of(*[0.5] * 40, *[5.0] * 20, *[0.5] * 10).pace(80.0)
    assert there_and_back is not None
    assert (there_and_back.seconds, there_and_back.calls) == (pytest.approx(0.5), 10)


def test_a_few_that_take_long_are_no_change() -> None:
    dice = random.Random(3)
    values = [2.3 if dice.random() < 0.05 else dice.gauss(-1.2, 0.1) for _ in range(3_000)]
    assert all(len(since_change(values[end - 64 : end])) == 64 for end in range(64, len(values), 3))


def test_by_chance_there_is_hardly_ever_a_change() -> None:
    dice = random.Random(4)
    values = [dice.gauss(0, 0.6) for _ in range(3_000)]
    found = sum(len(since_change(values[end - 64 : end])) < 64 for end in range(64, len(values), 3))
    assert found <= 3


def test_calls_that_end_late_are_where_they_began() -> None:
    score = score_of(*[0.5] * 30)
    for at in range(7):
        score.add(10.0 + at, 8.0)
    pace = score.pace(40.0)
    assert pace is not None
    assert pace.calls == 37


def test_calls_leave_after_ten_minutes() -> None:
    score = score_of(0.5, 0.7)
    assert score.pace(600.5) == score_of(0.7).pace(0.0)
    assert score.pace(601.0) is None


def test_the_calls_of_two_together_are_as_if_they_were_of_one() -> None:
    one, other, both = LatencyScore(), LatencyScore(), LatencyScore()
    for second, takes in enumerate((0.5, 0.7, 2.0, 0.3, 0.9)):
        (one if second % 2 else other).add(float(second), takes)
        both.add(float(second), takes)
    assert one.merged(other).pace(5.0) == both.pace(5.0)


def test_without_a_call_there_is_no_pace() -> None:
    assert LatencyScore().pace(0.0) is None
    assert LatencyScore().merged(LatencyScore()).pace(0.0) is None
