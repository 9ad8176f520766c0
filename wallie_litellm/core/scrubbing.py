"""What may be recorded or shown of text and values that others supply: secrets masked, JSON plain and of bounded size.

There is one list of the forms that secrets have. Records mask what matches such a form in full
(:func:`mask_secrets`); error messages hide a whole text at the first sign of one (:func:`may_be_secret`), since a
message loses little by it.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from datetime import date
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from itertools import islice
from json.encoder import encode_basestring_ascii
from math import isfinite
from typing import Any, Final, NamedTuple
from uuid import UUID

LONGEST_NAME: Final = 200  # characters of a feature, a user id or a key of metadata
LONGEST_TEXT: Final = 500  # characters of one value of metadata
MOST_METADATA: Final = 4_000  # characters of all metadata, as JSON
MOST_KEYS: Final = 50  # entries of one mapping or list in metadata
MOST_VALUES: Final = 100  # visited inside one value of metadata
LARGEST_NUMBER: Final = 2**63  # that every receiver accepts

_DEPTH: Final = 3  # levels of containers below a key of metadata
_STRADDLING: Final = 200  # characters beyond a limit that are searched: a secret across it is recognised before the cut
_MASK: Final = "***"
_SCALARS: Final = (str, bytes, int, float, Enum)  # types that are never containers; a tuple, as a union is slower
_HAS_TEXT: Final = (str, int, Decimal, UUID, date, Enum)  # types whose text is recorded
_CACHED: Final = 4_096  # results; features, users, keys of metadata and their values recur

# Secrets

_PREFIXES: Final = (  # of vendors' keys, before a hyphen or an underscore
    *("sk", "pk", "rk"),  # OpenAI, Anthropic, DeepSeek, Langfuse, Stripe
    *("gsk", "hf", "xai"),  # Groq, Hugging Face, xAI
    "ph[cx]",  # PostHog
    "xox[a-z]",  # Slack
    *("gh[a-z]", "github_pat", "glpat"),  # GitHub, GitLab
    "whsec",  # webhooks' signing secrets
)
_PREFIX: Final = f"(?:{'|'.join(_PREFIXES)})[-_]"
_SECRET: Final = re.compile(
    # With a digit and some length: a feature may well be called sk-learning.
    rf"\b{_PREFIX}(?=[\w-]*\d)[\w-]{{16,}}"
    r"|\bAIza[\w-]{20,}|\bA[KS]IA[A-Z0-9]{12,}|\beyJ[\w-]{8,}\.[\w.-]+"  # Google, AWS, a JSON Web Token
    r"|\b[Bb]earer\s+[\w.~+/=-]{8,}|https://hooks\.slack\.com/\S+|(?<=://)[^\s/@]+:[^\s/@]+(?=@)"
)
_SIGN_OF_SECRET: Final = re.compile(
    # The start of a key, an address with credentials, or characters as random as a key's.
    rf"(?<![A-Za-z]){_PREFIX}|AIza|A[KS]IA[A-Z0-9]|eyJ[\w-]|[Bb]earer\s|hooks\.slack\.com|@|(?=\D*\d)[\w+/=-]{{24,}}"
)
_NAMES_OF_SECRETS: Final = r"secret|passw(?:or)?d|authorization|credential"
_SECRET_NAME: Final = re.compile(rf"{_NAMES_OF_SECRETS}|api.?key|cookie|token$", re.I)
# In a configuration, more names may hold one, and a value that is hidden for nothing does no harm.
_SECRET_SETTING: Final = re.compile(rf"{_NAMES_OF_SECRETS}|key|token|dsn|webhook|telemetry|posthog|slack|sentry", re.I)


def mask_secrets(text: str) -> str:
    """``text`` with each part that has the form of a secret replaced by ``***``."""
    return _SECRET.sub(_MASK, text)


def may_be_secret(text: str) -> bool:
    """Whether ``text`` shows any sign of a secret; rather too often than too rarely."""
    return _SIGN_OF_SECRET.search(text) is not None


@lru_cache(maxsize=_CACHED)
def is_secret_name(name: str) -> bool:
    """Whether metadata called ``name`` holds a secret."""
    return _SECRET_NAME.search(name) is not None


def is_secret_setting(name: str) -> bool:
    """Whether a setting called ``name`` may hold a secret, or a section whose settings do."""
    return _SECRET_SETTING.search(name) is not None


# Text

# Control characters, line separators, and halves of surrogate pairs, which no database stores.
_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_UNSTORABLE: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff]")


def one_line(text: str, replacement: str = "\ufffd") -> str:
    """``text`` with ``replacement`` for each line break, control character and other one that cannot be printed."""
    return "".join(character if character.isprintable() else replacement for character in text)


def valid_unicode(text: str) -> str:
    """``text`` with ``?`` for halves of surrogate pairs, which a cut emoji leaves and UTF-8 has no bytes for."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def scrubbed_name(value: object) -> str | None:
    """A feature or a user id as it may be recorded: one line of at most ``LONGEST_NAME``; ``None`` for nothing."""
    if not isinstance(value, str | int | UUID | Enum):
        return None
    return _scrubbed_line(_text(value)[: LONGEST_NAME + _STRADDLING]) or None


