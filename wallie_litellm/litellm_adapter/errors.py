"""LiteLLM's exceptions, classified: what an error means for capacity, for the breaker, and for a retry."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Mapping, Sequence
from enum import Enum
from math import inf
from typing import Any, Final

import aiohttp
import httpx
import litellm
import openai
from litellm.exceptions import MidStreamFallbackError

from wallie_litellm.core.attempt_result import (
    CANCELLED,
    EXHAUSTED,
    KEY_REFUSED,
    NO_CONTENT,
    TOO_LARGE,
    AttemptResult,
    RequestFailure,
)
from wallie_litellm.core.circuit_breaker import Verdict
from wallie_litellm.core.daily_quota import next_midnight
from wallie_litellm.core.demand import Outcome
from wallie_litellm.core.fault_domain import FaultDomain
from wallie_litellm.core.http_status import CALLER_STATUSES, REQUEST_REFUSED, StatusFault, fault_of
from wallie_litellm.core.limit_headers import VOCABULARIES
from wallie_litellm.core.limit_sightings import wait_in
from wallie_litellm.core.retry_after import parse_retry_after, parse_wait_in_text
from wallie_litellm.errors import RequestTooLarge, WallieError
from wallie_litellm.litellm_adapter.error_evidence import (
    causes_of,
    could_not_build,
    is_litellms,
    is_refused_connection,
    log_unexplained,
    mark_as_end,
    raised_by_handler,
    shows_an_exchange,
    status_in_body,
    was_building,
    was_reading,
)
from wallie_litellm.litellm_adapter.error_table import ErrorRow, find_row
from wallie_litellm.litellm_adapter.http_answer import HttpAnswer, answer_behind
from wallie_litellm.litellm_adapter.wires.bedrock_events import came_in_events
from wallie_litellm.litellm_adapter.wires.fields import value_of

# LiteLLM 1.106 reads a Gemini error with "403" anywhere in its text, even in "retry in 4.0403s", as a bad request.
_GEMINI_RATE_LIMIT: Final = re.compile(r'"code":\s*429|RESOURCE_EXHAUSTED')
# How OpenAI and those who follow it say that a request alone exceeds a limit: the limit's name, and two numbers.
_TOO_LARGE: Final = re.compile(
    r" on ([a-z ]+ per [a-z]+(?: \([a-z]+\))?): limit ([\d,]+), requested ([\d,]+)", re.IGNORECASE
)
_NOT_READABLE: Final = "unreadable answer"  # the reason of an attempt whose answer LiteLLM could not read
_OURS: Final = FaultDomain.OURS
_CONTENT_POLICY: Final = "content_policy_violation"  # OpenAI's code of a request that its filter refuses
_CALLERS: Final = (FaultDomain.CALLER, FaultDomain.REQUEST)
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
    """Whether LiteLLM misses the end mark of a stream that has ended: it makes a server's error of its own of that."""
    if not isinstance(error, openai.APIError | StopAsyncIteration | StopIteration):
        return False
    ends = httpx.RemoteProtocolError, StopAsyncIteration, StopIteration
    causes = tuple(causes_of(error))
    statuses = {getattr(cause, "status_code", None) for cause in causes} | {status_in_body(causes)}
    return statuses <= {None, 500} and any(isinstance(cause, ends) for cause in causes)


def error_event(model: str, provider: str, status: int, found: Any = None) -> Exception:
    """The error for an error in an answer that LiteLLM passes on as it is, in the words that were ``found``."""
    said = value_of(found, "message")
    message = f"{provider} broke the answer off with an error"
    message = f"{message}: {said}" if isinstance(said, str) and said else f"{message}."
    error: Exception = litellm.APIError(status, message, provider, model)
    error.body = found if isinstance(found, Mapping) else None  # type: ignore[attr-defined] # as OpenAI's client has it
    return error


def unreadable_event(model: str, provider: str) -> Exception:
    """The error for an event of a stream that LiteLLM passes on as it is, and that is no valid JSON."""
    error: Exception = litellm.APIConnectionError(
        message=f"{provider} sent an event that cannot be read.", model=model, llm_provider=provider
    )
    error.__cause__ = json.JSONDecodeError("invalid event", "", 0)
    return error


def content_filtered(model: str) -> Exception:
    """The error for an answer that the provider's filter has emptied, as LiteLLM's Router raises it."""
    error: Exception = litellm.ContentPolicyViolationError("Response output was blocked.", model=model, llm_provider="")
    return error


def original_error(error: Exception) -> Exception:
    """The provider's error inside the one with which LiteLLM's streams ask for a fallback."""
    inner = getattr(error, "original_exception", None)
    return inner if isinstance(error, MidStreamFallbackError) and isinstance(inner, Exception) else error


def too_large_error(error: Exception, model: str, provider: str) -> RequestTooLarge:
    """The error for a request that alone exceeds a limit of the account's: waiting does not help."""
    found = _TOO_LARGE.search(str(error))
    what = "it is larger than a limit of the account's"
    if found is not None:
        limit, requested = (int(number.replace(",", "")) for number in found.groups()[1:])
        what = f"it asks for {requested:,}, and the account's limit on {found[1]} is {limit:,}"
    refused = RequestTooLarge(
        f"{provider} refuses the request to {model}: {what}. Shorten it, lower max_tokens, or raise the limit.",
        provider=provider,
        model=model,
        retry_after=inf,
    )
    refused.__cause__ = error
    return refused


