"""An estimate of the tokens that a request will use, before the provider reports them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import ceil
from typing import Any, Final

from wallie_litellm.core.demand import Demand

CHARACTERS_PER_TOKEN: Final = 4  # on average, in English text
DEFAULT_OUTPUT_TOKENS: Final = 150  # tokens of an answer without `max_tokens`

# Binary content is not tokenised by its length in base64, and would dwarf the text around it; a part's type is no text.
_NOT_TEXT: Final = frozenset(
    {"type", "image_url", "input_audio", "file", "source", "inline_data", "inlineData", "file_data"}
)


def count_characters(content: Any) -> int:
    """Characters of text in a prompt: a string, a list of messages or content parts, nested as they come."""
    if isinstance(content, str):
        return len(content)
    if isinstance(content, Mapping):
        return sum(count_characters(value) for key, value in content.items() if key not in _NOT_TEXT)
    if isinstance(content, Iterable) and not isinstance(content, bytes | bytearray):
        return sum(count_characters(part) for part in content)
    return 0


def _message_characters(message: Any) -> int:
    if type(message) is dict and type(text := message.get("content")) is str:
        return len(text)  # the usual case, without isinstance checks of abstract classes
    if isinstance(message, int):  # a token already
        return CHARACTERS_PER_TOKEN
    if isinstance(message, list | tuple):
        return sum(map(_message_characters, message))
    if not isinstance(message, Mapping):
        return count_characters(message)
    content = message.get("content", message.get("parts"))  # Gemini's name for it
    return len(content) if isinstance(content, str) else count_characters(content)


def prompt_characters(prompt: Any) -> int:
    """Characters of a prompt: chat ``messages`` (their content only) or an ``input`` of strings or token lists."""
    if isinstance(prompt, str):
        return len(prompt)
    if isinstance(prompt, list | tuple):
        return sum(map(_message_characters, prompt))
    return count_characters(prompt) if isinstance(prompt, Mapping) else 0  # a request in a vendor's own format


def estimate(prompt: Any, max_tokens: int | None, *, generates: bool = True) -> Demand:
    """The demand of one request: ceil(characters / 4) in, ``max_tokens`` (150 if unset) out."""
    tokens_in = ceil(prompt_characters(prompt) / CHARACTERS_PER_TOKEN)
    tokens_out = (DEFAULT_OUTPUT_TOKENS if max_tokens is None else max(0, int(max_tokens))) if generates else 0
    return Demand(1, tokens_in + tokens_out, tokens_in, tokens_out)
