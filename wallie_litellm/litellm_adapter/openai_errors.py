"""This package's errors as OpenAI's: code that catches ``openai.APIError`` and its kinds catches them too."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, Final

import httpx
import openai

from wallie_litellm.errors import ConfigError, WallieError

_KINDS: Final[Mapping[int, type[openai.APIError]]] = {
    400: openai.BadRequestError, 403: openai.PermissionDeniedError, 429: openai.RateLimitError
}  # fmt: skip


def as_openai_error(error: WallieError) -> WallieError:
    """``error`` itself, which from now on is an ``openai.APIError`` of the fitting kind as well.

    A deadline is an ``APITimeoutError``, status 429 a ``RateLimitError``, 400 a ``BadRequestError``, 403 a
    ``PermissionDeniedError``, 503 an ``InternalServerError``.
    """
    if isinstance(error, openai.APIError | ConfigError):
        return error
    request = httpx.Request("POST", "https://wallie.invalid")
    response = httpx.Response(error.status_code, headers=error.headers, request=request)
    code, status, retry_after = error.code, error.status_code, error.retry_after
    error.__class__ = _both(type(error), _kind(error))  # type: ignore[arg-type] # classes are hashable
    error.__dict__.update(
        message=str(error), request=request, body=None, param=None, type=None, response=response, request_id=None
    )
    error.__dict__.update(code=code, status_code=status, retry_after=retry_after)
    return error


def _kind(error: WallieError) -> type[openai.APIError]:
    if isinstance(error, TimeoutError):
        return openai.APITimeoutError
    return _KINDS.get(error.status_code, openai.InternalServerError)


@cache  # its arguments are classes
def _both(ours: type[WallieError], theirs: type[openai.APIError]) -> Any:
    """A class that is both; its name, and what it says of itself, are ours."""

    def reduce(self: WallieError) -> tuple[Any, ...]:
        state = {key: value for key, value in self.__dict__.items() if key not in ("request", "response")}
        return _restored, (ours, self.args, state)

    return type(ours.__name__, (ours, theirs), {"__module__": ours.__module__, "__reduce__": reduce})


def _restored(kind: type[WallieError], args: tuple[Any, ...], state: dict[str, Any]) -> WallieError:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(state)
    return as_openai_error(error)
