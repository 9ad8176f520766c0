"""Generated streams: what is on record equals a plain reading of the same bytes, and no sound stream ends in an error.

The bytes are split anywhere, with keep-alives, unknown events and missing fields among them.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any, Final

import litellm
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recording import RecordingBus
from scripted_vendor import ScriptedVendor
from wire_scripts import WIRES, WireScript, sse

from wallie_litellm import build_router
from wallie_litellm.config import parse_config
from wallie_litellm.events import Ended, Settled
from wallie_litellm.guard import Guard
from wallie_litellm.litellm_adapter.wires import wire_of

EXAMPLES: Final = 15  # streams for each wire; 1,000 take about a minute a wire
PROMPT_ESTIMATE: Final = 7  # tokens
CHARACTERS_PER_TOKEN: Final = 4

texts = st.lists(
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12), min_size=1, max_size=5
)
tokens = st.integers(1, 5_000)


@dataclass(frozen=True)
class Reading:
    """What a stream says: characters of text, and the prompt, cached and output tokens that it reports."""

    characters: int
    usage: tuple[int, int, int] | None

    def expected(self) -> tuple[int, int, bool]:
        """The prompt and output tokens on record, and whether they are estimated."""
        if self.usage is None:
            return PROMPT_ESTIMATE, ceil(self.characters / CHARACTERS_PER_TOKEN), True
        return self.usage[0], self.usage[2], False


def events_in(data: bytes) -> Iterator[dict[str, Any]]:
    """The plain reading of server-sent events: of the bytes as a whole."""
    for block in data.decode().replace("\r\n", "\n").split("\n\n"):
        lines = [line[5:].lstrip() for line in block.split("\n") if line.startswith("data:")]
        if lines and lines[0].startswith("{"):
            yield json.loads("\n".join(lines))


# The streams of each wire. A generated usage is (prompt, cached, output); cached is part of prompt.


@st.composite
def usages(draw: st.DrawFn) -> tuple[int, int, int] | None:
    if draw(st.booleans()) and draw(st.booleans()):
        return None
    prompt = draw(tokens)
    return prompt, draw(st.integers(0, prompt - 1)), draw(tokens)


def _openai_usage(usage: tuple[int, int, int]) -> dict[str, Any]:
    prompt, cached, output = usage
    details = {"prompt_tokens_details": {"cached_tokens": cached}} if cached else {}
    return {"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output, **details}


def _chat(draw: st.DrawFn, pieces: Sequence[str], usage: tuple[int, int, int] | None) -> list[dict[str, Any]]:
    head = draw(
        _heads({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}, ("created", "model"))
    )
    found = [{**head, "choices": [{"index": 0, "delta": {"content": piece}}]} for piece in pieces]
    found.append({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    return _with_openai_usage(draw, head, found, usage)


def _text(draw: st.DrawFn, pieces: Sequence[str], usage: tuple[int, int, int] | None) -> list[dict[str, Any]]:
    head = draw(_heads({"id": "t", "object": "text_completion", "created": 1, "model": "m"}, ("created", "model")))
    found = [{**head, "choices": [{"index": 0, "text": piece, "finish_reason": None}]} for piece in pieces]
    found.append({**head, "choices": [{"index": 0, "text": "", "finish_reason": "stop"}]})
    return _with_openai_usage(draw, head, found, usage)


def _with_openai_usage(
    draw: st.DrawFn, head: dict[str, Any], found: list[dict[str, Any]], usage: tuple[int, int, int] | None
) -> list[dict[str, Any]]:
    if usage is not None:
        reported = _openai_usage(usage)
        if draw(st.booleans()):
            found.append({**head, "choices": [], "usage": reported})
        else:
            found[-1]["usage"] = reported
    return found


def _messages(draw: st.DrawFn, pieces: Sequence[str], usage: tuple[int, int, int] | None) -> list[dict[str, Any]]:
    prompt, cached, output = usage or (10, 0, 0)
    begin: dict[str, Any] = {"input_tokens": prompt - cached, "output_tokens": 1}
    if cached:
        begin["cache_read_input_tokens"] = cached
    message = {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [], "stop_reason": None,
        "usage": begin,
    }  # fmt: skip
    end = {"output_tokens": output} if usage else {}
    block = {"type": "text", "text": ""}
    deltas = ({"type": "text_delta", "text": piece} for piece in pieces)
    return [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": block},
        *({"type": "content_block_delta", "index": 0, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, **({"usage": end} if end else {})},
        {"type": "message_stop"},
    ]


def _responses(draw: st.DrawFn, pieces: Sequence[str], usage: tuple[int, int, int] | None) -> list[dict[str, Any]]:
    prompt, cached, output = usage or (10, 0, 5)
    reported = {
        "input_tokens": prompt, "input_tokens_details": {"cached_tokens": cached}, "output_tokens": output,
        "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": prompt + output,
    }  # fmt: skip
    head = {"id": "resp_1", "object": "response", "created_at": 1, "model": "m", "output": [], "status": "in_progress"}
    place = {"item_id": "i", "output_index": 0, "content_index": 0}
    end = draw(st.sampled_from(["completed", "incomplete"]))
    return [
        {"type": "response.created", "response": head},
        *({"type": "response.output_text.delta", **place, "delta": piece} for piece in pieces),
        {"type": f"response.{end}", "response": {**head, "status": end, "usage": reported}},
    ]


def _gemini(draw: st.DrawFn, pieces: Sequence[str], usage: tuple[int, int, int] | None) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"candidates": [{"content": {"parts": [{"text": piece}], "role": "model"}}]} for piece in pieces
    ]
    found[-1]["candidates"][0]["finishReason"] = draw(st.sampled_from(["STOP", "MAX_TOKENS"]))
    if usage is not None:
        prompt, cached, output = usage
        reported = {
            "promptTokenCount": prompt, "candidatesTokenCount": output, "totalTokenCount": prompt + output,
            **({"cachedContentTokenCount": cached} if cached else {}),
        }  # fmt: skip
        if draw(st.booleans()):
            found.append({"usageMetadata": reported})
        else:
            found[-1]["usageMetadata"] = reported
    return found


def _heads(head: dict[str, Any], optional: Sequence[str]) -> st.SearchStrategy[dict[str, Any]]:
    """``head`` without some of its fields."""
    return st.sets(st.sampled_from(optional)).map(
        lambda missing: {name: value for name, value in head.items() if name not in missing}
    )


BUILDERS: Final = {
    "chat": _chat, "text completion": _text, "messages": _messages, "responses": _responses, "generate content": _gemini
}  # fmt: skip
UNKNOWN: Final = {
    "messages": [{"type": "ping"}, {"type": "content_block_future", "index": 0, "delta": {"kind": "new"}}],
    "responses": [{"type": "response.future_thing", "sequence_number": 3, "value": {"a": 1}}],
    "generate content": [{"futureField": {"a": 1}}],
}
COMMENTS: Final = (b": keep-alive\n\n", b":\n\n", b": OPENROUTER PROCESSING\n\n")


@st.composite
def streams(draw: st.DrawFn, name: str) -> tuple[list[bytes], Reading]:
    """A stream in pieces, and what it says."""
    pieces, usage = draw(texts), draw(usages())
    if name in ("messages", "responses") and usage is None:
        usage = (10, 0, 5)
    data = b""
    for event in BUILDERS[name](draw, pieces, usage):
        if draw(st.booleans()):
            data += draw(st.sampled_from(COMMENTS))
        if name in UNKNOWN and draw(st.integers(0, 3)) == 0:
            data += sse(draw(st.sampled_from(UNKNOWN[name])))
        data += sse(event, event.get("type"))
    if name in ("chat", "text completion"):
        data += sse("[DONE]")
    ends = sorted(draw(st.sets(st.integers(1, len(data) - 1), max_size=8)))
    split = [data[start:end] for start, end in zip([0, *ends], [*ends, len(data)], strict=True)]
    return split, Reading(sum(map(len, pieces)), usage)


def text_in(name: str, data: bytes) -> str:
    """The text in a stream's bytes, read as a whole."""
    found = []
    for event in events_in(data):
        match name:
            case "chat":
                found += [choice["delta"].get("content") or "" for choice in event["choices"]]
            case "text completion":
                found += [choice["text"] for choice in event["choices"]]
            case "messages":
                found += [event["delta"]["text"]] if event["type"] == "content_block_delta" else []
            case "responses":
                found += [event["delta"]] if event["type"] == "response.output_text.delta" else []
            case "generate content":
                parts = (part for one in event.get("candidates", ()) for part in one["content"]["parts"])
                found += [part["text"] for part in parts]
    return "".join(found)


