"""A 429 pauses what it is about: a model, an account, or with a request that is too large nothing at all."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, Final

import litellm
import pytest
from drop_in.actions import PROMPT
from drop_in.routers import our_router
from drop_in.upstream import Fault, Upstream
from fake_clock import FakeClock
from litellm_adapter.error_shapes import SHAPES
from support import assert_nothing_leaked, until

from wallie_litellm import ChainExhausted, RateLimited, RequestTooLarge
from wallie_litellm.config import WallieConfig
from wallie_litellm.core.attempt_result import AttemptResult
from wallie_litellm.core.circuit_breaker import Verdict
from wallie_litellm.core.demand import ONE_REQUEST, Outcome
from wallie_litellm.core.fault_domain import FaultDomain
from wallie_litellm.guard import Guard
from wallie_litellm.guard.context import Attempt
from wallie_litellm.guard.settlement import MOST_REJECTED
from wallie_litellm.limiter.models import MOST_MODELS

AT_MOST: Final = 10.0  # seconds for calls none of which waits for a pause
USUAL: Final[dict[str, Any]] = {"breaker": {}}
NOT_WAITING: Final[dict[str, Any]] = {"admission": {"max_wait": 0}, "breaker": {}}
OF_A_MODEL: Final = AttemptResult(Outcome.REJECTED, rate_limited=True, pause_for=90, fault=FaultDomain.MODEL)


def recorded(vendor: str, name: str, **headers: str) -> Fault:
    """A vendor's answer as it was recorded."""
    shape = next(shape for shape in SHAPES if (shape.vendor, shape.name) == (vendor, name))
    return Fault(shape.status, headers={**shape.headers, **headers}, body=shape.body)


def deployment(upstream: Upstream, group: str, model: str, account: str = "", key: str = "sk-one") -> dict[str, Any]:
    """The path names the account whose script answers: host and port are the same for all."""
    params = {"model": f"openai/{model}", "api_base": upstream.base(account or model) + "/v1", "api_key": key}
    return {"model_name": group, "litellm_params": params, "model_info": {"id": f"{group}-{account or model}"}}


async def ask(router: Any, group: str = "m", **arguments: Any) -> str:
    answer = await router.acompletion(group, PROMPT, **arguments)
    return str(answer.choices[0].message.content)


def asked(upstream: Upstream, account: str) -> int:
    return [request.account for request in upstream.requests].count(account)


def models(router: Any) -> dict[str, float]:
    provider = router.guard.status()["providers"]["openai"]
    return {name: one["paused_for"] for name, one in provider.get("models", {}).items()}


async def test_a_model_that_is_not_on_the_plan_is_paused_for_the_day_and_no_other_model_is(upstream: Upstream) -> None:
    upstream.prepare({"a": [recorded("google-openai", "not on the plan"), ...]})
    deployments = [deployment(upstream, "m", "a"), deployment(upstream, "n", "b")]
    async with our_router(deployments, 3, NOT_WAITING) as router, asyncio.timeout(AT_MOST):
        for _ in range(3):
            with pytest.raises((litellm.RateLimitError, RateLimited), match=r"quota|openai's a asked to be left alone"):
                await ask(router)
        assert [await ask(router, "n") for _ in range(3)] == ["from b"] * 3
        provider = router.guard.status()["providers"]["openai"]
        assert provider["paused_for"] == 0
        assert 60 < models(router)["a"] <= 25 * 3600
        assert router.guard.is_provider_available("openai")
        assert not router.guard.should_switch_provider("openai")
    assert asked(upstream, "a") == 1


async def test_another_model_of_the_group_serves_while_one_is_paused(upstream: Upstream) -> None:
    upstream.prepare({"a": [recorded("openai", "requests per minute"), ...]})
    deployments = [deployment(upstream, "m", "a"), deployment(upstream, "m", "b")]
    async with our_router(deployments, 3, USUAL) as router, asyncio.timeout(AT_MOST):
        assert [await ask(router) for _ in range(12)] == ["from b"] * 12
        assert await asyncio.gather(*(ask(router) for _ in range(8))) == ["from b"] * 8
        assert 15 < models(router)["a"] <= 20
    assert asked(upstream, "a") == 1


