"""Waits of single requests that the properties of all requests have shown to be wrong once."""

from __future__ import annotations

import pytest
from simulated_groups import Call, Group, VirtualLoop, World

from wallie_litellm.core.demand import NOTHING, ONE_REQUEST
from wallie_litellm.events import Settled

GROUPS = {"a": Group([("a0", "p", None)]), "b": Group([("b0", "q", None)])}
CHAIN = {"fallbacks": [{"a": ["b"]}]}


def run(world: World, **more: object) -> World:
    loop = VirtualLoop()
    loop.restart(world.clock)
    loop.run_until_complete(world.ask(**more))
    loop.close()
    return world


def test_a_stream_that_begins_and_sends_no_content_has_been_waited_for():
    world = run(World(GROUPS, [Call("stream silent")], CHAIN), stream=True, first_token=4.0)
    assert [one.made.group for one in world.made] == ["a", "b"]
    assert world.context.waited == pytest.approx(4.0, abs=1e-3)


@pytest.mark.parametrize("blocking", [False, True])
def test_the_time_to_the_first_token_begins_with_the_call_and_ends_with_content(blocking):
    """The first chunk, after half a second, says nothing; the request has waited before for its provider."""
    world = World(GROUPS, [Call("stream", 2.0)])
    provider = world.guard.limiter("p")
    provider.settle(provider.reserve(ONE_REQUEST), NOTHING, pause_for=2)
    if blocking:
        world.ask_blocking(stream=True)
    else:
        run(world, stream=True)
    (record,) = world.bus.of(Settled)
    assert (record.waited_ms, record.first_token_ms) == (pytest.approx(2000, abs=1), pytest.approx(3000, abs=1))


def test_a_stream_without_content_has_no_first_token():
    world = run(World(GROUPS, [Call("stream broken"), Call("stream cut")], CHAIN), stream=True)
    assert [record.first_token_ms for record in world.bus.of(Settled)] == [None, pytest.approx(1000, abs=1)]


@pytest.mark.parametrize("waited", [1.1808005701527364, 0.1, 0.7, 2.3])
def test_what_is_left_of_a_patience_is_never_too_little_to_move_the_clock(waited):
    admission = {"max_wait": 12, "patience": 6, "pause_patience": 3}
    world = World(GROUPS, [Call("429", after=8)], CHAIN, (("admission", admission),))
    other = world.guard.limiter("q")
    other.settle(other.reserve(ONE_REQUEST), NOTHING, pause_for=15)
    world.open().waited = waited
    run(world)
    assert [one.made.group for one in world.made] == ["a", "a"]


@pytest.mark.parametrize("blocking", [False, True])
def test_a_full_provider_is_not_waited_for_while_another_deployment_of_the_group_has_capacity(blocking):
    """The provider's account, which has its name and no limits, has failed and is looked at beside it."""
    groups = {"a": Group([("a0", "q", None)]), "b": Group([("b0", "q", None), ("b1", "p", None)])}
    limits = {"p": {}, "q": {"rpm": 6, "burst": {"rpm": 1}}}
    world = World(groups, [Call("500")], CHAIN, (("providers", limits), ("retry", {"max_retries": 0})))
    if blocking:
        world.ask_blocking()
    else:
        run(world)
    assert [one.made.deployment for one in world.made] == ["a0", "b1"]
    assert sum(seconds for seconds, _ in world.waits()) == pytest.approx(0, abs=1e-3)
