"""What LiteLLM's own callback bills of a call, and what is on record of it: the same, or a difference with a name."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import litellm
import pytest
from litellm.integrations.custom_logger import CustomLogger
from support import until
from test_whole_answers import chat_body, gemini_body, message_body, text_body
from wire_scripts import (
    CHAT_USAGE,
    CHUNK,
    DONE,
    GEMINI_USAGE,
    RESPONSES_USAGE,
    WIRES,
    chat_chunk,
    gemini_part,
    response,
    response_event,
    sse,
)

from wallie_litellm.events import Settled

CHAT, TEXT, MESSAGES = WIRES["chat"], WIRES["text completion"], WIRES["messages"]
RESPONSES, GEMINI = WIRES["responses"], WIRES["generate content"]

CACHED = {**CHAT_USAGE, "prompt_tokens_details": {"cached_tokens": 400}}
AUDIO = {
    **CHAT_USAGE,
    "prompt_tokens_details": {"audio_tokens": 600, "cached_tokens": 0, "text_tokens": 400},
    "completion_tokens_details": {"audio_tokens": 150, "reasoning_tokens": 0, "text_tokens": 50},
}
WRITES = {
    "input_tokens": 100, "output_tokens": 200, "cache_read_input_tokens": 400, "cache_creation_input_tokens": 500,
    "cache_creation": {"ephemeral_5m_input_tokens": 300, "ephemeral_1h_input_tokens": 200},
}  # fmt: skip
SEARCHED = {"input_tokens": 1_000, "output_tokens": 200, "server_tool_use": {"web_search_requests": 2}}
GEMINI_CACHED = {
    "promptTokenCount": 1_000, "candidatesTokenCount": 150, "thoughtsTokenCount": 50, "totalTokenCount": 1_200,
    "cachedContentTokenCount": 400, "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 1_000}],
}  # fmt: skip
GEMINI_AUDIO = {
    "promptTokenCount": 1_000, "candidatesTokenCount": 200, "totalTokenCount": 1_200,
    "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 300}, {"modality": "AUDIO", "tokenCount": 700}],
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One call: the model, what the vendor answers, and how it is asked."""

    model: str
    call: Callable[[Any], Awaitable[Any]]
    whole: Any = None
    stream: tuple[bytes, ...] = ()
    content_type: str = "application/json"
    parameters: dict[str, Any] = field(default_factory=dict)  # of the deployment
    tokens: tuple[int, int] | None = (1_000, 200)
    unbilled: str = ""  # why LiteLLM's callback has no cost where the record has one


def asks(wire: Any, stream: bool, **more: Any) -> Callable[[Any], Awaitable[Any]]:
    return lambda router: wire.call(router, "group", stream, **more)


def chat_stream(usage: Any, **more: Any) -> tuple[bytes, ...]:
    parts = [chat_chunk({"content": "Hello"}, **more), chat_chunk({}, "stop", **more)]
    return (*parts, sse({**CHUNK, **more, "choices": [], "usage": usage}), DONE)


def message_stream(usage: dict[str, Any]) -> tuple[bytes, ...]:
    start = {**message_body({**usage, "output_tokens": 1}), "content": [], "stop_reason": None}
    events = (
        {"type": "message_start", "message": start},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": usage},
        {"type": "message_stop"},
    )
    return tuple(sse(event, str(event["type"])) for event in events)


def responses_stream(**more: Any) -> tuple[bytes, ...]:
    done = response("completed", usage=RESPONSES_USAGE, **more)
    return (*RESPONSES.begin, RESPONSES.text("Hello"), response_event("response.completed", response=done))


