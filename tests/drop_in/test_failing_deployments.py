"""A failing deployment beside a good one, and errors that come without an HTTP exchange."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import litellm
import openai
import pytest
from litellm.integrations.custom_logger import CustomLogger
from ports import free_port
from support import early_in_a_minute

from drop_in.actions import PROMPT, outcome_of
from drop_in.callbacks import registered
from drop_in.observation import RouterOf
from drop_in.routers import our_router, plain_router, pointed
from drop_in.row import deployment
from drop_in.upstream import LIMITED, Fault, Upstream, failing

BOTH: Final = pytest.mark.parametrize("router_of", [plain_router, our_router], ids=["plain", "ours"])
TWO: Final = [deployment("m", "a"), deployment("m", "b")]
APART: Final = [deployment("m", "a"), deployment("m", "b", info={"wallie_provider": "openai-b"})]
USUAL: Final = {"retry": {"max_retries": 3}, "breaker": {}}  # the waits and the breaker that a file without them has
AT_MOST: Final = 10.0  # seconds for forty calls: none of them waits for a deployment that fails
AT_ONCE: Final = 1.0  # seconds for a call that waits for nothing


async def ask(router: Any, model: str = "m", **arguments: Any) -> Any:
    return await router.acompletion(model=model, messages=PROMPT, **arguments)


@pytest.mark.parametrize(
    "fault",
    [failing(500), failing(503), failing(401), failing(404), failing(408), LIMITED],
    ids=["500", "503", "401", "404", "408", "429"],
)
async def test_a_deployment_that_always_fails_costs_no_request_and_no_wait(upstream: Upstream, fault: Fault) -> None:
    upstream.prepare({"a": [fault, ...]})
    async with our_router(pointed(upstream, TWO), 3, USUAL) as router, asyncio.timeout(AT_MOST):
        answers = [await outcome_of(ask(router)) for _ in range(40 if fault.status == 500 else 16)]
    assert [answer for answer in answers if isinstance(answer, Exception)] == []
    assert {answer.choices[0].message.content for answer in answers} == {"from b"}


async def test_a_deployment_that_refuses_connections_costs_no_request_and_no_wait(upstream: Upstream) -> None:
    refused = f"http://127.0.0.1:{free_port()}/v1"
    models = [deployment("m", "a", api_base=refused), deployment("m", "b")]
    async with our_router(pointed(upstream, models), 3, USUAL) as router, asyncio.timeout(AT_MOST):
        answers = [await outcome_of(ask(router)) for _ in range(20)]
    assert [answer for answer in answers if isinstance(answer, Exception)] == []


@pytest.mark.parametrize("models", [TWO, APART], ids=["two keys", "two addresses"])
async def test_a_deployment_that_always_fails_costs_nothing_under_load(upstream: Upstream, models: Any) -> None:
    upstream.prepare({"a": [failing(500), ...]})
    async with our_router(pointed(upstream, models), 3, USUAL) as router, asyncio.timeout(AT_MOST):
        answers = [await asyncio.gather(*(outcome_of(ask(router)) for _ in range(8))) for _ in range(5)]
    assert [answer for eight in answers for answer in eight if isinstance(answer, Exception)] == []


async def test_a_deployment_that_never_answers_is_not_asked_twice_for_one_request(upstream: Upstream) -> None:
    upstream.prepare({"a": [Fault(delay=2.0), ...]})
    async with our_router(pointed(upstream, TWO), 3, USUAL) as router, asyncio.timeout(AT_MOST):
        for _ in range(4):
            asked = len(upstream.requests)
            assert (await ask(router, timeout=0.2)).choices[0].message.content == "from b"
            assert [request.account for request in upstream.requests[asked:]].count("a") <= 1


# LiteLLM's own local limits: they say nothing of the vendor.


@BOTH
async def test_a_local_limit_per_minute_holds_back_its_own_group_alone(upstream: Upstream, router_of: RouterOf) -> None:
    await early_in_a_minute()
    limited = [deployment("m", "a", rpm=1), deployment("n", "b")]
    settings: dict[str, Any] = {"optional_pre_call_checks": ["enforce_model_rate_limits"]}
    async with router_of(pointed(upstream, limited), **settings) as router:
        asked = [await outcome_of(ask(router)) for _ in range(3)]
        async with asyncio.timeout(AT_ONCE):
            answer = await ask(router, "n")
    assert [isinstance(each, openai.RateLimitError) for each in asked] == [False, True, True]
    assert answer.choices[0].message.content == "from b"


@BOTH
async def test_max_parallel_requests_holds_back_its_own_group_alone(upstream: Upstream, router_of: RouterOf) -> None:
    limited = [deployment("m", "a", max_parallel_requests=1), deployment("n", "b")]
    upstream.prepare({"a": [Fault(delay=0.1)]})
    async with router_of(pointed(upstream, limited)) as router:
        asked = await asyncio.gather(*(outcome_of(ask(router)) for _ in range(3)))
        async with asyncio.timeout(AT_ONCE):
            answer = await ask(router, "n")
        again = await ask(router)
    assert sum(isinstance(each, openai.RateLimitError) for each in asked) == 2
    assert answer.choices[0].message.content == "from b"
    assert again.choices[0].message.content == "from a"


# Errors without an HTTP exchange


class _Once(litellm.CustomLLM):  # type: ignore[misc] # LiteLLM is not type-checked here
    """A provider in the application's process that fails once."""

    def __init__(self) -> None:
        super().__init__()
        self.error: Exception | None = None
        self.calls = 0

    async def acompletion(self, *_: Any, **__: Any) -> Any:
        self.calls += 1
        error, self.error = self.error, None
        if error is not None:
            raise error
        return litellm.completion("openai/gpt-4o-mini", messages=PROMPT, mock_response="at last")


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> _Once:
    handler = _Once()
    monkeypatch.setattr(litellm, "custom_provider_map", [{"provider": "own-llm", "custom_handler": handler}])
    for name in ("provider_list", "_custom_providers"):
        monkeypatch.setattr(litellm, name, [*getattr(litellm, name), "own-llm"])
    return handler


