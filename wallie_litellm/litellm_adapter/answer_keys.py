"""The key under which an answer is kept: a digest of all that determines it, which only the same question has."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple

from pydantic import BaseModel

from wallie_litellm.config import AnswerCacheSettings
from wallie_litellm.core.operations import CHAT, RESPONSES
from wallie_litellm.litellm_adapter.inner_router import MOST_GROUPS
from wallie_litellm.litellm_adapter.metadata import mapping_in

_FORMAT: Final = "3"  # of keys and kept answers: another one finds nothing of an earlier

#: Operations whose answers may be kept; of those whose streams are kept as they came, a stream has a key of its own.
KEPT: Final = frozenset({CHAT, "text_completion", "embedding", RESPONSES, "messages"})
STREAMS_KEPT: Final = frozenset({CHAT, RESPONSES, "messages"})
_KEPT_AS_THEY_CAME: Final = frozenset({RESPONSES, "messages"})

# Arguments that say how a call is made, for whom, or what becomes of the answer: none changes what the model says.
_ASIDE: Final = frozenset(
    {
        "cache", "caching", "litellm_call_id", "litellm_logging_obj", "litellm_metadata",
        "litellm_session_id", "litellm_trace_id", "max_retries", "metadata", "no-log", "prompt_cache_key",
        "prompt_cache_retention", "proxy_server_request", "request_timeout", "secret_fields", "shared_session",
        "stream", "stream_options", "stream_timeout", "timeout", "ttl", "user",
    }
)  # fmt: skip
# Headers of a request that only name it, W3C's and others'.
_TRACES: Final = frozenset(
    {
        "baggage", "traceparent", "tracestate", "x-amzn-trace-id", "x-cloud-trace-context", "x-correlation-id",
        "x-request-id",
    }
)  # fmt: skip
# Parameters of a deployment that say under which account and terms it is called, not what it answers.
_TERMS: Final = frozenset(
    {
        "api_key", "max_parallel_requests", "max_retries", "num_retries", "order", "rpm", "stream_timeout", "timeout",
        "tpm", "use_in_pass_through", "use_litellm_proxy", "use_xai_oauth", "weight",
    }
)  # fmt: skip
# What LiteLLM's proxy says of its caller: answers never go from one key, team, project or organisation to another.
_TENANT: Final = frozenset(
    {
        "user_api_key_hash", "user_api_key", "user_api_key_team_id", "user_api_key_org_id", "user_api_key_project_id",
    }
)  # fmt: skip
# The third and fourth are all that a proxy says of a caller who has no key: one with a JWT, or by an authenticator.
_END_USER: Final = frozenset({"user_id", "user_api_key_end_user_id", "user_api_key_user_id", "actor_agent_id"})
_ORIGIN: Final = _TENANT | _END_USER
# Arguments with which an answer has an effect of its own, or depends on what happened before.
_STATEFUL: Final = frozenset({"background", "conversation", "previous_response_id"})


class CacheQuestion(NamedTuple):
    """A request that may be answered from the cache.

    ``reads``: an answer may be given that is at most ``max_age`` seconds old; ``keeps``: its own may be kept for
    ``ttl`` seconds.
    """

    key: str
    ttl: float
    max_age: float
    reads: bool
    keeps: bool


class QuestionReader:
    """Reads the questions of one router's requests; the digests of its deployments are kept."""

    def __init__(self) -> None:
        self._deployments: dict[str, tuple[Sequence[Mapping[str, Any]], str]] = {}

    def read(
        self,
        operation: str,
        group: str,
        feature: str | None,
        arguments: Mapping[str, Any],
        deployments: Sequence[Mapping[str, Any]],
        settings: AnswerCacheSettings,
        defaults: Mapping[str, Any] = {},
    ) -> CacheQuestion | None:
        """The question that a request asks of a ``group`` and its ``deployments``; ``None`` where none is kept.

        ``defaults`` are the parameters of calls that neither states.
        """
        streams = arguments.get("stream") is True
        if operation not in KEPT or (streams and operation not in STREAMS_KEPT) or _has_effects(arguments):
            return None
        if not settings.any_temperature and answers_vary(arguments, deployments, defaults):
            return None
        control = mapping_in(arguments, "cache") or {}
        if arguments.get("caching") is False:
            return None
        came = streams and operation in _KEPT_AS_THEY_CAME
        origin = _origin_of(arguments, of_user=settings.per == "user")
        try:
            text = _as_json.encode((_said(arguments), origin, control.get("namespace")))
            text = f"{_FORMAT} {operation!r} {came} {group!r} {feature!r} {text}"
            text += self._digest_of(group, deployments, defaults)
        except (TypeError, ValueError, RecursionError):  # an object of the application's own
            return None
        key = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
        ttl, oldest = _seconds(control.get("ttl")), _seconds(control.get("s-maxage", control.get("s-max-age")))
        return CacheQuestion(
            f"wallie:answer:{key}",
            settings.ttl if ttl is None else min(ttl, settings.ttl),
            settings.ttl if oldest is None else min(oldest, settings.ttl),
            reads=not control.get("no-cache"),
            keeps=not control.get("no-store"),
        )

    def _digest_of(self, group: str, deployments: Sequence[Mapping[str, Any]], defaults: Mapping[str, Any]) -> str:
        """What the file sets for the deployments of a group, whichever of them is picked."""
        kept = self._deployments.get(group)
        if kept is None or kept[0] is not deployments:
            settings = {
                json.dumps(
                    [_settings_of(one["litellm_params"]), _said(_settings_of(defaults))], sort_keys=True, default=_plain
                )
                for one in deployments
            }
            digest = hashlib.sha256("\n".join(sorted(settings)).encode()).hexdigest()
            if len(self._deployments) >= MOST_GROUPS:
                self._deployments.clear()
            self._deployments[group] = kept = deployments, digest
        return kept[1]


