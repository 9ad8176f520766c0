"""What an exception shows of its origin: a provider, the network, LiteLLM's own code, or the application's."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Final

import aiohttp
import httpx
import openai

# LiteLLM's functions that parse an answer: an error raised in one shows that there was an answer.
_READING: Final = frozenset({"transform_response", "transform_parsed_response", "convert_to_model_response_object"})
# In the names of LiteLLM's functions that make a vendor's request of a caller's.
_BUILDING: Final = "transform_request"
# What LiteLLM writes of an answer that it cannot read, under various statuses.
_UNREADABLE: Final = ("Empty or invalid response from LLM endpoint", "Error converting to valid response block")
# Packages in whose code an exception may be raised while LiteLLM builds or makes a request.
_LIBRARIES: Final = sys.stdlib_module_names | {
    "aiohttp", "anyio", "boto3", "botocore", "google", "httpcore", "httpx", "jinja2", "litellm", "openai", "pydantic",
    "pydantic_core", "tenacity", "tiktoken", "tokenizers", "wallie_litellm",
}  # fmt: skip

_CALLING: Final = "litellm.main"  # LiteLLM's module that calls providers; hooks and limits of its own are elsewhere
_FRAMES: Final = 6  # of an unexplained error, the innermost first, in a line of the log
_MOST_PLACES: Final = 100  # that have a line in the log
_MARK: Final = "wallie_ended_attempt"  # attribute of an exception that has ended an attempt

logger = logging.getLogger(__name__)
_unexplained: set[tuple[str, str]] = set()  # kinds and places of the errors that have a line in the log


def mark_as_end(error: BaseException) -> None:
    """Note that ``error`` has ended an attempt: it is no cause of what ends a later one."""
    with suppress(Exception):  # one that takes no attributes
        setattr(error, _MARK, True)


def is_litellms(error: BaseException) -> bool:
    """Whether this is an exception of LiteLLM's own."""
    return type(error).__module__.startswith("litellm")


def status_in_body(causes: Sequence[BaseException]) -> int | None:
    """The HTTP status in an error object inside a 200, where OpenAI's client keeps it."""
    for cause in causes:
        code = getattr(cause, "code", None) if type(cause) is openai.APIError else None
        if isinstance(code, int | str) and str(code).isdecimal() and 400 <= int(code) < 600:
            return int(code)
    return None


def could_not_build(error: BaseException, causes: Sequence[BaseException]) -> bool:
    """Whether LiteLLM failed while it built the request, rather than a handler or a hook of the application's.

    LiteLLM makes a connection error, or a server's, of whatever is raised then.
    """
    inside = any(not isinstance(cause, openai.OpenAIError) for cause in causes)
    return (inside or isinstance(error, openai.APIConnectionError)) and not any(map(_raised_by_application, causes))


def raised_by_handler(cause: BaseException) -> bool:
    """Whether a provider of the application's own raised ``cause``, a ``CustomLLM``: LiteLLM's calls are made there."""
    modules = modules_of(cause)
    return _CALLING in modules and _are_applications(modules[modules.index(_CALLING) :])


def _raised_by_application(cause: BaseException) -> bool:
    """Whether code that is neither a library's nor this package's raised ``cause``."""
    return _are_applications(modules_of(cause))


def modules_of(cause: BaseException) -> list[str]:
    """The modules through which ``cause`` was raised, the innermost last."""
    return [str(frame.f_globals.get("__name__")) for frame, _ in traceback.walk_tb(cause.__traceback__)]


def log_unexplained(error: BaseException) -> None:
    """Say in the log where ``error`` was raised, once for each place: no answer and no rule explains it.

    Its text is not logged, for it may quote a prompt.
    """
    frames = [f"{frame.f_globals.get('__name__')}:{line}" for frame, line in traceback.walk_tb(error.__traceback__)]
    place = " < ".join(reversed(frames[-_FRAMES:]))
    kind = type(error).__name__, place
    if not frames or kind in _unexplained or len(_unexplained) >= _MOST_PLACES:
        return
    _unexplained.add(kind)
    logger.warning("A call ended with %s, which no provider has sent. It was raised in %s", *kind)


def _are_applications(modules: Sequence[str]) -> bool:
    return any(module.partition(".")[0] not in _LIBRARIES for module in modules)


def was_reading(cause: BaseException) -> bool:
    """Whether LiteLLM failed to parse an answer: JSON of a shape that no vendor documents, for example."""
    if any(words in str(cause) for words in _UNREADABLE):
        return True
    return any(frame.f_code.co_name in _READING for frame, _ in traceback.walk_tb(cause.__traceback__))


def was_building(cause: BaseException) -> bool:
    """Whether LiteLLM was making the vendor's request: of arguments of a tool call that are no JSON, for example."""
    return any(
        _BUILDING in frame.f_code.co_name and str(frame.f_globals.get("__name__")).startswith("litellm.")
        for frame, _ in traceback.walk_tb(cause.__traceback__)
    )


def shows_an_exchange(cause: BaseException) -> bool:
    """Whether only a provider, or the network, can have caused this: an answer, or a broken connection."""
    if is_litellms(cause):
        return bool(getattr(cause, "litellm_response_headers", None)) or _answered(cause)
    return _answered(cause) or isinstance(cause, openai.APIError | httpx.HTTPError | OSError | aiohttp.ClientError)


def _answered(cause: BaseException) -> bool:
    """Whether a provider's own answer is attached; LiteLLM attaches empty ones of its own making."""
    response = getattr(cause, "response", None)
    return isinstance(response, httpx.Response) and bool(response.headers)


def is_refused_connection(cause: BaseException) -> bool:
    """Whether this is a connection that was never made, so that the provider received nothing."""
    if isinstance(cause, httpx.ConnectError | httpx.ConnectTimeout | ConnectionRefusedError):
        return True
    return type(cause).__name__ in ("ClientConnectorError", "ClientConnectorDNSError")


def causes_of(error: BaseException) -> Iterator[BaseException]:
    """``error`` and what led to it, sixteen at most; not the end of an earlier attempt, in whose handling it came."""
    seen: set[int] = set()
    pending: list[BaseException | None] = [error]
    while pending and len(seen) < 16:
        cause = pending.pop()
        if cause is None or id(cause) in seen or (cause is not error and getattr(cause, _MARK, False)):
            continue
        seen.add(id(cause))
        yield cause
        inner = getattr(cause, "original_exception", None)
        pending += [cause.__cause__, cause.__context__, inner if isinstance(inner, BaseException) else None]
