"""The classification of the errors that LiteLLM raises for the vendors' answers."""

from __future__ import annotations

import asyncio

import httpx
import litellm
import pytest
from support import messages

from wallie_litellm import execute_ai_request, stream_ai_request
from wallie_litellm.core.circuit_breaker import Verdict
from wallie_litellm.core.demand import Outcome
from wallie_litellm.litellm_adapter.errors import classify_error
from wallie_litellm.litellm_adapter.metadata import tags_of
from wallie_litellm.litellm_adapter.requests import output_limit

PROVIDERS = {
    "gpt-4o-mini": "openai",
    "claude-sonnet-4": "anthropic",
    "gemini-2.0-flash": "gemini",
    "llama-3.1-8b": "groq",
    "deepseek-chat": "deepseek",
}
SECRET_PROMPT = "what the caller has asked"
GEMINI_429 = (
    'GeminiException - {"error": {"code": 429, "message": "You exceeded your current quota, please check your plan and '
    'billing details. Please retry in 19.978048403s.", "status": "RESOURCE_EXHAUSTED", "details": [{"@type": '
    '"type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "19s"}]}}'
)


def raised(kind, text="x", **kwargs):
    return kind(text, model="m", llm_provider="p", **kwargs)


def answered(kind, text):
    """An error that LiteLLM makes of a provider's answer."""
    error = raised(kind, text)
    error.litellm_response_headers = httpx.Headers({"content-type": "application/json"})
    return error


@pytest.mark.parametrize("kind", [litellm.RateLimitError, litellm.BadRequestError])
def test_geminis_rate_limit_is_one_under_any_of_litellms_exceptions(kind):
    result = classify_error(answered(kind, GEMINI_429))
    assert (result.rate_limited, result.pause_for, result.verdict) == (True, 19.978048403, Verdict.IGNORED)


def test_an_empty_account_is_a_failure_and_not_a_pause():
    result = classify_error(answered(litellm.RateLimitError, "You exceeded your current quota, please check your plan"))
    assert (result.rate_limited, result.verdict) == (False, Verdict.FAILURE)


def test_a_limit_of_litellms_own_says_nothing_of_the_provider():
    result = classify_error(raised(litellm.RateLimitError, "No deployments available: max parallel requests"))
    assert (result.outcome, result.rate_limited, result.pause_for) == (Outcome.NOT_SENT, False, None)
    assert (result.verdict, result.transient) == (Verdict.IGNORED, True)


def test_an_answer_of_200_that_cannot_be_read_is_a_passing_failure():
    result = classify_error(litellm.APIError(200, "Expecting value: line 1 column 1", "p", "m"))
    assert (result.verdict, result.transient) == (Verdict.FAILURE, True)


@pytest.mark.parametrize("error", [asyncio.CancelledError(), GeneratorExit(), KeyboardInterrupt()])
def test_a_cancellation_does_not_count_for_the_breaker(error):
    assert classify_error(error)[:2] == (Outcome.CUT, Verdict.IGNORED)
    assert classify_error(error, deadline_passed=True).verdict is Verdict.FAILURE


@pytest.mark.parametrize("error", [httpx.ReadTimeout("late"), TimeoutError(), raised(litellm.Timeout)])
def test_a_timeout_keeps_its_reservation_as_a_cut_answer(error):
    result = classify_error(error)
    assert (result.outcome, result.verdict, result.transient) == (Outcome.CUT, Verdict.FAILURE, True)


def test_a_connection_that_was_never_made_is_found_among_the_causes():
    error = raised(litellm.InternalServerError)
    error.__cause__ = OSError()
    error.__cause__.__context__ = httpx.ConnectError("refused")
    assert classify_error(error).outcome is Outcome.NOT_SENT


def test_what_ended_an_earlier_attempt_says_nothing_of_a_later_one():
    """A stream's next attempt is made while the error of the last is handled."""
    earlier, later = raised(litellm.Timeout), answered(litellm.InternalServerError, "x")
    assert classify_error(earlier).timed_out
    later.__context__ = earlier
    assert (classify_error(later).reason, classify_error(later).timed_out) == ("HTTP 500", False)


