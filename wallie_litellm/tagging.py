"""Who caused a request: the feature, the user and the caller's own metadata, as they may be recorded.

They are read once, when a request begins, so that retries, fallbacks and streams all carry the same.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

LONGEST_NAME = 200  # characters of a feature or a user id
LONGEST_TEXT = 500  # characters of one value of the metadata
MOST_METADATA = 4_000  # characters of the metadata, as JSON
MOST_KEYS = 50

# What LiteLLM's Router adds to the metadata of a request, and what has a column of its own.
_NOT_THE_CALLERS = frozenset(
    {"model_group", "model_group_alias", "model_group_size", "feature", "user_id", "tags", "deployment", "model_info"}
)
_SECRET_KEY = re.compile(r"api.?key|secret|password|passwd|authorization|credential|access.?token|(^|_)token$", re.I)
_SECRET_VALUE = re.compile(r"\b(?:sk|pk|gsk|phc|phx|xox[a-z]|ghp)[-_][\w-]{8,}|AIza[\w-]{20,}|Bearer\s+\S{8,}")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f]")

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


def feature_of(kwargs: Mapping[str, Any]) -> str | None:
    """The product feature: metadata ``feature``, a tag ``feature:NAME``, or the header ``x-wallie-feature``."""
    for metadata in _metadata(kwargs):
        if isinstance(metadata.get("feature"), str):
            return name(metadata["feature"])
        for key in ("tags", "request_tags"):
            tags = metadata.get(key)
            for tag in tags if isinstance(tags, list | tuple) else ():
                if isinstance(tag, str) and tag.startswith("feature:"):
                    return name(tag.removeprefix("feature:"))
    headers = (kwargs.get("proxy_server_request") or {}).get("headers") or {}
    return name(headers.get("x-wallie-feature"))


def user_of(kwargs: Mapping[str, Any]) -> str | None:
    """The end user of a request, where one was named."""
    user = kwargs.get("user")
    if user is None:
        user = next((found["user_id"] for found in _metadata(kwargs) if found.get("user_id") is not None), None)
    return name(user)


def name(value: object) -> str | None:
    """A feature or a user id as it may be recorded: one line, of bounded length; nothing for nothing."""
    if value is None:
        return None
    return _UNPRINTABLE.sub(" ", str(value)).strip()[:LONGEST_NAME] or None


def operation_of(function: object, kwargs: Mapping[str, Any]) -> str:
    """What is asked of the provider, from the Router's method (or LiteLLM's function) that will make the call."""
    generic = kwargs.get("original_generic_function")
    called = str(getattr(generic or function, "__name__", "")).lstrip("_")
    return _OPERATIONS.get(called, called or "call")


def metadata_of(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The caller's own metadata, without what LiteLLM and its proxy put beside it."""
    for metadata in _metadata(kwargs):
        stated = metadata.get("requester_metadata")
        if isinstance(stated, Mapping):
            return recordable(stated)
    for metadata in _metadata(kwargs):
        if any(str(key).startswith("user_api_key") for key in metadata):
            continue  # the proxy's own
        if own := recordable(metadata):
            return own
    return {}


def recordable(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """``metadata`` as plain JSON of bounded size, with whatever looks like a key or a password masked."""
    kept: dict[str, Any] = {}
    room = MOST_METADATA
    for key, value in metadata.items():
        if key in _NOT_THE_CALLERS or len(kept) >= MOST_KEYS:
            continue
        label = _UNPRINTABLE.sub(" ", str(key))[:LONGEST_NAME]
        plain = "***" if isinstance(value, str) and _SECRET_KEY.search(label) else _plain(value)
        room -= len(label) + len(json.dumps(plain))
        if room < 0:
            break
        kept[label] = plain
    return kept


def _plain(value: Any, depth: int = 3) -> Any:
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if value - value == 0 else str(value)  # JSON knows neither infinities nor NaN
    if isinstance(value, str):
        return _SECRET_VALUE.sub("***", value[:LONGEST_TEXT])
    if depth and isinstance(value, Mapping):
        return {
            str(key)[:LONGEST_NAME]: (
                "***" if isinstance(item, str) and _SECRET_KEY.search(str(key)) else _plain(item, depth - 1)
            )
            for key, item in list(value.items())[:MOST_KEYS]
        }
    if depth and isinstance(value, list | tuple):
        return [_plain(item, depth - 1) for item in value[:MOST_KEYS]]
    return f"<{type(value).__name__}>"


def _metadata(kwargs: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The places where an endpoint of LiteLLM may keep a request's metadata."""
    for key in ("litellm_metadata", "metadata"):
        found = kwargs.get(key)
        if isinstance(found, Mapping):
            yield found
            inner = found.get("requester_metadata")
            if isinstance(inner, Mapping):
                yield inner