def _said(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that may change what the model says."""
    said = {name: value for name, value in arguments.items() if name not in _ASIDE and value is not None}
    if (headers := mapping_in(said, "extra_headers")) is not None:
        said["extra_headers"] = {name: value for name, value in headers.items() if str(name).lower() not in _TRACES}
        if not said["extra_headers"]:
            del said["extra_headers"]
    return said


def _settings_of(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in parameters.items()
        if value is not None and name not in _TERMS and "cost_per_" not in name
    }


def _has_effects(arguments: Mapping[str, Any]) -> bool:
    return not _STATEFUL.isdisjoint(arguments) and any(map(arguments.get, _STATEFUL))


def answers_vary(
    arguments: Mapping[str, Any], deployments: Sequence[Mapping[str, Any]], defaults: Mapping[str, Any]
) -> bool:
    """Whether answers differ by a temperature above 0 that the request, else a deployment or the defaults state."""
    stated = arguments.get("temperature")
    if stated is not None:
        return bool(stated != 0)
    return any(stated.get("temperature") for stated in (defaults, *(one["litellm_params"] for one in deployments)))


def _origin_of(arguments: Mapping[str, Any], *, of_user: bool) -> dict[str, Any]:
    """Whose question it is, as it was stated: names on record are scrubbed, and two could look alike."""
    names, origin = _ORIGIN if of_user else _TENANT, dict[str, Any]()
    stated = (mapping_in(arguments, name) for name in ("metadata", "litellm_metadata"))
    sources = [source for source in stated if source is not None]
    for source in sources:
        if not names.isdisjoint(source):
            for name in names.intersection(source):
                if source[name] is not None:
                    origin.setdefault(name, []).append(source[name])
    # Tags choose among deployments.
    origin["tags"] = [tags for one in (arguments, *sources) if (tags := one.get("tags"))]
    if of_user:
        origin["user"] = arguments.get("user")
        inner = (mapping_in(source, "requester_metadata") or {} for source in sources)
        origin["requester"] = [one["user_id"] for one in inner if one.get("user_id") is not None]
    return origin


def _plain(value: object) -> Any:
    """A value as JSON: LiteLLM's and OpenAI's messages, and classes that stand for their schemas."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", warnings=False)
    if isinstance(value, type) and issubclass(value, BaseModel):
        return [value.__qualname__, value.model_json_schema()]
    raise TypeError(f"{type(value).__name__} has no JSON")


_as_json: Final = json.JSONEncoder(sort_keys=True, ensure_ascii=False, default=_plain)


def _seconds(value: object) -> float | None:
    """The seconds that a control states, 0 for fewer; ``None`` where it states none, or what is no number."""
    if isinstance(value, str):
        with suppress(ValueError):
            value = float(value)
    if not isinstance(value, int | float) or isinstance(value, bool) or value != value:
        return None
    return max(0.0, float(value))
