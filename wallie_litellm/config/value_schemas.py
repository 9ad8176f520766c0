"""The kinds of value of :mod:`~wallie_litellm.config.values` in JSON Schema, for editors and other tools.

A schema says what can be said of one value by itself, and is never stricter than the validator of that kind. It cannot
tell 5.0 from 5, and knows neither time zones nor the length of base64. Patterns are what ECMA-262 and Python's ``re``
read alike: editors check with the one, tools with the other.
"""

from __future__ import annotations

import re
from typing import Any, Final

from pydantic import GetJsonSchemaHandler
from pydantic_core import CoreSchema

Schema = dict[str, Any]

_UNIT: Final = r"\s*(ms|s|m|h|d)\s*$"
_NUMBER: Final = r"^\s*([0-9]+(\.[0-9]+)?|\.[0-9]+)"
_ABOVE_ZERO: Final = r"^\s*([0-9]*[1-9][0-9]*(\.[0-9]+)?|[0-9]*\.[0-9]*[1-9][0-9]*)"
_REFERENCE: Final = r"^os\.environ/."  # LiteLLM's way to name a variable


def whole_number(minimum: int, maximum: int) -> Schema:
    """A whole number between these, both included."""
    return {"type": "integer", "minimum": minimum, "maximum": maximum}


def number(**bounds: float) -> Schema:
    """A number within ``bounds``, which are JSON Schema's."""
    return {"type": "number", **bounds}


def text(pattern: str | None = None, **more: int) -> Schema:
    """Text that has ``pattern`` in it, or any that is not blank."""
    return {"type": "string", "pattern": pattern or r"\S", **more}


def url(*schemes: str, plain: str | None = None, reference: bool = True) -> Schema:
    """A URL with one of ``schemes``, the word ``plain``, or with ``reference`` also a variable that holds one."""
    forms = [f"^{re.escape(scheme)}." for scheme in schemes]
    return text("|".join([*forms, *([f"^{plain}$"] if plain else []), *([_REFERENCE] if reference else [])]))


def duration(longest: float, *, above_zero: bool = True) -> Schema:
    """A number of seconds, or text with a unit; the bound ``longest``, in seconds, is that of numbers alone."""
    if above_zero:
        return either(number(exclusiveMinimum=0, maximum=longest), text(_ABOVE_ZERO + _UNIT))
    return either(number(minimum=0, maximum=longest), text(_NUMBER + _UNIT))


def listed(items: Schema, least: int = 0, most: int | None = None) -> Schema:
    """A list of ``items``."""
    bounds = {"minItems": least, "maxItems": most}
    return {"type": "array", "items": items, **{name: bound for name, bound in bounds.items() if bound}}


def either(*schemas: Schema) -> Schema:
    """What one of ``schemas`` says."""
    return {"anyOf": [part for schema in schemas for part in schema.get("anyOf", [schema])]}


REFERENCE: Final = text(_REFERENCE)
AUTO: Final[Schema] = {"const": "auto"}
PERCENTILE: Final = text(r"^\s*p[5-9][0-9](\.[0-9])?\s*$")


class AlsoAccepts:
    """What the file may have besides what the type says, as it is turned into that before it is validated."""

    def __init__(self, *schemas: Schema) -> None:
        self._schemas = schemas

    def __get_pydantic_json_schema__(self, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> Schema:
        of_type = handler(core_schema)
        return either(*self._schemas, *of_type.get("anyOf", [of_type]))
