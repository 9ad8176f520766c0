"""Parameters of the router, of a deployment and of a request: which of them reach the provider, and which win."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

from litellm.types.router import AllowedFailsPolicy, RetryPolicy

from drop_in.actions import at_once, chat, streamed, times
from drop_in.observation import Facets
from drop_in.row import Action, Difference, Row, Stage, deployment
from drop_in.upstream import Fault, failing

ONE: Final = [deployment("m", "a")]
SLOW: Final = {"a": [Fault(delay=1.0)]}
TIMED_OUT: Final = ("Timeout", 408)
FAILED: Final = ("InternalServerError", 500)
# Two deployments that are one account: a retry finds a sibling, so that LiteLLM does not sleep before it.
TWINS: Final = [deployment("m", "a"), deployment("m", "a", info={"id": "twin"})]
TOOL: Final = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object", "properties": {}}}}
TWO_SLOTS: Final = {"a": [Fault(delay=0.1)] * 4}


def sending(*names: str, **arguments: Any) -> Action:
    """What the request upstream has under these names."""

    async def act(stage: Stage) -> Any:
        await chat(**arguments)(stage)
        request = stage.upstream.requests[-1]
        return Facets(found=[request.body.get(name, request.headers.get(name)) for name in names])

    return act


def elsewhere(action: Callable[..., Action], account: str) -> Action:
    """A request that says itself where it goes."""

    async def act(stage: Stage) -> Any:
        return await action(api_base=stage.upstream.base(account) + "/v1", api_key="sk-own")(stage)

    return act


def busiest(count: int, action: Action) -> Action:
    """The most requests at one time, and how each ended."""

    async def act(stage: Stage) -> Any:
        results = await at_once(count, action)(stage)
        failed = sum(isinstance(result, Exception) for result in results)
        return Facets(at_once=stage.upstream.at_once["a"], failed=failed)

    return act


def waiting(action: Action, seconds: float) -> Action:
    """Whether an action took at least so many seconds."""

    async def act(stage: Stage) -> Any:
        begun = time.monotonic()
        await action(stage)
        return Facets(waited=time.monotonic() - begun >= seconds)

    return act


def afterwards(first: Action, then: Action) -> Action:
    """Only what is asked upstream after a first action."""

    async def act(stage: Stage) -> Any:
        await first(stage)
        await asyncio.sleep(0.05)  # LiteLLM notes a failure after its error
        stage.upstream.requests.clear()
        await then(stage)
        return Facets()

    return act


def asked_again(**arguments: Any) -> Action:
    """The same question again, after the time that a cache needs to be written."""

    async def act(stage: Stage) -> Any:
        first = await chat(**arguments)(stage)
        await asyncio.sleep(0.05)
        return [first, await chat(**arguments)(stage)]

    return act


ROWS: Final = [
    Row(
        "a deployment's temperature and max_tokens",
        [deployment("m", "a", temperature=0.2, max_tokens=9)],
        sending("temperature", "max_tokens"),
        {"found": [0.2, 9]},
    ),
    Row(
        "a request's temperature before its deployment's",
        [deployment("m", "a", temperature=0.2)],
        sending("temperature", temperature=0.9),
        {"found": [0.9]},
    ),
    Row(
        "default_litellm_params",
        ONE,
        sending("top_p", "seed"),
        {"found": [0.5, 3]},
        settings={"default_litellm_params": {"top_p": 0.5, "seed": 3}},
    ),
    Row(
        "a request's parameters before default_litellm_params",
        ONE,
        sending("top_p", top_p=0.7),
        {"found": [0.7]},
        settings={"default_litellm_params": {"top_p": 0.5}},
    ),
    Row(
        "a deployment's extra_headers",
        [deployment("m", "a", extra_headers={"x-team": "blue"})],
        sending("x-team"),
        {"found": ["blue"]},
    ),
    Row("a request's extra_headers", ONE, sending("x-team", extra_headers={"x-team": "red"}), {"found": ["red"]}),
    Row("a request's extra_body", ONE, sending("cache_salt", extra_body={"cache_salt": "s"}), {"found": ["s"]}),
    Row(
        "a parameter of the vendor's own",
        ONE,
        sending("top_k", top_k=4),
        {"found": [4]},
    ),
    Row("a deployment's organization", [deployment("m", "a", organization="org-1")], chat(), {"accounts": ["a"]}),
    Row("tools", ONE, sending("tools", tools=[TOOL]), {"found": [[TOOL]]}),
    Row(
        "a response format",
        ONE,
        sending("response_format", response_format={"type": "json_object"}),
        {"found": [{"type": "json_object"}]},
    ),
    Row("a user", ONE, sending("user", user="u1"), {"found": ["u1"]}),
    Row(
        "drop_params of a deployment",
        [deployment("m", "a", "openai/o3-mini", drop_params=True)],
        sending("temperature", temperature=0.3),
        {"found": [None]},
    ),
    Row(
        "an unsupported parameter without drop_params",
        [deployment("m", "a", "openai/o3-mini")],
        chat(temperature=0.3),
        {"error": ("BadRequestError", 400), "accounts": []},
    ),
    Row(
        "additional_drop_params of a deployment",
        [deployment("m", "a", additional_drop_params=["seed"])],
        sending("seed", "top_p", seed=1, top_p=0.4),
        {"found": [None, 0.4]},
    ),
    Row(
        "a model_info of the deployment reaches no provider",
        [deployment("m", "a", info={"mode": "chat", "team": "blue"})],
        chat(),
        {"answer": "from a"},
    ),
    Row("metadata reaches no provider", ONE, chat(metadata={"a": 1}), {"answer": "from a"}),
    Row(
        "a request's own key",
        ONE,
        chat(api_key="sk-own"),
        {"answer": "from a", "accounts": ["a"]},
    ),
    Row("a request's own address", ONE, elsewhere(chat, "b"), {"answer": "from b", "accounts": ["b"]}),
    Row(
        "mock_timeout",
        ONE,
        chat(mock_timeout=True, timeout=0.05),
        {"error": TIMED_OUT, "accounts": []},
    ),
    Row(
        "a deployment's timeout",
        [deployment("m", "a", timeout=0.25)],
        chat(),
        {"error": TIMED_OUT, "accounts": ["a"]},
        SLOW,
    ),
    Row("a request's timeout", ONE, chat(timeout=0.25), {"error": TIMED_OUT, "accounts": ["a"]}, SLOW),
    Row("the router's timeout", ONE, chat(), {"error": TIMED_OUT, "accounts": ["a"]}, SLOW, {"timeout": 0.25}),
    Row(
        "a request's timeout before the router's",
        ONE,
        chat(timeout=3),
        {"answer": "from a"},
        {"a": [Fault(delay=0.4)]},
        {"timeout": 0.25},
    ),
    Row(
        "the router's stream_timeout",
        ONE,
        streamed(),
        {"error": TIMED_OUT, "accounts": ["a"]},
        SLOW,
        {"stream_timeout": 0.25, "timeout": 3},
    ),
    Row(
        "stream_timeout bounds no whole answer",
        ONE,
        chat(),
        {"answer": "from a"},
        {"a": [Fault(delay=0.4)]},
        {"stream_timeout": 0.25, "timeout": 3},
    ),
    Row(
        "a deployment's stream_timeout",
        [deployment("m", "a", stream_timeout=0.25, timeout=3)],
        streamed(),
        {"error": TIMED_OUT, "accounts": ["a"]},
        SLOW,
    ),
    Row("mock_response, a text", ONE, chat(mock_response="made up"), {"answer": "made up", "accounts": []}),
    Row(
        "mock_response of a deployment",
        [deployment("m", "a", mock_response="made up")],
        chat(),
        {"answer": "made up", "accounts": []},
    ),
    Row(
        "mock_response, an error",
        ONE,
        chat(mock_response=ValueError("made up")),
        {"error": FAILED, "accounts": []},
    ),
    Row(
        "mock_response, an error by name",
        ONE,
        chat(mock_response="litellm.RateLimitError"),
        {"error": ("RateLimitError", 429), "accounts": []},
    ),
    Row("mock_response as a stream", ONE, streamed(mock_response="made up"), {"answer": "made up", "accounts": []}),
    Row(
        "max_parallel_requests of a deployment",
        [deployment("m", "a", max_parallel_requests=1)],
        busiest(3, chat()),
        {"at_once": 1, "failed": 2},
        TWO_SLOTS,
    ),
    Row(
        "default_max_parallel_requests",
        ONE,
        busiest(4, chat()),
        {"at_once": 2, "failed": 2},
        TWO_SLOTS,
        {"default_max_parallel_requests": 2},
    ),
    Row(
        "retry_policy",
        TWINS,
        chat(),
        {"error": FAILED, "accounts": ["a"]},
        {"a": [failing()] * 3},
        {"retry_policy": RetryPolicy(InternalServerErrorRetries=0)},
        retries=2,
        difference=Difference("retries-are-ours", {"error": FAILED, "accounts": ["a", "a", "a"]}),
    ),
    Row(
        "model_group_retry_policy",
        TWINS,
        chat(),
        {"error": FAILED, "accounts": ["a"]},
        {"a": [failing()] * 3},
        {"model_group_retry_policy": {"m": RetryPolicy(InternalServerErrorRetries=0)}},
        retries=2,
        difference=Difference("retries-are-ours", {"error": FAILED, "accounts": ["a", "a", "a"]}),
    ),
    Row(
        "retry_after",
        ONE,
        waiting(chat(), 0.9),
        {"waited": True, "accounts": ["a", "a"]},
        {"a": [failing()]},
        {"retry_after": 1},
        retries=1,
        difference=Difference("retries-are-ours", {"waited": False, "accounts": ["a", "a"]}),
    ),
    Row(
        "allowed_fails and cooldown_time",
        [deployment("m", "a"), deployment("m", "b")],
        afterwards(times(8, chat()), times(8, chat())),
        {"accounts": ["b"] * 8},
        {"a": [failing()] * 20},
        {"allowed_fails": 0, "cooldown_time": 60},
        difference=Difference("breakers-for-cooldowns", {}),
    ),
    Row(
        "allowed_fails_policy",
        [deployment("m", "a"), deployment("m", "b")],
        afterwards(times(8, chat()), times(8, chat())),
        {"accounts": ["b"] * 8},
        {"a": [failing()] * 20},
        {"allowed_fails_policy": AllowedFailsPolicy(InternalServerErrorAllowedFails=0), "cooldown_time": 60},
        difference=Difference("breakers-for-cooldowns", {}),
    ),
    Row(
        "a priority",
        ONE,
        times(2, chat(priority=1)),
        {"accounts": ["a", "a"]},
    ),
    Row(
        "num_retries of a request",
        TWINS,
        chat(num_retries=2),
        {"answer": "from a", "accounts": ["a", "a", "a"]},
        {"a": [failing(), failing()]},
        difference=Difference("retries-are-ours", {"error": FAILED, "accounts": ["a"]}),
    ),
    Row(
        "no retries by request",
        TWINS,
        chat(num_retries=0),
        {"error": FAILED, "accounts": ["a"]},
        {"a": [failing()]},
        retries=2,
    ),
    Row(
        "num_retries of a deployment",
        [deployment("m", "a", num_retries=1), deployment("m", "a", info={"id": "twin"}, num_retries=1)],
        chat(),
        {"error": FAILED, "accounts": ["a", "a"]},
        {"a": [failing()] * 3},
        retries=2,
        difference=Difference("retries-are-ours", {"accounts": ["a", "a", "a"]}),
    ),
    Row("caching of answers", ONE, asked_again(), {"accounts": ["a"]}, settings={"cache_responses": True}),
    Row(
        "no cached answer where the request says so",
        ONE,
        asked_again(cache={"no-cache": True}),
        {"accounts": ["a", "a"]},
        settings={"cache_responses": True},
    ),
]
