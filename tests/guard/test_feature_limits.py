"""A feature's own limits hold beside the provider's: a request is admitted by both or by neither."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from math import inf
from typing import Any

import pytest
from fake_clock import FakeClock
from hypothesis import given, settings
from hypothesis import strategies as st
from limiter_support import tokens
from recording import RecordingBus

from wallie_litellm.config import WallieConfig
from wallie_litellm.core.attempt_result import AttemptResult
from wallie_litellm.core.circuit_breaker import Verdict
from wallie_litellm.core.demand import Demand, Outcome
from wallie_litellm.errors import CircuitOpen, DeadlineExceeded, RateLimited, Refused, RequestTooLarge
from wallie_litellm.events import BreakerChanged, FellBack, QuotaCrossed
from wallie_litellm.guard import Guard
from wallie_litellm.guard.context import Attempt, RequestContext

MakeGuard = Callable[..., Guard]
SUCCESS = AttemptResult(Outcome.SUCCESS, Verdict.SUCCESS)
WIDE = {"openai": {"rpm": 1000, "tpm": 100_000}}


def chat(**limits: int) -> dict[str, Any]:
    return {"chat": {"limits": limits}}


def context_of(guard: Guard, **more: Any) -> RequestContext:
    return guard.open_context("o", **{"feature": "chat", **more})


def attempt(provider: str = "openai") -> Attempt:
    return Attempt(group="o", provider=provider)


def state_of(guard: Guard, name: str) -> dict[str, Any]:
    status = guard.status()
    found: dict[str, Any] = status["features"]["chat"] if name == "chat" else status["providers"][name]
    return found


def taken(guard: Guard, name: str, dimension: str) -> int:
    """Units that admission does not have, reserved ones among them."""
    quota = state_of(guard, name)["quota"][dimension]
    return int(quota["limit"] - quota["left"])


def used(guard: Guard, name: str, dimension: str) -> int:
    found: int = state_of(guard, name)["quota"][dimension]["used"]
    return found


def assert_balanced(guard: Guard) -> None:
    status = guard.status()
    for name, each in {**status["providers"], **status["features"]}.items():
        assert (each["in_flight"], each["waiting"]) == (0, 0), name
        for dimension, balance in each["quota"].items():
            assert balance["reserved"] == balance["settled"] + balance["refunded"], (name, dimension, balance)


def start(guard: Guard, demand: Demand, made: Attempt | None = None, **more: Any) -> asyncio.Task[None]:
    return asyncio.ensure_future(guard.admit(context_of(guard, **more), made or attempt(), demand))


async def settled_down() -> None:
    """Let everything that can run now run: a waiter that leaves admits the next, limiter after limiter."""
    for _ in range(50):
        await asyncio.sleep(0)


# Both hold


async def test_an_admitted_attempt_holds_and_settles_capacity_of_feature_and_provider(make_guard: MakeGuard) -> None:
    guard = make_guard(WIDE, features=chat(rpm=10, tpm=1000, rpd=100, tpd=5000, concurrency=2))
    context, made = context_of(guard), attempt()
    await guard.admit(context, made, tokens(100))
    assert (state_of(guard, "chat")["in_flight"], state_of(guard, "openai")["in_flight"]) == (1, 1)
    guard.settle(context, made, SUCCESS._replace(usage=tokens(150)))
    assert [used(guard, "chat", each) for each in ("rpm", "tpm", "rpd", "tpd")] == [1, 150, 1, 150]
    assert [used(guard, "openai", each) for each in ("rpm", "tpm")] == [1, 150]
    assert_balanced(guard)


async def test_a_features_limit_does_not_hold_for_other_requests(make_guard: MakeGuard) -> None:
    guard = make_guard(WIDE, features={**chat(rpm=1), "mail": {"priority": 3}}, admission={"max_wait": 0})
    await guard.admit(context_of(guard), attempt(), tokens(1))
    with pytest.raises(RateLimited):
        await guard.admit(context_of(guard), attempt(), tokens(1))
    for feature in ("mail", "unheard-of", None):
        await guard.admit(context_of(guard, feature=feature), attempt(), tokens(1))


async def test_a_feature_counts_over_all_its_providers(make_guard: MakeGuard) -> None:
    guard = make_guard(WIDE, features=chat(rpm=2), admission={"max_wait": 0})
    await guard.admit(context_of(guard), attempt("openai"), tokens(1))
    await guard.admit(context_of(guard), attempt("gemini"), tokens(1))
    with pytest.raises(RateLimited):
        await guard.admit(context_of(guard), attempt("anthropic"), tokens(1))


@pytest.mark.parametrize(
    ("ending", "requests", "charged"),
    [
        (SUCCESS, 1, 50),
        (SUCCESS._replace(usage=tokens(30)), 1, 30),
        (AttemptResult(Outcome.CACHE_HIT), 0, 0),
        (AttemptResult(Outcome.NOT_SENT, Verdict.FAILURE), 0, 0),
        (AttemptResult(Outcome.REJECTED, Verdict.FAILURE), 1, 0),
        (AttemptResult(Outcome.CUT, usage=tokens(70)), 1, 70),
    ],
)
async def test_feature_and_provider_are_charged_alike(
    make_guard: MakeGuard, ending: AttemptResult, requests: int, charged: int
) -> None:
    guard = make_guard(WIDE, features=chat(rpm=60, tpm=600))
    context, made = context_of(guard), attempt()
    await guard.admit(context, made, tokens(50))
    assert guard.settle(context, made, ending)
    assert not guard.settle(context, made, ending)
    for name in ("chat", "openai"):
        assert (used(guard, name, "rpm"), used(guard, name, "tpm")) == (requests, charged)
    assert_balanced(guard)


async def test_a_guessed_output_is_cut_to_each_limit_separately(make_guard: MakeGuard) -> None:
    guard = make_guard(WIDE, features=chat(tpm=100))
    context, made = context_of(guard), attempt()
    await guard.admit(context, made, Demand(1, 160, 10, 150), guessed=True)
    assert (taken(guard, "chat", "tpm"), taken(guard, "openai", "tpm")) == (100, 160)
    guard.settle(context, made, SUCCESS._replace(usage=tokens(40)))
    assert (taken(guard, "chat", "tpm"), taken(guard, "openai", "tpm")) == (40, 40)
    assert_balanced(guard)


# All or nothing


@pytest.mark.parametrize("why", ["open", "used up", "too large", "past the deadline"])
async def test_a_refusal_by_the_provider_costs_the_feature_nothing(
    make_guard: MakeGuard, clock: FakeClock, why: str
) -> None:
    guard = make_guard({"openai": {"tpm": 60}}, features=chat(rpm=5, tpm=1000, rpd=5, concurrency=1))
    if why == "open":
        guard.open_circuit("openai")
    elif why != "too large":
        guard.update_usage("openai", 0, 100)
    context = context_of(guard, deadline=5 if why == "past the deadline" else None)
    kind = {"open": CircuitOpen, "too large": RequestTooLarge}.get(why, RateLimited)
    with pytest.raises(kind) as caught:
        await guard.admit(context, attempt(), tokens(61 if why == "too large" else 20))
    assert caught.value.provider == "openai"
    assert context.feature_refusal is None
    assert [used(guard, "chat", each) for each in ("rpm", "tpm", "rpd", "concurrency")] == [0, 0, 0, 0]
    assert_balanced(guard)


async def test_a_refusal_by_the_feature_takes_nothing_from_the_provider(make_guard: MakeGuard) -> None:
    guard = make_guard(WIDE, features=chat(rpm=1), admission={"max_wait": 0})
    await guard.admit(context_of(guard), attempt(), tokens(1))
    with pytest.raises(RateLimited):
        await guard.admit(context_of(guard), attempt(), tokens(1))
    assert state_of(guard, "openai")["quota"]["rpm"]["reserved"] == 1


async def test_a_waiter_denied_by_the_provider_gives_the_features_capacity_back(make_guard: MakeGuard) -> None:
    guard = make_guard({"openai": {"tpm": 60}}, features=chat(rpm=5))
    guard.update_usage("openai", 0, 60)
    task = start(guard, tokens(10))
    await settled_down()
    assert used(guard, "chat", "rpm") == 1
    guard.open_circuit("openai")
    with pytest.raises(CircuitOpen):
        await task
    assert used(guard, "chat", "rpm") == 0
    assert_balanced(guard)


@pytest.mark.parametrize("where", ["feature", "provider"])
@pytest.mark.parametrize("granted", [False, True])
async def test_a_waiter_cancelled_in_either_queue_leaves_nothing_behind(
    make_guard: MakeGuard, clock: FakeClock, where: str, granted: bool
) -> None:
    guard = make_guard({"openai": {"tpm": 60}}, features=chat(tpm=60))
    if where == "feature":
        await guard.admit(first := context_of(guard), made := attempt("gemini"), tokens(60))
        guard.settle(first, made, SUCCESS)
    else:
        guard.update_usage("openai", 0, 60)
    task = start(guard, tokens(10))
    await settled_down()
    assert state_of(guard, "chat" if where == "feature" else "openai")["waiting"] == 1
    if granted:
        clock.advance(10)  # granted, and its task has not run yet
    task.cancel()
    await settled_down()
    assert task.cancelled()
    assert taken(guard, "chat", "tpm") == {"feature": 50 if granted else 60, "provider": 0}[where]
    assert_balanced(guard)


async def test_a_task_collected_while_it_waits_for_the_provider_leaves_nothing_behind(
    make_guard: MakeGuard, clock: FakeClock
) -> None:
    guard = make_guard({"openai": {"tpm": 60}}, features=chat(rpm=5))
    guard.update_usage("openai", 0, 60)
    coroutine = guard.admit(context_of(guard), attempt(), tokens(10))
    coroutine.send(None)
    assert state_of(guard, "openai")["waiting"] == 1
    coroutine.close()
    clock.advance(0)
    assert used(guard, "chat", "rpm") == 0
    assert_balanced(guard)


# Waiting


async def test_a_request_waits_for_its_feature_as_for_a_provider(make_guard: MakeGuard, clock: FakeClock) -> None:
    guard = make_guard(WIDE, features=chat(tpm=60))
    await guard.admit(context_of(guard), attempt(), tokens(60))
    made = attempt()
    context = context_of(guard)
    task = asyncio.ensure_future(guard.admit(context, made, tokens(20)))
    await settled_down()
    clock.advance(20)
    await task
    assert (made.waited, context.waited) == (pytest.approx(20), pytest.approx(20))
    assert made.started_at == pytest.approx(clock.now())


@pytest.mark.parametrize(("longer", "passes"), [(0, True), (2, False)])
async def test_max_wait_covers_both_waits(make_guard: MakeGuard, clock: FakeClock, longer: int, passes: bool) -> None:
    guard = make_guard({"openai": {"tpm": 60}}, features=chat(tpm=60), admission={"max_wait": 30})
    await guard.admit(first := context_of(guard), made := attempt("gemini"), tokens(60))
    guard.settle(first, made, SUCCESS)
    waiter = attempt()
    task = start(guard, tokens(20), waiter)
    await settled_down()
    clock.advance(19)
    guard.update_usage("openai", 0, 60 - 9 + longer)  # a second later, 20 more are there in another 10 s
    clock.advance(1)
    await settled_down()
    if not passes:
        with pytest.raises(RateLimited) as caught:
            await task
        assert caught.value.provider == "openai"
        assert "after waiting 20.0 s" in str(caught.value)
        assert taken(guard, "chat", "tpm") == 40
        return
    clock.advance(11)
    await task
    assert waiter.waited == pytest.approx(30, abs=1)


async def test_patience_does_not_end_the_wait_for_a_feature(make_guard: MakeGuard, clock: FakeClock) -> None:
    """Another provider would be held back by the same feature."""
    guard = make_guard(WIDE, features={"chat": {"patience": 1, "limits": {"tpm": 60}}})
    await guard.admit(context_of(guard), attempt(), tokens(60))
    task = start(guard, tokens(20))
    await settled_down()
    clock.advance(20)
    await task


async def test_a_features_own_max_wait_holds_for_its_limit(make_guard: MakeGuard) -> None:
    guard = make_guard(WIDE, features={"chat": {"max_wait": 5, "limits": {"tpm": 60}}})
    await guard.admit(context_of(guard), attempt(), tokens(60))
    with pytest.raises(RateLimited) as caught:
        await guard.admit(context_of(guard), attempt(), tokens(6))
    assert caught.value.retry_after == pytest.approx(6)


async def test_the_deadline_holds_for_the_features_limit(make_guard: MakeGuard, clock: FakeClock) -> None:
    guard = make_guard(WIDE, features=chat(concurrency=1))
    await guard.admit(context_of(guard), attempt(), tokens(1))
    task = start(guard, tokens(1), deadline=3)
    await settled_down()
    clock.advance(3)
    with pytest.raises(DeadlineExceeded):
        await task


async def test_higher_priority_is_served_first_by_the_features_limiter(make_guard: MakeGuard, clock: FakeClock) -> None:
    guard = make_guard(WIDE, features=chat(tpm=60))
    await guard.admit(context_of(guard), attempt(), tokens(60))
    order: list[str] = []

    async def come(name: str, priority: int) -> None:
        await guard.admit(context_of(guard, priority=priority), attempt(), tokens(10))
        order.append(name)

    tasks = []
    for name, priority in (("first", 0), ("second", 0), ("urgent", 5)):
        tasks.append(asyncio.ensure_future(come(name, priority)))
        await settled_down()
    for _ in range(3):
        clock.advance(10)
        await settled_down()
    await asyncio.gather(*tasks)
    assert order == ["urgent", "first", "second"]


async def test_the_priority_of_a_feature_holds_in_the_providers_queue(make_guard: MakeGuard, clock: FakeClock) -> None:
    guard = make_guard(features={"chat": {"priority": 7, "limits": {"rpm": 100}}})
    guard.update_usage("openai", 0, 60)
    batch = start(guard, tokens(10), feature="batch")
    await settled_down()
    person = start(guard, tokens(10))
    await settled_down()
    clock.advance(10)
    await settled_down()
    assert (person.done(), batch.done()) == (True, False)
    clock.advance(10)
    await batch


async def test_a_features_concurrency_limits_its_calls_in_flight(make_guard: MakeGuard, clock: FakeClock) -> None:
    guard = make_guard(WIDE, features=chat(concurrency=2))
    most = 0

    async def work() -> None:
        nonlocal most
        context, made = context_of(guard), attempt()
        await guard.admit(context, made, tokens(1))
        most = max(most, state_of(guard, "chat")["in_flight"])
        await asyncio.sleep(0)
        guard.settle(context, made, SUCCESS)

    await asyncio.gather(*(work() for _ in range(40)))
    assert most == 2
    assert_balanced(guard)


# A day


async def test_a_features_day_ends_at_midnight(make_guard: MakeGuard, clock: FakeClock) -> None:
    guard = make_guard(WIDE, features=chat(rpd=2))
    for _ in range(2):
        await guard.admit(context_of(guard), attempt(), tokens(1))
    with pytest.raises(RateLimited) as caught:
        await guard.admit(context_of(guard), attempt(), tokens(1))
    assert 0 < caught.value.retry_after <= 86_400
    clock.advance(caught.value.retry_after)
    await guard.admit(context_of(guard), attempt(), tokens(1))


# Messages


async def refusal(guard: Guard, demand: Demand) -> tuple[RequestContext, Refused]:
    context = context_of(guard)
    with pytest.raises(Refused) as caught:
        await guard.admit(context, attempt(), demand)
    return context, caught.value


async def test_a_refusal_names_the_feature_and_the_setting(make_guard: MakeGuard) -> None:
    guard = make_guard(WIDE, features=chat(rpm=1, tpm=100), admission={"max_wait": 0})
    _, error = await refusal(guard, tokens(101))
    assert isinstance(error, RequestTooLarge)
    assert "larger than the feature chat's whole tpm limit of 100" in str(error)
    assert "raise wallie.features.chat.limits.tpm" in str(error)
    assert error.retry_after == inf
    await guard.admit(context_of(guard), attempt(), tokens(1))
    _, error = await refusal(guard, tokens(1))
    assert str(error).startswith("The feature chat is at its rpm limit (wallie.features.chat.limits.rpm); ")
    assert (error.status_code, error.code, error.retry_after) == (429, "wallie_rate_limited", pytest.approx(60))
    assert (error.provider, error.model) == ("feature:chat", "o")
    assert "wallie.providers" not in str(error)


async def test_a_refusal_names_the_features_concurrency_limit(make_guard: MakeGuard) -> None:
    guard = make_guard(WIDE, features=chat(concurrency=1), admission={"max_wait": 0})
    await guard.admit(context_of(guard), attempt(), tokens(1))
    _, error = await refusal(guard, tokens(1))
    assert "The feature chat is at its concurrency limit (wallie.features.chat.limits.concurrency)" in str(error)


async def test_a_features_refusal_ends_the_chain(make_guard: MakeGuard, bus: RecordingBus) -> None:
    guard = make_guard(WIDE, features=chat(rpm=1), admission={"max_wait": 0})
    await guard.admit(context_of(guard), attempt(), tokens(1))
    context, error = await refusal(guard, tokens(1))
    assert context.feature_refusal is error
    with pytest.raises(RateLimited) as caught:
        guard.begin_fallback(context, "a")
    assert caught.value is error
    assert bus.of(FellBack) == []


async def test_a_providers_refusal_does_not_end_the_chain(make_guard: MakeGuard, bus: RecordingBus) -> None:
    guard = make_guard(features=chat(rpm=10))
    context, _ = await refusal(guard, tokens(61))
    guard.begin_fallback(context, "a")
    assert [event.to_model for event in bus.of(FellBack)] == ["a"]


async def test_a_features_limit_that_runs_out_is_announced_by_its_name(
    make_guard: MakeGuard, bus: RecordingBus
) -> None:
    guard = make_guard(WIDE, features=chat(rpm=10))
    for _ in range(10):
        await guard.admit(context_of(guard), attempt(), tokens(1))
    alerts = [(event.provider, event.dimension, event.level) for event in bus.of(QuotaCrossed)]
    assert alerts == [("feature:chat", "rpm", "warning"), ("feature:chat", "rpm", "critical")]


async def test_a_failing_provider_opens_no_features_circuit(make_guard: MakeGuard, bus: RecordingBus) -> None:
    guard = make_guard(WIDE, features=chat(rpm=100), breaker={"failures": 1})
    context, made = context_of(guard), attempt()
    await guard.admit(context, made, tokens(1))
    guard.settle(context, made, AttemptResult(Outcome.REJECTED, Verdict.FAILURE))
    assert [event.provider for event in bus.of(BreakerChanged)] == ["openai"]
    assert state_of(guard, "chat")["breaker"]["state"] == "closed"
    await guard.admit(context_of(guard), attempt("gemini"), tokens(1))


# Without an event loop


def test_a_blocking_request_is_held_to_both_limits(make_guard: MakeGuard) -> None:
    guard = make_guard({"openai": {"tpm": 60}}, features=chat(rpm=2), admission={"max_wait": 0})
    context, made = context_of(guard), attempt()
    guard.admit_blocking(context, made, tokens(10))
    with pytest.raises(RequestTooLarge):
        guard.admit_blocking(context_of(guard), attempt(), tokens(61))
    assert used(guard, "chat", "rpm") == 1
    guard.admit_blocking(other := context_of(guard), second := attempt(), tokens(10))
    with pytest.raises(RateLimited) as caught:
        guard.admit_blocking(third := context_of(guard), attempt(), tokens(10))
    assert third.feature_refusal is caught.value
    guard.settle(context, made, SUCCESS)
    guard.settle(other, second, SUCCESS)
    assert_balanced(guard)


def test_many_threads_leave_the_balances_of_both_limiters_correct(make_guard: MakeGuard) -> None:
    guard = make_guard({"openai": {"rpm": 10_000, "concurrency": 3}}, features=chat(rpm=10_000, rpd=300, concurrency=5))
    outcomes: list[str] = []

    def work() -> None:
        for _ in range(20):
            context, made = context_of(guard), attempt()
            try:
                guard.admit_blocking(context, made, tokens(1))
            except RateLimited:
                outcomes.append("refused")
            else:
                guard.settle(context, made, SUCCESS)
                outcomes.append("served")

    threads = [threading.Thread(target=work) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (outcomes.count("served"), len(outcomes)) == (300, 400)
    assert_balanced(guard)
    assert used(guard, "chat", "rpd") == 300


# Any sequence of events

MOVES = st.lists(
    st.tuples(
        st.sampled_from(["come", "come", "come", "cancel", "settle", "advance", "open", "close"]), st.integers(0, 9)
    ),
    max_size=40,
)


@given(MOVES)
@settings(deadline=None, max_examples=60)
async def test_no_sequence_of_events_leaves_a_reservation_or_a_waiter_behind(moves: list[tuple[str, int]]) -> None:
    clock = FakeClock()
    config = WallieConfig.model_validate(
        {"providers": {"openai": {"tpm": 60, "rpd": 30}}, "features": chat(tpm=90, rpd=20, concurrency=3)}
    )
    guard = Guard(config, {}, clock)
    running: list[tuple[RequestContext, Attempt, asyncio.Task[None]]] = []
    for move, number in moves:
        if move == "come":
            context, made = context_of(guard, priority=number % 3), attempt()
            running.append((context, made, asyncio.ensure_future(guard.admit(context, made, tokens(number * 7)))))
        elif move == "advance":
            clock.advance(number)
        elif move in ("open", "close"):
            (guard.open_circuit if move == "open" else guard.close_circuit)("openai")
        elif running:
            context, made, task = running[number % len(running)]
            if move == "cancel":
                task.cancel()
            else:
                guard.settle(context, made, SUCCESS._replace(usage=tokens(number * 5)))
        await settled_down()
        held = sum(made.reservation is not None and made.result is None for _, made, _ in running)
        assert state_of(guard, "openai")["in_flight"] == held
        assert held <= state_of(guard, "chat")["in_flight"] <= held + state_of(guard, "openai")["waiting"]
    for context, made, task in running:
        task.cancel()
        await settled_down()
        guard.settle(context, made, SUCCESS)
    clock.advance(0)
    assert_balanced(guard)
    await guard.aclose()
