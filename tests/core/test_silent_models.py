"""Whether a model has fallen silent, by the calls that wait for it."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from math import exp

import pytest

from wallie_litellm.core.latency_histogram import LatencyHistogram
from wallie_litellm.core.silence import LEFT_ALONE, LONGEST_LEFT_ALONE, Silence


@dataclass
class Call:
    started_at: float
    first_token_at: float | None = None


@dataclass
class Model:
    """A model, the calls that wait for it, and those that it would have been asked by, had it not been silent."""

    silence: Silence = field(default_factory=Silence)
    histogram: LatencyHistogram = field(default_factory=LatencyHistogram)
    waiting: dict[int, Call] = field(default_factory=dict)
    asked: list[float] = field(default_factory=list)
    spared: int = 0

    def learn(self, *seconds: float) -> None:
        """Calls that took so long."""
        for taken in seconds:
            self.histogram.add(0.0, taken)

    def is_silent(self, now: float) -> bool:
        if self.silence.is_known:
            return not self.silence.tries(now)
        return self.silence.shows(self.waiting.values(), now, self.histogram.tail(now))

    def give_up(self, now: float) -> None:
        """All that wait are given up."""
        for call in self.waiting.values():
            self.silence.given_up(call, now, self.histogram.tail(now))
        self.waiting.clear()

    def serve(self, arrivals: list[float], takes: Callable[[], float], bound: float, dead_from: float = 1e9) -> None:
        """Requests at these times; calls that begin later than ``dead_from`` are never answered."""
        ends: list[tuple[float, int, bool]] = []
        for number, now in enumerate(arrivals):
            while ends and ends[0][0] <= now:
                at, ended, is_answer = heapq.heappop(ends)
                call = self.waiting.pop(ended)
                if is_answer:
                    self.silence.answered(at)
                    self.histogram.add(at, at - call.started_at)
                else:
                    self.silence.given_up(call, at, self.histogram.tail(at))
            if self.histogram.count >= 20 and self.is_silent(now):
                self.spared += 1
                continue
            self.asked.append(now)
            self.waiting[number] = Call(now)
            dead = now >= dead_from
            heapq.heappush(ends, (now + (bound if dead else takes()), number, not dead))


def test_a_crowd_that_is_a_little_late_shows_it_as_two_that_are_very_late_do() -> None:
    model = Model()
    model.learn(*(0.1 * number for number in range(1, 201)))  # evenly up to 20 s
    model.waiting = dict(enumerate([Call(0.0)] * 8))
    assert [model.is_silent(now) for now in (5.0, 10.0, 13.0, 15.0, 18.0)] == [*[False] * 4, True]
    model.waiting = dict(enumerate([Call(0.0)] * 2))
    assert [model.is_silent(now) for now in (18.0, 60.0)] == [False, True]


def test_one_call_alone_never_shows_it() -> None:
    model = Model()
    model.learn(*[0.2] * 500)
    model.waiting = {0: Call(0.0)}
    assert not model.is_silent(500.0)


def test_an_answer_or_a_first_token_begins_the_test_anew() -> None:
    model = Model()
    model.learn(*[0.2] * 500)
    model.waiting = dict(enumerate([Call(0.0)] * 5))
    assert model.is_silent(1.0)
    model.silence.answered(1.0)
    assert not model.is_silent(1.0)
    streams = Model()
    streams.learn(*[0.2] * 500)
    streams.waiting = {**dict(enumerate([Call(0.0)] * 5)), 9: Call(0.0, first_token_at=0.9)}
    assert not streams.is_silent(1.0)


def test_single_calls_try_a_silent_model_at_intervals_that_double_until_one_is_answered() -> None:
    model, now, tried = Model(), 5.0, []
    model.learn(*[0.2] * 500)
    model.waiting = dict(enumerate([Call(0.0)] * 3))
    model.give_up(now)
    while len(tried) < 4:
        now += 0.5
        if not model.is_silent(now):
            tried.append(now)
            assert all(model.is_silent(now + later) for later in (0.0, 0.1, 5.0))
            model.waiting = {0: Call(now)}
            model.give_up(now := now + 5.0)
    assert tried[0] == 5.0 + LEFT_ALONE
    gaps = [later - earlier - 5.0 for earlier, later in pairwise(tried)]
    assert gaps == [2 * LEFT_ALONE, LONGEST_LEFT_ALONE, LONGEST_LEFT_ALONE]
    model.silence.answered(now)
    assert not model.is_silent(now)


def test_at_ten_requests_a_second_a_model_of_200_ms_sees_five_calls_in_the_minute_after_it_has_died() -> None:
    model, dice = Model(), random.Random(1)
    model.serve([number / 10 for number in range(1_200)], lambda: 0.2 * exp(dice.gauss(0, 0.05)), 5.0, dead_from=60.0)
    assert len([at for at in model.asked if at >= 60.0]) <= 5


@pytest.mark.parametrize("per_second", [1.0, 2.0, 5.0])
def test_at_lower_rates_it_sees_as_few(per_second: float) -> None:
    seen = []
    for seed in range(10):
        model, dice = Model(), random.Random(seed)
        arrivals = [0.0]
        while arrivals[-1] < 360:
            arrivals.append(arrivals[-1] + dice.expovariate(per_second))
        model.serve(arrivals, lambda dice=dice: 0.2 * exp(dice.gauss(0, 0.1)), 5.0, dead_from=300.0)
        seen.append(len([at for at in model.asked if at >= 300.0]))
    assert sorted(seen)[len(seen) // 2] <= 5


@pytest.mark.parametrize(
    "takes",
    [
        lambda dice: 0.5 * exp(dice.gauss(0, 1.0)),
        lambda dice: 10.0 if dice.random() < 0.05 else 0.3,
        lambda dice: min(60.0, 0.3 * dice.paretovariate(1.5)),
    ],
    ids=["a wide log-normal", "one in twenty takes 10 s", "a power law"],
)
def test_a_heavy_tail_and_bursts_are_hardly_ever_taken_for_silence(takes: Callable[[random.Random], float]) -> None:
    model, dice = Model(), random.Random(2)
    arrivals = [0.0]
    while arrivals[-1] < 1_200:
        arrivals += [arrivals[-1] + dice.expovariate(5.0)] * (20 if dice.random() < 0.005 else 1)
    model.serve(arrivals, lambda: takes(dice), 1e9)
    assert model.spared < len(arrivals) / 1_000
