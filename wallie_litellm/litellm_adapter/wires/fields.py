"""Reading objects that come as mappings, as pydantic models or as plain objects: the wire formats have all three."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def value_of(thing: Any, name: str) -> Any:
    """The value under ``name`` of a mapping or an object, else ``None``."""
    return thing.get(name) if isinstance(thing, Mapping) else getattr(thing, name, None)


def items_of(thing: Any, name: str) -> Iterable[Any]:
    """The list under ``name``; nothing where there is none, or something else."""
    found = value_of(thing, name)
    return found if isinstance(found, list | tuple) else ()


def length_of(text: Any) -> int:
    """The characters of a text; 0 of anything else."""
    return len(text) if isinstance(text, str) else 0
