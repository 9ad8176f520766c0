"""Rare ways through the request loop, over simulated groups."""

from __future__ import annotations

import pytest
from simulated_groups import Call, Group, VirtualLoop, World

from wallie_litellm.core.demand import NOTHING, ONE_REQUEST

GROUPS = {name: Group([(f"{name}0", provider, None)]) for name, provider in zip("abc", "pqr", strict=True)}
CHAIN = {"fallbacks": [{"a": ["b"]}]}


def run(world: World, **more: object) -> World:
    loop = VirtualLoop()
    loop.restart(world.clock)
    loop.run_until_complete(world.ask(**more))
    loop.close()
    return world


@pytest.mark.parametrize(
    ("kind", "chains"),
    [
        ("content policy", {"content_policy_fallbacks": [{"*": ["b", "c"]}]}),
        ("context window", {"context_window_fallbacks": [{"a": ["b"]}, {"b": ["a"]}]}),
    ],
)
def test_chains_of_a_fault_that_lead_back_end(kind, chains):
    world = run(World(GROUPS, [Call(kind)] * 60, chains))
    assert len(world.made) <= 3


def test_a_guard_that_closes_between_two_attempts_repeats_nothing():
    world = World(GROUPS, [Call("500")])
    world.clock.call_at(world.clock.now() + 0.3, world.guard.refuse)
    run(world)
    assert len(world.made) == 1


def test_a_closed_guard_admits_nothing():
    world = World(GROUPS)
    world.guard.refuse()
    run(world)
    assert not world.made


def test_a_wait_for_a_pause_ends_when_another_member_can_serve_after_the_first_look():
    admission = {"max_wait": 30, "patience": 30, "pause_patience": 3}
    world = World(GROUPS, [Call("429", after=28)], CHAIN, (("admission", admission),))
    other = world.guard.limiter("q")
    other.settle(other.reserve(ONE_REQUEST), NOTHING, pause_for=3.5)
    run(world)
    assert [one.made.group for one in world.made] == ["a", "b"]
    assert world.made[1].made.at - world.started_at < 6.5


def test_a_timeout_is_not_repeated_after_another_deployment_has_failed_otherwise():
    groups = {"a": Group([("a0", "p", None), ("a1", "q", None)]), "b": Group([("b0", "r", None)])}
    world = run(World(groups, [Call("timeout", 5.0), Call("500")], CHAIN))
    assert [one.made.deployment for one in world.made].count("a0") == 1


@pytest.mark.parametrize(("answer", "most"), [("timeout", 1), ("500", 4)])
def test_a_step_elsewhere_that_litellm_leaves_nothing_for_does_not_repeat_at_once(answer, most):
    groups = {"a": Group([("a0", "p", None), ("a1", "q", None)], frozenset({"a1"})), "b": Group([("b0", "r", None)])}
    world = run(World(groups, [Call(answer, 1.0)] * 9, CHAIN))
    made = [one for one in world.made if one.made.group == "a"]
    assert len(made) <= most
    assert all(seconds > 0 for seconds, one in list(world.waits())[1:] if one.made.group == "a")


def test_a_retry_that_was_refused_leaves_the_retries_to_the_next_member():
    world = run(World(GROUPS, [Call("429", after=40), Call("500")], CHAIN, (("retry", {"max_retries": 1}),)))
    assert [one.made.group for one in world.made] == ["a", "b", "b"]


def test_a_timeout_is_repeated_where_an_opened_request_has_its_fallbacks_disabled():
    world = run(World(GROUPS, [Call("timeout", 1.0)], CHAIN), disable_fallbacks=True)
    assert [one.made.group for one in world.made] == ["a", "a"]


def test_the_first_sleep_is_the_first_of_the_backoff_whatever_was_asked_elsewhere_before():
    groups = {"a": Group([("a0", "p", None), ("a1", "q", None)])}
    world = run(World(groups, [Call("500"), Call("500")]))
    assert [round(seconds) for seconds, _ in world.waits()] == [0, 0, 1]


def test_a_blocking_first_token_that_did_not_come_counts_as_a_wait():
    world = World(GROUPS, [Call("success", 9.0)], CHAIN)
    world.ask_blocking(first_token=4.0)
    assert world.context.waited == pytest.approx(4.0, abs=1e-3)
