"""A feature's caches: answers that are given again, and the vendors' own of the beginnings of its prompts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field, PlainValidator, WithJsonSchema

from wallie_litellm.config import value_schemas as schemas
from wallie_litellm.config.section import Section
from wallie_litellm.config.values import DURATION_SCHEMA, Duration, Switch, expected, parse_duration

# A place in the messages that LiteLLM marks for the vendor's cache, as LiteLLM writes it.
InjectionPoint = Mapping[str, Any]

#: What ``prompt_cache: true`` marks: the system's messages, which a feature's requests have in common.
SYSTEM_MESSAGES: Final[tuple[InjectionPoint, ...]] = ({"location": "message", "role": "system"},)
MOST_POINTS: Final = 4  # Anthropic refuses a request with more marks

_POINT_KEYS: Final = frozenset({"location", "role", "index", "control"})
_CACHE_FORMS: Final = "how long an answer is kept, such as '1h', or a mapping with ttl"
_POINT_FORMS: Final = "true, false, or a list of 1 to 4 points such as {location: message, role: system}"


class AnswerCacheSettings(Section):
    """How long a feature's answers are given again to the same question, and to which callers."""

    ttl: Duration = Field(description="Seconds for which an answer is kept.")
    per: Literal["user", "all"] = Field(
        "user",
        description="`user` keeps the answers of each user apart, `all` gives them to every user of the feature.",
    )
    any_temperature: Switch = Field(
        False,
        description="Whether answers to requests with a temperature above 0 are kept too.",
    )


def _answer_cache(value: object) -> object:
    if value is None or value is False:
        return None
    if isinstance(value, Mapping | AnswerCacheSettings):
        return value
    try:
        parse_duration(value)
    except ValueError:
        raise expected(_CACHE_FORMS) from None
    return {"ttl": value}


def _prompt_cache(value: object) -> tuple[InjectionPoint, ...] | None:
    if value is None or value is False:
        return None
    if value is True:
        return SYSTEM_MESSAGES
    if not isinstance(value, list | tuple) or not 0 < len(value) <= MOST_POINTS or not all(map(_is_point, value)):
        raise expected(_POINT_FORMS)
    return tuple(dict(point) for point in value)


def _is_point(point: object) -> bool:
    if not isinstance(point, Mapping) or not point.keys() <= _POINT_KEYS:
        return False
    if point.get("location") not in ("message", "tool_config"):
        return False
    role, index = point.get("role"), point.get("index")
    if not (role is None or isinstance(role, str)) or isinstance(index, bool) or not isinstance(index, int | None):
        return False
    return point["location"] == "tool_config" or role is not None or index is not None


_POINT_SCHEMA: Final[schemas.Schema] = {
    "type": "object",
    "properties": {
        "location": {"enum": ["message", "tool_config"]},
        "role": {"type": ["string", "null"]},
        "index": {"type": ["integer", "null"]},
        "control": {},
    },
    "required": ["location"],
    "additionalProperties": False,
    "anyOf": [
        {"properties": {"location": {"const": "tool_config"}}},
        {"required": ["role"], "properties": {"role": {"type": "string"}}},
        {"required": ["index"], "properties": {"index": {"type": "integer"}}},
    ],
}

AnswerCache = Annotated[
    AnswerCacheSettings | None,
    BeforeValidator(_answer_cache),
    schemas.AlsoAccepts(DURATION_SCHEMA, {"const": False}),
]
PromptCache = Annotated[
    tuple[InjectionPoint, ...] | None,
    PlainValidator(_prompt_cache),
    WithJsonSchema(schemas.either({"type": ["boolean", "null"]}, schemas.listed(_POINT_SCHEMA, 1, MOST_POINTS))),
]
