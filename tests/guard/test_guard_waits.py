"""Wait or fall back: how long an attempt may wait for a provider."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from math import inf
from typing import Any

import pytest
from fake_clock import FakeClock
from limiter_support import tokens

from wallie_litellm.core.attempt_result import AttemptResult
from wallie_litellm.core.circuit_breaker import Verdict
from wallie_litellm.core.demand import Demand, Outcome
from wallie_litellm.errors import CircuitOpen, DeadlineExceeded, RateLimited, Refused, RequestTooLarge
from wallie_litellm.guard import Guard
from wallie_litellm.guard.context import Attempt, RequestContext

MakeGuard = Callable[..., Guard]


def use_up(guard: Guard, provider: str = "openai", amount: int = 60) -> None:
    guard.update_usage(provider, 0, amount)


def attempt(context: RequestContext, provider: str = "openai") -> Attempt:
    return Attempt(group=context.group, provider=provider)


async def settled_down() -> None:
    """Let everything that can run now run."""
    for _ in range(5):
        await asyncio.sleep(0)


async def admitted(guard: Guard, clock: FakeClock, context: RequestContext, demand: Demand, seconds: float) -> Attempt:
    """An attempt that is admitted within ``seconds``, which pass at once."""
    made = attempt(context)
    task = asyncio.ensure_future(guard.admit(context, made, demand))
    await settled_down()
    clock.advance(seconds)
    await settled_down()
    assert task.done(), "still waiting"
    task.result()
    return made


async def refusal(guard: Guard, context: RequestContext, demand: Demand, kind: type[Refused] = RateLimited) -> Refused:
    with pytest.raises(kind) as caught:
        await guard.admit(context, attempt(context), demand)
    assert type(caught.value) is kind
    return caught.value


async def test_a_request_within_the_limits_does_not_wait(make_guard: MakeGuard, clock: FakeClock) -> None:
    guard = make_guard()
    context = guard.open_context("o")
    made = await admitted(guard, clock, context, tokens(60), 0)
    assert made.reservation is not None
    assert (made.waited, context.waited) == (0, 0)
    assert guard.status()["providers"]["openai"]["in_flight"] == 1


async def test_a_request_over_the_limit_waits_for_its_provider_by_default(
    make_guard: MakeGuard, clock: FakeClock
) -> None:
    guard = make_guard()
    use_up(guard)
    context = guard.open_context("o")
    made = await admitted(guard, clock, context, tokens(29), 29)
    assert made.waited == pytest.approx(29)
    assert context.waited == pytest.approx(29)
    assert made.started_at == pytest.approx(clock.now())


async def test_a_request_falls_back_at_once_when_the_wait_exceeds_max_wait(make_guard: MakeGuard) -> None:
    guard = make_guard()
    use_up(guard)
    error = await refusal(guard, guard.open_context("o"), tokens(31))
    assert (error.status_code, error.code, error.provider, error.model) == (429, "wallie_rate_limited", "openai", "o")
    assert error.retry_after == pytest.approx(31)
    assert error.headers == {"Retry-After": "31"}
    assert guard.status()["providers"]["openai"]["waiting"] == 0


IMPATIENT = {"admission": {"max_wait": 30, "patience": 3}}


async def test_patience_holds_while_another_member_could_serve_now(make_guard: MakeGuard, clock: FakeClock) -> None:
    guard = make_guard(**IMPATIENT)
    use_up(guard)
    error = await refusal(guard, guard.open_context("o"), tokens(4))
    assert error.retry_after == pytest.approx(4)
    await admitted(guard, clock, guard.open_context("o"), tokens(3), 3)


@pytest.mark.parametrize("how", ["no chain", "open", "used up", "paused", "last member"])
async def test_max_wait_holds_when_no_other_member_could(make_guard: MakeGuard, clock: FakeClock, how: str) -> None:
    others = {name: {"tpm": 60} for name in ("anthropic", "gemini")}
    guard = make_guard(others, chains={} if how == "no chain" else {"o": ["a", "g"]}, **IMPATIENT)
    use_up(guard)
    context = guard.open_context("o", chain=["a", "o"]) if how == "last member" else guard.open_context("o")
    for other in ("anthropic", "gemini"):
        if how == "open":
            guard.open_circuit(other)
        elif how == "used up":
            use_up(guard, other)
        elif how == "paused":
            guard.limiter(other).settle(_nothing_reserved(guard, other), Demand(0, 0, 0, 0), pause_for=60)
    if how == "last member":
        guard.open_circuit("anthropic")
    await admitted(guard, clock, context, tokens(29), 29)


def _nothing_reserved(guard: Guard, provider: str) -> Any:
    return guard.limiter(provider).reserve(Demand(0, 0, 0, 0))


async def test_only_later_members_of_the_chain_count_as_alternatives(make_guard: MakeGuard, clock: FakeClock) -> None:
    guard = make_guard({"anthropic": {"tpm": 60}}, chains={"o": ["a"]}, **IMPATIENT)
    use_up(guard, "anthropic")
    context = guard.open_context("o")
    made = Attempt(group="a", provider="anthropic")
    task = asyncio.ensure_future(guard.admit(context, made, tokens(20)))
    await settled_down()
    clock.advance(20)
    await task
    assert made.reservation is not None


async def test_a_member_that_could_not_serve_this_request_is_no_alternative(
    make_guard: MakeGuard, clock: FakeClock
) -> None:
    guard = make_guard({"anthropic": {"tpm": 10}}, chains={"o": ["a"]}, **IMPATIENT)
    use_up(guard)
    await admitted(guard, clock, guard.open_context("o"), tokens(20), 20)


async def test_a_request_waits_for_a_concurrency_slot_only_for_its_patience(
    make_guard: MakeGuard, clock: FakeClock
) -> None:
    """The time at which a slot becomes free cannot be predicted, so the wait itself has to end."""
    guard = make_guard({"openai": {"concurrency": 1}}, **IMPATIENT)
    await admitted(guard, clock, guard.open_context("o"), tokens(1), 0)
    with pytest.raises(RateLimited, match=r"after waiting 3\.0 s"):
        await admitted(guard, clock, guard.open_context("o"), tokens(1), 3)


@pytest.mark.parametrize(("used", "wait"), [(60, "1.0"), (59.01, "0.1"), (60.96, "2.0")])
async def test_a_refusal_rounds_the_wait_up(make_guard: MakeGuard, clock: FakeClock, used: float, wait: str) -> None:
    guard = make_guard({"openai": {"rpm": 60}}, chains={}, admission={"max_wait": 0})
    guard.update_usage("openai", 61)
    clock.advance(61 - used)
    with pytest.raises(RateLimited, match=rf"it has capacity in {wait} s, longer than this request may wait"):
        await admitted(guard, clock, guard.open_context("o"), tokens(1), 0)


FEATURES = {"features": {"chat": {"patience": 2, "priority": 5}, "batch": {"max_wait": 120}}}


async def test_a_feature_has_its_own_patience_and_priority(make_guard: MakeGuard, clock: FakeClock) -> None:
    guard = make_guard(**FEATURES)
    context = guard.open_context("o", feature="chat", user_id="u1")
    assert (context.rules.patience, context.rules.max_wait, context.priority, context.caller.user_id) == (
        2,
        30,
        5,
        "u1",
    )
    use_up(guard)
    await refusal(guard, context, tokens(3))
    await admitted(guard, clock, guard.open_context("o", feature="other"), tokens(3), 3)


async def test_a_feature_may_wait_longer_than_the_rest(make_guard: MakeGuard, clock: FakeClock) -> None:
    guard = make_guard(**FEATURES)
    use_up(guard, amount=120)
    await refusal(guard, guard.open_context("o"), tokens(1))
    await admitted(guard, clock, guard.open_context("o", feature="batch"), tokens(1), 61)


def test_a_requests_own_priority_takes_precedence_over_its_features(make_guard: MakeGuard) -> None:
    assert make_guard(**FEATURES).open_context("o", feature="chat", priority=9).priority == 9


async def test_higher_priority_goes_first(make_guard: MakeGuard, clock: FakeClock) -> None:
    guard = make_guard(**FEATURES)
    use_up(guard)
    order: list[str] = []

    async def go(name: str, **more: Any) -> None:
        context = guard.open_context("o", chain=(), **more)
        await guard.admit(context, attempt(context), tokens(5))
        order.append(name)

    tasks = [asyncio.ensure_future(go("late")), asyncio.ensure_future(go("chat", feature="chat"))]
    await settled_down()
    clock.advance(10)
    await asyncio.gather(*tasks)
    assert order == ["chat", "late"]


# Deadlines


async def test_a_request_does_not_wait_past_its_deadline(make_guard: MakeGuard, clock: FakeClock) -> None:
    guard = make_guard()
    use_up(guard)
    error = await refusal(guard, guard.open_context("o", deadline=10), tokens(11))
    assert error.retry_after == pytest.approx(11)
    await admitted(guard, clock, guard.open_context("o", deadline=10), tokens(9), 9)


async def test_a_deadline_that_passes_while_waiting_raises_deadline_exceeded(
    make_guard: MakeGuard, clock: FakeClock
) -> None:
    guard = make_guard()
    use_up(guard)
    context = guard.open_context("o", deadline=10)
    task = asyncio.ensure_future(guard.admit(context, attempt(context), tokens(9)))
    await settled_down()
    clock.advance(8)
    use_up(guard, amount=5)
    clock.advance(2)
    with pytest.raises(DeadlineExceeded):
        await task
    assert guard.status()["providers"]["openai"]["waiting"] == 0


async def test_a_request_past_its_deadline_does_not_wait(make_guard: MakeGuard, clock: FakeClock) -> None:
    guard = make_guard()
    context = guard.open_context("o", deadline=10)
    use_up(guard, amount=120)
    guard.check_deadline(context)
    clock.advance(10)
    with pytest.raises(DeadlineExceeded) as caught:
        await guard.admit(context, attempt(context), tokens(20))
    assert (caught.value.status_code, isinstance(caught.value, TimeoutError)) == (504, True)
    with pytest.raises(DeadlineExceeded):
        guard.check_deadline(context)


# Refusals


async def test_an_open_circuit_is_not_waited_for(make_guard: MakeGuard, clock: FakeClock) -> None:
    guard = make_guard(breaker={"failures": 1})
    context = guard.open_context("o")
    made = await admitted(guard, clock, context, tokens(1), 0)
    guard.settle(context, made, AttemptResult(Outcome.REJECTED, Verdict.FAILURE, reason="InternalServerError"))
    clock.advance(4)
    error = await refusal(guard, guard.open_context("o"), tokens(1), CircuitOpen)
    assert (error.status_code, error.code, error.retry_after) == (503, "wallie_circuit_open", 6)
    assert "InternalServerError" in str(error)


async def test_a_circuit_held_open_by_the_operator_has_a_finite_retry_after(make_guard: MakeGuard) -> None:
    guard = make_guard(breaker={"open_for": 45})
    guard.open_circuit("openai")
    error = await refusal(guard, guard.open_context("o"), tokens(1), CircuitOpen)
    assert error.retry_after == 45


async def test_waiting_requests_are_refused_when_the_circuit_opens(make_guard: MakeGuard) -> None:
    guard = make_guard()
    use_up(guard)
    context = guard.open_context("o")
    task = asyncio.ensure_future(guard.admit(context, attempt(context), tokens(5)))
    await settled_down()
    guard.open_circuit("openai")
    with pytest.raises(CircuitOpen):
        await task


async def test_a_request_bigger_than_the_limit_is_refused_with_advice(make_guard: MakeGuard) -> None:
    guard = make_guard()
    error = await refusal(guard, guard.open_context("o"), tokens(61), RequestTooLarge)
    assert (error.status_code, error.code, error.retry_after) == (429, "wallie_request_too_large", inf)
    assert error.headers == {"x-should-retry": "false"}
    assert "tpm limit of 60" in str(error)
    assert isinstance(error, RateLimited)


async def test_a_guessed_output_that_is_too_large_is_cut_to_the_limit(make_guard: MakeGuard) -> None:
    guard = make_guard()
    context = guard.open_context("o")
    made = attempt(context)
    await guard.admit(context, made, Demand(1, 160, 10, 150), guessed=True)
    assert made.reservation is not None
    assert made.reservation.demand.tokens == 60
    with pytest.raises(RequestTooLarge):
        await guard.admit(context, attempt(context), Demand(1, 210, 61, 149), guessed=True)


async def test_a_rejection_for_its_rate_pauses_the_provider_as_long_as_asked(
    make_guard: MakeGuard, clock: FakeClock
) -> None:
    guard = make_guard()
    context = guard.open_context("o")
    first, second = [await admitted(guard, clock, context, tokens(1), 0) for _ in range(2)]
    guard.settle(context, first, AttemptResult(Outcome.REJECTED, rate_limited=True, pause_for=90))
    guard.settle(context, second, AttemptResult(Outcome.REJECTED, rate_limited=True, pause_for=20))
    error = await refusal(guard, guard.open_context("o"), tokens(1))
    assert error.retry_after == pytest.approx(90)
    assert "asked to be left alone" in str(error)


async def test_rejections_without_a_retry_after_pause_longer_each_time(make_guard: MakeGuard, clock: FakeClock) -> None:
    guard = make_guard(retry={"jitter": 0})
    pauses = []
    for _ in range(3):
        context = guard.open_context("o")
        made = await admitted(guard, clock, context, tokens(1), 0)
        guard.settle(context, made, AttemptResult(Outcome.REJECTED, rate_limited=True))
        pauses.append(guard.status()["providers"]["openai"]["paused_for"])
        clock.advance(60)
    context = guard.open_context("o")
    made = await admitted(guard, clock, context, tokens(1), 0)
    guard.settle(context, made, AttemptResult(Outcome.SUCCESS, Verdict.SUCCESS))
    made = await admitted(guard, clock, context, tokens(1), 0)
    guard.settle(context, made, AttemptResult(Outcome.REJECTED, rate_limited=True))
    pauses.append(guard.status()["providers"]["openai"]["paused_for"])
    assert pauses == pytest.approx([1, 2, 4, 1])


async def test_a_crowd_that_meets_a_rate_limit_lengthens_the_pause_once(
    make_guard: MakeGuard, clock: FakeClock
) -> None:
    guard = make_guard(retry={"jitter": 0})
    crowd = []
    for _ in range(8):
        context = guard.open_context("o")
        crowd.append((context, await admitted(guard, clock, context, tokens(1), 0)))
    for context, made in crowd:
        guard.settle(context, made, AttemptResult(Outcome.REJECTED, rate_limited=True))
    assert guard.status()["providers"]["openai"]["paused_for"] == pytest.approx(1)


# Waiting requests that are cancelled


async def test_a_cancelled_waiter_leaves_the_queue(make_guard: MakeGuard, clock: FakeClock) -> None:
    guard = make_guard()
    use_up(guard)
    contexts = [guard.open_context("o") for _ in range(2)]
    tasks = [asyncio.ensure_future(guard.admit(context, attempt(context), tokens(10))) for context in contexts]
    await settled_down()
    tasks[0].cancel()
    await settled_down()
    clock.advance(10)
    await tasks[1]
    status = guard.status()["providers"]["openai"]
    assert (status["waiting"], status["in_flight"]) == (0, 1)


async def test_a_waiter_cancelled_between_grant_and_waking_gives_the_capacity_back(
    make_guard: MakeGuard, clock: FakeClock
) -> None:
    guard = make_guard()
    use_up(guard)
    context = guard.open_context("o")
    task = asyncio.ensure_future(guard.admit(context, attempt(context), tokens(10)))
    await settled_down()
    clock.advance(10)
    assert guard.status()["providers"]["openai"]["in_flight"] == 1
    task.cancel()
    await settled_down()
    assert task.cancelled()
    status = guard.status()["providers"]["openai"]
    assert (status["waiting"], status["in_flight"], status["quota"]["tpm"]["refunded"]) == (0, 0, 10)


async def test_closing_the_guard_refuses_every_waiting_request(make_guard: MakeGuard) -> None:
    guard = make_guard()
    use_up(guard)
    context = guard.open_context("o")
    task = asyncio.ensure_future(guard.admit(context, attempt(context), tokens(10)))
    await settled_down()
    await guard.aclose()
    await guard.aclose()
    with pytest.raises(Refused):
        await task
    with pytest.raises(Refused):
        await asyncio.wait_for(guard.admit(context, attempt(context), tokens(10)), 5)


# Without an event loop, and with several


def blocking(guard: Guard, amount: int, **more: Any) -> tuple[threading.Thread, list[Any]]:
    outcome: list[Any] = []

    def work() -> None:
        context = guard.open_context("o", **more)
        made = attempt(context)
        try:
            guard.admit_blocking(context, made, tokens(amount))
            outcome.append(made)
        except Refused as error:
            outcome.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread, outcome


def waiting(guard: Guard) -> int:
    found: int = guard.status()["providers"]["openai"]["waiting"]
    return found


def until_waiting(guard: Guard, number: int) -> None:
    pause = threading.Event()
    for _ in range(5000):
        if waiting(guard) == number:
            return
        pause.wait(0.001)
    raise AssertionError(f"never {number} waiting")


def test_a_thread_waits_like_a_task(make_guard: MakeGuard, clock: FakeClock) -> None:
    guard = make_guard()
    use_up(guard)
    thread, outcome = blocking(guard, 10)
    until_waiting(guard, 1)
    clock.advance(10)
    thread.join(60)
    assert outcome[0].waited == pytest.approx(10)


def test_a_thread_is_refused_like_a_task(make_guard: MakeGuard) -> None:
    guard = make_guard()
    use_up(guard)
    thread, outcome = blocking(guard, 31)
    thread.join(60)
    assert isinstance(outcome[0], RateLimited)
    thread, outcome = blocking(guard, 10)
    until_waiting(guard, 1)
    guard.open_circuit("openai")
    thread.join(60)
    assert isinstance(outcome[0], CircuitOpen)


def test_a_loop_that_was_closed_with_a_request_waiting_does_not_keep_its_capacity(
    make_guard: MakeGuard, clock: FakeClock
) -> None:
    guard = make_guard()
    use_up(guard)
    loop = asyncio.new_event_loop()
    context = guard.open_context("o")
    coroutine = guard.admit(context, attempt(context), tokens(10))

    async def enter() -> Any:
        return coroutine.send(None)

    loop.run_until_complete(enter())
    loop.close()
    assert waiting(guard) == 1
    timers = threading.Thread(target=clock.advance, args=(10,), daemon=True)
    timers.start()
    timers.join(60)
    assert not timers.is_alive(), "stuck"
    assert guard.status()["providers"]["openai"]["in_flight"] == 0
    with pytest.raises(RuntimeError):
        coroutine.throw(RuntimeError("collected"))