async def test_a_fallback_to_another_model_of_the_provider_serves_at_once(upstream: Upstream) -> None:
    upstream.prepare({"a": [recorded("openai", "requests per minute"), ...]})
    deployments = [deployment(upstream, "m", "a"), deployment(upstream, "n", "b")]
    async with our_router(deployments, 3, USUAL, fallbacks=[{"m": ["n"]}]) as router, asyncio.timeout(AT_MOST):
        assert await asyncio.gather(*(ask(router) for _ in range(8))) == ["from b"] * 8
        assert router.guard.next_fallback("m") == "n"
        assert_nothing_leaked(router)


async def test_a_429_about_the_account_pauses_all_its_models(upstream: Upstream) -> None:
    upstream.prepare({"a": [recorded("anthropic", "the account's", **{"retry-after": "20"}), ...]})
    deployments = [deployment(upstream, "m", "a"), deployment(upstream, "n", "b")]
    async with our_router(deployments, 0, NOT_WAITING) as router, asyncio.timeout(AT_MOST):
        with pytest.raises(litellm.RateLimitError):
            await ask(router)
        with pytest.raises(RateLimited, match="openai asked to be left alone"):
            await ask(router, "n")
        assert models(router) == {}


@pytest.mark.parametrize(
    "answer",
    [recorded("deepseek", "limit", **{"retry-after": "20"}), recorded("openai", "slow down", **{"retry-after": "20"})],
    ids=["a 429 of unknown scope", "a 503 with a Retry-After"],
)
async def test_what_names_no_scope_pauses_the_model_that_was_called(upstream: Upstream, answer: Fault) -> None:
    upstream.prepare({"a": [answer, ...]})
    deployments = [deployment(upstream, "m", "a"), deployment(upstream, "n", "b")]
    async with our_router(deployments, 0, NOT_WAITING) as router, asyncio.timeout(AT_MOST):
        with pytest.raises((litellm.RateLimitError, litellm.ServiceUnavailableError)):
            await ask(router)
        assert await ask(router, "n") == "from b"
        assert {name: 15 < seconds <= 20 for name, seconds in models(router).items()} == {"a": True}


async def test_a_provider_all_of_whose_models_are_paused_is_paused(upstream: Upstream) -> None:
    upstream.prepare({"a": [recorded("openai", "requests per minute")], "b": [recorded("azure", "short")]})
    deployments = [deployment(upstream, "m", "a"), deployment(upstream, "n", "b")]
    async with our_router(deployments, 0, NOT_WAITING) as router, asyncio.timeout(AT_MOST):
        for group in "mn":
            assert router.guard.is_provider_available("openai")
            with pytest.raises(litellm.RateLimitError):
                await ask(router, group)
        assert 0 < router.guard.status()["providers"]["openai"]["paused_for"] <= 2
        assert not router.guard.is_provider_available("openai")
        assert router.guard.should_switch_provider("openai")


async def test_a_model_is_paused_for_one_key_alone(upstream: Upstream) -> None:
    upstream.prepare({"a": [recorded("openai", "requests per minute"), ...]})
    deployments = [deployment(upstream, "m", "x", "a", "sk-a"), deployment(upstream, "m", "x", "b", "sk-b")]
    async with our_router(deployments, 3, USUAL) as router, asyncio.timeout(AT_MOST):
        assert [await ask(router) for _ in range(12)] == ["from b"] * 12
        provider = router.guard.status()["providers"]["openai"]
        paused = [one["models"]["x"]["paused_for"] for one in provider["accounts"].values() if "models" in one]
    assert provider["paused_for"] == 0
    assert [15 < seconds <= 20 for seconds in paused] == [True]
    assert asked(upstream, "a") == 1


