"""Answers as text that can be kept, and as LiteLLM's objects again: whole, or as a stream of the same wire."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import litellm
from litellm.types.llms import openai as responses_wire
from litellm.types.utils import ModelResponseStream

from wallie_litellm.core.operations import CHAT, RESPONSES
from wallie_litellm.litellm_adapter.wires.fields import value_of

_Made = Callable[..., Any]
_KINDS: Final[Mapping[str, _Made]] = {
    CHAT: litellm.ModelResponse,
    "text_completion": litellm.TextCompletionResponse,
    "embedding": litellm.EmbeddingResponse,
    RESPONSES: responses_wire.ResponsesAPIResponse,
    "messages": dict,
}
_WHOLE: Final = frozenset({"stop", "tool_calls", "function_call", "length"})  # finish reasons of whole answers
_WHOLE_MESSAGES: Final = frozenset({"end_turn", "max_tokens", "stop_sequence", "tool_use"})  # Anthropic's stop reasons
_STOP_REASON: Final = re.compile(r'"stop_reason":\s*"(\w+)"')
_OUTPUT_LIMITS: Final = ("max_tokens", "max_completion_tokens", "max_output_tokens")
# Fields of an assistant's message that a chunk of a stream has too.
_IN_CHUNKS: Final = (
    "annotations", "content", "function_call", "images", "provider_specific_fields", "reasoning_content",
    "reasoning_items", "refusal", "role", "thinking_blocks", "tool_calls",
)  # fmt: skip


def kept_answer(operation: str, response: Any, arguments: Mapping[str, Any]) -> Any:
    """An answer in one piece as JSON's values; ``None`` where it is not fit to be given again.

    Fit is what the model has finished: no answer that a filter has emptied, none that was cut at a limit which the
    request did not state, and none with a recording, as that expires at the vendor.
    """
    if operation not in _KINDS:
        return None
    plain = response if isinstance(response, dict) else response.model_dump(mode="json", warnings=False)
    if operation == "messages":
        fit = plain.get("stop_reason") in _WHOLE_MESSAGES
    elif operation == RESPONSES:
        fit = plain.get("status") == "completed"
    elif operation == "embedding":
        fit = bool(plain.get("data"))
    else:
        fit = _are_whole(plain.get("choices") or (), states_limit=any(map(arguments.get, _OUTPUT_LIMITS)))
    return {name: value for name, value in plain.items() if name != "_hidden_params"} if fit else None


def _are_whole(choices: Sequence[Mapping[str, Any]], *, states_limit: bool) -> bool:
    for choice in choices:
        reason = choice.get("finish_reason")
        if reason not in _WHOLE or (reason == "length" and not states_limit):
            return False
        if (choice.get("message") or {}).get("audio"):
            return False
    return bool(choices)


def kept_stream(operation: str, chunks: Sequence[Any], tokens: tuple[int, int], arguments: Mapping[str, Any]) -> Any:
    """The chunks of a finished stream as JSON's values; ``None`` where they are not fit to be given again.

    ``tokens`` are those of the prompt and of the answer, for a stream that does not say them: LiteLLM would count.
    """
    if operation == "messages":
        return _kept_bytes(chunks)
    if operation == RESPONSES:
        return _kept_events(chunks)
    chunks = [chunk for chunk in chunks if chunk is not None]
    if not chunks or any(map(_has_logprobs, chunks)):  # LiteLLM's builder leaves these out
        return None
    if all(value_of(chunk, "usage") is None for chunk in chunks):
        prompt, output = tokens
        usage = litellm.Usage(prompt_tokens=prompt, completion_tokens=output, total_tokens=prompt + output)
        chunks.append(ModelResponseStream(id=chunks[0].id, model=chunks[0].model, choices=[], usage=usage))
    whole = litellm.stream_chunk_builder(chunks)
    return None if whole is None else kept_answer(operation, whole, arguments)


def _has_logprobs(chunk: Any) -> bool:
    return any(value_of(choice, "logprobs") is not None for choice in value_of(chunk, "choices") or ())


def _kept_bytes(chunks: Sequence[Any]) -> list[str] | None:
    """Anthropic's events, as they were sent."""
    if not chunks or not all(isinstance(chunk, bytes) for chunk in chunks):
        return None
    reasons = _STOP_REASON.findall(b"".join(chunks).decode("utf-8", "replace"))
    if not reasons or reasons[-1] not in _WHOLE_MESSAGES:
        return None
    return [chunk.decode("utf-8", "surrogateescape") for chunk in chunks]


