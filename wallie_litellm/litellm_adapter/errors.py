"""LiteLLM's exceptions, classified: what an error means for capacity, for the breaker, and for a retry."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from typing import Final

import aiohttp
import httpx
import litellm
import openai
from litellm.exceptions import MidStreamFallbackError

from wallie_litellm.core.attempt_result import CANCELLED, NO_CONTENT, AttemptResult, RequestFailure
from wallie_litellm.core.circuit_breaker import Verdict
from wallie_litellm.core.demand import Outcome
from wallie_litellm.core.http_status import CALLER_STATUSES, REQUEST_REFUSED, StatusFault, fault_of
from wallie_litellm.core.retry_after import parse_retry_after
from wallie_litellm.errors import RequestTooLarge, WallieError
from wallie_litellm.litellm_adapter.responses import response_headers

# Providers report in words that an account is out of money or quota, under statuses that also mean something else.
_EXHAUSTED_STATUSES: Final = frozenset({400, 402, 403, 429})
_EXHAUSTED_MARKS: Final = (
    "insufficient_quota",
    "credit balance is too low",
    "billing_hard_limit_reached",
    "billing hard limit",
    "insufficient balance",
)
# OpenAI writes this of an empty account, and Gemini of any limit; Gemini adds when to come back.
_EXHAUSTED_UNLESS_DELAYED: Final = "exceeded your current quota"
# google.rpc.RetryInfo in the body: Gemini sends no Retry-After header.
_RETRY_DELAY: Final = re.compile(r'"retryDelay":\s*"(\d+(?:\.\d+)?)s"')
# LiteLLM reads a Gemini error with "403" anywhere in its text, even in "retry in 4.0403s", as a bad request.
_GEMINI_RATE_LIMIT: Final = re.compile(r'"code":\s*429|RESOURCE_EXHAUSTED')
# LiteLLM's functions that parse an answer: an error raised in one shows that there was an answer.
_READING: Final = frozenset({"transform_response", "transform_parsed_response", "convert_to_model_response_object"})
# What LiteLLM writes of an answer that it cannot read, under various statuses.
_UNREADABLE: Final = ("Empty or invalid response from LLM endpoint", "Error converting to valid response block")
_CONTENT_POLICY: Final = "content_policy_violation"  # OpenAI's code of a request that its filter refuses
# Packages in whose code an exception may be raised while LiteLLM builds or makes a request.
_LIBRARIES: Final = sys.stdlib_module_names | {
    "aiohttp", "anyio", "boto3", "botocore", "google", "httpcore", "httpx", "jinja2", "litellm", "openai", "pydantic",
    "pydantic_core", "tenacity", "tiktoken", "tokenizers", "wallie_litellm",
}  # fmt: skip
_BUGS: Final = (TypeError, AttributeError, NameError, ImportError, AssertionError)
_TIMEOUTS: Final = (TimeoutError, httpx.TimeoutException)
_LOST_CONNECTION: Final = (
    httpx.NetworkError,
    httpx.RemoteProtocolError,
    aiohttp.ClientConnectionError,
    aiohttp.ClientPayloadError,
    ConnectionError,
)


class FirstTokenTimeout(litellm.Timeout):  # type: ignore[misc] # LiteLLM is not type-checked here
    """A provider sent no content within ``first_token``."""


class StreamCut(litellm.APIConnectionError):  # type: ignore[misc] # LiteLLM is not type-checked here
    """A stream ended without the end mark of its wire format: what came is not the whole answer."""


class Special(Enum):
    """Faults that have chains of their own in LiteLLM."""

    CONTEXT_WINDOW = "context window"
    CONTENT_POLICY = "content policy"


def special_of(error: BaseException) -> Special | None:
    """The fault with a chain of its own that ``error`` is, if any."""
    if isinstance(error, litellm.ContextWindowExceededError):
        return Special.CONTEXT_WINDOW
    filtered = isinstance(error, litellm.ContentPolicyViolationError) or _code_of(error) == _CONTENT_POLICY
    return Special.CONTENT_POLICY if filtered else None


def timeout_error(model: str, provider: str) -> Exception:
    """LiteLLM's error for a provider that did not answer in time."""
    error: Exception = litellm.Timeout(f"{provider} did not answer in time.", model=model, llm_provider=provider)
    return error


