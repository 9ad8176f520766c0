"""What holds for every request that may be hedged, whatever its providers answer, and wherever it is given up."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from simulated_groups import EXAMPLES, FOR_EVER, Call, Group, VirtualLoop, World
from test_loop_cancelled import assert_cancelled_at_most, assert_nothing_left, cancelled_at, dropped_at, stepped

from wallie_litellm.core.demand import ONE_REQUEST
from wallie_litellm.events import Settled

FEATURE = "chat"
AFTER = 1.0  # seconds to a hedge
LATE = 1e-3  # seconds by which a timer may be late
GROUPS = {
    "a": Group([("a0", "p", None), ("a1", "q", None)]),
    "b": Group([("b0", "r", None)]),
    "c": Group([("c0", "s", None)], allowed=False),
    "d": Group([("d0", "s", None)]),
}
KINDS = ("400", "500", "429", "timeout", "success", "stream", "stream broken", "stream cut", "stream silent")
bounded = settings(deadline=None, max_examples=2 * EXAMPLES)
scripts = st.lists(
    st.builds(Call, st.sampled_from(KINDS), st.sampled_from((0.0, 0.5, 1.5, 2.0, 4.0)), st.sampled_from((None, 2))),
    max_size=6,
)
ways = {"stream": st.booleans(), "recovery": st.sampled_from(("error", "hold", "continue"))}
loop = VirtualLoop()


def hedged_world(script: list[Call], recovery: str = "error", **providers: Any) -> World:
    """A chain of a feature whose late calls are hedged, as often as it wants."""
    wallie = {
        "features": {
            FEATURE: {
                "limits": {"rpm": 600},
                "stream_recovery": recovery,
                "first_token": 3.0,
                "hedge": {"after": AFTER, "budget": 1},
            }
        },
        "providers": providers,
        "retry": {"max_retries": 2},
    }
    return World(GROUPS, script, {"fallbacks": [{"a": ["b", "c", "d"]}]}, tuple(sorted(wallie.items())))


def run(world: World, *, stream: bool, deadline: float | None = None) -> World:
    world.open(stream=stream, feature=FEATURE, deadline=deadline)
    loop.restart(world.clock)
    loop.run_until_complete(world.ask(stream=stream))
    assert not [task for task in asyncio.all_tasks(loop) if not task.cancelling()]
    loop.run_until_complete(asyncio.sleep(0))  # what was cancelled ends
    loop.run_until_complete(asyncio.sleep(0))
    assert not asyncio.all_tasks(loop)
    world.assert_settled_once()
    return world


@bounded
@given(script=scripts, **ways)
def test_a_request_has_one_hedge_and_its_end_says_what_that_cost(script, stream, recovery):
    world = run(hedged_world(script, recovery), stream=stream)
    hedges = [one for one in world.bus.of(Settled) if one.hedge]
    assert len(hedges) <= 1
    assert world.ended.hedged == bool(hedges)
    assert [one.number for one in world.ended.settled] == list(range(1, len(world.made) + 1))
    assert list(world.ended.settled) == world.bus.of(Settled)
    if world.ended.success and world.made:
        assert world.ended.settled[-1].success
        assert world.ended.settled[-1].provider == world.ended.provider
        lost = [one for one in world.ended.settled if one.error == "hedged"]
        assert len(lost) <= len(hedges)
        assert len([one for one in world.ended.settled if one.success]) == 1


@bounded
@given(script=scripts, **ways)
def test_a_call_is_hedged_once_it_is_late_and_no_call_is_made_while_two_are_under_way(script, stream, recovery):
    world = run(hedged_world(script, recovery), stream=stream)
    hedged = [one for one in world.bus.of(Settled) if one.hedge]
    for one, after in zip(world.made, world.made[1:], strict=False):
        if after.made.at < one.at - LATE:
            assert hedged
            assert after.made.at - one.made.at >= AFTER - LATE
            assert after.made.group != one.made.group
    for number, one in enumerate(world.made):
        assert sum(earlier.at > one.made.at + LATE for earlier in world.made[:number]) <= 1


@bounded
@given(script=scripts, deadline=st.sampled_from((0.6, 1.4, 3.0, 6.0)), **ways)
def test_a_deadline_covers_an_attempt_and_its_hedge(script, deadline, stream, recovery):
    world = run(hedged_world(script, recovery), stream=stream, deadline=deadline)
    assert world.clock.now() <= world.started_at + deadline + LATE
    assert all(one.at <= world.started_at + deadline + LATE for one in world.made)


@bounded
@given(script=scripts, at=st.integers(1, 60), **ways)
def test_a_hedged_request_that_is_cancelled_at_any_step_leaves_nothing_behind(script, at, stream, recovery):
    world = hedged_world(script, recovery)
    world.open(stream=stream, feature=FEATURE)
    with stepped(world) as events:
        cancelled = cancelled_at(world, events, at, stream=stream)
        events.run_until_complete(asyncio.sleep(0))
        events.run_until_complete(asyncio.sleep(0))
        assert not asyncio.all_tasks(events)
    assert_cancelled_at_most(world, cancelled)


@bounded
@given(script=scripts, at=st.integers(2, 60), **ways)
def test_a_hedged_request_whose_coroutine_is_dropped_at_any_step_leaves_nothing_behind(script, at, stream, recovery):
    world = hedged_world(script, recovery)
    world.open(stream=stream, feature=FEATURE)
    with stepped(world) as events:
        ended = dropped_at(world, events, at, stream=stream)
        for other in asyncio.all_tasks(events):
            other._log_destroy_pending = False
            other.get_coro().close()
    assert_nothing_left(world)
    if not ended:
        assert (world.ended.success, world.ended.error, world.ended.by_caller) == (False, "cancelled", True)


def slow_primary(answer: str = "success", **providers: Any) -> World:
    return hedged_world([Call("success", FOR_EVER), Call(answer, 0.5)], **providers)


def test_the_next_member_is_asked_and_its_answer_is_the_request():
    world = run(slow_primary(), stream=False)
    assert [(one.made.group, one.made.at - world.started_at) for one in world.made][1][0] == "b"
    assert [(one.error, one.hedge, one.success) for one in world.ended.settled] == [
        ("hedged", False, False),
        (None, True, True),
    ]
    assert world.clock.now() - world.started_at < AFTER + 0.5 + LATE
    assert (world.ended.provider, world.ended.used_fallback, world.ended.hedged) == ("r", True, True)


def test_a_hedge_that_fails_leaves_the_attempt_alone():
    world = run(hedged_world([Call("success", 2.0), Call("500", 0.5)]), stream=False)
    assert [(one.model, one.error, one.hedge) for one in world.ended.settled] == [
        ("b", "HTTP 500", True),
        ("a", None, False),
    ]
    assert world.ended.success


def test_an_attempt_that_fails_waits_for_its_hedge():
    world = run(hedged_world([Call("500", 1.5), Call("success", 1.0)]), stream=False)
    assert [(one.model, one.error) for one in world.ended.settled] == [("a", "HTTP 500"), ("b", None)]
    assert world.ended.wasted_usd == 0.0


def test_where_both_fail_the_chain_goes_on_after_the_later_member():
    world = run(hedged_world([Call("500", 1.5), Call("401", 1.0)]), stream=False)
    assert world.visits() == ["a", "b", "d"]
    assert world.ended.success


def test_a_400_ends_the_request_and_its_hedge():
    world = run(hedged_world([Call("400", 1.5), Call("success", 1.0)]), stream=False)
    assert [(one.model, one.error) for one in world.ended.settled] == [("a", "HTTP 400"), ("b", "hedged")]
    assert world.ended.by_caller


def test_a_hedge_never_waits():
    world = slow_primary(r={"rpm": 15, "burst": {"rpm": 1}})
    limiter = world.guard.limiter("r")
    limiter.settle(limiter.reserve(ONE_REQUEST), ONE_REQUEST)
    run(world, stream=False)
    assert [one.made.at - world.started_at > AFTER + LATE for one in world.made] == [False, True]
    assert not any(one.hedge for one in world.bus.of(Settled))
    assert world.guard.status()["routing"]["hedge"][FEATURE]["suppressed"]["capacity"] == 1


def test_an_open_or_half_open_breaker_is_not_hedged_to():
    for open_it in (lambda guard: guard.open_circuit("r"), lambda guard: guard.release_circuit("r")):
        world = hedged_world([Call("success", 2.0)])
        world.guard.open_circuit("r")
        open_it(world.guard)
        run(world, stream=False)
        assert [one.made.group for one in world.made] == ["a"]
        assert world.guard.status()["routing"]["hedge"][FEATURE]["suppressed"]["circuit"] == 1


def test_a_switch_turns_hedges_off_at_run_time():
    world = hedged_world([Call("success", 2.0)])
    world.guard.switch("hedge", on=False)
    run(world, stream=False)
    assert [one.made.group for one in world.made] == ["a"]
    assert not world.ended.hedged


def test_the_wait_for_two_first_tokens_counts_once():
    world = run(hedged_world([Call("success", FOR_EVER), Call("success", FOR_EVER)]), stream=False)
    assert [one.error for one in world.ended.settled][:2] == ["no first token", "no first token"]
    assert abs(world.context.waited - 4.0) < 10 * LATE
