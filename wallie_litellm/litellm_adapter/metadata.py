"""The origin of a request in LiteLLM's arguments: its feature, its user and the caller's own metadata.

They are read once, when a request begins, so that retries, fallbacks and streams all carry the same.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import date
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from itertools import islice
from math import isfinite
from typing import Any, Final, NamedTuple
from uuid import UUID

LONGEST_NAME = 200  # characters of a feature or a user id
LONGEST_TEXT = 500  # characters of one value of the metadata
MOST_METADATA = 4_000  # characters of the metadata, as JSON
MOST_KEYS = 50
MOST_VALUES = 100  # looked at inside one value
LARGEST_NUMBER = 2**63  # that every receiver can take

# Keys that LiteLLM's Router adds to the metadata of a request, and those that have a column of their own.
_NOT_THE_CALLERS: Final = frozenset(
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
# Keys that LiteLLM's proxy puts beside the caller's own before it copies them to ``requester_metadata``.
_THE_PROXYS: Final = frozenset({"headers", "used_client_oauth_token", "litellm_session_id_omitted"})
Sources = list[Mapping[str, Any]]

_SECRET_KEY = re.compile(r"api.?key|secret|passw(or)?d|authorization|credential|cookie|token$", re.I)
_SECRET_VALUE = re.compile(
    # With a digit and some length: a feature may well be called sk-learning.
    r"\b(?:sk|pk|rk|gsk|hf|xai|ph[cx]|xox[a-z]|gh[a-z]|github_pat|glpat|whsec)[-_](?=[\w-]*\d)[\w-]{16,}"
    r"|\bAIza[\w-]{20,}|\bA[KS]IA[A-Z0-9]{12,}|\beyJ[\w-]{8,}\.[\w.-]+"  # Google, AWS, a JSON Web Token
    r"|\b[Bb]earer\s+[\w.~+/=-]{8,}|https://hooks\.slack\.com/\S+|(?<=://)[^\s/@]+:[^\s/@]+(?=@)"
)
# Control characters, line separators, and halves of a character, which no database takes.
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_UNSTORABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff]")
_STRADDLING = 200  # characters: a secret is recognised before its end is cut off


class Tags(NamedTuple):
    """The origin of a request."""

    feature: str | None
    user_id: str | None
    metadata: dict[str, Any]


def tags_of(kwargs: Mapping[str, Any]) -> Tags:
    """The origin of a request, from the arguments of a LiteLLM call."""
    sources = _metadata(kwargs)
    return Tags(_feature(kwargs, sources), _user(kwargs, sources), _own(sources))


def _feature(kwargs: Mapping[str, Any], sources: Sources) -> str | None:
    """The product feature: metadata ``feature``, a tag ``feature:NAME``, or the header ``x-wallie-feature``."""
    return next(filter(None, map(name, _named_features(kwargs, sources))), None)


def _named_features(kwargs: Mapping[str, Any], sources: Sources) -> Iterator[object]:
    for metadata in sources:
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


def _user(kwargs: Mapping[str, Any], sources: Sources) -> str | None:
    """The end user of a request: the argument ``user``, else metadata ``user_id``."""
    users = (kwargs.get("user"), *(metadata.get("user_id") for metadata in sources))
    return next(filter(None, map(name, users)), None)


def name(value: object) -> str | None:
    """A feature or a user id as it may be recorded: one line, of bounded length; nothing for nothing."""
    if not isinstance(value, str | int | UUID | Enum):
        return None
    return _one_line(_text(value)[: LONGEST_NAME + _STRADDLING]) or None


@lru_cache(maxsize=4096)  # features, users and keys of metadata come again and again
def _one_line(text: str) -> str:
    return _masked(_UNPRINTABLE.sub(" ", text).strip())[:LONGEST_NAME]


@lru_cache(maxsize=4096)
def _is_secret(label: str) -> bool:
    return _SECRET_KEY.search(label) is not None


def _own(sources: Sources) -> dict[str, Any]:
    """The caller's own metadata, without the keys that LiteLLM and its proxy add."""
    for metadata in sources:
        stated = metadata.get("requester_metadata")
        if isinstance(stated, Mapping):
            return recordable({key: value for key, value in stated.items() if key not in _THE_PROXYS})
    for metadata in sources:
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
        if key in _NOT_THE_CALLERS:
            continue
        label, plain = _entry(key, value, 3, [MOST_VALUES])
        size = len(json.dumps(label)) + len(json.dumps(plain))
        if size > room:  # say that there was something
            plain = f"<{type(value).__name__}>"
            size = len(json.dumps(label)) + len(plain)
        if size > room or len(kept) >= MOST_KEYS:
            break
        room -= size
        kept[label] = plain
    return kept


def _entry(key: object, value: object, depth: int, left: list[int]) -> tuple[str, Any]:
    label = name(key) or f"<{type(key).__name__}>"
    if _is_secret(label) and not isinstance(value, bool | None):
        return label, "***"
    return label, _plain(value, depth, left)


def _plain(value: object, depth: int, left: list[int]) -> Any:
    """``value`` as JSON; ``left`` is how many more values are looked at."""
    left[0] -= 1
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str | int | Decimal | UUID | date | Enum):
        if isinstance(value, int) and not isinstance(value, Enum) and abs(value) <= LARGEST_NUMBER:
            return int(value)
        text = _UNSTORABLE.sub("\ufffd", _text(value)[: LONGEST_TEXT + _STRADDLING])
        return _masked(text)[:LONGEST_TEXT]
    if isinstance(value, float):
        return float(value) if isfinite(value) else str(float(value))  # JSON knows neither infinities nor NaN
    if depth and left[0] > 0 and isinstance(value, Mapping):
        inside = islice(value.items(), MOST_KEYS)
        return dict(_entry(key, item, depth - 1, left) for key, item in inside if left[0] > 0)
    if depth and left[0] > 0 and isinstance(value, list | tuple):
        return [_plain(item, depth - 1, left) for item in value[:MOST_KEYS] if left[0] > 0]
    return f"<{type(value).__name__}>"


def _text(value: object) -> str:
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, int) and abs(value) > LARGEST_NUMBER:
        return f"{'-' if value < 0 else ''}<{value.bit_length()} bits>"  # Python refuses to write out the longest
    return str(value)


def _masked(text: str) -> str:
    return _SECRET_VALUE.sub("***", text)


def _metadata(kwargs: Mapping[str, Any]) -> Sources:
    """The mappings in which an endpoint of LiteLLM may keep a request's metadata."""
    sources: list[Mapping[str, Any]] = []
    for key in ("litellm_metadata", "metadata"):
        found = kwargs.get(key)
        if found is not None and isinstance(found, Mapping):
            sources.append(found)
            inner = found.get("requester_metadata")
            if inner is not None and isinstance(inner, Mapping):
                sources.append(inner)
    return sources