def first_token_timeout(model: str, provider: str, seconds: float) -> Exception:
    """The error for a provider that sent no content within ``first_token`` seconds."""
    return FirstTokenTimeout(f"{provider} sent no content within {seconds:g} s.", model=model, llm_provider=provider)


def stream_cut(model: str, provider: str) -> Exception:
    """The error of a stream that ended without its end mark."""
    return StreamCut(
        message=f"{provider} ended the stream before the answer was complete.", model=model, llm_provider=provider
    )


def readable(error: Exception, deployment: str, provider: str, status: int | None) -> Exception:
    """The error of a stream as its caller receives it: OpenAI's of a kind, with the status in the error's own text."""
    if not isinstance(error, openai.APIError | WallieError) and isinstance(error, (*_LOST_CONNECTION, *_TIMEOUTS)):
        cut = stream_cut(deployment, provider)
        cut.__cause__ = error
        return cut
    if status is not None and getattr(error, "status_code", status) != status:
        error.status_code = status  # type: ignore[attr-defined] # LiteLLM gives it 500
    return error


def is_missing_end(error: BaseException) -> bool:
    """Whether LiteLLM misses the end mark of a stream that has ended."""
    ends = httpx.RemoteProtocolError, StopAsyncIteration, StopIteration
    return any(isinstance(cause, ends) for cause in _causes(error))


def error_event(model: str, provider: str, status: int) -> Exception:
    """The error for an error event in a stream that LiteLLM passes on as it is."""
    error: Exception = litellm.APIError(status, f"{provider} broke the answer off with an error.", provider, model)
    return error


def content_filtered(model: str) -> Exception:
    """The error for an answer that the provider's filter has emptied, as LiteLLM's Router raises it."""
    error: Exception = litellm.ContentPolicyViolationError("Response output was blocked.", model=model, llm_provider="")
    return error


def original_error(error: Exception) -> Exception:
    """The provider's error inside the one with which LiteLLM's streams ask for a fallback."""
    inner = getattr(error, "original_exception", None)
    return inner if isinstance(error, MidStreamFallbackError) and isinstance(inner, Exception) else error


def failure_from(error: BaseException) -> RequestFailure:
    """The failure of a whole request, from the error that reaches its caller."""
    if isinstance(error, WallieError):
        return RequestFailure(error.code, error.status_code, isinstance(error, RequestTooLarge))
    result = classify_error(error)
    own = result.verdict is Verdict.IGNORED and (result.reason == CANCELLED or result.status_code in CALLER_STATUSES)
    return RequestFailure(result.reason or type(error).__name__, result.status_code, own)


def classify_error(error: BaseException, *, deadline_passed: bool = False, exchanged: bool = False) -> AttemptResult:
    """The result of the attempt that ``error`` ended. Never raises.

    ``exchanged``: the provider has answered, with a stream in which the error came.
    """
    try:
        return _classify(error, deadline_passed, exchanged)
    except Exception:  # noqa: BLE001 - an error that cannot be read must not keep its attempt from being settled
        return AttemptResult(Outcome.CUT, reason=type(error).__name__)