# The same bytes, read by LiteLLM and this package


class Served:
    """Routers on a scripted vendor, on one event loop."""

    def __init__(self) -> None:
        self.vendor = ScriptedVendor()
        self.vendor.start()
        self.bus = RecordingBus()
        self.runner = asyncio.Runner()
        data = {
            "model_list": [self._deployment(wire) for wire in WIRES.values()],
            "wallie": {"ledger": None, "retry": {"max_retries": 0}, "providers": {}},
        }
        config = parse_config(data)
        self.router = build_router(config, guard=Guard(config.wallie, bus=self.bus))

    def _deployment(self, wire: WireScript) -> dict[str, Any]:
        where = {"api_base": self.vendor.base + wire.path, "api_key": "sk-simulated"}
        return {"model_name": wire.name, "litellm_params": {"model": wire.model, **where}}

    def close(self) -> None:
        self.router.guard.close()
        self.runner.close()
        self.vendor.stop()

    def read(self, name: str, pieces: Sequence[bytes]) -> Settled:
        """Read a stream to its end; its record."""
        self.bus.events.clear()
        self.vendor.stream(*pieces)
        self.router.guard.reset_quota(self.router.provider_of(self.router.get_model_list(name)[0]))
        self.bus.events.clear()

        async def read() -> None:
            async for _ in await WIRES[name].ask(self.router, name):
                pass

        self.runner.run(read())
        (record,) = self.bus.of(Settled)
        (ended,) = self.bus.of(Ended)
        assert ended.success
        return record


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(litellm, "suppress_debug_info", True)
        made = Served()
        yield made
        made.close()


