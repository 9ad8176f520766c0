"""The text of an answer in tokens, before the provider reports them or where it never does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

CHARACTERS_PER_TOKEN: Final = 4  # on average, in English text


def count_characters(content: Any) -> int:
    """Characters of text in what is nested as it comes: strings, lists, and the values of mappings."""
    if isinstance(content, str):
        return len(content)
    if isinstance(content, Mapping):
        return sum(count_characters(value) for value in content.values())
    if isinstance(content, Iterable) and not isinstance(content, bytes | bytearray):
        return sum(count_characters(part) for part in content)
    return 0