def failure_from(error: BaseException) -> RequestFailure:
    """The failure of a whole request, from the error that reaches its caller."""
    if isinstance(error, WallieError):
        return RequestFailure(error.code, error.status_code, isinstance(error, RequestTooLarge))
    result = classify_error(error)
    own = result.fault in _CALLERS or (result.verdict is Verdict.IGNORED and result.status_code in CALLER_STATUSES)
    return RequestFailure(result.reason or type(error).__name__, result.status_code, own)


def classify_error(error: BaseException, *, deadline_passed: bool = False, exchanged: bool = False) -> AttemptResult:
    """The result of the attempt that ``error`` ended. Never raises.

    ``exchanged``: the provider has answered, with a stream in which the error came.
    """
    try:
        result = _classify(error, deadline_passed, exchanged or came_in_events(error))
        mark_as_end(error)
        return result
    except Exception:  # noqa: BLE001 - an error that cannot be read must not keep its attempt from being settled
        return AttemptResult(Outcome.CUT, reason=type(error).__name__)


def _classify(error: BaseException, deadline_passed: bool, exchanged: bool) -> AttemptResult:
    if isinstance(error, WallieError):  # a refusal inside a call of the application's own
        return AttemptResult(Outcome.CUT, reason=error.code, status_code=error.status_code, fault=_OURS)
    if isinstance(error, asyncio.CancelledError | GeneratorExit | KeyboardInterrupt):
        if deadline_passed:  # the provider had the request, and did not answer in time
            return _provider_failed("no answer before the deadline", transient=False)
        return AttemptResult(Outcome.CUT, reason=CANCELLED, fault=FaultDomain.CALLER)
    inner = getattr(error, "original_exception", None)
    if isinstance(error, MidStreamFallbackError) and isinstance(inner, Exception):
        return _classify(inner, deadline_passed, exchanged)
    causes = tuple(causes_of(error))
    if any(map(is_refused_connection, causes)):
        return _provider_failed("connection refused", outcome=Outcome.NOT_SENT)
    if any(isinstance(cause, json.JSONDecodeError) for cause in causes):
        return _not_sent(json.JSONDecodeError) if any(map(was_building, causes)) else _provider_failed(_NOT_READABLE)
    # The timer that ends a read may be LiteLLM's own: then it makes a lost connection of it.
    if isinstance(error, openai.APITimeoutError) or any(isinstance(cause, _TIMEOUTS) for cause in causes):
        reason = NO_CONTENT if isinstance(error, FirstTokenTimeout) else "timeout"
        return _provider_failed(reason, status_code=408, timed_out=True)
    if isinstance(error, StreamCut):
        return _provider_failed("stream cut off")
    if isinstance(error, openai.APIConnectionError) and any(isinstance(cause, _LOST_CONNECTION) for cause in causes):
        return _provider_failed("connection lost")  # LiteLLM gives it a status of 500 of its own making
    answer = answer_behind(error, causes)
    status = status_in_body(causes) or answer.status or _status_of(error)
    if status is not None:
        return _classify_status(error, status, causes, answer, exchanged=exchanged)
    if isinstance(error, litellm.APIError):  # LiteLLM found no answer in the provider's 200
        return _provider_failed("an error in the answer")
    if isinstance(error, openai.APIConnectionError | httpx.TransportError | OSError):
        return _provider_failed("connection lost")
    # An error of a hook or a handler of the application's; one in the program is there at the next attempt too.
    log_unexplained(error)
    return AttemptResult(Outcome.CUT, reason=type(error).__name__, transient=not isinstance(error, _BUGS), fault=_OURS)


def _classify_status(
    error: BaseException, status: int, causes: Sequence[BaseException], answer: HttpAnswer, *, exchanged: bool
) -> AttemptResult:
    """The result of an attempt that ended with a status: the provider's, or one that LiteLLM made up."""
    if answer.status is None:
        if (status >= 500 or status == 422) and is_litellms(error) and any(map(was_reading, causes)):
            return _provider_failed(_NOT_READABLE)
        by_handler = any(map(raised_by_handler, causes))
        exchanged = exchanged or by_handler or not is_litellms(error) or any(map(shows_an_exchange, causes))
        if status >= 500 and not exchanged and could_not_build(error, causes):
            return _not_sent(type(causes[-1]))
        names_none = is_litellms(error) and not getattr(error, "llm_provider", None)
        if status == 429 and not by_handler and (not exchanged or names_none):
            # A limit of LiteLLM's own, of its Router's or of a hook's: it says nothing of the provider's.
            reason = "a limit of LiteLLM's own"
            return AttemptResult(Outcome.NOT_SENT, reason=reason, status_code=429, transient=True, fault=_OURS)
        if status == 400 and _GEMINI_RATE_LIMIT.search(str(error)):
            status = 429
    if status < 400:
        return _provider_failed(_NOT_READABLE, status_code=status)
    row = find_row(_vendor_of(error), status, answer.codes, answer.text)
    if row is not None:
        return _by_row(row, status, answer, error)
    return _by_status(error, status, answer, exchanged=exchanged or answer.status is not None)