@pytest.mark.parametrize("name", ["request too large", "request too large, for a shared limit"])
async def test_a_request_that_is_too_large_for_a_limit_is_refused_once_and_pauses_nothing(
    upstream: Upstream, name: str
) -> None:
    upstream.prepare({"a": [recorded("openai", name)]})
    async with our_router([deployment(upstream, "m", "a")], 3, USUAL) as router, asyncio.timeout(AT_MOST):
        with pytest.raises(RequestTooLarge, match=r"limit on tokens per min \(TPM\) is 30,000") as raised:
            await ask(router)
        assert raised.value.headers == {"x-should-retry": "false"}
        assert isinstance(raised.value.__cause__, litellm.RateLimitError)
        assert asked(upstream, "a") == 1
        assert await ask(router) == "from a"
        provider = router.guard.status()["providers"]["openai"]
    assert (provider["paused_for"], provider.get("models")) == (0, None)
    assert provider["breaker"]["consecutive_failures"] == 0


async def test_a_request_that_is_too_large_for_one_member_goes_on_to_the_next(upstream: Upstream) -> None:
    too_large = recorded("openai", "request too large")
    upstream.prepare({"a": [too_large, ...], "b": [too_large, ...]})
    deployments = [deployment(upstream, group, model) for group, model in zip("mno", "abc", strict=True)]
    async with our_router(deployments, 3, USUAL, fallbacks=[{"m": ["n", "o"]}]) as router, asyncio.timeout(AT_MOST):
        assert await ask(router) == "from c"
        with pytest.raises(ChainExhausted, match="request too large") as raised:
            await ask(router, fallbacks=["n"])
    assert (raised.value.status_code, raised.value.headers) == (429, {"x-should-retry": "false"})
    assert [asked(upstream, account) for account in "abc"] == [2, 2, 1]


async def test_an_account_that_has_reached_its_spending_is_left_alone_until_the_stated_day(upstream: Upstream) -> None:
    upstream.prepare({"a": [recorded("anthropic", "spend limit"), ...]})
    deployments = [deployment(upstream, "m", "x", "a", "sk-a"), deployment(upstream, "m", "x", "b", "sk-b")]
    async with our_router(deployments, 3, USUAL) as router, asyncio.timeout(AT_MOST):
        assert [await ask(router) for _ in range(12)] == ["from b"] * 12
        accounts = router.guard.status()["providers"]["openai"]["accounts"]
    assert sorted(one["paused_for"] > 3600 for one in accounts.values()) == [False, True]
    assert asked(upstream, "a") == 1


async def test_a_model_without_access_opens_no_circuit_and_leaves_its_place(upstream: Upstream) -> None:
    upstream.prepare({"a": [recorded("openai", "no access to the model"), ...]})
    deployments = [deployment(upstream, "m", "a"), deployment(upstream, "n", "b")]
    async with our_router(deployments, 3, USUAL, fallbacks=[{"m": ["n"]}]) as router, asyncio.timeout(AT_MOST):
        assert [await ask(router) for _ in range(8)] == ["from b"] * 8
        assert router.guard.status()["providers"]["openai"]["breaker"]["state"] == "closed"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def guard(clock: FakeClock) -> Iterator[Guard]:
    config = {"providers": {"openai": {"rpm": 60}}, "admission": {"max_wait": "5m"}}
    guard = Guard(WallieConfig.model_validate(config), clock=clock)
    yield guard
    guard.close()


async def call(guard: Guard, model: str, result: AttemptResult) -> None:
    context, attempt = guard.open_context("m"), Attempt("m", "openai", "openai", f"openai|{model}", model)
    await guard.admit(context, attempt, ONE_REQUEST)
    guard.settle(context, attempt, result)


SERVED: Final = AttemptResult(Outcome.SUCCESS, Verdict.SUCCESS)


