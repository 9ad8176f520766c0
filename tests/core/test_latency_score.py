"""How fast a model answers at present."""

from __future__ import annotations

import pytest

from wallie_litellm.core.latency_score import DECAY, LatencyScore, normalised


def test_answers_of_different_lengths_compare_as_answers_of_one_length() -> None:
    for tokens in (50, 200, 1_000):
        assert normalised(0.3, 0.3 + tokens * 0.01, tokens, streamed=True) == pytest.approx(1.3)
    assert normalised(2.0, 2.0, 200, streamed=False) == pytest.approx(1.0)
    assert normalised(0.4, 0.4, 3, streamed=False) == pytest.approx(0.4)
    assert normalised(0.4, 0.5, 3, streamed=True) == pytest.approx(0.4)


def test_old_calls_weigh_less() -> None:
    score = LatencyScore()
    for second in range(60):
        score.add(float(second), 0.5)
    for second in range(60, 120):
        score.add(float(second), 5.0)
    pace = score.pace()
    assert pace is not None
    assert pace.seconds == pytest.approx(5.0, rel=0.1)
    assert pace.last_seconds == pytest.approx(5.0, rel=0.01)
    assert pace.effective == pytest.approx(2 * DECAY, rel=0.1)


def test_the_calls_of_two_together_are_as_if_they_were_of_one() -> None:
    one, other, both = LatencyScore(), LatencyScore(), LatencyScore()
    for second, takes in enumerate((0.5, 0.7, 2.0, 0.3, 0.9)):
        (one if second % 2 else other).add(float(second), takes)
        both.add(float(second), takes)
    merged, expected = one.merged(other).pace(), both.pace()
    assert merged is not None
    assert expected is not None
    assert merged[2:] == pytest.approx(expected[2:])


def test_without_a_call_there_is_no_pace() -> None:
    assert LatencyScore().pace() is None
    assert LatencyScore().merged(LatencyScore()).pace() is None
