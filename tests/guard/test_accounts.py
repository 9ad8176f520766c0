"""Keys at one address share its limits; a pause, a refused key or an empty account holds for that key alone."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final

import pytest
from drop_in.actions import PROMPT
from drop_in.routers import our_router
from drop_in.upstream import Fault, Upstream, failing
from fake_clock import FakeClock
from litellm.types.router import Deployment
from support import assert_nothing_leaked, until

from wallie_litellm import CircuitOpen, RateLimited
from wallie_litellm.config import WallieConfig
from wallie_litellm.core.attempt_result import AttemptResult
from wallie_litellm.core.circuit_breaker import Verdict
from wallie_litellm.core.demand import ONE_REQUEST, Demand, Outcome
from wallie_litellm.core.fault_domain import FaultDomain
from wallie_litellm.guard import Guard
from wallie_litellm.guard.context import Attempt
from wallie_litellm.guard.router import WallieRouter

LIMITED = Fault(429, "rate_limited", headers={"retry-after": "20"})
AT_MOST: Final = 10.0  # seconds for calls none of which waits for a key that is away
USUAL: dict[str, Any] = {"breaker": {}}


def deployment(upstream: Upstream, account: str, group: str = "m", key: str | None = None) -> dict[str, Any]:
    """The path names the account whose script answers: host and port are the same for all."""
    params = {"model": "openai/gpt-4o", "api_base": upstream.base(account) + "/v1", "api_key": key or f"sk-{account}"}
    return {"model_name": group, "litellm_params": params, "model_info": {"id": f"{group}-{account}"}}


def two_keys(upstream: Upstream) -> list[dict[str, Any]]:
    return [deployment(upstream, "a"), deployment(upstream, "b")]


async def ask(router: Any, group: str = "m", **arguments: Any) -> str:
    answer = await router.acompletion(group, PROMPT, **arguments)
    return str(answer.choices[0].message.content)


def accounts(router: Any) -> dict[str, Any]:
    found: dict[str, Any] = router.guard.status()["providers"]["openai"].get("accounts", {})
    return found


@pytest.mark.parametrize("status", [401, 402, 403])
async def test_a_key_that_is_refused_or_empty_holds_back_no_other(upstream: Upstream, status: int) -> None:
    upstream.prepare({"a": [failing(status), ...]})
    async with our_router(two_keys(upstream), 3, USUAL) as router, asyncio.timeout(AT_MOST):
        assert [await ask(router) for _ in range(30)] == ["from b"] * 30
        provider = router.guard.status()["providers"]["openai"]
    assert provider["breaker"] | {"reason": None} == provider["breaker"]
    assert (provider["breaker"]["state"], provider["breaker"]["consecutive_failures"]) == ("closed", 0)
    assert sorted(one["breaker"]["state"] for one in provider["accounts"].values()) == ["closed", "open"]
    assert provider["health"] == "degraded"
    assert [request.account for request in upstream.requests].count("a") == 5


async def test_a_key_that_is_paused_holds_back_no_other_and_is_left_alone(upstream: Upstream) -> None:
    upstream.prepare({"a": [LIMITED, ...]})
    async with our_router(two_keys(upstream), 3, USUAL) as router, asyncio.timeout(AT_MOST):
        assert [await ask(router) for _ in range(12)] == ["from b"] * 12
        assert await asyncio.gather(*(ask(router) for _ in range(8))) == ["from b"] * 8
        provider = router.guard.status()["providers"]["openai"]
        waits = sorted(one["paused_for"] for one in provider["accounts"].values())  # as its only model is paused
    assert [request.account for request in upstream.requests].count("a") == 1
    assert provider["paused_for"] == 0
    assert waits[0] == 0
    assert 15 < waits[1] <= 20


async def test_eight_at_once_that_meet_a_paused_key_are_served_by_the_other(upstream: Upstream) -> None:
    upstream.prepare({"a": [LIMITED, ...]})
    async with our_router(two_keys(upstream), 3, USUAL) as router, asyncio.timeout(AT_MOST):
        assert await asyncio.gather(*(ask(router) for _ in range(8))) == ["from b"] * 8


async def test_a_server_that_fails_for_every_key_is_down(upstream: Upstream) -> None:
    upstream.prepare({"a": [failing(500), ...], "b": [failing(500), ...]})
    async with our_router(two_keys(upstream), 3, USUAL) as router:
        await asyncio.gather(*(ask(router) for _ in range(8)), return_exceptions=True)
        provider = router.guard.status()["providers"]["openai"]
    assert provider["health"] == "down"
    assert {one["breaker"]["state"] for one in provider["accounts"].values()} == {"open"}


async def test_a_server_that_fails_for_one_key_alone_serves_the_other(upstream: Upstream) -> None:
    upstream.prepare({"a": [failing(500), ...]})
    async with our_router(two_keys(upstream), 3, USUAL) as router:
        assert [await ask(router) for _ in range(12)] == ["from b"] * 12
        provider = router.guard.status()["providers"]["openai"]
    assert provider["breaker"]["state"] == "closed"
    assert provider["health"] != "down"


async def test_keys_at_one_address_share_its_limits(upstream: Upstream) -> None:
    wallie = {"providers": {"openai": {"rpm": 2}}, "admission": {"max_wait": 0}}
    deployments = [deployment(upstream, "a", "m"), deployment(upstream, "b", "n")]
    async with our_router(deployments, 0, wallie) as router:
        assert [await ask(router, "m"), await ask(router, "n")] == ["from a", "from b"]
        for group in "mn":
            with pytest.raises(RateLimited, match="openai is at its rpm limit") as caught:
                await ask(router, group)
            assert caught.value.provider == "openai"
        used = router.guard.status()["providers"]["openai"]
    assert used["quota"]["rpm"]["used"] == 2
    assert used["in_flight"] == 0
    assert {one["in_flight"] for one in used["accounts"].values()} == {0}


async def test_requests_that_wait_for_the_limit_while_a_key_is_refused_are_served_by_the_other(
    upstream: Upstream,
) -> None:
    wallie = {"providers": {"openai": {"rpm": 600, "burst": {"rpm": 1}}}, "breaker": {"failures": 1}}
    upstream.prepare({"a": [failing(401), ...]})
    async with our_router(two_keys(upstream), 1, wallie) as router, asyncio.timeout(AT_MOST):
        assert await asyncio.gather(*(ask(router) for _ in range(12))) == ["from b"] * 12
        assert_nothing_leaked(router)
    assert [request.account for request in upstream.requests].count("a") == 1


async def test_a_wait_for_the_providers_limit_ends_in_a_refusal_if_the_key_was_refused_meanwhile() -> None:
    clock = FakeClock()
    config = {"providers": {"openai": {"tpm": 60}}, "breaker": {"failures": 1}, "ledger": None}
    guard = Guard(WallieConfig.model_validate(config), clock=clock)
    guard.meet("openai", "openai#1a2b3c4d", at_own_address=True)
    first, second = (Attempt("m", "openai", "openai#1a2b3c4d") for _ in range(2))
    contexts = [guard.open_context("m"), guard.open_context("m")]
    await guard.admit(contexts[0], first, Demand(1, 60, 60, 0))
    waiting = asyncio.create_task(guard.admit(contexts[1], second, Demand(1, 10, 10, 0)))
    await until(lambda: guard.limiter("openai").state().waiting == 1)
    clock.advance(1)
    refused = AttemptResult(Outcome.REJECTED, Verdict.FAILURE, status_code=401, fault=FaultDomain.ACCOUNT)
    guard.settle(contexts[0], first, refused)
    with pytest.raises(CircuitOpen, match="openai#1a2b3c4d's circuit is open") as caught:
        await waiting
    assert caught.value.provider == "openai"
    assert guard.limiter("openai").in_flight == 0
    assert guard.status()["providers"]["openai"]["accounts"]["1a2b3c4d"]["in_flight"] == 0
    guard.close()


async def test_a_group_all_of_whose_keys_are_paused_leaves_its_place_to_the_next_member(upstream: Upstream) -> None:
    upstream.prepare({"a": [LIMITED, ...], "b": [LIMITED, ...]})
    deployments = [*two_keys(upstream), deployment(upstream, "c", "n")]
    async with our_router(deployments, 3, USUAL, fallbacks=[{"m": ["n"]}]) as router, asyncio.timeout(AT_MOST):
        assert [await ask(router) for _ in range(4)] == ["from c"] * 4
        assert not router.guard.should_switch_provider("openai")
        assert router.guard.next_fallback("m") == "n"


async def test_an_operator_ends_pauses_and_closes_circuits_of_all_keys(upstream: Upstream) -> None:
    upstream.prepare({"a": [LIMITED], "b": [failing(401)]})
    async with our_router(two_keys(upstream), 0, {"breaker": {"failures": 1}}) as router:
        await asyncio.gather(*(ask(router) for _ in range(20)), return_exceptions=True)
        guard = router.guard
        assert not guard.is_provider_available("openai")
        assert guard.should_switch_provider("openai")
        guard.reset_quota("openai")
        guard.close_circuit("openai")
        assert guard.is_provider_available("openai")
        states = accounts(router).values()
        assert {(one["paused_for"], one["breaker"]["state"]) for one in states} == {(0.0, "closed")}


async def test_an_operator_may_act_on_one_key(upstream: Upstream) -> None:
    async with our_router(two_keys(upstream), 0, USUAL) as router:
        await ask(router)
        digest = next(iter(accounts(router)))
        router.guard.open_circuit(f"openai#{digest}")
        assert len({await ask(router) for _ in range(8)}) == 1
        assert accounts(router)[digest]["breaker"]["state"] == "forced_open"
        router.guard.close_circuit(f"openai#{digest}")
        assert accounts(router)[digest]["breaker"]["state"] == "closed"


async def test_a_key_that_is_added_at_run_time_makes_accounts_of_both(upstream: Upstream) -> None:
    upstream.prepare({"a": [failing(401), ...]})
    async with our_router([deployment(upstream, "a")], 1, USUAL) as router:
        await _error_of(ask(router))
        assert accounts(router) == {}
        router.add_deployment(Deployment(**deployment(upstream, "b")))
        assert [await ask(router) for _ in range(20)] == ["from b"] * 20
        assert sorted(one["breaker"]["state"] for one in accounts(router).values()) == ["closed", "open"]


async def test_keys_wait_equally_long_for_the_limit_that_they_share() -> None:
    guard = Guard(WallieConfig.model_validate({"providers": {"openai": {"rpm": 60, "burst": {"rpm": 1}}}}))
    keys = {"openai#1a2b3c4d", "openai#5e6f7a8b"}
    for key in keys:
        guard.meet("openai", key, at_own_address=True)
    context = guard.open_context("m")
    await guard.admit(context, Attempt("m", "openai", min(keys)), ONE_REQUEST)
    assert guard.preferred(context, "m", keys, ONE_REQUEST) == keys
    guard.close()


async def test_one_key_has_no_account_and_its_refusal_is_the_providers(upstream: Upstream) -> None:
    upstream.prepare({"a": [failing(401), ...]})
    deployments = [deployment(upstream, "a"), deployment(upstream, "a", "n")]
    async with our_router(deployments, 0, USUAL) as router:
        await asyncio.gather(*(ask(router) for _ in range(6)), return_exceptions=True)
        provider = router.guard.status()["providers"]["openai"]
    assert "accounts" not in provider
    assert provider["breaker"]["state"] == "open"


async def test_no_key_can_be_read_from_status_or_errors(upstream: Upstream) -> None:
    upstream.prepare({"a": [LIMITED, ...], "b": [LIMITED, ...]})
    async with our_router(two_keys(upstream), 0, {"admission": {"max_wait": 0}}) as router:
        errors = [await _error_of(ask(router)) for _ in range(6)]
        shown = json.dumps(router.guard.status(), default=str) + "".join(map(repr, errors))
    assert "sk-a" not in shown
    assert "sk-b" not in shown
    assert {error.provider for error in errors if isinstance(error, RateLimited)} == {"openai"}


async def _error_of(call: Any) -> BaseException:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - LiteLLM's and ours
        await call
    return caught.value


def test_a_call_without_an_event_loop_goes_to_the_other_key_too(upstream: Upstream) -> None:
    upstream.prepare({"a": [LIMITED, ...]})
    guard = Guard(WallieConfig.model_validate({"ledger": None}))
    try:
        router = WallieRouter(model_list=two_keys(upstream), guard=guard)
        answers = [router.completion("m", PROMPT).choices[0].message.content for _ in range(6)]
    finally:
        guard.close()
    assert answers == ["from b"] * 6
