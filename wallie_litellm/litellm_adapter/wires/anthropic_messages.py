"""Anthropic's ``/v1/messages``: events from ``message_start`` to ``message_stop``, as objects or as raw bytes."""

from __future__ import annotations

from typing import Any, Final

from wallie_litellm.core.token_estimate import count_characters
from wallie_litellm.litellm_adapter.wires.fields import items_of, length_of, value_of
from wallie_litellm.litellm_adapter.wires.reader import StreamReader
from wallie_litellm.litellm_adapter.wires.translated import chat_stream_within, chat_was_ended, has_usage, is_mock

_TEXTS: Final = ("text", "thinking", "partial_json")
_TOOLS: Final = ("tool_use", "server_tool_use", "mcp_tool_use")


class MessagesReader(StreamReader):
    """Reads events by their ``type``. The input tokens come with the first event, the output tokens with the last."""

    def __init__(self, source: Any = None) -> None:
        super().__init__(source)
        self._chat: Any = None  # LiteLLM's chat stream, where that is translated
        self._is_mock = False

    def see(self, chunk: Any) -> None:
        """Read one chunk."""
        if not self.begun:
            self._chat = chat_stream_within(self.source)
            self._is_mock = is_mock(self._chat)
        super().see(chunk)

    def read(self, event: Any) -> None:
        """An event: text, usage, the end mark, or an error."""
        kind = value_of(event, "type")
        match getattr(kind, "value", kind):
            case "content_block_delta":
                delta = value_of(event, "delta")
                for name in _TEXTS:
                    self.add_text(value_of(delta, name))
            case "content_block_start":
                block = value_of(event, "content_block")
                self.add_text(value_of(block, "text"))
                self.has_content = self.has_content or value_of(block, "type") in _TOOLS
            case "message_start":
                self._begin(value_of(event, "message"))
            case "message_delta":
                self._note(value_of(event, "usage"))
            case "message_stop":
                self.finished = True
            case "error":
                self.fail(value_of(event, "error"))

    def _begin(self, message: Any) -> None:
        usage = value_of(message, "usage")
        if isinstance(usage, dict):
            usage = {name: value for name, value in usage.items() if name != "output_tokens"}  # of the first few only
        self._note(usage)

    def _note(self, usage: Any) -> None:
        self.report.note(usage)
        self.note_tier(usage)

    def was_ended(self) -> bool:
        """Whether ``message_stop`` came; in a translated stream LiteLLM makes it up."""
        return self.finished and (self._chat is None or self._is_mock or chat_was_ended(self._chat))

    def counted_by_litellm(self) -> bool:
        """Whether LiteLLM translated a chat stream without usage, and put in a count of its own."""
        return self._chat is not None and not has_usage(self._chat)

    @staticmethod
    def characters_in(answer: Any) -> int:
        """The text, the thinking and the input of tools, of all blocks."""
        return sum(
            length_of(value_of(block, "text"))
            + length_of(value_of(block, "thinking"))
            + count_characters(value_of(block, "input") or "")
            for block in items_of(answer, "content")
        )
