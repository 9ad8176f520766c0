"""Our errors are caught where an application that was written for plain LiteLLM catches its own."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import openai
import pytest

from drop_in.actions import PROMPT, outcome_of
from drop_in.observation import RouterOf
from drop_in.routers import NO_LIMITS, our_router, plain_router, pointed
from drop_in.row import deployment
from drop_in.upstream import LIMITED, Fault, Upstream, failing
from wallie_litellm import execute_ai_request
from wallie_litellm.errors import ChainExhausted, CircuitOpen, DeadlineExceeded, RateLimited, RequestTooLarge

BOTH: Final = pytest.mark.parametrize("router_of", [plain_router, our_router], ids=["plain", "ours"])
THREE: Final = [deployment("m", "a"), deployment("n", "b"), deployment("o", "c")]
ONWARD: Final[dict[str, Any]] = {"fallbacks": [{"m": ["n"]}]}
NO_WAIT: Final = {"max_wait": 0}


async def ask(router: Any, model: str = "m", **arguments: Any) -> Any:
    return await router.acompletion(model=model, messages=PROMPT, **arguments)


@BOTH
async def test_a_batch_has_the_error_of_the_request_that_failed_after_its_chain(
    upstream: Upstream, router_of: RouterOf
) -> None:
    upstream.prepare({"a": [failing(503), ...], "b": [failing(503), ...]})
    async with router_of(pointed(upstream, THREE), **ONWARD) as router:
        answers = await router.abatch_completion(models=["m", "o"], messages=PROMPT)
    assert isinstance(answers[0], openai.APIStatusError)
    assert answers[0].status_code == 503
    assert answers[1].choices[0].message.content == "from c"


@BOTH
async def test_many_requests_of_one_model_have_each_their_error(upstream: Upstream, router_of: RouterOf) -> None:
    upstream.prepare({"a": [failing(503), ...], "b": [failing(503), ...]})
    async with router_of(pointed(upstream, THREE), **ONWARD) as router:
        answers = await router.abatch_completion_one_model_multiple_requests(model="m", messages=[PROMPT, PROMPT])
    assert [isinstance(answer, openai.APIError) for answer in answers] == [True, True]


async def test_a_chain_that_is_down_is_a_server_error(upstream: Upstream) -> None:
    upstream.prepare({"a": [failing(500), ...], "b": [failing(503), ...]})
    async with our_router(pointed(upstream, THREE), **ONWARD) as router:
        error = await outcome_of(ask(router))
    assert isinstance(error, ChainExhausted)
    assert isinstance(error, openai.InternalServerError)
    assert error.status_code == 503


async def test_a_chain_that_is_down_is_a_server_error_for_streams_and_threads_too(upstream: Upstream) -> None:
    upstream.prepare({"a": [failing(500), ...], "b": [failing(503), ...]})
    async with our_router(pointed(upstream, THREE), **ONWARD) as router:
        streamed = await outcome_of(ask(router, stream=True))
        blocking = await outcome_of(asyncio.to_thread(router.completion, model="m", messages=PROMPT))
    for error in (streamed, blocking):
        assert isinstance(error, ChainExhausted)
        assert isinstance(error, openai.InternalServerError)


async def test_a_chain_whose_every_member_is_limited_is_a_rate_limit(upstream: Upstream) -> None:
    upstream.prepare({"a": [LIMITED, ...], "b": [LIMITED, ...]})
    async with our_router(pointed(upstream, THREE), wallie={"admission": NO_WAIT}, **ONWARD) as router:
        error = await outcome_of(ask(router))
    assert isinstance(error, ChainExhausted)
    assert isinstance(error, openai.RateLimitError)
    assert error.status_code == 429


async def test_our_own_limit_is_a_rate_limit(upstream: Upstream) -> None:
    wallie = {"providers": {**NO_LIMITS, "openai": {"rpm": 1}}, "admission": NO_WAIT}
    async with our_router(pointed(upstream, THREE), wallie=wallie) as router:
        await ask(router)
        error = await outcome_of(ask(router))
    assert isinstance(error, RateLimited)
    assert isinstance(error, openai.RateLimitError)
    assert (error.status_code, error.code) == (429, "wallie_rate_limited")
    assert error.retry_after > 0


async def test_a_request_that_never_fits_is_a_rate_limit(upstream: Upstream) -> None:
    wallie = {"providers": {**NO_LIMITS, "openai": {"tpm": 10}}}
    async with our_router(pointed(upstream, THREE), wallie=wallie) as router:
        error = await outcome_of(router.acompletion(model="m", messages=[{"role": "user", "content": "x" * 400}]))
    assert isinstance(error, RequestTooLarge)
    assert isinstance(error, openai.RateLimitError)


async def test_an_open_circuit_is_a_server_error(upstream: Upstream) -> None:
    async with our_router(pointed(upstream, THREE), wallie={"admission": NO_WAIT}) as router:
        router.guard.open_circuit("openai")
        error = await outcome_of(ask(router))
    assert isinstance(error, CircuitOpen)
    assert isinstance(error, openai.InternalServerError)
    assert error.status_code == 503


async def test_a_deadline_is_a_timeout_of_openais_and_of_pythons(upstream: Upstream) -> None:
    upstream.prepare({"a": [Fault(delay=2.0)]})
    async with our_router(pointed(upstream, THREE)) as router:
        error = await outcome_of(execute_ai_request(router, "m", PROMPT, deadline=0.15))
    assert isinstance(error, DeadlineExceeded)
    assert isinstance(error, openai.APITimeoutError)
    assert isinstance(error, TimeoutError)
    assert error.status_code == 504


async def test_an_error_of_ours_survives_what_applications_do_with_openais(upstream: Upstream) -> None:
    async with our_router(pointed(upstream, THREE), wallie={"admission": NO_WAIT}) as router:
        router.guard.open_circuit("openai")
        error = await outcome_of(ask(router))
    assert isinstance(error, openai.APIStatusError)
    assert error.response.status_code == error.status_code
    assert error.message
    assert str(error.request.url)