async def test_requests_wait_for_a_paused_model_and_hold_up_no_other(guard: Guard, clock: FakeClock) -> None:
    await call(guard, "a", OF_A_MODEL)
    waiting = [asyncio.create_task(call(guard, "a", SERVED)) for _ in range(3)]
    await until(lambda: guard.status()["providers"]["openai"]["models"]["a"]["waiting"] == 3)
    await call(guard, "b", SERVED)
    clock.advance(89)
    await asyncio.sleep(0)
    assert not any(task.done() for task in waiting)
    clock.advance(1)
    await asyncio.gather(*waiting)
    assert "models" not in guard.status()["providers"]["openai"]
    assert guard.limiter("openai").in_flight == 0
    await call(guard, "a", SERVED)
    assert "openai|a" not in [limiter.name for limiter in guard.limiters()]


async def test_models_that_are_never_asked_again_are_forgotten_once_their_pauses_are_over(
    guard: Guard, clock: FakeClock
) -> None:
    for at in range(2 * MOST_MODELS):
        await call(guard, f"invented-{at}", OF_A_MODEL)
        clock.advance(1)
    assert guard.limiter("openai").in_flight == 0
    paused = [limiter for limiter in guard.limiters() if limiter.is_paused()]
    assert len(paused) == 89  # seconds, one model in each
    assert len(list(guard.limiters())) < MOST_MODELS + 100
    assert len(guard._settlement._rejections) <= MOST_REJECTED


async def test_an_operators_reset_ends_the_pauses_of_models(guard: Guard) -> None:
    await call(guard, "a", OF_A_MODEL)
    assert not guard.could_serve("openai|a", ONE_REQUEST)
    guard.close_circuit("openai")
    assert not guard.could_serve("openai|a", ONE_REQUEST)
    guard.reset_quota("openai")
    assert guard.could_serve("openai|a", ONE_REQUEST)


async def test_a_models_pauses_grow_with_each_rejection_until_a_success(guard: Guard, clock: FakeClock) -> None:
    unstated = OF_A_MODEL._replace(pause_for=None)
    pauses = []
    for _ in range(3):
        await call(guard, "a", unstated)
        pauses.append(guard.status()["providers"]["openai"]["models"]["a"]["paused_for"])
        clock.advance(pauses[-1] + 1)
    assert pauses == [pytest.approx(seconds, rel=0.26) for seconds in (1, 2, 4)]
    await call(guard, "a", SERVED)
    await call(guard, "a", unstated)
    assert guard.status()["providers"]["openai"]["models"]["a"]["paused_for"] == pytest.approx(1, rel=0.26)


def test_a_look_at_the_status_does_not_settle_where_a_provider_is() -> None:
    guard = Guard(WallieConfig())
    assert guard.status()["providers"]["openai"]["quota"]
    assert guard.is_provider_available("anthropic")
    guard.meet("openai", "openai", at_own_address=False, scope="openai|a")
    assert guard.status()["providers"]["openai"]["quota"] == {}
    guard.close()


async def test_a_closed_guard_ends_the_wait_for_a_paused_model(guard: Guard) -> None:
    await call(guard, "a", OF_A_MODEL)
    waiting = asyncio.create_task(call(guard, "a", SERVED))
    await until(lambda: guard.status()["providers"]["openai"]["models"]["a"]["waiting"] == 1)
    guard.close()
    with pytest.raises(RateLimited, match="the guard was closed"):
        await waiting


@pytest.mark.parametrize("name", ["gpt-4o", "openai/gpt-4o", "group"])
def test_a_reset_of_a_model_ends_its_pause_by_each_of_its_names(guard: Guard, name: str) -> None:
    guard.meet("openai", "openai", True, "openai|gpt-4o", "group")
    guard._limiters.models.pause("openai|gpt-4o", 90)
    assert guard.reached_by("reset_quota", "openai", name) == ["openai|gpt-4o"]
    guard.reset_quota("openai", model=name)
    assert guard.status()["providers"]["openai"].get("models") is None
