"""Text completions: chunks whose choices hold the text itself."""

from __future__ import annotations

from typing import Any

from wallie_litellm.litellm_adapter.wires.chat import ChatReader
from wallie_litellm.litellm_adapter.wires.fields import items_of, length_of, value_of


class TextCompletionReader(ChatReader):
    """Reads ``choices[].text``; LiteLLM's own chat stream beneath has the usage and the end."""

    def read_choice(self, choice: Any) -> None:
        """The text of one choice."""
        for name in ("text", "reasoning_content"):
            self.add_text(value_of(choice, name))

    @staticmethod
    def characters_in(answer: Any) -> int:
        """The text of all choices."""
        return sum(length_of(value_of(choice, "text")) for choice in items_of(answer, "choices"))
