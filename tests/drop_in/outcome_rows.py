"""What a caller and a callback learn: errors, retries, hidden parameters, response headers, logged payloads."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from drop_in.actions import at_once, away_from_minutes_end, chat, drained, outcome_of, streamed
from drop_in.callbacks import logged, picked
from drop_in.observation import Facets, Raised, plain_data
from drop_in.row import Action, Difference, Row, Stage, deployment
from drop_in.upstream import LIMITED, NOT_ALLOWED, TOO_LONG, Fault, failing

ONE: Final = [deployment("m", "a")]
TWINS: Final = [deployment("m", "a"), deployment("m", "a", info={"id": "twin"})]
TWO: Final = [*ONE, deployment("n", "b")]
LEFT: Final = (
    "x-ratelimit-limit-requests",
    "x-ratelimit-limit-tokens",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-remaining-tokens",
)
HEADERS: Final = ("x-litellm-model-group", "x-litellm-attempted-retries", "x-litellm-attempted-fallbacks")
LOGGED: Final = picked("model_group", "model_id", "api_base", "model", "request_tags", "status", "call_type")


def twice(action: Action) -> Action:
    """The second of two answers, with what both have used counted."""

    async def act(stage: Stage) -> Any:
        await away_from_minutes_end()
        await action(stage)
        await asyncio.sleep(0.05)  # LiteLLM counts a call after its answer
        return await action(stage)

    return act


def hidden(action: Action, *names: str) -> Action:
    """Hidden parameters and response headers of an answer, or of a stream that was read."""

    async def act(stage: Stage) -> Any:
        answer = await action(stage)
        if hasattr(answer, "aclose"):
            await drained(answer)
        params = answer._hidden_params
        headers = params.get("additional_headers") or {}
        return Facets(found=[plain_data(headers.get(name, params.get(name))) for name in names])

    return act


def raised(action: Action, *names: str) -> Action:
    """Attributes of the error."""

    async def act(stage: Stage) -> Any:
        error = await outcome_of(action(stage))
        found = [getattr(error, name, None) for name in names]
        return Facets(found=found, error=Raised(error))

    return act


def response_headers(action: Action, name: str) -> Action:
    """One header of the provider's, on the error."""

    async def act(stage: Stage) -> Any:
        error = await outcome_of(action(stage))
        headers = getattr(error, "litellm_response_headers", None) or {}
        return Facets(found=headers.get(name), error=Raised(error))

    return act


def _logged(group: str, identity: str, account: str, **more: Any) -> dict[str, Any]:
    usual = {"model": "openai/gpt-4o-mini", "request_tags": [], "status": "success", "call_type": "acompletion"}
    return {**usual, "model_group": group, "model_id": identity, "api_base": f"{account}/v1", **more}


ERRORS: Final = [
    Row(
        f"a {status}",
        ONE,
        chat(),
        {"error": (kind, status), "accounts": ["a"]},
        {"a": [failing(status)]},
    )
    for status, kind in (
        (400, "BadRequestError"),
        (401, "AuthenticationError"),
        (403, "APIError"),
        (404, "NotFoundError"),
        (422, "BadRequestError"),
        (500, "InternalServerError"),
        (503, "ServiceUnavailableError"),
    )
]

