"""OpenAI's Responses API: the answer in one piece and as events, after OpenAI's API reference."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from wallie_litellm.simulator.tool_calls import ToolCall
from wallie_litellm.simulator.wire import Ask, Event, Json, WireAnswer, sse

_CONTENT: Final = ("response.output_text.delta", "response.function_call_arguments.delta")


def complete(ask: Ask, answer: WireAnswer) -> Json:
    """A completed response object."""
    return {
        **_head(ask, answer, "completed"),
        "output": [_output(answer, "completed")],
        "usage": _usage(answer) if answer.with_usage else None,
    }


def stream(ask: Ask, answer: WireAnswer) -> Iterator[Event]:
    """The events from ``response.created`` to ``response.completed``, numbered in sequence."""
    for number, (kind, fields) in enumerate(_events(ask, answer)):
        data = {"type": kind, "sequence_number": number, **fields}
        yield Event(sse(data, kind), content=kind in _CONTENT)


def failed(ask: Ask, answer: WireAnswer) -> bytes:
    """The event ``response.failed``."""
    error = {"code": "server_error", "message": "The model failed to generate a response."}
    response = {**_head(ask, answer, "failed"), "error": error, "output": [], "usage": None}
    return sse({"type": "response.failed", "sequence_number": 0, "response": response}, "response.failed")


def _events(ask: Ask, answer: WireAnswer) -> Iterator[tuple[str, Json]]:
    started = {**_head(ask, answer, "in_progress"), "output": [], "usage": None}
    item = {"output_index": 0}
    place = {"item_id": f"msg_sim{answer.serial:08d}", "output_index": 0, "content_index": 0}
    yield "response.created", {"response": started}
    yield "response.in_progress", {"response": started}
    if answer.call is not None:
        yield from _call_events(answer, answer.call)
        yield "response.completed", {"response": complete(ask, answer)}
        return
    yield "response.output_item.added", {**item, "item": _message(answer, "in_progress", [])}
    yield "response.content_part.added", {**place, "part": _part("")}
    for piece in answer.pieces:
        yield "response.output_text.delta", {**place, "delta": piece, "logprobs": []}
    yield "response.output_text.done", {**place, "text": answer.text, "logprobs": []}
    yield "response.content_part.done", {**place, "part": _part(answer.text)}
    yield "response.output_item.done", {**item, "item": _output(answer, "completed")}
    yield "response.completed", {"response": complete(ask, answer)}


def _call_events(answer: WireAnswer, call: ToolCall) -> Iterator[tuple[str, Json]]:
    begun = {**_output(answer, "in_progress"), "arguments": ""}
    place = {"item_id": begun["id"], "output_index": 0}
    yield "response.output_item.added", {"output_index": 0, "item": begun}
    for piece in call.pieces:
        yield "response.function_call_arguments.delta", {**place, "delta": piece}
    yield "response.function_call_arguments.done", {**place, "name": call.name, "arguments": call.text}
    yield "response.output_item.done", {"output_index": 0, "item": _output(answer, "completed")}


def _output(answer: WireAnswer, status: str) -> Json:
    call = answer.call
    if call is None:
        return _message(answer, status, [_part(answer.text)])
    head = {"id": f"fc_sim{answer.serial:08d}", "type": "function_call", "status": status}
    return {**head, "call_id": call.id, "name": call.name, "arguments": call.text}


def _head(ask: Ask, answer: WireAnswer, status: str) -> Json:
    return {
        "id": f"resp_sim{answer.serial:08d}",
        "object": "response",
        "created_at": answer.created,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "instructions": ask.body.get("instructions"),
        "max_output_tokens": ask.body.get("max_output_tokens"),
        "metadata": {},
        "model": ask.model,
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None},
        "service_tier": "default",
        "store": True,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "user": None,
    }


def _message(answer: WireAnswer, status: str, content: list[Json]) -> Json:
    return {
        "id": f"msg_sim{answer.serial:08d}",
        "type": "message",
        "status": status,
        "role": "assistant",
        "content": content,
    }


def _part(text: str) -> Json:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _usage(answer: WireAnswer) -> Json:
    return {
        "input_tokens": answer.prompt_tokens,
        "input_tokens_details": {"cached_tokens": answer.cached_tokens},
        "output_tokens": answer.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": answer.total_tokens,
    }
