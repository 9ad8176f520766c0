"""The answer that a provider gave, behind the exception that LiteLLM made of it: its own status, headers and words.

LiteLLM gives some answers another status, keeps the headers of some vendors' back, and shortens bodies that it does not
know. The response itself is at the end of the chain of causes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import httpx

from wallie_litellm.litellm_adapter.error_evidence import is_litellms
from wallie_litellm.litellm_adapter.responses import response_headers

_LONGEST_TEXT: Final = 8_000  # characters of a body that are read
_DEEPEST: Final = 6  # levels of a body that are searched for codes
_CODE_KEYS: Final = ("code", "type", "status", "reason")
_TYPE_HEADER: Final = "x-amzn-errortype"  # Bedrock's code
_LIMIT_HEADER: Final = "x-ratelimit-limit-req-minute"  # Mistral's limit, 0 for a model that is not on the plan


class HttpAnswer(NamedTuple):
    """``status`` is ``None`` where no response was found; ``text`` is in lower case.

    ``body`` is the answer's JSON, parsed, else its text, or that of the error where there is no more.
    """

    status: int | None
    headers: Mapping[str, str]
    codes: frozenset[str]
    text: str
    body: object


def answer_behind(error: BaseException, causes: Sequence[BaseException]) -> HttpAnswer:
    """The provider's answer; of an error without one, what the error says itself."""
    response = next((found for cause in causes if (found := _response_of(cause)) is not None), None)
    if response is None:
        found = getattr(error, "body", None)  # of an error inside a 200
        text = f"{error}\n{_as_json(found)}"[:_LONGEST_TEXT]
        said = found if isinstance(found, Mapping) else str(error)
        return HttpAnswer(None, response_headers(error) or {}, frozenset(_codes(found)), text.lower(), said)
    headers = {**(response_headers(error) or {}), **response.headers}
    body = _body(response)
    text = f"{error}\n{body}"[:_LONGEST_TEXT]
    parsed = _parsed(body)
    codes = [*_codes(parsed), headers.get(_TYPE_HEADER, "").partition(":")[0]]
    if _LIMIT_HEADER in headers:
        codes.append(f"{_LIMIT_HEADER}: {headers[_LIMIT_HEADER]}")
    said = parsed or body or str(error)
    return HttpAnswer(response.status_code, headers, frozenset(codes), text.lower(), said)


def _response_of(cause: BaseException) -> httpx.Response | None:
    """The provider's response with an error, where it is attached: LiteLLM attaches others of its own making."""
    if is_litellms(cause) and not isinstance(cause, httpx.HTTPStatusError):
        return None
    response = getattr(cause, "response", None)
    return response if isinstance(response, httpx.Response) and response.status_code >= 400 else None


def _body(response: httpx.Response) -> str:
    try:
        return response.text
    except httpx.StreamError:  # LiteLLM has not read it, or keeps what it has read elsewhere
        return ""


def _as_json(body: Any) -> str:
    try:
        return json.dumps(body) if isinstance(body, Mapping) else ""
    except (TypeError, ValueError):
        return ""


def _parsed(body: str) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None


def _codes(body: Any, depth: int = 0) -> Iterator[str]:
    """The values of all keys of a body that name a code."""
    if depth > _DEEPEST:
        return
    if isinstance(body, Mapping):
        for key, value in body.items():
            if key in _CODE_KEYS and isinstance(value, str | int):
                yield str(value)
            else:
                yield from _codes(value, depth + 1)
    elif isinstance(body, list):
        for item in body:
            yield from _codes(item, depth + 1)
