"""What has come back from an open breaker is given its traffic in steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from fake_clock import FakeClock

from wallie_litellm.config import WallieConfig
from wallie_litellm.guard import Guard
from wallie_litellm.routing.plan import Asked, Decided, Member, Plan
from wallie_litellm.routing.ramp import RampStep
from wallie_litellm.routing.switches import Switches

SCOPES = {"a": ("openai",), "b": ("anthropic",)}


class Ramped:
    """A guard with ``ramp: 30s`` whose provider of group ``a`` has been away."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.guard = Guard(WallieConfig.model_validate({"breaker": {"ramp": "30s"}}), clock=self.clock)

    def plan(self, plan: Plan | None = None, **stated: Any) -> Plan:
        asked = Asked("a", {}, None, None, {}, stated, lambda _: (), scopes_of=lambda group: SCOPES[group])
        [step] = self.guard.routing.steps
        return step(plan or Plan("a", (Member("b"),)), asked)

    def share(self, requests: int = 100) -> float:
        """The share of requests that ask ``a`` first."""
        return sum(self.plan().group == "a" for _ in range(requests)) / requests

    def come_back(self) -> None:
        self.guard.open_circuit("openai")
        self.clock.advance(60)
        self.guard.close_circuit("openai")


@pytest.fixture
def ramped() -> Ramped:
    return Ramped()


def test_the_share_grows_from_a_tenth_to_all(ramped: Ramped) -> None:
    assert ramped.share() == 1.0
    ramped.come_back()
    shares = []
    for _ in range(5):
        shares.append(ramped.share())
        ramped.clock.advance(7.5)
    assert shares == pytest.approx([0.1, 0.25, 0.5, 0.75, 1.0], abs=0.02)


def test_the_others_ask_the_next_member_and_say_why(ramped: Ramped) -> None:
    ramped.come_back()
    plan = ramped.plan()
    assert (plan.group, [member.group for member in plan.members]) == ("b", ["a"])
    assert plan.decided is not None
    assert (plan.decided.order, plan.decided.why) == ("a", ["b first, as a has just come back"])


def test_where_the_next_member_is_open_all_ask_the_first(ramped: Ramped) -> None:
    ramped.come_back()
    ramped.guard.open_circuit("anthropic")
    assert ramped.share() == 1.0


@pytest.mark.parametrize(
    ("plan", "stated"),
    [
        (Plan("a", ()), {}),
        (Plan("a", (Member("b"),), Decided(arm="a"), experiment="sizes"), {}),
        (Plan("a", (Member("b", {"temperature": 0}),)), {}),
        (Plan("a", (Member("b"),)), {"fallbacks": ["b"]}),
    ],
    ids=["no other member", "an arm", "parameters", "a stated chain"],
)
def test_chains_that_are_not_to_be_moved_stay(ramped: Ramped, plan: Plan, stated: Mapping[str, Any]) -> None:
    ramped.come_back()
    assert all(ramped.plan(plan, **stated) is plan for _ in range(10))


def test_switched_off_it_is_as_without(ramped: Ramped) -> None:
    ramped.come_back()
    ramped.guard.switch("ramp", on=False)
    assert ramped.share() == 1.0


def test_where_the_next_member_has_no_room_all_ask_the_first() -> None:
    full: set[str] = set()
    step = RampStep(30.0, lambda: 100.0, Switches(), lambda _: 100.0, lambda scope: scope not in full)
    asked = Asked("a", {}, None, None, {}, {}, lambda _: (), scopes_of=lambda group: SCOPES[group])
    plan = Plan("a", (Member("b"),))
    assert step(plan, asked).group == "b"
    full.add("anthropic")
    assert {step(plan, asked).group for _ in range(20)} == {"a"}