OWN: Final = [
    {"model_name": "m", "litellm_params": {"model": "own-llm/one"}, "model_info": {"id": identity}}
    for identity in ("one", "other")
]
ERRORS: Final = {
    "its own": lambda: litellm.llms.custom_llm.CustomLLMError(status_code=500, message="once"),
    "its own 429": lambda: litellm.llms.custom_llm.CustomLLMError(status_code=429, message="once"),
    "ServiceUnavailableError": lambda: litellm.ServiceUnavailableError("once", "own-llm", "one"),
    "RuntimeError": lambda: RuntimeError("once"),
}


@BOTH
@pytest.mark.parametrize("error", ERRORS)
async def test_an_error_of_the_applications_own_provider_is_retried(
    own: _Once, router_of: RouterOf, error: str
) -> None:
    own.error = ERRORS[error]()
    async with router_of(OWN, 1) as router:
        answer = await ask(router)
    assert answer.choices[0].message.content == "at last"
    assert own.calls == 2


async def test_errors_of_the_applications_own_provider_are_seen_by_the_breaker(own: _Once) -> None:
    async with our_router(OWN[:1], 0, {"breaker": {"failures": 2}}) as router:
        for _ in range(2):
            own.error = RuntimeError("again")
            await outcome_of(ask(router))
        assert router.guard.status()["providers"]["own-llm"]["breaker"]["state"] == "open"


@BOTH
async def test_a_made_up_error_of_one_deployment_is_retried_on_the_other(
    upstream: Upstream, router_of: RouterOf
) -> None:
    models = [deployment("m", "a", mock_response="litellm.InternalServerError", order=1), deployment("m", "b", order=2)]
    async with router_of(pointed(upstream, models), 1) as router:
        answer = await ask(router)
    assert answer.choices[0].message.content == "from b"


class _FailsOnce(CustomLogger):  # type: ignore[misc] # LiteLLM is not type-checked here
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    async def async_pre_call_deployment_hook(self, kwargs: Any, call_type: Any) -> None:
        self.calls += 1
        if self.calls == 1:
            raise RuntimeError("once")


@BOTH
async def test_an_error_of_a_hook_is_retried(upstream: Upstream, router_of: RouterOf) -> None:
    hook = _FailsOnce()
    with registered(hook):
        async with router_of(pointed(upstream, TWO), 1) as router:
            answer = await ask(router)
    assert answer.choices[0].message.content.startswith("from")
    assert hook.calls == 2
    assert len(upstream.requests) == 1