def _by_row(row: ErrorRow, status: int, answer: HttpAnswer, error: BaseException) -> AttemptResult:
    """The result of an answer that the error table knows."""
    reason = f"HTTP {status}"
    if row.is_limit:
        pause_for = _asked_to_wait(answer, error)
        if row.reset_timezone and (row.at_least or not pause_for):
            now = time.time()
            pause_for = max(pause_for or 0.0, next_midnight(now, row.reset_timezone) - now)
        return AttemptResult(
            Outcome.REJECTED, reason=reason, status_code=status, pause_for=pause_for, rate_limited=True, fault=row.fault
        )
    if row.fault is FaultDomain.REQUEST:
        reason = f"{reason}, {TOO_LARGE}" if _TOO_LARGE.search(answer.text) else reason
    elif row.fault is FaultDomain.ACCOUNT:
        if row.is_empty:
            reason = f"{reason}, {EXHAUSTED}"
        elif fault_of(status) is StatusFault.CALLER:
            reason = f"{reason}, {KEY_REFUSED}"
    failed = row.fault in (FaultDomain.PROVIDER, FaultDomain.ACCOUNT)
    return AttemptResult(
        Outcome.REJECTED,
        Verdict.FAILURE if failed or row.is_missing else Verdict.IGNORED,
        reason=reason,
        status_code=status,
        pause_for=_asked_to_wait(answer, error) if failed else None,
        transient=row.fault is FaultDomain.PROVIDER,
        fault=FaultDomain.REQUEST if special_of(error) is not None else row.fault,
    )


def _by_status(error: BaseException, status: int, answer: HttpAnswer, *, exchanged: bool) -> AttemptResult:
    """The result of an answer of which only the status is understood."""
    fault = fault_of(status)
    return AttemptResult(
        Outcome.REJECTED,
        Verdict.FAILURE if fault in (StatusFault.SERVER, StatusFault.ACCOUNT) else Verdict.IGNORED,
        reason=f"HTTP {status}",
        status_code=status,
        pause_for=_asked_to_wait(answer, error) if fault in (StatusFault.RATE_LIMIT, StatusFault.SERVER) else None,
        rate_limited=fault is StatusFault.RATE_LIMIT,
        transient=fault in (StatusFault.SERVER, StatusFault.TRANSIENT),
        timed_out=status in (408, 504),
        fault=FaultDomain.REQUEST if special_of(error) is not None else _domain_of(status, fault, exchanged=exchanged),
    )


def _domain_of(status: int, fault: StatusFault | None, *, exchanged: bool) -> FaultDomain | None:
    if fault is StatusFault.ACCOUNT:
        return FaultDomain.ACCOUNT
    if fault in (StatusFault.SERVER, StatusFault.TRANSIENT):
        return FaultDomain.PROVIDER
    return FaultDomain.CALLER if exchanged and status in REQUEST_REFUSED else None


def _provider_failed(
    reason: str,
    *,
    outcome: Outcome = Outcome.CUT,
    status_code: int | None = None,
    transient: bool = True,
    timed_out: bool = False,
) -> AttemptResult:
    return AttemptResult(
        outcome,
        Verdict.FAILURE,
        reason=reason,
        status_code=status_code,
        transient=transient,
        timed_out=timed_out,
        fault=FaultDomain.PROVIDER,
    )


def _not_sent(kind: type[BaseException]) -> AttemptResult:
    """The result of a request that LiteLLM could not make of the caller's arguments."""
    reason = f"not sent: {kind.__name__}"
    return AttemptResult(Outcome.NOT_SENT, reason=reason, status_code=400, fault=FaultDomain.CALLER)


def _status_of(error: BaseException) -> int | None:
    """The status that LiteLLM, or another library, has given to ``error``."""
    status: Any = getattr(error, "status_code", None)
    return int(status) if isinstance(status, int | str) and str(status).isdecimal() else None


def _code_of(error: BaseException) -> str:
    """The code in an error body of OpenAI's form; OpenAI's client 3 no longer writes it into the error's text."""
    body = getattr(error, "body", None)
    return str(body.get("code") or "") if isinstance(body, Mapping) else ""


def _vendor_of(error: BaseException) -> str:
    return str(getattr(error, "llm_provider", None) or "")


def _asked_to_wait(answer: HttpAnswer, error: BaseException) -> float | None:
    """Seconds that the answer asks to wait, by its headers, else by its text, else by a header of the vendor's own."""
    now = time.time()
    asked = parse_retry_after(answer.headers, now)
    if asked is None:
        asked = parse_wait_in_text(answer.text, now)
    vocabulary = VOCABULARIES.get(_vendor_of(error))
    return wait_in(vocabulary, answer.headers, now) if asked is None and vocabulary is not None else asked
