"""Errors as the proxy passes them on: OpenAI's shape, with the headers that clients read, and one line of log."""

from __future__ import annotations

import logging
import time
from math import ceil
from typing import Any, Final

import openai
from litellm.proxy._types import ProxyException

from wallie_litellm.core.retry_after import parse_retry_after
from wallie_litellm.errors import WallieError
from wallie_litellm.litellm_adapter.responses import response_headers

_TYPES: Final = {429: "rate_limit_error", 503: "service_unavailable_error", 504: "timeout_error"}
_PROXYS_LOG: Final = "LiteLLM Proxy"  # LiteLLM's logger of its proxy


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


class _OneLine(logging.Filter):
    """Leaves the traceback out of the log of a refusal: it is expected, and its text says all."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep every record."""
        error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
        if isinstance(error, WallieProxyError):
            record.exc_info = record.exc_text = None
        return True


def log_refusals_in_one_line() -> None:
    """Have the proxy's log say a refusal in one line. Idempotent."""
    log = logging.getLogger(_PROXYS_LOG)
    if not any(isinstance(found, _OneLine) for found in log.filters):
        log.addFilter(_OneLine())
