"""Who caused a request: the feature, the user and the caller's own metadata, as they may be recorded.

They are read once, when a request begins, so that retries, fallbacks and streams all carry the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from wallie_litellm.core.scrubbing import scrubbed_metadata, scrubbed_name

# What LiteLLM's Router adds to the metadata of a request, and what has a column of its own.
_NOT_THE_CALLERS = frozenset(
    {
        "api_base",
        "attempted_fallbacks",
        "attempted_retries",
        "caching_groups",
        "deployment",
        "deployment_model_name",
        "feature",
        "max_retries",
        "model_group",
        "model_group_alias",
        "model_group_size",
        "model_info",
        "previous_models",
        "request_tags",
        "requester_metadata",
        "tags",
        "user_id",
    }
)
# What LiteLLM's proxy has put beside the caller's own by the time it copies them to `requester_metadata`.
_THE_PROXYS = frozenset({"headers", "used_client_oauth_token", "litellm_session_id_omitted"})
Places = list[Mapping[str, Any]]

_OPERATIONS = {
    "acompletion": "chat",
    "completion": "chat",
    "aembedding": "embedding",
    "embedding": "embedding",
    "atext_completion": "text_completion",
    "text_completion": "text_completion",
    "aresponses": "responses",
    "responses": "responses",
    "anthropic_messages": "messages",
    "aanthropic_messages": "messages",
    "attempt": "execute",
}
#: Operations whose answer is text, of which providers count the tokens.
GENERATING = frozenset({"chat", "text_completion", "responses", "messages", "execute"})
#: Those that are counted in tokens at all; for others none are made up.
COUNTED = GENERATING | {"embedding"}


class Tags(NamedTuple):
    """Who caused a request."""

    feature: str | None
    user_id: str | None
    metadata: dict[str, Any]


def tags_of(kwargs: Mapping[str, Any]) -> Tags:
    """Everything that the arguments of a LiteLLM call say of who caused it."""
    places = _metadata(kwargs)
    return Tags(_feature(kwargs, places), _user(kwargs, places), _own(places))


def _feature(kwargs: Mapping[str, Any], places: Places) -> str | None:
    """The product feature: metadata ``feature``, a tag ``feature:NAME``, or the header ``x-wallie-feature``."""
    return next(filter(None, map(scrubbed_name, _named_features(kwargs, places))), None)


def _named_features(kwargs: Mapping[str, Any], places: Places) -> Iterator[object]:
    for metadata in places:
        if metadata.get("feature") is not None:
            yield metadata["feature"]
        for key in ("tags", "request_tags"):
            tags = metadata.get(key)
            for tag in tags if isinstance(tags, list | tuple) else ():
                if isinstance(tag, str) and tag.startswith("feature:"):
                    yield tag.removeprefix("feature:")
    request = kwargs.get("proxy_server_request")
    headers = request.get("headers") if request is not None and isinstance(request, Mapping) else None
    for header, value in headers.items() if isinstance(headers, Mapping) else ():
        if str(header).lower() == "x-wallie-feature" and isinstance(value, str):
            yield value


def _user(kwargs: Mapping[str, Any], places: Places) -> str | None:
    """The end user of a request, where one was named."""
    users = (kwargs.get("user"), *(metadata.get("user_id") for metadata in places))
    return next(filter(None, map(scrubbed_name, users)), None)


def operation_of(function: object, kwargs: Mapping[str, Any]) -> str:
    """What is asked of the provider, from the Router's method (or LiteLLM's function) that will make the call."""
    generic = kwargs.get("original_generic_function")
    called = str(getattr(generic or function, "__name__", "")).lstrip("_")
    return _OPERATIONS.get(called, called or "call")


def _own(places: Places) -> dict[str, Any]:
    """The caller's own metadata, without what LiteLLM and its proxy put beside it."""
    for metadata in places:
        stated = metadata.get("requester_metadata")
        if isinstance(stated, Mapping):
            return recordable({key: value for key, value in stated.items() if key not in _THE_PROXYS})
    for metadata in places:
        if any(str(key).startswith("user_api_key") for key in metadata):
            continue  # the proxy's own
        if own := recordable(metadata):
            return own
    return {}


def recordable(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of ``metadata`` that are the caller's own, scrubbed."""
    return scrubbed_metadata((key, value) for key, value in metadata.items() if key not in _NOT_THE_CALLERS)


def _metadata(kwargs: Mapping[str, Any]) -> Places:
    """The places where an endpoint of LiteLLM may keep a request's metadata."""
    places: list[Mapping[str, Any]] = []
    for key in ("litellm_metadata", "metadata"):
        found = kwargs.get(key)
        if found is not None and isinstance(found, Mapping):
            places.append(found)
            inner = found.get("requester_metadata")
            if inner is not None and isinstance(inner, Mapping):
                places.append(inner)
    return places
