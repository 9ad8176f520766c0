"""The problems of a configuration: the place, the value found, the values allowed. Secrets are masked."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final, NamedTuple, get_args, get_origin

from wallie_litellm.config.section import Section
from wallie_litellm.core.scrubbing import is_secret_setting, may_be_secret

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

_SHOWN: Final = 60  # characters of a text that are shown

_SHOWN_SETTINGS: Final = frozenset({"first_token"})  # named like a secret, and none

# Its settings, under names that the file chooses, are addresses that are secrets by themselves; but for these.
_WEBHOOKS: Final = "wallie.telemetry.webhooks."
_SHOWN_OF_WEBHOOKS: Final = frozenset({"format", "events"})

_NEEDED: Final = {  # pydantic's own error types → what was expected
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "mapping_type": "a mapping",
    "dict_type": "a mapping",
    "string_type": "text",
    "recursion_loop": "no mapping that contains itself",
}


class Problem(NamedTuple):
    """One problem of a configuration: the key path, and a sentence."""

    where: str
    text: str


def wrong(where: str, value: object, expected: str) -> Problem:
    """The problem of a value that is not as expected."""
    return Problem(where, f"found {show(value, where)}, expected {expected}")


def unknown_key(where: str, key: str, allowed: Collection[str]) -> Problem:
    """The problem of a key that does not exist."""
    return Problem(where, f"unknown key{did_you_mean(key, allowed)} Allowed: {', '.join(sorted(allowed)) or 'none'}")


def did_you_mean(name: str, allowed: Collection[str], otherwise: str = ".") -> str:
    """``; did you mean '…'?`` if one of ``allowed`` is close to ``name``."""
    close = get_close_matches(name, list(allowed), 1, 0.6)
    return f"; did you mean '{close[0]}'?" if close else otherwise


def show(value: object, where: str = "") -> str:
    """A value as text for a message: short, and masked if it may be a secret."""
    if isinstance(value, str):
        return _show_text(value, where)
    if isinstance(value, Mapping):
        return "a mapping" if value else "an empty mapping"
    if isinstance(value, list | tuple | set):
        return "a list" if value else "an empty list"
    return _show_scalar(value, where)


def _hides(where: str) -> bool:
    name = where.rpartition(".")[2]
    if where.startswith(_WEBHOOKS):
        return name not in _SHOWN_OF_WEBHOOKS
    return name not in _SHOWN_SETTINGS and is_secret_setting(name)


def _show_text(value: str, where: str) -> str:
    scheme, separator, _ = value.partition("://")
    if _hides(where):
        return "'***'" if value.strip() else "empty text"
    if separator and scheme.replace("+", "").isalnum() and len(scheme) < 20:
        return f"'{scheme}://***'"
    if may_be_secret(value):
        return "'***'"
    return repr(_shortened(value))


def _shortened(text: str) -> str:
    """The beginning of a long text."""
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def _show_scalar(value: object, where: str) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if _hides(where):
        return "***"
    if isinstance(value, int) and value.bit_length() > 200:
        return "a very long number"
    return str(value)[:_SHOWN]


def from_validation(error: ValidationError, root: type[Section], prefix: str) -> list[Problem]:
    """The problems that pydantic found in ``root``, which is at the key path ``prefix``."""
    return [_translate(details, root, prefix) for details in error.errors(include_url=False)]


def _translate(details: ErrorDetails, root: type[Section], prefix: str) -> Problem:
    loc = tuple(part for part in details["loc"] if part != "[key]")
    where = ".".join([prefix, *(_shortened(str(part)) for part in loc)])
    kind, context = details["type"], details.get("ctx", {})
    if kind == "wallie_conflict":
        return Problem(f"{where}.{context['field']}", context["text"])
    if kind in ("extra_forbidden", "invalid_key"):
        return unknown_key(where, str(loc[-1]), tuple(_section_at(root, loc[:-1]).model_fields))
    if "[key]" in details["loc"] and kind == "wallie_expected":
        return wrong(where.rstrip("."), details["input"], str(context["text"]))
    if "[key]" in details["loc"]:
        return unknown_key(where, str(loc[-1]), _literals(context))
    if kind == "missing":
        return Problem(where, "missing")
    return wrong(where, details["input"], _expected(kind, context, details["msg"]))


def _expected(kind: str, context: Mapping[str, Any], message: str) -> str:
    if kind == "wallie_expected":
        return str(context["text"])
    if kind == "literal_error":
        return f"one of {', '.join(_literals(context))}"
    return _NEEDED.get(kind, message)


def _literals(context: Mapping[str, Any]) -> list[str]:
    return re.findall(r"'([^']*)'", str(context.get("expected", "")))


def _section_at(root: type[Section], loc: tuple[int | str, ...]) -> type[Section]:
    """The model of the mapping at ``loc``."""
    section, parts = root, iter(loc)
    for part in parts:
        field = section.model_fields[str(part)]
        section = _section_in(field.annotation) or section
        if get_origin(field.annotation) is Mapping or _is_mapping(field.annotation):
            next(parts, None)  # the name of a provider or a feature
    return section


def _is_mapping(annotation: Any) -> bool:
    origin = get_origin(annotation)
    return isinstance(origin, type) and issubclass(origin, Mapping)


def _section_in(annotation: Any) -> type[Section] | None:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return next((found for part in get_args(annotation) if (found := _section_in(part))), None)
