"""What holds for every request, whatever its providers answer: attempts, order, deadline, settlement, and waits."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import litellm
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated_groups import EXAMPLES, FOR_EVER, Call, Group, VirtualLoop, World, error_of

from wallie_litellm.core.demand import NOTHING, ONE_REQUEST

PROVIDERS = ("p", "q", "r", "s")
MAX_WAIT, PATIENCE, PAUSE_PATIENCE = 12.0, 6.0, 3.0  # seconds
LATE = 1e-3  # seconds by which a wait may end late: a place in a queue is looked for every millisecond
FAILURES = ("400", "401", "404", "429", "500", "503", "timeout", "refused", "reset")
SPECIAL = ("context window", "content policy")


def calls(*kinds: str) -> st.SearchStrategy[Call]:
    """Answers of these kinds."""
    return st.builds(
        Call, st.sampled_from(kinds), st.sampled_from((0.0, 0.25, 2.0, 9.0)), st.none() | st.integers(0, 40)
    )


def groups(name: str) -> st.SearchStrategy[Group]:
    """One to three deployments of a few providers, some of them with LiteLLM's ``order``."""
    one = st.tuples(st.sampled_from(PROVIDERS), st.sampled_from((None, None, 1, 2)))
    return st.lists(one, min_size=1, max_size=3).map(
        lambda found: Group([(f"{name}{i}", provider, order) for i, (provider, order) in enumerate(found)])
    )