PER_PIXEL = {"input_cost_per_pixel": 4e-8, "output_cost_per_pixel": 0.0}
NATIVE_STREAM = "LiteLLM prices no stream on Gemini's own wire"
OWN_PRICES = {"input_cost_per_token": 1e-3, "output_cost_per_token": 2e-3}
IMAGE = {"created": 1, "data": [{"url": "http://images/1.png"}]}
IMAGE_TOKENS = {
    **IMAGE,
    "usage": {
        "input_tokens": 1_000, "output_tokens": 200, "total_tokens": 1_200,
        "input_tokens_details": {"text_tokens": 1_000, "image_tokens": 0},
    },
}  # fmt: skip
EMBEDDING = {
    "object": "list", "model": "m", "data": [{"object": "embedding", "index": 0, "embedding": [0.1, 0.2]}],
    "usage": {"prompt_tokens": 1_000, "total_tokens": 1_000},
}  # fmt: skip
TRANSCRIBED = {
    "type": "tokens", "input_tokens": 1_000, "output_tokens": 200, "total_tokens": 1_200,
    "input_token_details": {"audio_tokens": 1_000, "text_tokens": 0},
}  # fmt: skip
RERANKED = {
    "id": "1", "results": [{"index": 0, "relevance_score": 0.9}], "meta": {"billed_units": {"search_units": 1}}
}  # fmt: skip
MODERATED = {"id": "modr-1", "model": "omni-moderation-latest", "results": [
    {"flagged": False, "categories": {}, "category_scores": {}, "category_applied_input_types": {}}
]}  # fmt: skip
ROWS = {
    "chat": Row(CHAT.model, asks(CHAT, False), chat_body(CHAT_USAGE)),
    "chat stream": Row(CHAT.model, asks(CHAT, True), stream=chat_stream(CHAT_USAGE)),
    "chat, cached": Row("openai/gpt-4o", asks(CHAT, False), chat_body(CACHED)),
    "chat stream, cached": Row("openai/gpt-4o", asks(CHAT, True), stream=chat_stream(CACHED)),
    "chat, audio": Row("openai/gpt-audio", asks(CHAT, False), chat_body(AUDIO)),
    "chat stream, audio": Row("openai/gpt-audio", asks(CHAT, True), stream=chat_stream(AUDIO)),
    "chat, flex": Row(
        "openai/gpt-5", asks(CHAT, False, service_tier="flex"), {**chat_body(CHAT_USAGE), "service_tier": "flex"}
    ),
    "chat stream, flex": Row(
        "openai/gpt-5", asks(CHAT, True, service_tier="flex"), stream=chat_stream(CHAT_USAGE, service_tier="flex")
    ),
    "chat stream, priority": Row(
        "openai/gpt-5", asks(CHAT, True, service_tier="priority"),
        stream=chat_stream(CHAT_USAGE, service_tier="priority"),
    ),
    "chat stream, priority asked and not given": Row(
        "openai/gpt-5", asks(CHAT, True, service_tier="priority"),
        stream=chat_stream(CHAT_USAGE, service_tier="default"),
    ),
    "chat, own prices": Row(CHAT.model, asks(CHAT, False), chat_body(CHAT_USAGE), parameters=OWN_PRICES),
    "chat stream, own prices": Row(CHAT.model, asks(CHAT, True), stream=chat_stream(CHAT_USAGE), parameters=OWN_PRICES),
    "text": Row(TEXT.model, asks(TEXT, False), text_body(CHAT_USAGE)),
    "text stream": Row(TEXT.model, asks(TEXT, True), stream=tuple(TEXT.whole())),
    "messages, cache writes": Row(MESSAGES.model, asks(MESSAGES, False), message_body(WRITES)),
    "messages stream, cache writes": Row(MESSAGES.model, asks(MESSAGES, True), stream=message_stream(WRITES)),
    "chat to anthropic, cache writes": Row(MESSAGES.model, asks(CHAT, False), message_body(WRITES)),
    "chat stream to anthropic, cache writes": Row(MESSAGES.model, asks(CHAT, True), stream=message_stream(WRITES)),
    "messages, web search": Row(MESSAGES.model, asks(MESSAGES, False), message_body(SEARCHED)),
    "messages stream, web search": Row(MESSAGES.model, asks(MESSAGES, True), stream=message_stream(SEARCHED)),
    "responses": Row(RESPONSES.model, asks(RESPONSES, False), response("completed", usage=RESPONSES_USAGE)),
    "responses stream": Row(RESPONSES.model, asks(RESPONSES, True), stream=responses_stream()),
    "responses stream, flex": Row(
        "openai/gpt-5", asks(RESPONSES, True, service_tier="flex"), stream=responses_stream(service_tier="flex")
    ),
    "gemini": Row(GEMINI.model, asks(GEMINI, False), gemini_body(GEMINI_USAGE)),
    "gemini stream": Row(
        GEMINI.model, asks(GEMINI, True), stream=(gemini_part("Hello", "STOP", GEMINI_USAGE),), unbilled=NATIVE_STREAM
    ),
    "gemini, cached": Row(GEMINI.model, asks(GEMINI, False), gemini_body(GEMINI_CACHED)),
    "gemini stream, cached": Row(
        GEMINI.model, asks(GEMINI, True), stream=(gemini_part("Hello", "STOP", GEMINI_CACHED),), unbilled=NATIVE_STREAM
    ),
    "gemini stream, audio": Row(
        GEMINI.model, asks(GEMINI, True), stream=(gemini_part("Hello", "STOP", GEMINI_AUDIO),), unbilled=NATIVE_STREAM
    ),
    "chat to gemini, audio": Row(GEMINI.model, asks(CHAT, False), gemini_body(GEMINI_AUDIO)),
    "embedding": Row(
        "openai/text-embedding-3-small", lambda router: router.aembedding(model="group", input=["Hello"]), EMBEDDING,
        tokens=(1_000, 0),
    ),
    "image": Row(
        "openai/dall-e-3", lambda router: router.aimage_generation(model="group", prompt="a cat", size="1024x1024"),
        IMAGE, parameters=PER_PIXEL, tokens=None,
    ),
    "image by tokens": Row(
        "openai/gpt-image-1", lambda router: router.aimage_generation(model="group", prompt="a cat"), IMAGE_TOKENS,
    ),
    "speech": Row(
        "openai/tts-1", lambda router: router.aspeech(model="group", input="Hello there", voice="alloy"), b"mp3",
        content_type="audio/mpeg", tokens=None,
    ),
    "transcription": Row(
        "openai/gpt-4o-transcribe", lambda router: router.atranscription(file=("a.mp3", b"mp3"), model="group"),
        {"text": "Hello", "usage": TRANSCRIBED},
    ),
    "rerank": Row(
        "cohere/rerank-v3.5", lambda router: router.arerank(model="group", query="q", documents=["a"]), RERANKED,
        tokens=None,
    ),
    "moderation": Row(
        "openai/omni-moderation-latest", lambda router: router.amoderation(model="group", input="Hello"), MODERATED,
        tokens=None,
    ),
}  # fmt: skip