def _classify(error: BaseException, deadline_passed: bool, exchanged: bool) -> AttemptResult:
    if isinstance(error, WallieError):  # a refusal inside a call of the application's own
        return AttemptResult(Outcome.CUT, reason=error.code, status_code=error.status_code)
    if isinstance(error, asyncio.CancelledError | GeneratorExit | KeyboardInterrupt):
        if deadline_passed:  # the provider had the request, and did not answer in time
            return AttemptResult(Outcome.CUT, Verdict.FAILURE, reason="no answer before the deadline")
        return AttemptResult(Outcome.CUT, reason=CANCELLED)
    inner = getattr(error, "original_exception", None)
    if isinstance(error, MidStreamFallbackError) and isinstance(inner, Exception):
        return _classify(inner, deadline_passed, exchanged)
    causes = tuple(_causes(error))
    if any(map(_is_refused_connection, causes)):
        return AttemptResult(Outcome.NOT_SENT, Verdict.FAILURE, reason="connection refused", transient=True)
    if any(isinstance(cause, json.JSONDecodeError) for cause in causes):
        return AttemptResult(Outcome.CUT, Verdict.FAILURE, reason="unreadable answer", transient=True)
    # The timer that ends a read may be LiteLLM's own: then it makes a lost connection of it.
    if isinstance(error, openai.APITimeoutError) or any(isinstance(cause, _TIMEOUTS) for cause in causes):
        reason = NO_CONTENT if isinstance(error, FirstTokenTimeout) else "timeout"
        return AttemptResult(
            Outcome.CUT, Verdict.FAILURE, reason=reason, status_code=408, transient=True, timed_out=True
        )
    if isinstance(error, StreamCut):
        return AttemptResult(Outcome.CUT, Verdict.FAILURE, reason="stream cut off", transient=True)
    if isinstance(error, openai.APIConnectionError) and any(isinstance(cause, _LOST_CONNECTION) for cause in causes):
        # LiteLLM gives it a status of 500 of its own making.
        return AttemptResult(Outcome.CUT, Verdict.FAILURE, reason="connection lost", transient=True)
    status = _status_in_body(causes) or getattr(error, "status_code", None)
    if isinstance(status, int | str) and str(status).isdigit():
        if (int(status) >= 500 or int(status) == 422) and _is_litellms(error) and any(map(_was_reading, causes)):
            return AttemptResult(Outcome.CUT, Verdict.FAILURE, reason="unreadable answer", transient=True)
        exchanged = exchanged or not _is_litellms(error) or any(map(_shows_an_exchange, causes))
        if int(status) >= 500 and not exchanged and _could_not_build(error, causes):
            return AttemptResult(Outcome.NOT_SENT, reason=f"not sent: {type(causes[-1]).__name__}", status_code=400)
        if int(status) == 429 and (not exchanged or (_is_litellms(error) and not getattr(error, "llm_provider", None))):
            # A limit of LiteLLM's own, of its Router's or of a hook's: it says nothing of the provider's.
            reason = "a limit of LiteLLM's own"
            return AttemptResult(Outcome.NOT_SENT, reason=reason, status_code=429, transient=True)
        return _rejection(error, int(status), exchanged)
    if isinstance(error, litellm.APIError):  # LiteLLM found no answer in the provider's 200
        return AttemptResult(Outcome.CUT, Verdict.FAILURE, reason="an error in the answer", transient=True)
    if isinstance(error, openai.APIConnectionError | httpx.TransportError | OSError):
        return AttemptResult(Outcome.CUT, Verdict.FAILURE, reason="connection lost", transient=True)
    # An error of a hook or a handler of the application's; one in the program is there at the next attempt too.
    return AttemptResult(Outcome.CUT, reason=type(error).__name__, transient=not isinstance(error, _BUGS))


def _rejection(error: BaseException, status: int, exchanged: bool) -> AttemptResult:
    text = str(error)
    if status == 400 and _GEMINI_RATE_LIMIT.search(text):
        status = 429
    reason = f"HTTP {status}"
    if status < 400:
        return AttemptResult(
            Outcome.CUT, Verdict.FAILURE, reason="unreadable answer", status_code=status, transient=True
        )
    fault = fault_of(status)
    asked = _asked_to_wait(error, text) if fault in (StatusFault.RATE_LIMIT, StatusFault.SERVER) else None
    if status in _EXHAUSTED_STATUSES and _account_exhausted(f"{text} {_code_of(error)}".lower(), asked):
        reason = f"{reason}, quota exhausted"
        return AttemptResult(Outcome.REJECTED, Verdict.FAILURE, reason=reason, status_code=status, by_account=True)
    return AttemptResult(
        Outcome.REJECTED,
        Verdict.FAILURE if fault in (StatusFault.SERVER, StatusFault.ACCOUNT) else Verdict.IGNORED,
        reason=reason,
        status_code=status,
        pause_for=asked,
        rate_limited=fault is StatusFault.RATE_LIMIT,
        transient=fault in (StatusFault.SERVER, StatusFault.TRANSIENT),
        timed_out=status in (408, 504),
        by_request=exchanged and status in REQUEST_REFUSED,
        by_account=fault is StatusFault.ACCOUNT,
    )


