"""Errors as the proxy passes them on: OpenAI's shape, the headers that clients read, and one line of log."""

from __future__ import annotations

import logging
import time
from math import ceil
from typing import Any, Final

import openai
from litellm.proxy._types import ProxyException

from wallie_litellm.core.circuit_breaker import Verdict
from wallie_litellm.core.demand import Outcome
from wallie_litellm.core.retry_after import parse_retry_after
from wallie_litellm.core.scrubbing import one_line
from wallie_litellm.errors import WallieError
from wallie_litellm.litellm_adapter.errors import classify_error
from wallie_litellm.litellm_adapter.responses import response_headers

_TYPES: Final = {
    400: "invalid_request_error",
    429: "rate_limit_error",
    503: "service_unavailable_error",
    504: "timeout_error",
}
_LIMITED: Final = 429  # whose limit it was makes no difference to the log
_LOGS: Final = ("LiteLLM Proxy", "LiteLLM Router", "LiteLLM")  # LiteLLM's loggers


class WallieProxyError(ProxyException):  # type: ignore[misc] # LiteLLM is not type-checked here
    """One of our errors as the proxy passes errors on: OpenAI's shape, our status, ``Retry-After``.

    The proxy drops the headers of any other exception on ``/v1/messages``.
    """

    def __init__(self, error: WallieError) -> None:
        super().__init__(
            message=str(error),
            type=_TYPES.get(error.status_code, "api_error"),
            param=None,
            code=error.status_code,
            headers=error.headers,
            openai_code=error.code,
        )
        self.status_code = error.status_code
        self.retry_after = error.retry_after

    def to_dict(self) -> dict[str, Any]:
        """The body's ``error`` object, with our code rather than the status in it."""
        return {**super().to_dict(), "code": self.openai_code}


def passed_on(error: Exception) -> Exception:
    """``error`` as the proxy's client gets it. A provider's own says when to come back, and that all was tried."""
    if isinstance(error, WallieError):
        return WallieProxyError(error)
    if isinstance(error, openai.APIError):
        found = response_headers(error) or {}
        headers = {f"llm_provider-{name.lower()}": value for name, value in found.items()}
        headers["x-should-retry"] = "false"
        if (after := parse_retry_after(found, time.time())) is not None:
            headers["retry-after"] = str(max(1, ceil(after)))
        error.headers = headers  # type: ignore[attr-defined] # the proxy sends them
    return error


def _is_expected(error: BaseException) -> bool:
    """Whether it is a refusal, or the provider or the network ended the call: LiteLLM's stack says nothing of it."""
    if isinstance(error, WallieProxyError | WallieError):
        return True
    result = classify_error(error)
    return result.outcome is Outcome.REJECTED or result.verdict is Verdict.FAILURE or result.status_code == _LIMITED


class _OneLine(logging.Filter):
    """Leaves the traceback out of the log of what is expected, refusals and providers' errors: the text says all."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep every record."""
        error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
        if error is not None and _is_expected(error):
            record.exc_info = record.exc_text = None
            record.msg, record.args = _first_line(record.getMessage()), None
        return True


def _first_line(text: str) -> str:
    """``text`` without the traceback that LiteLLM writes into the text of some errors, on one line."""
    return one_line(text.partition("\nTraceback (most recent call last)")[0].rstrip(), " ")


def log_expected_errors_in_one_line() -> None:
    """Have the proxy's log say an expected error in one line. Idempotent."""
    for name in _LOGS:
        log = logging.getLogger(name)
        if not any(isinstance(found, _OneLine) for found in log.filters):
            log.addFilter(_OneLine())
