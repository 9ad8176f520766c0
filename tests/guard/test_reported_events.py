"""The events that the guard publishes about breakers, health, operators, leases, attempts and requests."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import pytest
from fake_clock import FakeClock
from limiter_support import tokens
from recording import RecordingBus, RecordingSink

from wallie_litellm.core.attempt_result import AttemptResult, RequestFailure
from wallie_litellm.core.bill import Bill
from wallie_litellm.core.circuit_breaker import Verdict
from wallie_litellm.core.demand import NOTHING, Demand, Outcome
from wallie_litellm.events import (
    BreakerChanged,
    BudgetCrossed,
    Ended,
    FellBack,
    HealthChanged,
    OperatorActed,
    Settled,
    Unpriced,
    UsageReported,
)
from wallie_litellm.guard import Guard
from wallie_litellm.guard.context import Attempt, RequestContext
from wallie_litellm.guard.router_view import Pricer
from wallie_litellm.routing.plan import Decided, Plan

MakeGuard = Callable[..., Guard]
SUCCESS = AttemptResult(Outcome.SUCCESS, Verdict.SUCCESS)
FAILURE = AttemptResult(Outcome.REJECTED, Verdict.FAILURE, reason="HTTP 500", status_code=500)


async def begin(guard: Guard, demand: Demand | None = None, **context: Any) -> tuple[RequestContext, Attempt]:
    opened = guard.open_context("o", **context)
    attempt = Attempt(group="o", provider="openai", deployment="openai/x")
    await guard.admit(opened, attempt, demand or tokens(1))
    return opened, attempt


async def call(guard: Guard, result: AttemptResult, demand: Demand | None = None, **context: Any) -> RequestContext:
    opened, attempt = await begin(guard, demand, **context)
    guard.settle(opened, attempt, result)
    return opened


def breakers(bus: RecordingBus) -> list[tuple[str, str]]:
    return [(event.before, event.after) for event in bus.of(BreakerChanged)]


def healths(bus: RecordingBus) -> list[tuple[str, str]]:
    return [(event.before, event.status) for event in bus.of(HealthChanged)]


# Breaker and health


async def test_each_transition_of_a_breaker_is_published_once(
    make_guard: MakeGuard, bus: RecordingBus, clock: FakeClock
) -> None:
    guard = make_guard(breaker={"failures": 3})
    for _ in range(3):
        await call(guard, FAILURE)
    clock.advance(10)
    await call(guard, FAILURE)
    clock.advance(60)
    await call(guard, SUCCESS)
    await call(guard, SUCCESS)
    assert breakers(bus) == [
        ("closed", "open"),
        ("open", "half_open"),
        ("half_open", "open"),
        ("open", "half_open"),
        ("half_open", "closed"),
    ]
    assert healths(bus) == [
        ("healthy", "degraded"),
        ("degraded", "down"),
        ("down", "degraded"),
        ("degraded", "down"),
        ("down", "degraded"),
        ("degraded", "healthy"),
    ]
    opened, _, reopened, _, closed = bus.of(BreakerChanged)
    assert (opened.provider, opened.reason, opened.reopens_in) == ("openai", "HTTP 500", 10)
    assert reopened.reopens_in == 20
    assert (closed.reason, closed.reopens_in) == (None, 0)
    assert opened.at == clock.wall() - 70


async def test_health_is_degraded_by_errors_and_restored_by_successes(make_guard: MakeGuard, bus: RecordingBus) -> None:
    guard = make_guard()
    for result in (FAILURE, FAILURE, SUCCESS, SUCCESS, FAILURE):
        await call(guard, result)
    assert healths(bus) == [("healthy", "degraded"), ("degraded", "healthy"), ("healthy", "degraded")]
    assert breakers(bus) == []


async def test_a_breaker_opened_by_its_error_rate_has_that_reason(make_guard: MakeGuard, bus: RecordingBus) -> None:
    guard = make_guard(breaker={"failures": 100, "error_rate": 0.5, "min_calls": 4})
    for result in (SUCCESS, FAILURE, SUCCESS, FAILURE):
        await call(guard, result)
    assert breakers(bus) == [("closed", "open")]
    assert healths(bus)[-1] == ("healthy", "down")


async def test_operators_transitions_are_published_with_their_actor(make_guard: MakeGuard, bus: RecordingBus) -> None:
    guard = make_guard()
    guard.open_circuit("openai", actor="ops@example.org")
    guard.open_circuit("openai")
    guard.close_circuit("openai", actor="ops@example.org")
    guard.close_circuit("openai")
    guard.reset_quota("openai", actor="cli")
    assert breakers(bus) == [("closed", "forced_open"), ("forced_open", "closed")]
    assert healths(bus) == [("healthy", "down"), ("down", "healthy")]
    assert bus.of(BreakerChanged)[0].reason == "forced open by the operator"
    assert [(event.actor, event.action, event.provider) for event in bus.of(OperatorActed)] == [
        ("ops@example.org", "open_circuit", "openai"),
        ("app", "open_circuit", "openai"),
        ("ops@example.org", "close_circuit", "openai"),
        ("app", "close_circuit", "openai"),
        ("cli", "reset_quota", "openai"),
    ]


@pytest.mark.parametrize("action", ["reset_quota", "close_circuit", "open_circuit", "release_circuit"])
def test_an_action_has_its_actor_and_reason(make_guard: MakeGuard, bus: RecordingBus, action: str) -> None:
    guard = make_guard()
    getattr(guard, action)("openai", "maria", "bad answers")
    getattr(guard, action)("openai")
    assert [(event.actor, event.action, event.provider, event.detail) for event in bus.of(OperatorActed)] == [
        ("maria", action, "openai", "bad answers"),
        ("app", action, "openai", None),
    ]


def test_a_release_is_published_once_with_its_reason(make_guard: MakeGuard, bus: RecordingBus) -> None:
    guard = make_guard()
    guard.open_circuit("openai")
    guard.release_circuit("openai")
    guard.release_circuit("openai")
    assert breakers(bus) == [("closed", "forced_open"), ("forced_open", "half_open")]
    assert healths(bus) == [("healthy", "down"), ("down", "degraded")]
    assert bus.of(BreakerChanged)[-1].reason == "released by the operator"


def test_a_disabled_breaker_is_published(make_guard: MakeGuard, bus: RecordingBus) -> None:
    guard = make_guard()
    guard.limiter("openai").act("disable")
    assert breakers(bus) == [("closed", "disabled")]
    assert healths(bus) == []


def test_an_action_on_an_unknown_provider_is_not_published(make_guard: MakeGuard, bus: RecordingBus) -> None:
    guard = make_guard()
    actions = (guard.open_circuit, guard.close_circuit, guard.release_circuit, guard.reset_quota, guard.update_usage)
    for action in actions:
        with pytest.raises(ValueError, match="unknown provider"):
            action("opnai")
    assert bus.events == []


async def test_a_request_served_before_waiting_ones_may_be_the_probe(
    make_guard: MakeGuard, bus: RecordingBus, clock: FakeClock
) -> None:
    guard = make_guard(breaker={"failures": 1, "open_for": 10}, admission={"max_wait": 100})
    guard.update_usage("openai", 0, 60)
    guard.limiter("openai").settle(guard.limiter("openai").reserve(NOTHING), NOTHING, Verdict.FAILURE)  # type: ignore[arg-type]
    clock.advance(11)
    patient = asyncio.ensure_future(call(guard, SUCCESS, tokens(50)))
    await asyncio.sleep(0)
    assert guard.status()["providers"]["openai"]["waiting"] == 1
    opened, attempt = await begin(guard, tokens(1), priority=1)
    assert breakers(bus) == [("closed", "open"), ("open", "half_open")]
    guard.settle(opened, attempt, SUCCESS)
    assert breakers(bus)[2:] == [("half_open", "closed")]
    clock.advance(60)
    await patient


def test_twenty_threads_that_fail_at_once_open_a_circuit_once(make_guard: MakeGuard, bus: RecordingBus) -> None:
    guard = make_guard({"openai": {}})
    attempts = []
    for _ in range(20):
        context, attempt = guard.open_context("o"), Attempt(group="o", provider="openai")
        guard.admit_blocking(context, attempt, tokens(1))
        attempts.append((context, attempt))
    barrier = threading.Barrier(20)

    def fail(context: RequestContext, attempt: Attempt) -> None:
        barrier.wait()
        guard.settle(context, attempt, FAILURE)

    threads = [threading.Thread(target=fail, args=pair) for pair in attempts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert breakers(bus) == [("closed", "open")]
    assert healths(bus) == [("healthy", "degraded"), ("degraded", "down")]
    assert len(bus.of(Settled)) == 20


# Usage outside the router


async def test_usage_outside_a_router_is_published(make_guard: MakeGuard, bus: RecordingBus, clock: FakeClock) -> None:
    guard = make_guard()
    guard.update_usage("openai", requests=2, tokens=30)
    (await guard.wait_for_capacity("openai", 20)).settle(7)
    with await guard.wait_for_capacity("openai", 4):
        pass
    stated = [(event.provider, event.charged, event.source) for event in bus.of(UsageReported)]
    assert stated == [
        ("openai", Demand(2, 30, 30, 0), "update_usage"),
        ("openai", Demand(1, 7, 7, 0), "lease"),
        ("openai", Demand(1, 4, 4, 0), "lease"),
    ]
    assert bus.of(Settled) == bus.of(Ended) == []
    assert {event.at for event in bus.of(UsageReported)} == {clock.wall()}


async def test_a_settled_lease_is_published_and_a_released_one_is_not(make_guard: MakeGuard, bus: RecordingBus) -> None:
    guard = make_guard()
    lease = await guard.wait_for_capacity("openai", 5)
    lease.settle(3)
    lease.settle(4)
    lease.release()
    released = await guard.wait_for_capacity("openai", 5)
    released.release()
    released.settle(5)
    assert [event.charged.tokens for event in bus.of(UsageReported)] == [3]
    assert guard.status()["providers"]["openai"]["quota"]["tpm"]["used"] == 3


async def test_the_usage_of_an_expired_lease_is_published(
    make_guard: MakeGuard, bus: RecordingBus, clock: FakeClock
) -> None:
    guard = make_guard(admission={"reservation_ttl": 10})
    lease = await guard.wait_for_capacity("openai", 5)
    clock.advance(11)
    assert guard.status()["providers"]["openai"]["in_flight"] == 0
    lease.settle(3)
    assert [event.charged.tokens for event in bus.of(UsageReported)] == [3]


# Attempts and requests


async def test_a_settled_attempt_is_published_with_every_field(
    make_guard: MakeGuard, bus: RecordingBus, clock: FakeClock
) -> None:
    guard = make_guard(price=lambda operation, entry, result: Bill(20, 10, 30, 5, 2, 0.25))
    guard.update_usage("openai", 0, 60)
    metadata = {"conversationId": "c1"}
    context = guard.open_context("o", feature="chat", user_id="u1", operation="embedding", metadata=metadata)
    attempt = Attempt(group="o", provider="openai", deployment="openai/x")
    task = asyncio.ensure_future(guard.admit(context, attempt, Demand(1, 20, 12, 8)))
    await asyncio.sleep(0)
    clock.advance(20)
    await task
    clock.advance(1.5)
    guard.settle(context, attempt, SUCCESS._replace(usage=Demand(1, 30, 20, 10)))
    (record,) = bus.of(Settled)
    assert record == Settled(
        id=record.id,
        at=clock.wall(),
        request_id=context.request_id,
        number=1,
        provider="openai",
        model="o",
        deployment="openai/x",
        operation="embedding",
        stream=False,
        outcome="success",
        success=True,
        error=None,
        status_code=None,
        latency_ms=pytest.approx(1500),
        waited_ms=pytest.approx(20_000),
        prompt_tokens=20,
        completion_tokens=10,
        total_tokens=30,
        cached_tokens=5,
        reasoning_tokens=2,
        cost_usd=0.25,
        unpriced=False,
        estimated=False,
        charged=Demand(1, 30, 20, 10),
        feature="chat",
        user_id="u1",
        metadata=metadata,
        estimated_input=12,
        estimated_output=8,
    )
    assert context.attempts == [record]


@pytest.mark.parametrize(
    ("result", "success", "billed", "charged"),
    [
        (AttemptResult(Outcome.CACHE_HIT), True, 0, NOTHING),
        (FAILURE, False, 0, Demand(1, 0, 0, 0)),
        (
            AttemptResult(Outcome.REJECTED, rate_limited=True, reason="HTTP 429", status_code=429),
            False,
            0,
            Demand(1, 0, 0, 0),
        ),
        (AttemptResult(Outcome.NOT_SENT, Verdict.FAILURE, reason="connection"), False, 0, NOTHING),
        (AttemptResult(Outcome.CUT, Verdict.FAILURE, reason="timeout"), False, 40, Demand(1, 40, 40, 0)),
        (AttemptResult(Outcome.CUT, usage=Demand(1, 45, 40, 5), reason="cancelled"), False, 45, Demand(1, 45, 40, 5)),
        (SUCCESS, True, 50, Demand(1, 50, 40, 10)),
    ],
)
async def test_the_bill_and_the_charge_follow_from_the_attempts_result(
    make_guard: MakeGuard, bus: RecordingBus, result: AttemptResult, success: bool, billed: int, charged: Demand
) -> None:
    guard = make_guard()
    await call(guard, result, Demand(1, 50, 40, 10))
    (record,) = bus.of(Settled)
    assert (record.outcome, record.success) == (result.outcome.value, success)
    assert (record.total_tokens, record.charged) == (billed, charged)
    assert (record.error, record.status_code) == (None if success else result.reason, result.status_code)
    assert bool(record.cost_usd) is False
    if not billed:
        assert (record.cost_usd, record.unpriced, record.estimated) == (0.0, False, False)


async def test_a_request_ends_once_with_all_its_attempts(
    make_guard: MakeGuard, bus: RecordingBus, clock: FakeClock
) -> None:
    guard = make_guard()
    context = guard.open_context("o", feature="chat", user_id="u1", metadata={"a": 1}, stream=True)
    for group, provider, result in (("o", "openai", FAILURE), ("a", "anthropic", SUCCESS)):
        attempt = Attempt(group=group, provider=provider)
        if group == "a":
            context.fail("o", "openai", "HTTP 500", None, 500)
            guard.begin_fallback(context, "a")
        await guard.admit(context, attempt, tokens(1))
        clock.advance(1)
        guard.settle(context, attempt, result)
    context.served_by = attempt
    guard.end(context)
    guard.end(context, RequestFailure("too late"))
    (ended,) = bus.of(Ended)
    assert (ended.request_id, ended.model, ended.provider) == (context.request_id, "o", "anthropic")
    assert (ended.success, ended.error, ended.used_fallback, ended.by_caller) == (True, None, True, False)
    assert (ended.stream, ended.latency_ms, ended.waited_ms) == (True, pytest.approx(2000), 0)
    assert (ended.feature, ended.user_id, ended.metadata) == ("chat", "u1", {"a": 1})
    assert [record.number for record in ended.settled] == [1, 2]
    assert ended.settled == tuple(bus.of(Settled))
    (fallback,) = bus.of(FellBack)
    assert (fallback.from_model, fallback.to_model, fallback.from_provider, fallback.reason) == (
        "o",
        "a",
        "openai",
        "HTTP 500",
    )


# Of what was decided: how the rest came about.
_NOT_ON_RECORD = ("auto_against", "by_latency", "on_saved", "shadow", "stands_in", "warm")


def test_a_request_ends_with_what_routing_decided(make_guard: MakeGuard, bus: RecordingBus) -> None:
    guard = make_guard()
    decided = Decided(
        requested="chat", tier="flash", experiment="chat-model", arm="o", unit="0123abcd", auto_tier="premium",
        shadow=True, auto_saved_usd=0.01, order="a", hedged=True, wasted_usd=0.02, cache_hit=True, saved_usd=0.03,
        why=["tier flash", "arm by user"],
    )  # fmt: skip
    guard.end(guard.open_context("o", plan=Plan("o", (), decided)), None)
    guard.end(guard.open_context("o", plan=Plan("o", ())), None)
    ended, plain = bus.of(Ended)
    stated = {name: value for name, value in asdict(decided).items() if name not in _NOT_ON_RECORD}
    assert {name: getattr(ended, name) for name in stated} == {**stated, "why": ("tier flash", "arm by user")}
    assert [getattr(plain, name) for name in stated] == [Ended._field_defaults[name] for name in stated]


def test_a_request_without_any_attempt_ends_too(make_guard: MakeGuard, bus: RecordingBus) -> None:
    guard = make_guard()
    context = guard.open_context("o")
    guard.end(context, RequestFailure("cancelled", by_caller=True))
    (ended,) = bus.of(Ended)
    assert (ended.success, ended.error, ended.by_caller, ended.settled, ended.provider) == (
        False,
        "cancelled",
        True,
        (),
        "",
    )


def test_ids_are_unique_and_sort_in_the_order_of_what_happened(make_guard: MakeGuard, bus: RecordingBus) -> None:
    guard = make_guard()
    for _ in range(100):
        guard.update_usage("openai", 1)
    ids = [event.id for event in bus.of(UsageReported)]
    assert ids == sorted(ids)
    assert len(set(ids)) == 100


# Cost


def costing(cost: float | None) -> Pricer:
    return lambda operation, entry, result: Bill(1, 1, 2, cost_usd=cost, unpriced=cost is None)


async def test_an_unpriced_deployment_is_announced_once(make_guard: MakeGuard, bus: RecordingBus) -> None:
    guard = make_guard(price=costing(None))
    for deployment in ("openai/x", "openai/y", "openai/x", "openai/y"):
        context, attempt = guard.open_context("o"), Attempt(group="o", provider="openai", deployment=deployment)
        await guard.admit(context, attempt, tokens(1))
        guard.settle(context, attempt, SUCCESS)
    assert [(event.provider, event.model, event.deployment) for event in bus.of(Unpriced)] == [
        ("openai", "o", "openai/x"),
        ("openai", "o", "openai/y"),
    ]
    assert all(record.unpriced and record.cost_usd is None for record in bus.of(Settled))


def unix(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


async def test_the_budget_is_announced_once_a_month_and_level(
    make_guard: MakeGuard, bus: RecordingBus, clock: FakeClock
) -> None:
    clock.move_wall(unix("2026-12-30") - clock.wall())
    guard = make_guard(kpis={"monthly_cost": 100}, price=costing(10.0))
    for _ in range(12):
        await call(guard, SUCCESS)
    budget = guard.status()["budget"]
    assert (budget["spent_usd"], budget["limit_usd"]) == (120.0, 100.0)
    clock.advance(3 * 86_400)
    assert guard.status()["budget"]["spent_usd"] == 0
    for _ in range(8):
        await call(guard, SUCCESS)
    announced = [(event.month, event.level, event.spent_usd, event.utilization) for event in bus.of(BudgetCrossed)]
    assert announced == [
        ("2026-12", "warning", 80.0, 0.8),
        ("2026-12", "critical", 100.0, 1.0),
        ("2027-01", "warning", 80.0, 0.8),
    ]
    assert {event.budget_usd for event in bus.of(BudgetCrossed)} == {100.0}


def test_the_cost_of_twenty_threads_is_summed_exactly_and_announced_once(
    make_guard: MakeGuard, bus: RecordingBus
) -> None:
    guard = make_guard({"openai": {}}, kpis={"monthly_cost": 2000}, price=costing(0.5))
    barrier = threading.Barrier(20)

    def work() -> None:
        barrier.wait()
        for _ in range(200):
            context, attempt = guard.open_context("o"), Attempt(group="o", provider="openai")
            guard.admit_blocking(context, attempt, tokens(1))
            guard.settle(context, attempt, SUCCESS)

    threads = [threading.Thread(target=work) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert guard.reporter.budget.spent == 2000.0
    assert [event.level for event in bus.of(BudgetCrossed)] == ["warning", "critical"]


# Through a real bus


async def test_published_events_reach_the_sinks_in_order_before_flush_returns(make_guard: MakeGuard) -> None:
    guard, sink = make_guard(), RecordingSink()
    guard.bus.add(lambda: sink)
    for _ in range(50):
        guard.update_usage("openai", 1)
    assert await guard.flush()
    ids = [event.id for event in sink.events]
    assert len(sink.of(UsageReported)) == 50
    assert ids == sorted(ids)
    assert guard.status()["sinks"]["recording"]["delivered"] == 50
    await guard.aclose()
    assert sink.closed == 1