def _code_of(error: BaseException) -> str:
    """The code in an error body of OpenAI's form; OpenAI's client 3 no longer writes it into the error's text."""
    body = getattr(error, "body", None)
    return str(body.get("code") or "") if isinstance(body, Mapping) else ""


def _is_litellms(error: BaseException) -> bool:
    return type(error).__module__.startswith("litellm")


def _status_in_body(causes: Sequence[BaseException]) -> int | None:
    """The HTTP status in an error object inside a 200, where OpenAI's client keeps it."""
    for cause in causes:
        code = getattr(cause, "code", None) if type(cause) is openai.APIError else None
        if isinstance(code, int | str) and str(code).isdigit() and 400 <= int(code) < 600:
            return int(code)
    return None


def _could_not_build(error: BaseException, causes: Sequence[BaseException]) -> bool:
    """Whether LiteLLM failed while it built the request, rather than a handler or a hook of the application's.

    LiteLLM makes a connection error, or a server's, of whatever is raised then.
    """
    inside = any(not isinstance(cause, openai.OpenAIError) for cause in causes)
    return (inside or isinstance(error, openai.APIConnectionError)) and not any(map(_raised_by_application, causes))


def _raised_by_application(cause: BaseException) -> bool:
    """Whether code that is neither a library's nor this package's raised ``cause``."""
    modules = (str(frame.f_globals.get("__name__")) for frame, _ in traceback.walk_tb(cause.__traceback__))
    return any(module.partition(".")[0] not in _LIBRARIES for module in modules)


def _was_reading(cause: BaseException) -> bool:
    """Whether LiteLLM failed to parse an answer: JSON of a shape that no vendor documents, for example."""
    if any(words in str(cause) for words in _UNREADABLE):
        return True
    return any(frame.f_code.co_name in _READING for frame, _ in traceback.walk_tb(cause.__traceback__))


def _shows_an_exchange(cause: BaseException) -> bool:
    """Whether only a provider, or the network, can have caused this: an answer, or a broken connection."""
    if _is_litellms(cause):
        return bool(getattr(cause, "litellm_response_headers", None)) or _answered(cause)
    return _answered(cause) or isinstance(cause, openai.APIError | httpx.HTTPError | OSError | aiohttp.ClientError)


def _answered(cause: BaseException) -> bool:
    """Whether a provider's own answer is attached; LiteLLM attaches empty ones of its own making."""
    response = getattr(cause, "response", None)
    return isinstance(response, httpx.Response) and bool(response.headers)


def _is_refused_connection(cause: BaseException) -> bool:
    """Whether this is a connection that was never made, so that the provider received nothing."""
    if isinstance(cause, httpx.ConnectError | httpx.ConnectTimeout | ConnectionRefusedError):
        return True
    return type(cause).__name__ in ("ClientConnectorError", "ClientConnectorDNSError")


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    pending: list[BaseException | None] = [error]
    while pending and len(seen) < 16:
        cause = pending.pop()
        if cause is None or id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        inner = getattr(cause, "original_exception", None)
        pending += [cause.__cause__, cause.__context__, inner if isinstance(inner, BaseException) else None]


def _asked_to_wait(error: BaseException, text: str) -> float | None:
    asked = parse_retry_after(response_headers(error), time.time())
    if asked is None and (delay := _RETRY_DELAY.search(text)):
        asked = parse_retry_after({"retry-after": delay[1]}, time.time())
    return asked


def _account_exhausted(text: str, asked: float | None) -> bool:
    if asked is None and _EXHAUSTED_UNLESS_DELAYED in text:
        return True
    return any(mark in text for mark in _EXHAUSTED_MARKS)