ROWS: Final = [
    *ERRORS,
    Row("a 429", ONE, chat(), {"error": ("RateLimitError", 429), "accounts": ["a"]}, {"a": [LIMITED]}),
    Row(
        "a prompt that is too long",
        ONE,
        chat(),
        {"error": ("ContextWindowExceededError", 400), "accounts": ["a"]},
        {"a": [TOO_LONG]},
    ),
    Row(
        "refused content",
        ONE,
        chat(),
        {"error": ("ContentPolicyViolationError", 400), "accounts": ["a"]},
        {"a": [NOT_ALLOWED]},
    ),
    Row(
        "attributes of an error",
        ONE,
        raised(chat(), "model", "llm_provider", "status_code"),
        {"found": ["openai/gpt-4o-mini", "openai", 500], "error": ("InternalServerError", 500)},
        {"a": [failing()]},
    ),
    Row(
        "the provider's headers on an error",
        ONE,
        response_headers(chat(), "x-trace"),
        {"found": "t1", "error": ("InternalServerError", 500)},
        {"a": [failing(x_trace="t1")]},
    ),
    Row(
        "a retry after a 500",
        TWINS,
        chat(),
        {"answer": "from a", "accounts": ["a", "a"]},
        {"a": [failing()]},
        retries=1,
    ),
    Row(
        "a retry of a single deployment",
        ONE,
        chat(),
        {"answer": "from a", "accounts": ["a", "a"]},
        {"a": [failing()]},
        retries=1,
    ),
    Row(
        "retries that all fail",
        TWINS,
        chat(),
        {"error": ("InternalServerError", 500), "accounts": ["a"] * 3},
        {"a": [failing()] * 5},
        retries=2,
    ),
    Row(
        "no retry after a 400",
        TWINS,
        chat(),
        {"error": ("BadRequestError", 400), "accounts": ["a"]},
        {"a": [failing(400)] * 3},
        retries=2,
    ),
    Row(
        "no retry after a 401 of a single deployment",
        ONE,
        chat(),
        {"error": ("AuthenticationError", 401), "accounts": ["a"]},
        {"a": [failing(401)] * 3},
        retries=2,
    ),
    Row(
        "retries, then the fallback",
        [*TWINS, deployment("n", "b")],
        chat(),
        {"answer": "from b", "accounts": ["a", "a", "b"]},
        {"a": [failing()] * 3},
        {"fallbacks": [{"m": ["n"]}]},
        retries=1,
    ),
    Row(
        "a deployment that refuses its key, and a sibling",
        [deployment("m", "a", order=1), deployment("m", "b", order=2)],
        chat(),
        {"answer": "from b", "accounts": ["a", "b"]},
        {"a": [failing(401)]},
    ),
    Row(
        "hidden parameters",
        ONE,
        hidden(chat(), "model_id", "x-litellm-model-group"),
        {"found": ["m-a", "m"]},
    ),
    Row(
        "response headers without trouble",
        ONE,
        hidden(chat(), *HEADERS),
        {"found": ["m", 0, 0]},
    ),
    Row(
        "response headers after a retry",
        TWINS,
        hidden(chat(), *HEADERS, "x-litellm-max-retries"),
        {"found": ["m", 1, 0, 2]},
        {"a": [failing()]},
        retries=2,
    ),
    Row(
        "response headers after a fallback",
        TWO,
        hidden(chat(), *HEADERS, "model_id"),
        {"found": ["n", 0, 1, "n-b"]},
        {"a": [failing()]},
        {"fallbacks": [{"m": ["n"]}]},
    ),
    Row(
        "response headers after two fallbacks",
        [*TWO, deployment("o", "c")],
        hidden(chat(), *HEADERS),
        {"found": ["o", 0, 1]},
        {"a": [failing()], "b": [failing()]},
        {"fallbacks": [{"m": ["n", "o"]}]},
        difference=Difference("counts-of-the-whole-request", {"found": ["o", 0, 2]}),
    ),
    Row(
        "response headers after retries and a fallback",
        [*TWINS, deployment("n", "b")],
        hidden(chat(), *HEADERS),
        {"found": ["n", 0, 1]},
        {"a": [failing()] * 3},
        {"fallbacks": [{"m": ["n"]}]},
        retries=1,
        difference=Difference("counts-of-the-whole-request", {"found": ["n", 1, 1]}),
    ),
    Row(
        "response headers after the next order",
        [deployment("m", "a", order=1), deployment("m", "b", order=2)],
        hidden(chat(), *HEADERS),
        {"found": ["m", 0, 1]},
        {"a": [failing()]},
        difference=Difference("counts-of-the-whole-request", {"found": ["m", 0, 0]}),
    ),
    Row(
        "the provider's response headers",
        ONE,
        hidden(chat(), "llm_provider-x-trace"),
        {"found": ["t2"]},
        {"a": [Fault(headers={"x-trace": "t2"})]},
    ),
    Row(
        "response headers of a stream",
        ONE,
        hidden(chat(stream=True), "model_id", *HEADERS),
        {"found": ["m-a", "m", 0, 0]},
    ),
    Row(
        "what is left of a deployment's rpm and tpm",
        [deployment("m", "a", rpm=60, tpm=1000)],
        hidden(twice(chat()), *LEFT),
        {"found": [60, 1000, 58, 990]},
    ),
    Row(
        "a price of the deployment",
        [deployment("m", "a", "openai/own-model", input_cost_per_token=0.5, output_cost_per_token=1.0)],
        hidden(chat(), "response_cost"),
        {"found": [2 * 0.5 + 3 * 1.0]},
    ),
    Row(
        "a callback's payload",
        ONE,
        logged(chat, 1, LOGGED),
        {"logged": [_logged("m", "m-a", "a")]},
    ),
    Row(
        "a callback's payload of a stream",
        ONE,
        logged(streamed, 1, LOGGED),
        {"logged": [_logged("m", "m-a", "a")]},
    ),
    Row(
        "a callback's tags",
        ONE,
        logged(chat, 1, picked("request_tags"), metadata={"tags": ["blue"]}),
        {"logged": [{"request_tags": ["blue"]}]},
    ),
    Row(
        "the request's metadata, for a callback",
        ONE,
        logged(chat, 1, lambda payload: payload["given"]["purpose"], metadata={"purpose": "p1"}),
        {"logged": ["p1"]},
    ),
    Row(
        "a callback's cost",
        [deployment("m", "a", "openai/priced-model", input_cost_per_token=0.5, output_cost_per_token=1.0)],
        logged(chat, 1, picked("response_cost", "total_tokens")),
        {"logged": [{"response_cost": 4.0, "total_tokens": 5}]},
    ),
    Row(
        "a callback's payload of a failure",
        ONE,
        logged(chat, 1, picked("status", "model_group", "model_id")),
        {"logged": [{"status": "failure", "model_group": "m", "model_id": "m-a"}]},
        {"a": [failing()]},
    ),
    Row(
        "a callback's payloads of a fallback",
        TWO,
        logged(chat, 2, picked("status", "model_group")),
        {"logged": [{"status": "failure", "model_group": "m"}, {"status": "success", "model_group": "n"}]},
        {"a": [failing()]},
        {"fallbacks": [{"m": ["n"]}]},
    ),
    Row(
        "eight at once",
        ONE,
        at_once(8, chat()),
        {"accounts": ["a"] * 8},
        any_order=True,
    ),
]
