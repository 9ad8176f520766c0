"""A model that has fallen silent is asked second, before any call has reached its bound."""

from __future__ import annotations

import pytest
from fake_clock import FakeClock
from traffic import Call

from wallie_litellm.config import WallieConfig
from wallie_litellm.core.attempt_result import AttemptResult
from wallie_litellm.core.circuit_breaker import Verdict
from wallie_litellm.core.demand import Demand, Outcome
from wallie_litellm.guard import Guard
from wallie_litellm.routing.plan import Asked, Member, Plan

SERVED = AttemptResult(Outcome.SUCCESS, Verdict.SUCCESS, Demand(1, 20, 10, 10))
REJECTED = AttemptResult(Outcome.REJECTED, Verdict.FAILURE, reason="HTTP 503", status_code=503)
TIMED_OUT = AttemptResult(Outcome.CUT, Verdict.FAILURE, reason="no first token", timed_out=True)


class World:
    """A chain of two groups; calls of the first take half a second until it falls silent."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        config = {"features": {"chat": {"first_token": "auto"}}}
        self.guard = Guard(WallieConfig.model_validate(config), clock=self.clock)
        self.latencies = self.guard.routing.latencies
        for _ in range(30):
            call = self.begin()
            self.clock.advance(0.5)
            self.latencies.end(call, SERVED)

    def begin(self) -> Call:
        call = Call("a/m", self.clock.now())
        self.latencies.begin(call, False)
        return call

    def first(self, feature: str = "chat", **stated: object) -> str:
        asked = Asked("a", {}, feature, None, {}, stated, lambda _: (), scopes_of=lambda group: (f"{group}/m",))
        plan = Plan("a", (Member("b"),))
        for step in self.guard.routing.steps:
            plan = step(plan, asked)
        return plan.group


@pytest.fixture
def world() -> World:
    return World()


def test_two_calls_that_wait_far_longer_than_usual_are_enough(world: World) -> None:
    world.begin(), world.begin()
    world.clock.advance(0.6)
    assert world.first() == "a"
    world.clock.advance(0.4)
    assert world.first() == "b"
    assert world.first("other") == "a"
    assert world.first(fallbacks=["b"]) == "a"


def test_one_late_call_is_a_tail(world: World) -> None:
    world.begin()
    world.clock.advance(3)
    assert world.first() == "a"


@pytest.mark.parametrize("result", [SERVED, REJECTED], ids=["served", "an error"])
def test_a_model_that_answers_others_is_not_silent(world: World, result: AttemptResult) -> None:
    late = [world.begin() for _ in range(5)]
    another = world.begin()
    world.clock.advance(3)
    world.latencies.end(another, result)
    assert world.first() == "a"
    assert len(late) == 5


def test_it_is_asked_first_again_twenty_seconds_after_its_calls_were_given_up(world: World) -> None:
    late = [world.begin() for _ in range(3)]
    world.clock.advance(3)
    assert world.first() == "b"
    for call in late:
        world.latencies.end(call, TIMED_OUT)
    world.clock.advance(19)
    assert world.first() == "b"
    world.clock.advance(1)
    assert [world.first() for _ in range(3)] == ["a", "b", "b"]


def test_where_the_next_member_is_open_or_silent_too_the_order_stays(world: World) -> None:
    world.begin(), world.begin()
    world.clock.advance(3)
    world.guard.switch("first_token", on=False)
    assert world.first() == "a"
    world.guard.switch("first_token", on=True)
    assert world.first() == "b"


def test_a_member_without_room_is_not_asked_instead(world: World) -> None:
    world.begin(), world.begin()
    world.clock.advance(3)
    assert world.first() == "b"
    world.guard.limiter("b/m").pause(30)
    assert world.first() == "a"
