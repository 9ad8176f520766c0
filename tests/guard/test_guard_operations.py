"""The guard's questions and actions for applications and operators, and its status."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from fake_clock import FakeClock
from limiter_support import tokens

from wallie_litellm.core.attempt_result import AttemptResult
from wallie_litellm.core.circuit_breaker import Verdict
from wallie_litellm.core.demand import Demand, Outcome
from wallie_litellm.errors import CircuitOpen, RateLimited
from wallie_litellm.guard import Guard
from wallie_litellm.guard.context import Attempt, RequestContext

MakeGuard = Callable[..., Guard]
ONE = Demand()
SUCCESS = AttemptResult(Outcome.SUCCESS, Verdict.SUCCESS)
FAILURE = AttemptResult(Outcome.REJECTED, Verdict.FAILURE, reason="InternalServerError", status_code=500)


async def call(guard: Guard, result: AttemptResult, demand: Demand = ONE, provider: str = "openai") -> RequestContext:
    context = guard.open_context("o")
    made = Attempt(group="o", provider=provider, deployment="openai/x")
    await guard.admit(context, made, demand)
    assert guard.settle(context, made, result)
    assert not guard.settle(context, made, result), "an attempt ends once"
    return context


def shown(guard: Guard, provider: str = "openai") -> dict[str, Any]:
    found: dict[str, Any] = guard.status()["providers"][provider]
    return found


# Settling


async def test_an_attempt_leaves_a_record(make_guard: MakeGuard, clock: FakeClock) -> None:
    guard = make_guard()
    context = guard.open_context("o")
    made = Attempt(group="o", provider="openai", deployment="openai/x")
    await guard.admit(context, made, tokens(10))
    clock.advance(0.25)
    guard.settle(context, made, FAILURE)
    (record,) = context.attempts
    assert (record.provider, record.model, record.deployment) == ("openai", "o", "openai/x")
    assert (record.outcome, record.error, record.status_code) == ("rejected", "InternalServerError", 500)
    assert (record.latency_ms, record.waited_ms) == (pytest.approx(250), 0)


@pytest.mark.parametrize(
    ("result", "requests", "used"),
    [
        (SUCCESS._replace(usage=Demand(1, 30, 20, 10)), 1, 30),
        (SUCCESS, 1, 50),
        (AttemptResult(Outcome.CACHE_HIT), 0, 0),
        (AttemptResult(Outcome.NOT_SENT, Verdict.FAILURE), 0, 0),
        (FAILURE, 1, 0),
        (AttemptResult(Outcome.CUT, usage=Demand(1, 70, 40, 30)), 1, 70),
        (AttemptResult(Outcome.CUT, usage=Demand(1, 7, 4, 3)), 1, 7),
        (AttemptResult(Outcome.CUT), 1, 40),
    ],
)
async def test_an_attempt_is_charged_by_its_outcome(
    make_guard: MakeGuard, result: AttemptResult, requests: int, used: int
) -> None:
    guard = make_guard({"openai": {"rpm": 60, "tpm": 600, "rpd": 10, "tpd": 1000}})
    await call(guard, result, Demand(1, 50, 40, 10))
    quota = shown(guard)["quota"]
    assert [quota[name]["used"] for name in ("rpm", "tpm", "rpd", "tpd")] == [requests, used, requests, used]
    for each in quota.values():
        assert each["reserved"] == each["settled"] + each["refunded"]


async def test_an_attempt_that_was_never_admitted_settles_nothing(make_guard: MakeGuard) -> None:
    guard = make_guard()
    context = guard.open_context("o")
    assert not guard.settle(context, Attempt(group="o", provider="openai"), SUCCESS)
    assert context.attempts == []


# Status


async def test_the_status_of_an_idle_provider(make_guard: MakeGuard, clock: FakeClock) -> None:
    status = make_guard({"openai": {"rpm": 60, "rpd": 100, "concurrency": 4}}).status()
    assert status["store"] == {"scope": "process", "state": "ok", "processes": 1}
    assert sorted(status["providers"]) == ["anthropic", "deepseek", "gemini", "groq", "openai"]
    openai = status["providers"]["openai"]
    assert openai["health"] == "healthy"
    assert openai["breaker"]["state"] == "closed"
    assert (openai["in_flight"], openai["waiting"], openai["paused_for"]) == (0, 0, 0)
    assert list(openai["quota"]) == ["rpm", "rpd", "concurrency"]
    assert {name: (each["used"], each["limit"]) for name, each in openai["quota"].items()} == {
        "rpm": (0, 60),
        "rpd": (0, 100),
        "concurrency": (0, 4),
    }
    midnight = datetime.fromtimestamp(clock.wall(), UTC).date().toordinal() + 1
    assert datetime.fromisoformat(openai["quota"]["rpd"]["reset_at"]).date().toordinal() == midnight
    assert json.loads(json.dumps(status)) == status


async def test_the_status_shows_what_is_used_and_when_it_is_free_again(make_guard: MakeGuard, clock: FakeClock) -> None:
    guard = make_guard({"openai": {"rpm": 60, "tpm": 600}})
    guard.update_usage("openai", requests=30, tokens=90)
    quota = shown(guard)["quota"]
    assert [(quota[name]["used"], quota[name]["left"]) for name in ("rpm", "tpm")] == [(30, 30), (90, 510)]
    resets = [datetime.fromisoformat(quota[name]["reset_at"]).timestamp() for name in ("rpm", "tpm")]
    assert resets == pytest.approx([clock.wall() + 30, clock.wall() + 9], abs=0.01)
    clock.advance(9)
    quota = shown(guard)["quota"]
    assert [(quota[name]["used"], quota[name]["left"]) for name in ("rpm", "tpm")] == [(30, 39), (90, 600)]
    clock.advance(51)
    quota = shown(guard)["quota"]
    assert [(quota[name]["used"], quota[name]["left"]) for name in ("rpm", "tpm")] == [(0, 60), (0, 600)]


async def test_health_follows_errors_and_the_breaker(make_guard: MakeGuard, clock: FakeClock) -> None:
    guard = make_guard(breaker={"failures": 2})
    seen = [shown(guard)["health"]]
    await call(guard, FAILURE)
    seen.append(shown(guard)["health"])
    await call(guard, FAILURE)
    seen.append(shown(guard)["health"])
    assert shown(guard)["breaker"]["state"] == "open"
    assert shown(guard)["breaker"]["next_probe_in"] == 10
    clock.advance(10)
    context = guard.open_context("o")
    probe = Attempt(group="o", provider="openai")
    await guard.admit(context, probe, Demand())
    seen.append(shown(guard)["health"])
    assert shown(guard)["breaker"]["state"] == "half_open"
    guard.settle(context, probe, SUCCESS)
    seen.append(shown(guard)["health"])
    assert seen == ["healthy", "degraded", "down", "degraded", "healthy"]


async def test_a_forced_open_circuit_is_down_and_closing_it_heals(make_guard: MakeGuard) -> None:
    guard = make_guard()
    guard.open_circuit("openai")
    assert (shown(guard)["health"], shown(guard)["breaker"]["state"]) == ("down", "forced_open")
    with pytest.raises(CircuitOpen):
        await call(guard, SUCCESS)
    guard.close_circuit("openai")
    assert (shown(guard)["health"], shown(guard)["breaker"]["state"]) == ("healthy", "closed")
    await call(guard, SUCCESS)


async def test_a_released_circuit_admits_one_request_as_a_probe(make_guard: MakeGuard) -> None:
    guard = make_guard()
    guard.open_circuit("openai")
    guard.release_circuit("openai")
    assert (shown(guard)["health"], shown(guard)["breaker"]["state"]) == ("degraded", "half_open")
    context, probe = guard.open_context("o"), Attempt(group="o", provider="openai")
    await guard.admit(context, probe, Demand())
    with pytest.raises(CircuitOpen):
        await call(guard, SUCCESS)
    guard.settle(context, probe, SUCCESS)
    assert shown(guard)["health"] == "healthy"


async def test_the_status_counts_waiting_requests(make_guard: MakeGuard, clock: FakeClock) -> None:
    guard = make_guard()
    guard.update_usage("openai", tokens=60)
    tasks = [asyncio.ensure_future(guard.wait_for_capacity("openai", 5)) for _ in range(3)]
    await asyncio.sleep(0)
    assert shown(guard)["waiting"] == 3
    clock.advance(15)
    await asyncio.gather(*tasks)
    assert (shown(guard)["waiting"], shown(guard)["in_flight"]) == (0, 3)


# Capacity for calls made outside the router


async def test_a_lease_charges_its_estimate_unless_it_is_settled(make_guard: MakeGuard) -> None:
    guard = make_guard()
    with await guard.wait_for_capacity("openai", 20):
        assert shown(guard)["in_flight"] == 1
    assert (shown(guard)["in_flight"], shown(guard)["quota"]["tpm"]["used"]) == (0, 20)
    with await guard.wait_for_capacity("openai", 20) as lease:
        lease.settle(tokens=5)
    assert shown(guard)["quota"]["tpm"]["used"] == 25
    lease.settle(tokens=1)
    lease.release()
    assert shown(guard)["quota"]["tpm"]["used"] == 25


async def test_a_released_lease_costs_nothing(make_guard: MakeGuard) -> None:
    guard = make_guard()
    lease = await guard.wait_for_capacity("openai", 20)
    lease.release()
    assert (shown(guard)["in_flight"], shown(guard)["quota"]["tpm"]["used"]) == (0, 0)


async def test_capacity_is_waited_for_at_most_max_wait(make_guard: MakeGuard, clock: FakeClock) -> None:
    guard = make_guard()
    guard.update_usage("openai", tokens=60)
    with pytest.raises(RateLimited):
        await guard.wait_for_capacity("openai", 31)
    task = asyncio.ensure_future(guard.wait_for_capacity("openai", 30))
    await asyncio.sleep(0)
    clock.advance(30)
    await task


# Questions and actions


def test_a_provider_is_available_while_it_would_take_a_request(make_guard: MakeGuard) -> None:
    guard = make_guard({"openai": {"rpm": 2}})
    assert guard.is_provider_available("openai")
    guard.update_usage("openai", requests=2)
    assert not guard.is_provider_available("openai")
    guard.reset_quota("openai")
    assert guard.is_provider_available("openai")
    guard.open_circuit("openai")
    assert not guard.is_provider_available("openai")
    guard.close_circuit("openai")
    assert guard.is_provider_available("openai")


@pytest.mark.parametrize(("used", "switch"), [(94, False), (95, True), (120, True)])
def test_another_provider_is_preferred_from_the_critical_share_on(
    make_guard: MakeGuard, used: int, switch: bool
) -> None:
    guard = make_guard({"openai": {"rpd": 100}})
    guard.update_usage("openai", requests=used)
    assert guard.should_switch_provider("openai") is switch


async def test_another_provider_is_preferred_while_this_one_is_down_or_paused(make_guard: MakeGuard) -> None:
    guard = make_guard()
    guard.open_circuit("openai")
    assert guard.should_switch_provider("openai")
    guard.close_circuit("openai")
    assert not guard.should_switch_provider("openai")
    await call(guard, AttemptResult(Outcome.REJECTED, rate_limited=True, pause_for=5))
    assert guard.should_switch_provider("openai")
    guard.reset_quota("openai")
    assert not guard.should_switch_provider("openai")


def test_the_next_fallback_is_the_first_that_can_serve_now(make_guard: MakeGuard) -> None:
    guard = make_guard({"anthropic": {"rpm": 1}})
    assert guard.next_fallback("o") == "a"
    assert guard.next_fallback("o", exclude=["a"]) == "g"
    assert guard.next_fallback("o", exclude=["anthropic"]) == "g"
    guard.update_usage("anthropic", requests=1)
    assert guard.next_fallback("o") == "g"
    guard.open_circuit("gemini")
    assert guard.next_fallback("o") is None
    assert guard.next_fallback("unheard-of") is None


@pytest.mark.parametrize(
    "ask",
    [
        Guard.is_provider_available,
        Guard.should_switch_provider,
        Guard.update_usage,
        Guard.reset_quota,
        Guard.close_circuit,
        Guard.open_circuit,
        Guard.release_circuit,
    ],
)
def test_an_unknown_provider_is_an_error_that_names_the_known_ones(
    make_guard: MakeGuard, ask: Callable[[Guard, str], object]
) -> None:
    with pytest.raises(ValueError, match=r"'opnai'.*anthropic.*openai"):
        ask(make_guard(), "opnai")


async def test_capacity_of_an_unknown_provider_is_an_error_too(make_guard: MakeGuard) -> None:
    with pytest.raises(ValueError, match="'opnai'"):
        await make_guard().wait_for_capacity("opnai")


async def test_a_quota_reset_admits_waiting_requests(make_guard: MakeGuard) -> None:
    guard = make_guard()
    guard.update_usage("openai", tokens=60)
    task = asyncio.ensure_future(guard.wait_for_capacity("openai", 30))
    await asyncio.sleep(0)
    guard.reset_quota("openai")
    await task


# The filter


def test_the_filter_prefers_those_that_can_serve_now(make_guard: MakeGuard) -> None:
    guard = make_guard()
    context = guard.open_context("both")
    both = ["openai", "anthropic"]
    assert guard.preferred(context, "both", both, tokens(10)) == {"openai", "anthropic"}
    guard.update_usage("openai", tokens=60)
    assert guard.preferred(context, "both", both, tokens(10)) == {"anthropic"}
    guard.open_circuit("anthropic")
    assert guard.preferred(context, "both", both, tokens(10)) == {"openai"}


def test_the_filter_refuses_with_the_soonest_retry_when_no_provider_may_be_waited_for(make_guard: MakeGuard) -> None:
    guard = make_guard({"anthropic": {"tpm": 60}})
    guard.update_usage("openai", tokens=100)
    guard.update_usage("anthropic", tokens=95)
    context = guard.open_context("both")
    with pytest.raises(RateLimited) as caught:
        guard.preferred(context, "both", ["openai", "anthropic"], tokens(1))
    assert (caught.value.provider, caught.value.retry_after) == ("anthropic", pytest.approx(36))


def test_closing_calls_every_on_close_callback_once(make_guard: MakeGuard) -> None:
    guard, calls = make_guard(), []
    guard.on_close(lambda: calls.append(1))
    guard.close()
    guard.close()
    assert calls == [1]
