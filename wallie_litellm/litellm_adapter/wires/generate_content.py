"""Gemini's ``generateContent``: whole objects, the last of which has a ``finishReason``; there is no ``[DONE]``."""

from __future__ import annotations

from typing import Any, Final

import litellm

from wallie_litellm.core.token_estimate import count_characters
from wallie_litellm.litellm_adapter.wires.fields import items_of, length_of, value_of
from wallie_litellm.litellm_adapter.wires.reader import StreamReader

# LiteLLM's fields for the tokens of a modality.
_MODALITIES: Final = {
    "TEXT": "text_tokens",
    "AUDIO": "audio_tokens",
    "IMAGE": "image_tokens",
    "VIDEO": "video_tokens",
    "DOCUMENT": "text_tokens",
}


class GenerateContentReader(StreamReader):
    """Reads objects with ``candidates``. Usage may come with each of them, or after the last."""

    def read(self, event: Any) -> None:
        """An object: text, a finish reason, usage, or an error."""
        if error := value_of(event, "error"):
            self.fail(error)
        for candidate in items_of(event, "candidates"):
            if value_of(candidate, "finishReason"):
                self.finished = True
            for part in items_of(value_of(candidate, "content"), "parts"):
                self._read_part(part)
        if value_of(value_of(event, "promptFeedback"), "blockReason"):
            self.finished = True  # of a prompt that is refused, there are no candidates
        self.report.note(self.usage_in(event))

    def _read_part(self, part: Any) -> None:
        self.add_text(value_of(part, "text"))
        if (call := value_of(part, "functionCall")) is not None:
            self.has_content = True
            self.characters += count_characters(call)
        elif value_of(part, "inlineData") is not None:
            self.has_content = True

    @staticmethod
    def usage_in(answer: Any) -> Any:
        """The ``usageMetadata`` as LiteLLM's usage, in which thoughts are part of the output."""
        found = value_of(answer, "usageMetadata")
        if found is None:
            return None
        prompt = _count(found, "promptTokenCount") + _count(found, "toolUsePromptTokenCount")
        thoughts = _count(found, "thoughtsTokenCount")
        output = _count(found, "candidatesTokenCount") + thoughts
        return litellm.Usage(
            prompt_tokens=prompt,
            completion_tokens=output,
            total_tokens=prompt + output,
            prompt_tokens_details={
                "cached_tokens": _count(found, "cachedContentTokenCount"),
                **_uncached_by_modality(found),
            },
            completion_tokens_details={
                "reasoning_tokens": thoughts,
                **_by_modality(found, "candidatesTokensDetails"),
            },
        )

    @staticmethod
    def characters_in(answer: Any) -> int:
        """The text and the calls of all candidates."""
        contents = (value_of(candidate, "content") for candidate in items_of(answer, "candidates"))
        parts = (part for content in contents for part in items_of(content, "parts"))
        return sum(
            length_of(value_of(part, "text")) + count_characters(value_of(part, "functionCall") or "") for part in parts
        )


def _count(usage: Any, name: str) -> int:
    value = value_of(usage, name)
    return value if isinstance(value, int) and value > 0 else 0


def _uncached_by_modality(usage: Any) -> dict[str, int]:
    """The prompt's tokens by modality without the cached ones, as LiteLLM prices them."""
    prompt, cached = _by_modality(usage, "promptTokensDetails"), _by_modality(usage, "cacheTokensDetails")
    if not cached:
        cached = {"text_tokens": _count(usage, "cachedContentTokenCount")}
    return {name: max(0, tokens - cached.get(name, 0)) for name, tokens in prompt.items()}


def _by_modality(usage: Any, name: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for entry in items_of(usage, name):
        field = _MODALITIES.get(str(value_of(entry, "modality")))
        if field is not None:
            found[field] = found.get(field, 0) + _count(entry, "tokenCount")
    return found
