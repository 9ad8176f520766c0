"""Where LiteLLM keeps the headers with which vendors tell their limits, on every endpoint that it has."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Iterator
from typing import Any, Final

import litellm
import openai
import pytest
from aiohttp import web
from litellm.router import Router

from wallie_litellm.core.limit_headers import VOCABULARIES
from wallie_litellm.core.limit_sightings import Sighting, sightings_in
from wallie_litellm.litellm_adapter.limit_signs import refusal_in, vocabulary_of
from wallie_litellm.litellm_adapter.responses import answer_headers
from wallie_litellm.simulator.loopback_server import LoopbackServer

PROMPT: Final = [{"role": "user", "content": "Hello"}]
LIMITED: Final = {"error": {"message": "Rate limit reached for m on requests per min: Limit 60", "code": "rate_limit"}}
USAGE: Final = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
CHOICE: Final = {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}
CHAT: Final = {
    "id": "x",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "service_tier": "on_demand",
    "choices": [CHOICE],
    "usage": USAGE,
}
CHUNK: Final = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m"}
CHUNKS: Final = (
    {**CHUNK, "choices": [{"index": 0, "delta": {"role": "assistant", "content": "hi"}, "finish_reason": None}]},
    {**CHUNK, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
    "[DONE]",
)
MESSAGE: Final = {
    "id": "m",
    "type": "message",
    "role": "assistant",
    "model": "claude",
    "stop_reason": "end_turn",
    "content": [{"type": "text", "text": "hi"}],
    "usage": {"input_tokens": 1, "output_tokens": 1},
}
MESSAGE_EVENTS: Final = (
    {"type": "message_start", "message": {**MESSAGE, "content": [], "stop_reason": None}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hi"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1}},
    {"type": "message_stop"},
)
SAID: Final = {"type": "output_text", "text": "hi", "annotations": []}
RESPONSE: Final = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1,
    "model": "m",
    "status": "completed",
    "tools": [],
    "output": [{"type": "message", "id": "1", "role": "assistant", "status": "completed", "content": [SAID]}],
    "usage": {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2},
    "parallel_tool_calls": False,
    "tool_choice": "auto",
}
RESPONSE_EVENTS: Final = (
    {"type": "response.created", "response": {**RESPONSE, "status": "in_progress", "output": []}},
    {"type": "response.completed", "response": RESPONSE},
)
EMBEDDING: Final = {"object": "list", "model": "m", "data": [{"index": 0, "embedding": [0.1]}], "usage": USAGE}
WHOLE: Final = {  # by a part of the path
    "embeddings": EMBEDDING,
    "images": {"created": 1, "data": [{"url": "http://x/y.png"}]},
    "transcriptions": {"text": "hi"},
    "moderations": {"id": "1", "model": "m", "results": []},
    "responses": RESPONSE,
    "messages": MESSAGE,
    "chat/completions": CHAT,
    "completions": {**CHAT, "object": "text_completion", "choices": [{"index": 0, "text": "hi"}]},
}
STREAMS: Final = {"responses": RESPONSE_EVENTS, "messages": MESSAGE_EVENTS, "completions": CHUNKS}


class TellingVendor:
    """Answers on every endpoint, and tells two limits in the headers of every vocabulary."""

    def __init__(self) -> None:
        self.server = LoopbackServer("telling vendor", self._handle, 2**22)
        self.status = 200
        self.body: Any = LIMITED  # of other statuses
        self.headers = {
            name: str(value)
            for each in VOCABULARIES.values()
            for names in each.headers
            for name, value in ((names.limit, 60), (names.remaining, 59))
        }

    async def _handle(self, request: web.Request) -> web.Response:
        data = await request.read()
        body = json.loads(data) if data.startswith(b"{") else {}
        if self.status != 200:
            again = {"x-should-retry": "false"}  # OpenAI's client repeats a call by itself, else
            return web.json_response(self.body, status=self.status, headers={**self.headers, **again})
        if "speech" in request.path:
            return web.Response(body=b"abc", content_type="audio/mpeg", headers=self.headers)
        if body.get("stream"):
            events = next(events for part, events in STREAMS.items() if part in request.path)
            return web.Response(
                body=b"".join(map(_sse, events)), content_type="text/event-stream", headers=self.headers
            )
        answer = next(answer for part, answer in WHOLE.items() if part in request.path)
        return web.json_response(answer, headers=self.headers)


def _sse(event: Any) -> bytes:
    if isinstance(event, str):
        return f"data: {event}\n\n".encode()
    name = f"event: {event['type']}\n" if "type" in event else ""
    return f"{name}data: {json.dumps(event)}\n\n".encode()


@pytest.fixture(scope="module")
def vendor() -> Iterator[TellingVendor]:
    vendor = TellingVendor()
    vendor.server.start()
    yield vendor
    vendor.server.stop()


MODELS: Final = {
    "openai": "openai/gpt-4o-mini",
    "text-completion-openai": "text-completion-openai/gpt-3.5-turbo-instruct",
    "azure": "azure/dep",
    "anthropic": "anthropic/claude-sonnet-4-5",
    "groq": "groq/openai/gpt-oss-20b",
    "mistral": "mistral/mistral-large-latest",
    "xai": "xai/grok-4",
    "together_ai": "together_ai/openai/gpt-oss-20b",
    "cerebras": "cerebras/gpt-oss-120b",
    "sambanova": "sambanova/DeepSeek-V3.1",
}


@pytest.fixture(scope="module")
def plain(vendor: TellingVendor) -> Iterator[Router]:
    base = f"http://127.0.0.1:{vendor.server.port}"
    deployments = [
        {
            "model_name": name,
            "litellm_params": {
                "model": model,
                "api_base": base if name in ("anthropic", "azure") else f"{base}/v1",
                "api_key": "sk-x",
                **({"api_version": "2024-10-21"} if name == "azure" else {}),
            },
        }
        for name, model in MODELS.items()
    ]
    router = Router(model_list=deployments, num_retries=0, disable_cooldowns=True)
    yield router
    (router.retire if hasattr(router, "retire") else router.discard)()


CHATS: Final = [
    (name, "acompletion", {"messages": PROMPT, "stream": stream})
    for name in MODELS
    if not name.startswith("text")
    for stream in (False, True)
]
KEPT: Final = [
    *CHATS,
    ("openai", "aembedding", {"input": ["Hello"]}),
    ("openai", "aresponses", {"input": "Hello"}),
    ("openai", "aresponses", {"input": "Hello", "stream": True}),
    ("anthropic", "aanthropic_messages", {"messages": PROMPT, "max_tokens": 5, "stream": True}),
    ("openai", "aimage_generation", {"prompt": "x"}),
    ("openai", "aspeech", {"input": "x", "voice": "alloy"}),
    ("openai", "atranscription", {"file": ("a.wav", b"RIFF")}),
]
# What LiteLLM drops; a release that keeps it needs another line in the documentation.
DROPPED: Final = [
    ("anthropic", "aanthropic_messages", {"messages": PROMPT, "max_tokens": 5}),
    ("text-completion-openai", "atext_completion", {"prompt": "Hello"}),
    ("openai", "amoderation", {"input": "Hello"}),
]
GROQ_KEPT_FROM: Final = (1, 109)


def _litellm() -> tuple[int, ...]:
    return tuple(int(part) for part in importlib.metadata.version("litellm").split(".")[:2])


async def test_litellm_keeps_the_headers_of_limits_but_for_some_endpoints(plain: Router, vendor: TellingVendor) -> None:
    vendor.status = 200
    for name, method, arguments in (*KEPT, *DROPPED):
        answer = await getattr(plain, method)(model=name, **arguments)
        seen = sightings_in(VOCABULARIES[name], answer_headers(answer), 0.0)
        kept = (name, method, arguments) in KEPT
        if name == "groq" and not arguments["stream"] and _litellm() < GROQ_KEPT_FROM:
            kept = False
        assert bool(seen) == kept, (name, method, arguments)
        assert all(one.limit in (60, 3600) and one.remaining == 59 for one in seen), (name, seen)


async def test_errors_have_the_headers_of_limits_and_their_text_on_every_endpoint(
    plain: Router, vendor: TellingVendor
) -> None:
    vendor.status = 429
    for name, method, arguments in (*KEPT, *DROPPED):
        with pytest.raises(openai.RateLimitError) as caught:
            async for _ in await getattr(plain, method)(model=name, **arguments):
                pass
        said = refusal_in(caught.value)
        assert said.in_text == (Sighting("rpm", 60),), (name, method)
        assert sightings_in(VOCABULARIES[name], said.headers, 0.0), (name, method)


async def test_a_limit_in_a_quoted_prompt_or_in_another_error_is_none(plain: Router, vendor: TellingVendor) -> None:
    said = str(LIMITED["error"]["message"])
    for status, message, named in (
        (429, said, (Sighting("rpm", 60),)),
        (429, f"Please slow down. You asked: {said}", ()),
        (400, said, ()),
    ):
        vendor.status, vendor.body = status, {"error": {"message": message, "prompt": said}}
        for name in ("openai", "anthropic", "groq", "together_ai"):
            for stream in (False, True):
                with pytest.raises(openai.APIError) as caught:
                    await plain.acompletion(model=name, messages=PROMPT, stream=stream)
                assert refusal_in(caught.value).in_text == named, (name, status, message)
    vendor.body = LIMITED


def test_the_vocabulary_is_that_of_the_vendor_wherever_it_is_called() -> None:
    assert vocabulary_of("groq/llama", {}) is VOCABULARIES["groq"]
    assert vocabulary_of("gpt-4o", {"api_base": "http://127.0.0.1:1/v1", "custom_llm_provider": "openai"}).headers
    assert vocabulary_of("deepseek/deepseek-chat", {}).headers == ()
    assert vocabulary_of("who/knows", {}).headers == ()


def test_an_answer_without_headers_has_none() -> None:
    for answer in (None, {}, {"_hidden_params": {}}, object(), litellm.ModelResponse()):
        assert answer_headers(answer) == {}
