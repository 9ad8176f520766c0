"""Chat completions, as LiteLLM hands them out for every vendor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from wallie_litellm.litellm_adapter.wires.fields import items_of, length_of, value_of
from wallie_litellm.litellm_adapter.wires.reader import Seen, StreamReader
from wallie_litellm.litellm_adapter.wires.translated import (
    chat_stream_within,
    chat_was_ended,
    ends_with_usage,
    has_usage,
    is_mock,
    kept_chunks,
)
from wallie_litellm.litellm_adapter.wires.usage import tokens_of

_NOT_TEXT: Final = ("audio", "images")  # parts of an answer that have no characters


class ChatReader(StreamReader):
    """Reads chunks with ``choices``. Usage comes on any of them, or on one that LiteLLM keeps to itself."""

    def __init__(self, source: Any = None) -> None:
        super().__init__(source)
        self._stream = chat_stream_within(source)
        self._is_mock = is_mock(self._stream)

    def see(self, chunk: Any) -> None:
        """Read one chunk. A generator of LiteLLM's has the chat stream only from its first chunk on."""
        if self._stream is None and not self.begun:
            self._stream = chat_stream_within(self.source)
            self._is_mock = is_mock(self._stream)
        super().see(chunk)

    def read(self, event: Any) -> None:
        """A chunk: text, a part of a tool call, a finish reason, usage."""
        for choice in items_of(event, "choices"):
            if value_of(choice, "finish_reason"):
                self.finished = True
            self.read_choice(choice)
        self.report.note(self._usage_on(event))
        if self.finished:  # a missing attribute of pydantic's models is costly to ask for
            self.note_tier(event)
        if isinstance(event, Mapping) and event.get("error"):
            self.fail(event["error"])

    def read_choice(self, choice: Any) -> None:
        """The content of one choice."""
        delta = value_of(choice, "delta")
        for name in ("content", "reasoning_content"):
            self.add_text(value_of(delta, name))
        for call in value_of(delta, "tool_calls") or ():
            function = value_of(call, "function")
            self.has_content = self.has_content or bool(value_of(function, "name"))
            self.add_text(value_of(function, "arguments"))
        self.add_text(value_of(value_of(delta, "function_call"), "arguments"))
        if not self.has_content and any(value_of(delta, name) for name in _NOT_TEXT):
            self.has_content = True

    def was_ended(self) -> bool:
        """LiteLLM makes up a finish reason for a connection that closes, and keeps the received one apart."""
        if self._stream is None or self._is_mock:
            return self.finished or self._is_mock
        return chat_was_ended(self._stream)

    def forgives_missing_end(self) -> bool:
        """Whether usage came with the last text or after it."""
        return ends_with_usage(self._stream)

    def seen(self, prompt_tokens: int) -> Seen:
        """As the base's, with what LiteLLM keeps: usage that was not asked for, or came after the finish reason."""
        for chunk in reversed(kept_chunks(self._stream)):
            usage = value_of(chunk, "usage")
            tokens = None if usage is None else tokens_of(usage)
            if tokens is not None and tokens.output:
                self.report.raw, self.report.tokens = usage, tokens
                break
        return super().seen(prompt_tokens)

    def counted_by_litellm(self) -> bool:
        """Whether no chunk that LiteLLM kept has usage: then the one that it delivered is its own count."""
        return self._stream is not None and not has_usage(self._stream)

    def _usage_on(self, event: Any) -> Any:
        usage = value_of(event, "usage")
        if usage is None and self.finished and not isinstance(event, Mapping):
            # Where the caller did not ask for the usage, LiteLLM keeps the provider's report here.
            usage = (getattr(event, "_hidden_params", None) or {}).get("usage")
        return usage

    @staticmethod
    def characters_in(answer: Any) -> int:
        """The text, the reasoning and the arguments of tool calls, of all choices."""
        return sum(_characters_of(value_of(choice, "message")) for choice in items_of(answer, "choices"))


def _characters_of(message: Any) -> int:
    calls = (value_of(call, "function") for call in value_of(message, "tool_calls") or ())
    functions = (*calls, value_of(message, "function_call"))
    texts = (value_of(message, "content"), value_of(message, "reasoning_content"))
    parts = (value_of(function, name) for function in functions for name in ("name", "arguments"))
    return sum(map(length_of, (*texts, *parts)))
