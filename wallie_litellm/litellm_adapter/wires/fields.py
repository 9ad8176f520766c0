"""Reading objects that come as mappings, as pydantic models or as plain objects: the wire formats have all three."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from pydantic import BaseModel


def value_of(thing: Any, name: str) -> Any:
    """The value under ``name`` of a mapping or an object, else ``None``."""
    kind = type(thing)
    if kind is dict:
        return thing.get(name)
    if _is_model(kind):  # type: ignore[arg-type] # a type is hashable
        own = thing.__dict__
        return own[name] if name in own else _value_kept_apart(thing, name)
    return thing.get(name) if isinstance(thing, Mapping) else getattr(thing, name, None)


def hidden_params_of(response: Any) -> Any:
    """LiteLLM's ``_hidden_params`` of a response or a stream, ``None`` where it has none."""
    try:
        return response.__pydantic_private__["_hidden_params"]
    except (AttributeError, KeyError, TypeError):
        return value_of(response, "_hidden_params")


def headers_of(response: Any) -> dict[str, Any] | None:
    """The headers that LiteLLM keeps with a response or a stream, to be added to; ``None`` where it can keep none."""
    hidden = hidden_params_of(response)
    if not isinstance(hidden, dict):
        return None
    found = hidden.get("additional_headers")
    if not isinstance(found, dict):
        found = hidden["additional_headers"] = {}
    return found


def _value_kept_apart(model: BaseModel, name: str) -> Any:
    """``getattr`` takes 2 µs for a private or a missing attribute of a model (pydantic 2.14); this, 0.3 µs."""
    if (extra := model.__pydantic_extra__) and name in extra:
        return extra[name]
    if (private := model.__pydantic_private__) and name in private:
        return private[name]
    return getattr(model, name, None) if _is_on_class(type(model), name) else None


@lru_cache(maxsize=256)
def _is_model(kind: type) -> bool:
    return issubclass(kind, BaseModel)


@lru_cache(maxsize=1024)
def _is_on_class(kind: type, name: str) -> bool:
    """Whether a model's class has the attribute itself, as a property for example."""
    return hasattr(kind, name)


def items_of(thing: Any, name: str) -> Iterable[Any]:
    """The list under ``name``; nothing where there is none, or something else."""
    found = value_of(thing, name)
    return found if isinstance(found, list | tuple) else ()


def length_of(text: Any) -> int:
    """The characters of a text; 0 of anything else."""
    return len(text) if isinstance(text, str) else 0
