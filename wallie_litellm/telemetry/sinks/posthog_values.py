"""Callers' metadata as plain JSON: PostHog refuses a whole batch for one value that it cannot read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import date, time
from decimal import Decimal
from enum import Enum
from math import isfinite
from typing import Any
from uuid import UUID

DEEPEST = 8
MOST_VALUES = 10_000  # in one event's metadata
LARGEST_INTEGER = 2**63 - 1


def text(value: Any) -> str | None:
    """``value`` as a string of valid Unicode; ``None`` for nothing."""
    return None if value is None or value == "" else _valid(str(value))


def plain(value: Any) -> Any:
    """A copy of ``value`` that every JSON parser takes.

    What has no counterpart in JSON becomes the name of its type in angle brackets, never its own text, which may say
    anything. What is nested too deeply, a value inside itself included, or more than ``MOST_VALUES``, becomes ``...``.
    """
    return _Copier().copy(value, DEEPEST)


def json_size(value: Any) -> int:
    """The bytes that a plain ``value`` takes in JSON."""
    return len(json.dumps(value))


class _Copier:
    """Counts what it has copied: a list that holds itself twice would otherwise grow without end."""

    def __init__(self) -> None:
        self.left = MOST_VALUES

    def copy(self, value: Any, depth: int) -> Any:
        if value is None or value is True or value is False:
            return value
        if isinstance(value, Enum):
            return self.copy(value.value, depth)
        if isinstance(value, str):
            return _valid(value)
        if isinstance(value, int | float):
            return _number(value)
        if isinstance(value, Mapping):
            return self._mapping(value, depth)
        if isinstance(value, list | tuple | set | frozenset):
            return self._items(value, depth)
        return _other(value)

    def _mapping(self, value: Mapping[Any, Any], depth: int) -> Any:
        if depth == 0:
            return "..."
        return {_key(key): self.copy(item, depth - 1) for key, item in self._counted(list(value.items()))}

    def _items(self, value: Iterable[Any], depth: int) -> Any:
        if depth == 0:
            return "..."
        return [self.copy(item, depth - 1) for item in self._counted(list(value))]

    def _counted(self, items: list[Any]) -> list[Any]:
        kept = items[: max(0, self.left)]
        self.left -= len(kept)
        return kept


def _valid(value: str) -> str:
    # Half of a surrogate pair is legal in Python, and what a cut emoji leaves behind; UTF-8 has no bytes for it.
    return value if value.isascii() else value.encode("utf-8", "replace").decode()


def _number(value: float) -> Any:
    if isinstance(value, int):
        return int(value) if abs(value) <= LARGEST_INTEGER else f"<{type(value).__name__}>"
    return float(value) if isfinite(value) else None


def _key(key: Any) -> str:
    return _valid(str(key)) if isinstance(key, str | int | float) else f"<{type(key).__name__}>"


def _other(value: Any) -> str:
    if isinstance(value, date | time):
        return value.isoformat()
    return str(value) if isinstance(value, UUID | Decimal) else f"<{type(value).__name__}>"
