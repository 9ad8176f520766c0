"""Callers' metadata as plain JSON: PostHog refuses a whole batch for one value that it cannot read."""

from __future__ import annotations

import json
from datetime import date, time
from decimal import Decimal
from enum import Enum
from math import isfinite
from typing import Any, Final
from uuid import UUID

from wallie_litellm.core.scrubbing import JsonRules, json_safe, type_name, valid_unicode

_DEEPEST: Final = 8  # levels of containers
_MOST_VALUES: Final = 10_000  # in one event's metadata
_LARGEST_INTEGER: Final = 2**63 - 1


def text(value: Any) -> str | None:
    """``value`` as a string of valid Unicode; ``None`` for nothing."""
    return None if value is None or value == "" else valid_unicode(str(value))


def plain(value: Any) -> Any:
    """A copy of ``value`` that every JSON parser takes.

    What has no counterpart in JSON becomes the name of its type in angle brackets. A container that is nested too
    deeply, one inside itself included, becomes ``...``; entries beyond ``_MOST_VALUES`` are left out.
    """
    return json_safe(value, _RULES)


def json_size(value: Any) -> int:
    """The bytes that a plain ``value`` takes in JSON."""
    return len(json.dumps(value))


def _leaf(value: Any) -> Any:
    if isinstance(value, Enum):
        return json_safe(value.value, _RULES)
    if isinstance(value, str):
        return valid_unicode(value)
    if isinstance(value, int):
        return int(value) if abs(value) <= _LARGEST_INTEGER else type_name(value)
    if isinstance(value, float):
        return float(value) if isfinite(value) else None
    if isinstance(value, date | time):
        return value.isoformat()
    return str(value) if isinstance(value, UUID | Decimal) else type_name(value)


def _key(key: object) -> str:
    return valid_unicode(str(key)) if isinstance(key, str | int | float) else type_name(key)


_RULES: Final = JsonRules(
    depth=_DEEPEST,
    leaf=_leaf,
    key=_key,
    values=_MOST_VALUES,
    sequences=(list, tuple, set, frozenset),
    cut="...",
)
