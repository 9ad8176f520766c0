import random

import pytest

from wallie_litellm.rehearse.need import LimitChange, most_at_once, needed_per_minute, rounded_up


def test_a_steady_load_needs_its_rate_less_what_a_full_bucket_adds():
    # 600 calls in ten minutes, one a second: a limit L lets L + 10 L of them pass.
    changes = [LimitChange(float(second), 1.0) for second in range(600)]
    assert needed_per_minute(changes) == pytest.approx(600 / (1 + 599 / 60), rel=0.01)


def test_the_limit_that_is_needed_keeps_no_call_waiting_and_a_lower_one_does():
    drawn = random.Random(3)
    times, now = [], 0.0
    for _ in range(500):
        now += drawn.expovariate(4.0)
        times.append(now)
    need = needed_per_minute([LimitChange(at, 1.0) for at in times])
    assert not waits_at(need * 1.001, times)
    assert waits_at(need * 0.98, times)


def waits_at(limit: float, times: list[float]) -> bool:
    """Whether the bucket that admission uses would keep one of these calls waiting."""
    level, last = limit, times[0]
    for at in times:
        level = min(limit, level + (at - last) * limit / 60) - 1
        last = at
        if level < 0:
            return True
    return False


def test_what_is_given_back_is_not_needed():
    held = [LimitChange(0.0, 1000.0), LimitChange(1.0, -900.0), LimitChange(2.0, 1000.0), LimitChange(3.0, -900.0)]
    assert needed_per_minute(held) < 1200


def test_calls_at_once_are_counted_while_they_last():
    changes = [
        LimitChange(0.0, 1),
        LimitChange(1.0, 1),
        LimitChange(2.0, -1),
        LimitChange(3.0, 1),
        LimitChange(9.0, -2),
    ]
    assert most_at_once(changes) == 2


@pytest.mark.parametrize(("need", "stated"), [(0.0, 0), (7.2, 8), (1442.0, 1450), (142_310.0, 143_000)])
def test_a_need_is_stated_as_a_limit_is_written(need, stated):
    assert rounded_up(need) == stated