def price(model: str, reading: Reading) -> float:
    """The price map's, for what a stream reports."""
    entry = litellm.model_cost[model.partition("/")[2] if not model.startswith("gemini/") else model]
    prompt, output, _ = reading.expected()
    cached = 0 if reading.usage is None else reading.usage[1]
    read = entry.get("cache_read_input_token_cost") or entry["input_cost_per_token"]
    uncached = (prompt - cached) * entry["input_cost_per_token"]
    return float(uncached + cached * read + output * entry["output_cost_per_token"])


@pytest.mark.parametrize("name", WIRES)
def test_a_stream_is_on_record_as_a_plain_reading_has_it(served, name):
    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
    @given(streams(name))
    def check(stream: tuple[list[bytes], Reading]) -> None:
        pieces, reading = stream
        assert len(text_in(name, b"".join(pieces))) == reading.characters
        record = served.read(name, pieces)
        prompt, output, estimated = reading.expected()
        assert (record.prompt_tokens, record.completion_tokens, record.estimated) == (prompt, output, estimated)
        assert record.cost_usd == pytest.approx(price(WIRES[name].model, reading))

    check()


@pytest.mark.parametrize("name", ["messages", "generate content"])
def test_raw_bytes_are_read_alike_however_they_are_split(name):
    @settings(max_examples=10 * EXAMPLES, deadline=None)
    @given(streams(name), st.sampled_from([b"\n", b"\r\n"]))
    def check(stream: tuple[list[bytes], Reading], line_end: bytes) -> None:
        pieces, reading = stream
        reader = wire_of(WIRES[name].operation)()
        for piece in _again_split(b"".join(pieces).replace(b"\n", line_end), len(pieces)):
            reader.see(piece)
        reader.end()
        seen = reader.seen(PROMPT_ESTIMATE)
        assert (reader.finished, reader.failed, reader.unreadable) == (True, None, False)
        assert reader.characters == reading.characters
        assert (seen.usage.input, seen.usage.output, seen.estimated) == reading.expected()

    check()


FIELDS: Final = (
    "type", "choices", "delta", "content", "tool_calls", "function", "finish_reason", "usage", "error", "response",
    "message", "candidates", "parts", "text", "usageMetadata", "promptTokensDetails", "item", "output", "status",
)  # fmt: skip
KINDS: Final = ("content_block_delta", "message_start", "message_delta", "response.failed", "response.x.delta", "error")
values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3) | st.sampled_from(KINDS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize("operation", [*(wire.operation for wire in WIRES.values()), "bedrock", "aocr"])
def test_events_of_any_shape_end_in_no_error_of_the_readers(operation):
    @settings(max_examples=10 * EXAMPLES, deadline=None)
    @given(st.lists(st.dictionaries(st.sampled_from(FIELDS), values, max_size=5) | st.binary(max_size=30), max_size=4))
    def check(chunks: list[Any]) -> None:
        reader = wire_of(operation)()
        for chunk in chunks:
            reader.see(chunk)
        reader.end()
        seen = reader.seen(PROMPT_ESTIMATE)
        assert seen.usage.tokens >= 0
        assert reader.was_ended() in (True, False)

    check()


def _again_split(data: bytes, parts: int) -> list[bytes]:
    size = max(1, len(data) // parts)
    return [data[start : start + size] for start in range(0, len(data), size)]