class Billed(CustomLogger):
    """What LiteLLM's success callback is called with."""

    def __init__(self) -> None:
        super().__init__()
        self.costs: list[float | None] = []
        self.tokens: list[tuple[int, int]] = []

    async def async_log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        payload = kwargs.get("standard_logging_object") or {}
        self.costs.append(kwargs.get("response_cost"))
        self.tokens.append((payload.get("prompt_tokens"), payload.get("completion_tokens")))


@pytest.fixture
def billed() -> Iterator[Billed]:
    logger = Billed()
    litellm.callbacks.append(logger)
    yield logger
    for name in ("callbacks", "success_callback", "_async_success_callback", "failure_callback"):
        found = getattr(litellm, name)
        found[:] = [one for one in found if one is not logger]


@pytest.mark.parametrize("name", ROWS)
async def test_the_callback_and_the_record_agree(open_router, vendor, bus, billed, name):
    row = ROWS[name]
    router = open_router({"group": row.model}, parameters=row.parameters)
    if row.stream:
        vendor.stream(*row.stream)
    else:
        vendor.whole(row.whole, row.content_type)
    answer = await row.call(router)
    if row.stream:
        async for _ in answer:
            pass
    (record,) = bus.of(Settled)
    await until(lambda: bool(billed.costs))
    if row.unbilled:
        assert not billed.costs[-1]
    else:
        assert record.cost_usd == pytest.approx(billed.costs[-1] or 0.0, rel=1e-9)
    assert not record.unpriced
    if row.tokens is not None:
        assert (record.prompt_tokens, record.completion_tokens) == row.tokens
        assert billed.tokens[-1] == row.tokens
        assert record.cost_usd


@pytest.mark.parametrize("usage", [GEMINI_USAGE, GEMINI_CACHED, GEMINI_AUDIO], ids=["plain", "cached", "audio"])
async def test_a_stream_on_geminis_own_wire_costs_what_its_answer_in_one_piece_does(open_router, vendor, bus, usage):
    router = open_router({"group": GEMINI.model})
    vendor.whole(gemini_body(usage))
    await GEMINI.ask_whole(router, "group")
    vendor.stream(gemini_part("Hello", "STOP", usage))
    async for _ in await GEMINI.ask(router, "group"):
        pass
    whole, stream = bus.of(Settled)
    assert stream.cost_usd == pytest.approx(whole.cost_usd)
    assert stream[15:20] == whole[15:20]