def test_an_unknown_error_does_not_count_for_the_breaker():
    assert classify_error(ValueError("a bug of the caller's"))[:2] == (Outcome.CUT, Verdict.IGNORED)


@pytest.mark.parametrize(
    ("kwargs", "feature"),
    [
        ({"metadata": {"feature": "chat"}}, "chat"),
        ({"litellm_metadata": {"tags": ["a", "feature:chat"]}}, "chat"),
        ({"proxy_server_request": {"headers": {"x-wallie-feature": "chat"}}}, "chat"),
        ({"metadata": {"feature": 5, "tags": "no list"}}, "5"),
        ({"metadata": {"feature": ["chat"], "tags": "no list"}}, None),
        ({"metadata": None, "proxy_server_request": None}, None),
        ({}, None),
    ],
)
def test_a_feature_is_found_in_every_place_that_litellm_has_for_it(kwargs, feature):
    assert tags_of(kwargs).feature == feature


def test_a_user_is_found_in_the_field_or_the_metadata():
    assert tags_of({"user": "u"}).user_id == tags_of({"metadata": {"user_id": "u"}}).user_id == "u"
    assert tags_of({}).user_id is None


@pytest.mark.parametrize(
    ("params", "limit"),
    [
        ({}, None),
        ({"max_tokens": 5}, 5),
        ({"max_tokens": 1, "max_completion_tokens": 10_000}, 10_000),
        ({"max_output_tokens": 7, "n": 3}, 21),
        ({"max_tokens": "many"}, None),
    ],
)
def test_the_larger_stated_output_counts(params, limit):
    assert output_limit(params) == limit


@pytest.mark.parametrize("group", ["gpt-4o-mini", "claude-sonnet-4", "gemini-2.0-flash", "llama-3.1-8b"])
async def test_a_stream_that_falls_silent_times_out(make_router, fleet, group):
    provider = {"gpt-4o-mini": "openai", "claude-sonnet-4": "anthropic", "gemini-2.0-flash": "gemini"}.get(
        group, "groq"
    )
    router = make_router()
    fleet[provider].hang(after_chunks=1)
    received = []

    async def read():
        async for delta in stream_ai_request(router, group, messages(), timeout=2):
            received.append(delta)

    async with asyncio.timeout(20):
        with pytest.raises(Exception):  # noqa: B017, PT011 - LiteLLM has several names for it
            await read()
    assert received
    state = router.guard.status()["providers"][provider]
    assert (state["in_flight"], state["breaker"]["consecutive_failures"]) == (0, 1)


async def test_a_stream_that_is_silent_from_the_start_falls_back(make_router, fleet):
    router = make_router(retry={"max_retries": 0})
    router.guard.open_circuit("openai")
    router.guard.open_circuit("anthropic")
    fleet["gemini"].hang()  # LiteLLM's Gemini adapter does not keep to the timeout while it streams
    stream = stream_ai_request(router, "gpt-4o-mini", messages(), timeout=1)
    async with asyncio.timeout(20):
        assert "".join([delta async for delta in stream]) == "Hello from groq."


@pytest.mark.parametrize("group", list(PROVIDERS))
async def test_a_vendors_own_429_pauses_it_or_the_model_that_it_names(make_router, fleet, group):
    provider = PROVIDERS[group]
    router = make_router(retry={"max_retries": 0})
    fleet[provider].rate_limit(120, times=1)
    with pytest.raises(litellm.RateLimitError):
        await execute_ai_request(router, group, messages(), fallbacks=[])
    status = router.guard.status()["providers"][provider]
    paused = [status["paused_for"], *(one["paused_for"] for one in status.get("models", {}).values())]
    assert max(paused) == pytest.approx(120, abs=3)


def test_an_error_that_nothing_explains_has_one_line_in_the_log_for_each_place_without_its_text(caplog):
    for _ in range(3):
        try:
            raise LookupError(SECRET_PROMPT)
        except LookupError as error:
            result = classify_error(error)
    assert (result.reason, result.transient) == ("LookupError", True)
    (line,) = (record.getMessage() for record in caplog.records)
    assert f"LookupError, which no provider has sent. It was raised in {__name__}:" in line
    assert SECRET_PROMPT not in line