@st.composite
def worlds(draw: Callable[..., Any], *kinds: str, limited: bool = False, own_chains: bool = False) -> World:
    """A request along a chain of up to four groups."""
    names = draw(st.permutations("abcd"))[: draw(st.integers(1, 4))]
    wallie: dict[str, Any] = {
        "retry": {"max_retries": draw(st.integers(0, 3))},
        "admission": {"max_wait": MAX_WAIT, "patience": PATIENCE, "pause_patience": PAUSE_PATIENCE},
        "breaker": {"failures": draw(st.sampled_from((1, 2, 5)))},
    }
    if limited:
        rates = st.sampled_from((None, 6, 30))
        wallie["providers"] = {name: {"rpm": draw(rates), "burst": {"rpm": 1}} for name in PROVIDERS}
        wallie["providers"] = {name: ({} if one["rpm"] is None else one) for name, one in wallie["providers"].items()}
    fallbacks = {"fallbacks": [{names[0]: list(names[1:])}]}
    if own_chains:
        for kind in ("context_window_fallbacks", "content_policy_fallbacks"):
            # Each goes on to later letters only: no chain leads back.
            fallbacks[kind] = [
                {name: sorted(draw(st.sets(st.sampled_from("bcd"))) & set("abcd"[i + 1 :]))}
                for i, name in enumerate("abc")
            ]
        names = ["a", *(name for name in names if name != "a")]
        fallbacks["fallbacks"] = [{"a": names[1:]}]
    world = World(
        {name: draw(groups(name)) for name in "abcd"},
        draw(st.lists(calls(*(kinds or (*FAILURES, "success"))), max_size=9)),
        fallbacks,
        tuple(sorted(wallie.items())),
        names[0],
        turn=draw(st.sampled_from((lambda count: 0, lambda count: count - 1, lambda count: count // 2))),
    )
    if limited:
        for name in draw(st.sets(st.sampled_from(PROVIDERS))):
            limiter = world.guard.limiter(name)
            limiter.settle(limiter.reserve(ONE_REQUEST), NOTHING, pause_for=draw(st.integers(0, 15)))
    return world


loop = VirtualLoop()


def run(world: World, *, blocking: bool, **more: Any) -> World:
    """The world after its request."""
    if blocking:
        world.ask_blocking(**more)
    else:
        loop.restart(world.clock)
        loop.run_until_complete(world.ask(**more))
    world.assert_settled_once()
    return world


WAYS = st.booleans()
ways = {"blocking": WAYS, "stream": WAYS}
bounded = settings(deadline=None, max_examples=EXAMPLES)


@bounded
@given(world=worlds(*FAILURES, "success", "stream", "stream broken", "stream cut"), **ways)
def test_no_more_attempts_than_the_budget(world, blocking, stream):
    run(world, blocking=blocking, stream=stream)
    orders = sum(len({order for _, _, order in world.groups[name].deployments}) - 1 for name in world.chain)
    retries = dict(world.wallie)["retry"]["max_retries"]
    assert len(world.made) <= 1 + retries + len(world.chain) - 1 + orders
    assert world.context.tried.retries <= retries


@bounded
@given(world=worlds(), **ways)
def test_the_order_of_the_chain_is_kept_and_no_member_is_asked_again_later(world, blocking, stream):
    run(world, blocking=blocking, stream=stream)
    asked = [group for kind, group in world.log if kind == "pick"]
    visited = [group for i, group in enumerate(asked) if asked[i - 1 : i] != [group]]
    assert visited == world.chain[: len(visited)]


@bounded
@given(world=worlds(), **ways)
def test_nothing_is_called_after_a_success_and_every_member_before_a_failure(world, blocking, stream):
    run(world, blocking=blocking, stream=stream)
    assert "success" not in [one.ended for one in world.made[:-1]]
    assert world.ended.success == (world.failed is None) == (world.made[-1].ended == "success")
    if world.failed is not None and world.made[-1].ended != "400":
        assert world.log[-1][1] == world.chain[-1]


@bounded
@given(
    world=worlds(*FAILURES, "success", "stream", limited=True), deadline=st.sampled_from((0.1, 1, 3, 8)), stream=WAYS
)
def test_nothing_is_called_after_the_deadline_and_no_request_outlives_it(world, deadline, stream):
    world.open(deadline=deadline, stream=stream)
    run(world, blocking=False, stream=stream)
    assert world.clock.now() <= world.started_at + deadline + LATE
    assert all(one.made.at < world.started_at + deadline for one in world.made)


@bounded
@given(world=worlds(), **ways)
def test_no_sleep_comes_before_a_fallback(world, blocking, stream):
    run(world, blocking=blocking, stream=stream)
    for before, entry, after in zip(world.log, world.log[1:], world.log[2:], strict=False):
        if entry[0] == "sleep":
            assert before[1] == after[1]


@bounded
@given(world=worlds("timeout", "timeout", "500", "429", "success"), **ways)
def test_a_timeout_is_not_followed_by_the_same_deployment_while_another_member_could_serve(world, blocking, stream):
    run(world, blocking=blocking, stream=stream)
    for one, after in pairwise(world.made):
        if one.timed_out and one.others:
            assert one.made.deployment != after.made.deployment


@bounded
@given(world=worlds("400", "500", "429", "timeout"), **ways)
def test_a_400_of_the_caller_ends_the_request(world, blocking, stream):
    run(world, blocking=blocking, stream=stream)
    assert "400" not in [one.ended for one in world.made[:-1]]
    if world.made[-1].ended == "400":
        assert isinstance(world.failed, litellm.BadRequestError)
        assert world.ended.by_caller


@bounded
@given(world=worlds(*SPECIAL, *SPECIAL, "500", "429", "success", own_chains=True), **ways)
def test_context_window_and_content_policy_errors_go_along_their_own_chains_only(world, blocking, stream):
    run(world, blocking=blocking, stream=stream)
    after, expected = world.chain[1:], world.first
    own = {kind: dict(ChainMap(*world.fallbacks[f"{kind.replace(' ', '_')}_fallbacks"])) for kind in SPECIAL}
    for one in world.made:
        while one.made.group != expected:  # a member that was refused before a call
            assert after, (one, world.made)
            expected, after = after[0], after[1:]
        if one.ended in SPECIAL:
            after = list(own[one.ended].get(expected, ()))
            if not after:
                assert one is world.made[-1]
                assert type(world.failed) is type(error_of(Call(one.ended)))


@bounded
@given(world=worlds(*FAILURES, "success", limited=True), **ways)
def test_the_sum_of_waits_never_exceeds_max_wait(world, blocking, stream):
    run(world, blocking=blocking, stream=stream)
    waits = [seconds for seconds, _ in world.waits()]
    last = world.made[-1].at if world.made else world.started_at
    waits.append(world.clock.now() - last)
    assert sum(waits) <= MAX_WAIT + LATE
    assert world.context.waited == pytest.approx(sum(waits), abs=LATE)


@bounded
@given(world=worlds("500", "503", "429", "timeout", "success", limited=True), **ways)
def test_the_sum_of_waits_never_exceeds_the_patience_while_another_member_could_serve(world, blocking, stream):
    run(world, blocking=blocking, stream=stream)
    waited, before = 0.0, None
    for seconds, one in world.waits():
        waited += seconds
        if before is not None and before.others and seconds > LATE:
            # A limit of the provider's own may be waited for longer than a pause.
            limited = dict(world.wallie)["providers"][one.made.provider]
            paused = before.ended == "429" and before.made.provider == one.made.provider and not limited
            assert waited <= (PAUSE_PATIENCE if paused else PATIENCE) + LATE
        before = one


@bounded
@given(
    world=worlds(),
    slow=st.lists(st.sampled_from((0.25, 2.0, FOR_EVER)), min_size=9, max_size=9),
    first_token=st.sampled_from((1.0, 4.0, 20.0)),
    stream=WAYS,
)
def test_a_first_token_that_did_not_come_counts_as_a_wait(world, slow, first_token, stream):
    world = replace(world, script=[Call("success", seconds) for seconds in slow])
    run(world, blocking=False, stream=stream, first_token=first_token)
    missed = [one for one in world.made if one.ended == "cut short"]
    assert all(one.at - one.made.at == pytest.approx(first_token, abs=LATE) for one in missed)
    waits = sum(seconds for seconds, _ in world.waits())
    assert world.context.waited == pytest.approx(waits + first_token * len(missed), abs=LATE)
    for i, one in enumerate(missed):
        if first_token * (i + 1) > MAX_WAIT:
            later = [seconds for seconds, other in world.waits() if other.made.at > one.made.at]
            assert not any(seconds > LATE for seconds in later)
