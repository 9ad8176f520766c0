"""Waits of single requests that the properties of all requests have shown to be wrong once."""

from __future__ import annotations

import pytest
from simulated_groups import Call, Group, VirtualLoop, World

from wallie_litellm.core.demand import NOTHING, ONE_REQUEST

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


@pytest.mark.parametrize("waited", [1.1808005701527364, 0.1, 0.7, 2.3])
def test_what_is_left_of_a_patience_is_never_too_little_to_move_the_clock(waited):
    admission = {"max_wait": 12, "patience": 6, "pause_patience": 3}
    world = World(GROUPS, [Call("429", after=8)], CHAIN, (("admission", admission),))
    other = world.guard.limiter("q")
    other.settle(other.reserve(ONE_REQUEST), NOTHING, pause_for=15)
    world.open().waited = waited
    run(world)
    assert [one.made.group for one in world.made] == ["a", "a"]
