"""When a limit that runs out is announced."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wallie_litellm.core.thresholds import REARM, ThresholdWatch

LEVELS = {"warning": 0.80, "critical": 0.95}
WINDOW = 60.0


class Announced:
    """A watch that is given each share as a limiter does: first how low it had been, then how high it is."""

    def __init__(self, levels: dict[str, float] | None = None) -> None:
        self.watch = ThresholdWatch(levels or LEVELS)
        self.share = 0.0

    def at(self, share: float, now: float = 0.0, ends: float | None = None) -> list[str]:
        levels: list[str] = []
        if share < self.watch.low:
            self.watch.fell(share)
        if share >= self.watch.high:
            levels = self.watch.rose(share, now, now + WINDOW if ends is None else ends)
        self.share = share
        return levels


def test_each_level_is_announced_once_when_it_is_reached() -> None:
    announced = Announced()
    shares = [0.79, 0.80, 0.85, 0.949, 0.95, 0.99, 1.0, 1.5]
    assert [announced.at(share) for share in shares] == [[], ["warning"], [], [], ["critical"], [], [], []]


def test_a_jump_over_both_levels_announces_both_the_lower_first() -> None:
    assert Announced().at(1.0) == ["warning", "critical"]


def test_levels_may_be_given_in_any_order() -> None:
    assert Announced({"critical": 0.5, "warning": 0.2}).at(1.0) == ["warning", "critical"]


@pytest.mark.parametrize(("fell_to", "again"), [(0.71, []), (0.70, ["warning"]), (0.0, ["warning"])])
def test_a_level_is_armed_again_ten_points_below_it(fell_to: float, again: list[str]) -> None:
    announced = Announced()
    assert announced.at(0.8, now=0) == ["warning"]
    assert announced.at(fell_to, now=100) == []
    assert announced.at(0.8, now=100) == again


def test_each_level_is_armed_by_itself() -> None:
    announced = Announced()
    announced.at(1.0, now=0)
    announced.at(0.85, now=100)  # ten points below critical, not below warning
    assert announced.at(1.0, now=100) == ["critical"]


def test_a_level_armed_again_is_announced_only_after_its_window_ends() -> None:
    announced = Announced()
    assert announced.at(0.8, now=0) == ["warning"]
    announced.at(0.1, now=1)
    assert announced.at(0.9, now=2) == []
    assert announced.at(0.9, now=59.9) == []
    assert announced.at(0.9, now=60.0) == ["warning"]


def test_a_share_that_stays_high_is_announced_once_in_any_number_of_windows() -> None:
    announced = Announced()
    assert [announced.at(0.9, now=60.0 * minute) for minute in range(5)] == [["warning"], [], [], [], []]


def test_a_restarted_window_announces_every_level_anew() -> None:
    announced = Announced()
    announced.at(1.0, now=0, ends=inf)
    announced.watch.restart()
    assert announced.at(1.0, now=1) == ["warning", "critical"]


def test_between_low_and_high_there_is_nothing_to_announce() -> None:
    watch = ThresholdWatch(LEVELS)
    assert (watch.low, watch.high) == (-inf, 0.80)
    watch.rose(0.8, 0, WINDOW)
    assert (watch.low, watch.high) == (pytest.approx(0.70, abs=1e-5), 0.95)
    watch.rose(0.95, 0, WINDOW)
    assert (watch.low, watch.high) == (pytest.approx(0.85, abs=1e-5), inf)
    watch.fell(0.85)
    assert (watch.low, watch.high) == (pytest.approx(0.70, abs=1e-5), 0.95)


SHARES = st.one_of(st.floats(0, 1.5), st.sampled_from([0.0, 0.7, 0.8, 0.84, 0.85, 0.95, 1.0]))
STEPS = st.lists(st.tuples(SHARES, st.floats(0, 40)), max_size=60)


@given(STEPS)
@settings(deadline=None, max_examples=300)
def test_no_level_is_announced_twice_in_a_window_or_without_a_fall_of_ten_points(
    steps: list[tuple[float, float]],
) -> None:
    announced, now = Announced(), 0.0
    last: dict[str, float] = {}
    lowest = dict.fromkeys(LEVELS, 0.0)  # since it was announced last
    for share, seconds in steps:
        now += seconds
        lowest = {level: min(low, share) for level, low in lowest.items()}
        for level in announced.at(share, now):
            assert share >= LEVELS[level]
            assert level not in last or now >= last[level] + WINDOW
            assert level not in last or lowest[level] <= LEVELS[level] - REARM + 1e-6
            last[level] = now
            lowest[level] = share
        # And every level that is due is announced.
        for level, threshold in LEVELS.items():
            due = share >= threshold and lowest[level] <= threshold - REARM and now >= last.get(level, -inf) + WINDOW
            assert not due, level
