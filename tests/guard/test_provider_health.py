"""Which providers status lists, when one is degraded, and the alert that one is down."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fake_clock import FakeClock
from recording import RecordingBus

from wallie_litellm.config import WallieConfig
from wallie_litellm.core.attempt_result import AttemptResult
from wallie_litellm.core.circuit_breaker import Verdict
from wallie_litellm.core.demand import ONE_REQUEST, Outcome
from wallie_litellm.core.fault_domain import FaultDomain
from wallie_litellm.events import ProviderDown
from wallie_litellm.guard import Guard
from wallie_litellm.guard.context import Attempt
from wallie_litellm.guard.router import WallieRouter

MakeGuard = Callable[..., Guard]
OPENAI = {"openai": {}}
SERVED = AttemptResult(Outcome.SUCCESS, Verdict.SUCCESS)
FAILED = AttemptResult(Outcome.REJECTED, Verdict.FAILURE, reason="server error", status_code=500)
LIMITED = AttemptResult(Outcome.REJECTED, Verdict.IGNORED, reason="rate limited", status_code=429, rate_limited=True)
REFUSED = AttemptResult(
    Outcome.REJECTED, Verdict.FAILURE, reason="HTTP 401", status_code=401, fault=FaultDomain.ACCOUNT
)
KEYS = ("openai#1a2b3c4d", "openai#5e6f7a8b")


async def call(guard: Guard, result: AttemptResult, account: str | None = None) -> None:
    context, attempt = guard.open_context("o"), Attempt("o", "openai", account)
    await guard.admit(context, attempt, ONE_REQUEST)
    guard.settle(context, attempt, result)


def health(guard: Guard) -> str:
    found: str = guard.status()["providers"]["openai"]["health"]
    return found


# Health


async def test_a_provider_that_answers_with_rate_limits_is_degraded_until_it_serves(
    make_guard: MakeGuard, clock: FakeClock
) -> None:
    guard = make_guard(OPENAI)
    await call(guard, LIMITED._replace(pause_for=20.0))
    seen = [health(guard)]
    clock.advance(21)
    seen.append(health(guard))  # the pause is over, and nothing says that it serves
    await call(guard, SERVED)
    assert [*seen, health(guard)] == ["degraded", "degraded", "healthy"]


async def test_a_key_that_answers_with_rate_limits_is_degraded_and_its_provider_with_it(make_guard: MakeGuard) -> None:
    guard = make_guard(OPENAI)
    for key in KEYS:
        guard.meet("openai", key, at_own_address=True)
    await call(guard, LIMITED._replace(pause_for=20.0), KEYS[0])
    await call(guard, SERVED, KEYS[1])
    accounts = guard.status()["providers"]["openai"]["accounts"]
    assert [one["health"] for one in accounts.values()] == ["degraded", "healthy"]
    assert health(guard) == "degraded"


async def test_a_provider_with_a_model_that_is_paused_is_degraded(make_guard: MakeGuard) -> None:
    guard = make_guard(OPENAI)
    context, attempt = guard.open_context("o"), Attempt("o", "openai", "openai", "openai|a", "openai/a")
    await guard.admit(context, attempt, ONE_REQUEST)
    guard.settle(context, attempt, LIMITED._replace(pause_for=20.0, fault=FaultDomain.MODEL))
    await call(guard, SERVED)  # by another model
    provider = guard.status()["providers"]["openai"]
    assert (provider["health"], provider["paused_for"], set(provider["models"])) == ("degraded", 0, {"a"})


async def test_a_reset_ends_what_rate_limits_have_said(make_guard: MakeGuard) -> None:
    guard = make_guard(OPENAI)
    await call(guard, LIMITED._replace(pause_for=20.0))
    guard.reset_quota("openai")
    assert health(guard) == "healthy"


# The alert


async def test_a_provider_that_goes_down_is_an_alert_once_per_outage(
    make_guard: MakeGuard, bus: RecordingBus, clock: FakeClock
) -> None:
    guard = make_guard(OPENAI, breaker={"failures": 2})

    def alerts() -> list[tuple[str, str | None]]:
        return [(event.provider, event.reason) for event in bus.of(ProviderDown)]

    for _ in range(2):
        await call(guard, FAILED)
    assert alerts() == [("openai", "server error")]
    clock.advance(10)
    await call(guard, FAILED)  # the probe: it is open again, and still the same outage
    assert health(guard) == "down"
    clock.advance(20)
    await call(guard, SERVED)
    assert (health(guard), len(alerts())) == ("healthy", 1)
    for _ in range(2):
        await call(guard, FAILED)
    assert len(alerts()) == 2


async def test_a_key_that_is_refused_is_an_alert_under_its_own_name(make_guard: MakeGuard, bus: RecordingBus) -> None:
    guard = make_guard(OPENAI, breaker={"failures": 1})
    for key in KEYS:
        guard.meet("openai", key, at_own_address=True)
    await call(guard, REFUSED, KEYS[0])
    assert [(event.provider, event.reason) for event in bus.of(ProviderDown)] == [(KEYS[0], "HTTP 401")]


async def test_traffic_that_an_operator_stops_is_no_alert(make_guard: MakeGuard, bus: RecordingBus) -> None:
    guard = make_guard(OPENAI)
    guard.open_circuit("openai")
    guard.release_circuit("openai")
    assert bus.of(ProviderDown) == []


# What is listed


def deployment(name: str, model: str, key: str = "sk-a", **info: Any) -> dict[str, Any]:
    return {
        "model_name": "m",
        "litellm_params": {"model": model, "api_key": key},
        "model_info": {"id": name, **info},
    }


@pytest.fixture
def make_router() -> Iterator[Callable[..., WallieRouter]]:
    guards: list[Guard] = []

    def make(*deployments: dict[str, Any], **wallie: Any) -> WallieRouter:
        guards.append(Guard(WallieConfig.model_validate({"ledger": None, **wallie})))
        return WallieRouter(model_list=list(deployments), guard=guards[-1])

    yield make
    for guard in guards:
        guard.close()


def listed(router: WallieRouter) -> dict[str, list[str]]:
    """The providers, each with the digests of its keys."""
    providers = router.guard.status()["providers"]
    return {name: sorted(own.get("accounts", ())) for name, own in providers.items()}


def test_providers_that_the_file_does_not_use_are_not_listed(make_router: Callable[..., WallieRouter]) -> None:
    router = make_router(deployment("a", "groq/llama"), providers={"anthropic": {"rpm": 5}})
    assert listed(router) == {"anthropic": [], "groq": []}


def test_providers_and_keys_leave_with_their_last_deployment(make_router: Callable[..., WallieRouter]) -> None:
    router = make_router(
        deployment("a", "openai/gpt-4o", "sk-a"),
        deployment("b", "openai/gpt-4o", "sk-b"),
        deployment("c", "groq/llama"),
    )
    assert {name: len(keys) for name, keys in listed(router).items()} == {"openai": 2, "groq": 0}
    router.delete_deployment(id="c")
    assert {name: len(keys) for name, keys in listed(router).items()} == {"openai": 2}
    router.delete_deployment(id="a")
    assert listed(router) == {"openai": []}
    router.set_model_list([deployment("d", "groq/llama")])
    assert listed(router) == {"groq": []}
    router.set_model_list([deployment("a", "openai/gpt-4o", "sk-a"), deployment("b", "openai/gpt-4o", "sk-b")])
    assert {name: len(keys) for name, keys in listed(router).items()} == {"openai": 2}


def test_what_another_router_of_the_guard_calls_stays_listed(make_router: Callable[..., WallieRouter]) -> None:
    router = make_router(deployment("a", "openai/gpt-4o"))
    other = WallieRouter(model_list=[deployment("b", "groq/llama")], guard=router.guard)
    router.set_model_list([deployment("c", "anthropic/claude")])
    assert listed(other) == {"anthropic": [], "groq": []}