def _kept_events(events: Sequence[Any]) -> list[tuple[str, Any]] | None:
    """The events of a Responses stream, with the names of LiteLLM's classes of them."""
    if not events or value_of(events[-1], "type") != "response.completed":
        return None
    return [(type(event).__name__, event.model_dump(mode="json", warnings=False)) for event in events]


def _event_again(kept: str | list[Any]) -> Any:
    if isinstance(kept, str):
        return kept.encode("utf-8", "surrogateescape")
    name, values = kept
    return getattr(responses_wire, name)(**values)


def answer_again(operation: str, kept: Any, *, stream: bool, with_usage: bool) -> Any:
    """A kept answer as LiteLLM's object, made anew: a response, or with ``stream`` a :class:`Replay` of it."""
    if isinstance(kept, list):
        return Replay(list(map(_event_again, kept)))
    if stream:
        return Replay(_chunks_of(kept, with_usage=with_usage))
    return _whole(operation, kept)


def whole_again(operation: str, kept: Any) -> Any:
    """What LiteLLM logs of a stream that is made of a kept answer: all of it; ``None`` where nothing has it in one."""
    if not isinstance(kept, list):
        return _whole(operation, kept)
    return _event_again(kept[-1]) if operation == RESPONSES else None  # the last event has the response


def _whole(operation: str, kept: Mapping[str, Any]) -> Any:
    answer = _KINDS[operation](**kept)
    if isinstance(answer, dict):
        answer["_hidden_params"] = _hidden()
    else:
        answer._hidden_params = _hidden()
    return answer


def _hidden() -> dict[str, Any]:
    return {"cache_hit": True, "response_cost": 0.0, "additional_headers": {}}


def _chunks_of(kept: Mapping[str, Any], *, with_usage: bool) -> list[ModelResponseStream]:
    """A chat's answer in chunks: all of each choice in one, then its finish reason, then the usage if asked for."""
    same = {name: kept[name] for name in ("id", "created", "model", "system_fingerprint") if kept.get(name) is not None}

    def chunk(choices: list[Any], **more: Any) -> ModelResponseStream:
        return ModelResponseStream(choices=choices, **same, **more)

    chunks = []
    for choice in kept["choices"]:
        delta = {name: value for name in _IN_CHUNKS if (value := choice["message"].get(name)) is not None}
        first = {"index": choice["index"], "delta": delta, "logprobs": choice.get("logprobs")}
        last = {"index": choice["index"], "delta": {}, "finish_reason": choice["finish_reason"]}
        chunks += [chunk([first]), chunk([last])]
    if with_usage and kept.get("usage"):
        chunks.append(chunk([], usage=kept["usage"]))
    return chunks


def type_of_streams() -> type:
    """LiteLLM's class of streams."""
    found: type = litellm.CustomStreamWrapper
    return found


class Replay:
    """A kept answer as a stream, synchronous or not."""

    def __init__(self, chunks: Sequence[Any]) -> None:
        self._chunks = iter(chunks)
        vars(self)["_hidden_params"] = _hidden()  # LiteLLM's name for it

    @property  # type: ignore[misc] # `object` has it read-write
    def __class__(self) -> type:  # LiteLLM and others ask for LiteLLM's class of streams
        return type_of_streams()

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        for chunk in self._chunks:
            return chunk
        raise StopAsyncIteration

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return next(self._chunks)

    async def aclose(self) -> None:
        """Give nothing more."""
        self.close()

    def close(self) -> None:
        """:meth:`aclose` for a synchronous stream."""
        self._chunks = iter(())