@lru_cache(maxsize=_CACHED)
def _scrubbed_line(text: str) -> str:
    return mask_secrets(_UNPRINTABLE.sub(" ", text).strip())[:LONGEST_NAME]


def _text(value: object) -> str:
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, int) and abs(value) > LARGEST_NUMBER:
        # Python raises an error rather than write out integers of more than 4,300 digits.
        return f"{'-' if value < 0 else ''}<{value.bit_length()} bits>"
    return str(value)


# Values as JSON


class JsonRules(NamedTuple):
    """How :func:`json_safe` copies: its bounds, and what becomes of keys and of values without entries."""

    depth: int  # levels of containers
    leaf: Callable[[Any], Any]  # a value that is no container → JSON
    key: Callable[[object], str]
    values: int = sys.maxsize  # visited in all
    width: int = sys.maxsize  # entries of one container
    sequences: tuple[type, ...] = (list, tuple)  # what becomes a list; never text or bytes
    cut: str | None = None  # stands for a container that is too deep; None: its type in angle brackets
    mask_named: bool = False  # whether the values of keys that name secrets are masked


def json_safe(value: object, rules: JsonRules) -> Any:
    """A copy of ``value`` made of what JSON has; containers inside themselves end at ``rules.depth``.

    Entries beyond ``rules.width`` or ``rules.values`` are left out.
    """
    return _copy(value, rules.depth, [rules.values], rules)


def type_name(value: object) -> str:
    """What is recorded of a value that JSON has no form for: never its own text, which may hold anything."""
    return f"<{type(value).__name__}>"


def _copy(value: object, depth: int, left: list[int], rules: JsonRules) -> Any:
    """``left`` holds how many more values may be visited."""
    left[0] -= 1
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, _SCALARS):
        return rules.leaf(value)
    if isinstance(value, Mapping):
        return _copy_mapping(value, depth, left, rules) if depth and left[0] > 0 else _cut(value, rules)
    if isinstance(value, rules.sequences):
        return _copy_items(value, depth, left, rules) if depth and left[0] > 0 else _cut(value, rules)
    return rules.leaf(value)


def _copy_mapping(value: Mapping[Any, Any], depth: int, left: list[int], rules: JsonRules) -> dict[str, Any]:
    copied: dict[str, Any] = {}
    for key, item in islice(value.items(), rules.width):
        if left[0] <= 0:
            break
        label, plain = _entry(key, item, depth - 1, left, rules)
        copied[label] = plain
    return copied


def _copy_items(value: Any, depth: int, left: list[int], rules: JsonRules) -> list[Any]:
    copied: list[Any] = []
    for item in islice(value, rules.width):
        if left[0] <= 0:
            break
        copied.append(_copy(item, depth - 1, left, rules))
    return copied


def _entry(key: object, value: object, depth: int, left: list[int], rules: JsonRules) -> tuple[str, Any]:
    label = rules.key(key)
    if rules.mask_named and is_secret_name(label) and not isinstance(value, bool | None):
        return label, _MASK
    return label, _copy(value, depth, left, rules)


def _cut(value: object, rules: JsonRules) -> str:
    return rules.cut or type_name(value)


# Metadata


def scrubbed_metadata(entries: Iterable[tuple[object, object]]) -> dict[str, Any]:
    """``entries`` as plain JSON of bounded size, with what looks like a key or a password masked."""
    kept: dict[str, Any] = {}
    room = MOST_METADATA
    for key, value in entries:
        label, plain = _entry(key, value, _DEPTH, [MOST_VALUES], _METADATA)
        size = _json_length(label) + _json_length(plain)
        if size > room:  # the type shows that there was a value
            plain = type_name(value)
            size = _json_length(label) + len(plain)
        if size > room or len(kept) >= MOST_KEYS:
            break
        room -= size
        kept[label] = plain
    return kept


def _json_length(value: Any) -> int:
    return len(encode_basestring_ascii(value) if type(value) is str else json.dumps(value))


def _label(key: object) -> str:
    return scrubbed_name(key) or type_name(key)


def _leaf(value: object) -> Any:
    if type(value) is str:
        return _scrubbed_text(value[: LONGEST_TEXT + _STRADDLING])
    if isinstance(value, _HAS_TEXT):
        if isinstance(value, int) and not isinstance(value, Enum) and abs(value) <= LARGEST_NUMBER:
            return int(value)
        return _scrubbed_text(_text(value)[: LONGEST_TEXT + _STRADDLING])
    if isinstance(value, float):
        return float(value) if isfinite(value) else str(float(value))  # JSON has neither infinities nor NaN
    return type_name(value)


@lru_cache(maxsize=_CACHED)
def _scrubbed_text(text: str) -> str:
    return mask_secrets(_UNSTORABLE.sub("\ufffd", text))[:LONGEST_TEXT]


_METADATA: Final = JsonRules(depth=_DEPTH, leaf=_leaf, key=_label, values=MOST_VALUES, width=MOST_KEYS, mask_named=True)
