"""What vendors send on each wire, event by event, and the call that asks for it."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from support import messages

Json = dict[str, Any]

PROMPT_TOKENS: Final = 1_000
OUTPUT_TOKENS: Final = 200
PIECES: Final = ("Hello ", "world")
TEXT: Final = "".join(PIECES)
COUNTED: Final = 3  # tokens, counted from TEXT

CHAT_USAGE: Final = {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": OUTPUT_TOKENS, "total_tokens": 1_200}


# Models of vendors that speak OpenAI's chat format, by LiteLLM's prefix.
CHAT_VENDORS: Final = {
    "openai": "gpt-4o-mini",
    "groq": "llama-3.1-8b-instant",
    "deepseek": "deepseek-chat",
    "hosted_vllm": "qwen",
    "openrouter": "qwen/qwen3",
    "together_ai": "meta-llama/Llama-3.3-70B-Instruct-Turbo",
    "mistral": "mistral-small-latest",
    "xai": "grok-3",
    "fireworks_ai": "accounts/fireworks/models/llama-v3p1-8b-instruct",
    "perplexity": "sonar",
    "azure": "gpt-4o",
}


def sse(data: Json | str, event: str | None = None) -> bytes:
    """One server-sent event."""
    text = data if isinstance(data, str) else json.dumps(data)
    return (f"event: {event}\n" if event else "").encode() + f"data: {text}\n\n".encode()


@dataclass(frozen=True)
class WireScript:
    """One wire: the events around the text, and how it is asked for.

    ``end`` takes whether usage is reported. ``model`` and ``path`` make the deployment.
    """

    name: str
    model: str
    path: str
    begin: Sequence[bytes]
    text: Callable[[str], bytes]
    end: Callable[[bool], Sequence[bytes]]
    error: Callable[[int], Sequence[bytes]]
    call: Callable[..., Awaitable[Any]]
    operation: str

    async def ask(self, router: Any, group: str, **more: Any) -> Any:
        """The stream of one call."""
        return await self.call(router, group, True, **more)

    async def ask_whole(self, router: Any, group: str, **more: Any) -> Any:
        """The answer of one call, in one piece."""
        return await self.call(router, group, False, **more)

    def whole(self, *, usage: bool = True) -> list[bytes]:
        """A whole stream."""
        return [*self.begin, *map(self.text, PIECES), *self.end(usage)]

    def broken(self, pieces: int) -> list[bytes]:
        """A stream without its end, after so many pieces of text."""
        return [*self.begin, *map(self.text, PIECES[:pieces])]


# Chat completions


def chat_chunk(delta: Json, finish: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return sse({**CHUNK, "choices": [choice], **more})


CHUNK: Final = {
    "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m", "service_tier": "default",
    "system_fingerprint": "fp",
}  # fmt: skip
DONE: Final = sse("[DONE]")


def _chat_end(usage: bool) -> list[bytes]:
    return [chat_chunk({}, "stop"), *([sse({**CHUNK, "choices": [], "usage": CHAT_USAGE})] if usage else []), DONE]


def _openai_error(status: int) -> list[bytes]:
    return [sse({"error": {"message": "Engine queue is full", "type": "server_error", "code": status}}), DONE]


async def _ask_chat(router: Any, group: str, stream: bool, **more: Any) -> Any:
    return await router.acompletion(group, messages(), stream=stream, **more)


# Text completions


def _text_chunk(text: str, finish: str | None = None, **more: Any) -> bytes:
    choice = {"text": text, "index": 0, "logprobs": None, "finish_reason": finish}
    return sse({"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "m", "choices": [choice], **more})


def _text_end(usage: bool) -> list[bytes]:
    head = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "m", "choices": []}
    return [_text_chunk("", "stop"), *([sse({**head, "usage": CHAT_USAGE})] if usage else []), DONE]


async def _ask_text(router: Any, group: str, stream: bool, **more: Any) -> Any:
    return await router.atext_completion(model=group, prompt="Hello there, how are you?", stream=stream, **more)


# Anthropic's messages


def _message_event(kind: str, **fields: Any) -> bytes:
    return sse({"type": kind, **fields}, kind)


_MESSAGE: Final = {
    "id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [], "stop_reason": None,
    "stop_sequence": None, "usage": {"input_tokens": PROMPT_TOKENS, "output_tokens": 1},
}  # fmt: skip
_NO_USAGE: Final = {"input_tokens": 0, "output_tokens": 0}


def _messages_end(usage: bool) -> list[bytes]:
    more = {"usage": {"output_tokens": OUTPUT_TOKENS}} if usage else {}
    return [
        _message_event("content_block_stop", index=0),
        _message_event("message_delta", delta={"stop_reason": "end_turn", "stop_sequence": None}, **more),
        _message_event("message_stop"),
    ]


_ANTHROPIC_TYPES: Final = {429: "rate_limit_error", 500: "api_error", 503: "api_error", 529: "overloaded_error"}


def _messages_error(status: int) -> list[bytes]:
    return [_message_event("error", error={"type": _ANTHROPIC_TYPES[status], "message": "Overloaded"})]


async def _ask_messages(router: Any, group: str, stream: bool, **more: Any) -> Any:
    arguments = {"messages": messages(), "max_tokens": 64_000, **more}
    return await router.aanthropic_messages(model=group, stream=stream, **arguments)


# OpenAI's Responses

_RESPONSE: Final = {
    "id": "resp_1", "object": "response", "created_at": 1, "model": "gpt-4o-mini", "output": [],
    "parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "temperature": 1, "top_p": 1,
    "status": "in_progress", "error": None, "incomplete_details": None, "instructions": None, "metadata": {},
    "usage": None,
}  # fmt: skip
_PLACE: Final = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
RESPONSES_USAGE: Final = {
    "input_tokens": PROMPT_TOKENS, "input_tokens_details": {"cached_tokens": 0},
    "output_tokens": OUTPUT_TOKENS, "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 1_200,
}  # fmt: skip


def response_event(kind: str, **fields: Any) -> bytes:
    return sse({"type": kind, "sequence_number": 1, **fields}, kind)


def response(status: str, **fields: Any) -> Json:
    """A response object."""
    part = {"type": "output_text", "text": TEXT, "annotations": []}
    item = {"id": "msg_1", "type": "message", "status": "completed", "role": "assistant", "content": [part]}
    return {**_RESPONSE, "status": status, "output": [item], **fields}


def _responses_end(usage: bool) -> list[bytes]:
    done = response("completed", usage=RESPONSES_USAGE if usage else None)
    return [response_event("response.completed", response=done)]


def _responses_error(status: int) -> list[bytes]:
    code = {429: "rate_limit_exceeded"}.get(status, "server_error")
    failed = response("failed", error={"code": code, "message": "failed"}, output=[])
    return [response_event("response.failed", response=failed)]


async def _ask_responses(router: Any, group: str, stream: bool, **more: Any) -> Any:
    return await router.aresponses(model=group, input="Hello there, how are you?", stream=stream, **more)


# Gemini's generateContent

GEMINI_USAGE: Final = {
    "promptTokenCount": PROMPT_TOKENS, "candidatesTokenCount": 150, "thoughtsTokenCount": 50, "totalTokenCount": 1_200
}  # fmt: skip


def gemini_part(text: str, finish: str | None = None, usage: Json | None = None) -> bytes:
    candidate: Json = {"content": {"parts": [{"text": text}], "role": "model"}, "index": 0}
    if finish is not None:
        candidate["finishReason"] = finish
    body: Json = {"candidates": [candidate], "modelVersion": "m", "responseId": "r"}
    return sse({**body, "usageMetadata": usage} if usage else body)


_GOOGLE_NAMES: Final = {429: "RESOURCE_EXHAUSTED", 500: "INTERNAL", 503: "UNAVAILABLE"}


def _gemini_error(status: int) -> list[bytes]:
    return [sse({"error": {"code": status, "message": "overloaded", "status": _GOOGLE_NAMES[status]}})]


async def _ask_gemini(router: Any, group: str, stream: bool, **more: Any) -> Any:
    contents = [{"role": "user", "parts": [{"text": "Hello there, how are you?"}]}]
    call = router.agenerate_content_stream if stream else router.agenerate_content
    return await call(model=group, contents=contents, **more)


WIRES: Final = {
    wire.name: wire
    for wire in (
        WireScript(
            "chat", "openai/gpt-4o-mini", "/v1", [chat_chunk({"role": "assistant", "content": ""})],
            lambda text: chat_chunk({"content": text}), _chat_end, _openai_error, _ask_chat, "chat",
        ),
        WireScript(
            "text completion", "text-completion-openai/gpt-3.5-turbo-instruct", "/v1", [], _text_chunk, _text_end,
            _openai_error, _ask_text, "text_completion",
        ),
        WireScript(
            "messages", "anthropic/claude-sonnet-4-5", "",
            [
                _message_event("message_start", message=_MESSAGE),
                _message_event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
            ],
            lambda text: _message_event("content_block_delta", index=0, delta={"type": "text_delta", "text": text}),
            _messages_end, _messages_error, _ask_messages, "messages",
        ),
        WireScript(
            "responses", "openai/gpt-4o-mini", "/v1", [response_event("response.created", response=_RESPONSE)],
            lambda text: response_event("response.output_text.delta", **_PLACE, delta=text, logprobs=[]),
            _responses_end, _responses_error, _ask_responses, "responses",
        ),
        WireScript(
            "generate content", "gemini/gemini-2.5-flash", "/v1beta", [], gemini_part,
            lambda usage: [gemini_part("", "STOP", GEMINI_USAGE if usage else None)],
            _gemini_error, _ask_gemini, "generate_content",
        ),
    )
}  # fmt: skip


def counted_by_limits(wire: str, tokens_in: int, tokens_out: int) -> int:
    """What limits on tokens count: at Gemini the input alone."""
    return tokens_in if wire == "generate content" else tokens_in + tokens_out
