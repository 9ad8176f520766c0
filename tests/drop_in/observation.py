"""What came of a row's action, in a form in which two routers' outcomes can be compared."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

from pydantic import BaseModel

from drop_in.routers import pointed
from drop_in.row import Row, Stage
from drop_in.upstream import Request, Upstream

RouterOf = Callable[..., AbstractAsyncContextManager[Any]]
SEED: Final = 7  # of the random picks, for both routers
_BY_CHANCE: Final = {"created", "created_at", "citations"}  # parts of an answer that say when it came
# Identifiers that LiteLLM makes: a UUID, and one that has a UUID in it, in base64.
_MADE_UP: Final = re.compile(r"[0-9a-f]{8}(-?[0-9a-f]{4}){3}-?[0-9a-f]{12}|\bresp_bGl0ZWxs[A-Za-z0-9+/=]+")
_OURS: Final = "x-wallie-"  # headers that only our router adds
# Headers and fields of a body that differ from call to call.
_BY_CALL: Final = {"x-request-id", "x-litellm-call-id", "llm_provider-date"}


# Rows of their own compare how often was tried.
_COUNTS: Final = {"x-litellm-attempted-retries", "x-litellm-attempted-fallbacks", "x-litellm-max-retries"}
_HIDDEN: Final = ("model_id", "api_base", "custom_llm_provider", "response_cost", "cache_hit", "litellm_model_name")


class Raised:
    """An error, compared by what an application catches it with."""

    def __init__(self, error: BaseException) -> None:
        self.kind = type(error).__name__
        self.status = getattr(error, "status_code", None)
        self.text = str(error)
        self.caught_by = frozenset(
            each.__name__ for each in type(error).__mro__ if each.__module__.partition(".")[0] in {"openai", "builtins"}
        )

    def matches(self, other: object) -> bool:
        """Whether ``other`` is caught wherever this is, and has its status."""
        return isinstance(other, Raised) and self.status == other.status and self.caught_by <= other.caught_by

    def __repr__(self) -> str:
        return f"{self.kind}({self.status})"


async def observe(row: Row, upstream: Upstream, router_of: RouterOf, **more: Any) -> dict[str, Any]:
    """The facets of a row's outcome with one of the routers."""
    upstream.prepare(row.script)
    random.seed(SEED)
    outcome: dict[str, Any] = {"answer": None, "error": None}
    async with router_of(pointed(upstream, row.models), row.retries, **row.settings, **more) as router:
        try:
            answer = await row.act(Stage(router, upstream))
        except Exception as error:  # noqa: BLE001 - the outcome of the row
            outcome["error"] = Raised(error)
        else:
            outcome |= answer if isinstance(answer, Facets) else _of_answer(answer)
    requests = list(upstream.requests)
    if row.any_order:
        requests.sort(key=repr)
    if not row.any_request:
        outcome["accounts"] = [request.account for request in requests]
        outcome["sent"] = list(map(_described, requests))
    return outcome


class Facets(dict[str, Any]):
    """What an action gives when it has more to say than an answer."""


def plain_data(value: Any) -> Any:
    """Models as dictionaries, without what differs from call to call."""
    if isinstance(value, BaseException):
        return Raised(value)
    if isinstance(value, BaseModel):
        return plain_data(value.model_dump())
    if isinstance(value, Mapping):
        return {key: plain_data(each) for key, each in value.items() if not _is_left_out(str(key))}
    if isinstance(value, list | tuple):
        return [plain_data(each) for each in value]
    return _MADE_UP.sub("<made up>", value) if isinstance(value, str) else value


def _of_answer(answer: Any) -> dict[str, Any]:
    return {"answer": plain_data(answer), "hidden": _hidden(answer)}


class AtLeast(dict[str, Any]):
    """Data to which the other router may add."""


def _hidden(answer: Any) -> Any:
    """What LiteLLM says of an answer beside it: its deployment, its cost, the provider's headers."""
    params = getattr(answer, "_hidden_params", None)
    if not isinstance(params, Mapping):
        return None
    headers = params.get("additional_headers") or {}
    found = {name: params.get(name) for name in _HIDDEN}
    left_out = _BY_CALL | _COUNTS
    return AtLeast(plain_data({**found, **{name: value for name, value in headers.items() if name not in left_out}}))


def _is_left_out(key: str) -> bool:
    return key in _BY_CHANCE or key.startswith(_OURS)


def differing(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The facets in which the second outcome is not as the first."""
    names = [*first, *(name for name in second if name not in first)]
    pairs = {name: (first.get(name), second.get(name)) for name in names}
    return {name: (one, other) for name, (one, other) in pairs.items() if not alike(one, other)}


def alike(one: Any, other: Any) -> bool:
    """Equal, and for errors: caught alike."""
    if isinstance(one, Raised):
        return one.matches(other)
    if isinstance(one, AtLeast):
        return isinstance(other, dict) and all(name in other and alike(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(alike(one[key], other[key]) for key in one)
    return bool(one == other)


def fits(expected: Any, found: Any) -> bool:
    """Whether a facet is as a row states it: an error by class and status, an answer by its text, others by value."""
    if isinstance(found, Raised):
        kind, status = expected
        return kind in {found.kind, *found.caught_by} and status == found.status
    if isinstance(expected, str) and isinstance(found, dict):
        return expected == text_of(found)
    return bool(expected == found)


def text_of(answer: Mapping[str, Any]) -> str | None:
    """The text of an answer of any endpoint."""
    if answer.get("choices"):
        choice = answer["choices"][0]
        return choice["text"] if "text" in choice else (choice.get("message") or {}).get("content")
    for part in answer.get("output") or [answer]:
        if isinstance(part.get("content"), list):
            return "".join(piece.get("text", "") for piece in part["content"])
    return answer.get("text")


def _described(request: Request) -> tuple[Any, ...]:
    headers = {name: value for name, value in request.headers.items() if name not in _BY_CALL}
    return (request.account, request.path, request.key, headers, request.body)
