from __future__ import annotations

import json
from typing import Any

import litellm
import pytest
from litellm.types.utils import ModelResponseStream

from wallie_litellm.litellm_adapter.kept_answers import answer_again, kept_answer, kept_stream

CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}
USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}


def response(reason: str = "stop", **message: Any) -> litellm.ModelResponse:
    choice = {"index": 0, "finish_reason": reason, "message": {"role": "assistant", "content": "Hello.", **message}}
    return litellm.ModelResponse(id="c1", created=7, model="m", choices=[choice], usage=USAGE)


def kept(answer: Any, operation: str = "chat", **arguments: Any) -> Any:
    values = kept_answer(operation, answer, arguments)
    return None if values is None else json.loads(json.dumps(values))


def again(values: Any, operation: str = "chat", *, stream: bool = False, usage: bool = False) -> Any:
    return answer_again(operation, values, stream=stream, with_usage=usage)


@pytest.mark.parametrize(
    "answer",
    [
        response(),
        response(content="Größe 😀"),
        response("tool_calls", content=None, tool_calls=[CALL]),
        response(reasoning_content="thought"),
    ],
    ids=["text", "unicode", "tool call", "reasoning"],
)
def test_an_answer_comes_back_as_it_was_in_one_piece_and_as_a_stream(answer: litellm.ModelResponse) -> None:
    values = kept(answer)
    first, second = again(values), again(values)
    assert first.model_dump(exclude={"usage"}) == answer.model_dump(exclude={"usage"})
    assert first.usage.total_tokens == answer.usage.total_tokens  # type: ignore[attr-defined]
    assert first is not second
    chunks = list(again(values, stream=True, usage=True))
    assert all(isinstance(chunk, ModelResponseStream) for chunk in chunks)
    whole = litellm.stream_chunk_builder(chunks)
    message, original = whole.choices[0].message, answer.choices[0].message
    assert message.content == original.content
    assert whole.choices[0].finish_reason == answer.choices[0].finish_reason
    assert whole.usage.total_tokens == 7
    assert getattr(message, "reasoning_content", None) == getattr(original, "reasoning_content", None)
    calls = [[(call.id, call.function.model_dump()) for call in one.tool_calls or ()] for one in (message, original)]
    assert calls[0] == calls[1]


def test_a_replayed_stream_has_usage_only_if_that_was_asked_for() -> None:
    assert all(getattr(chunk, "usage", None) is None for chunk in again(kept(response()), stream=True))


def test_an_answer_from_the_cache_says_so_and_costs_nothing() -> None:
    hidden = again(kept(response()))._hidden_params
    assert (hidden["cache_hit"], hidden["response_cost"]) == (True, 0.0)


@pytest.mark.parametrize(
    ("answer", "arguments", "fit"),
    [
        (response("length"), {}, False),
        (response("length"), {"max_tokens": 3}, True),
        (response("content_filter"), {}, False),
        (response(audio={"id": "a", "data": "", "expires_at": 1, "transcript": ""}), {}, False),
    ],
    ids=["cut at the model's limit", "cut at the request's limit", "filtered", "recording"],
)
def test_only_a_whole_answer_is_kept(answer: Any, arguments: dict[str, Any], fit: bool) -> None:
    assert (kept(answer, **arguments) is not None) is fit


@pytest.mark.parametrize(("reason", "fit"), [("end_turn", True), ("tool_use", True), ("refusal", False), (None, False)])
def test_an_anthropic_message_is_kept_if_it_ended_by_itself(reason: str | None, fit: bool) -> None:
    message = {"id": "m", "type": "message", "content": [], "stop_reason": reason, "_hidden_params": {"x": object()}}
    values = kept_answer("messages", message, {})
    assert (values is not None) is fit
    if values is not None:
        assert "_hidden_params" not in values
        assert again(values, "messages")["stop_reason"] == reason


def test_embeddings_come_back() -> None:
    answer = litellm.EmbeddingResponse(model="m", data=[{"embedding": [0.5], "index": 0, "object": "embedding"}])
    assert again(kept(answer, "embedding"), "embedding").data[0]["embedding"] == [0.5]


def chunks(*texts: str, reason: str | None = "stop") -> list[ModelResponseStream]:
    deltas = [{"index": 0, "delta": {"role": "assistant", "content": text}} for text in texts]
    ends = [] if reason is None else [{"index": 0, "delta": {}, "finish_reason": reason}]
    return [ModelResponseStream(id="c1", model="m", choices=[choice]) for choice in (*deltas, *ends)]


def test_a_streams_chunks_are_kept_as_the_whole_answer_with_the_tokens_on_record() -> None:
    values = kept_stream("chat", chunks("Hel", "lo."), (11, 2), {})
    whole = again(json.loads(json.dumps(values)))
    assert whole.choices[0].message.content == "Hello."
    assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (11, 2)


def test_a_stream_that_a_filter_ended_is_not_kept() -> None:
    assert kept_stream("chat", chunks("Hel", reason="content_filter"), (1, 1), {}) is None
    assert kept_stream("chat", [], (1, 1), {}) is None


def test_a_stream_with_log_probabilities_is_not_kept_as_they_would_be_missing() -> None:
    sent = chunks("Hel", "lo.")
    sent[1].choices[0].logprobs = {"content": [{"token": "lo.", "logprob": -0.1, "top_logprobs": []}]}
    assert kept_stream("chat", sent, (1, 1), {}) is None


EVENTS = [
    b'event: message_start\ndata: {"message": {"stop_reason": null}}\n\n',
    b'data: {"delta": {"stop_reason": "%s"}}\n\n',
]


def test_anthropics_events_come_back_byte_by_byte() -> None:
    sent = [EVENTS[0], "data: Größe\n\n".encode()[:8], "data: Größe\n\n".encode()[8:], EVENTS[1] % b"end_turn"]
    values = kept_stream("messages", sent, (1, 1), {})
    assert list(again(json.loads(json.dumps(values)), "messages", stream=True)) == sent
    assert kept_stream("messages", [EVENTS[0], EVENTS[1] % b"refusal"], (1, 1), {}) is None
