"""LiteLLM's chat stream inside the streams that translate it into another wire."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any, Final

import litellm

from wallie_litellm.litellm_adapter.wires.fields import value_of

# Under these names LiteLLM's wrappers hold the stream that they translate.
_INNER_STREAMS: Final = ("litellm_custom_stream_wrapper", "inner", "completion_stream")
_DEEPEST: Final = 8  # streams one inside the other


def chat_stream_within(stream: Any, depth: int = _DEEPEST) -> Any:
    """LiteLLM's chat stream, which has the provider's usage and finish reason; ``None`` where there is none.

    Of a generator it is one of the variables, and not before the generator has run.
    """
    if isinstance(stream, litellm.CustomStreamWrapper) and not _is_outer(stream):
        return stream
    if depth:
        for inner in _within(stream):
            if (found := chat_stream_within(inner, depth - 1)) is not None:
                return found
    return None


def has_usage(stream: Any) -> bool:
    """Whether a provider reported usage: LiteLLM keeps all chunks, and its own count is on none of them."""
    return any(getattr(chunk, "usage", None) is not None for chunk in kept_chunks(stream))


def kept_chunks(stream: Any) -> list[Any]:
    """The chunks that LiteLLM has kept of a chat stream, those with usage alone included."""
    chunks = getattr(stream, "chunks", None)
    return chunks if isinstance(chunks, list) else []


def ends_with_usage(stream: Any) -> bool:
    """Whether usage came with a chat stream's last text or after it.

    Some local servers send no finish reason, and LiteLLM (1.106) drops Gemini's when a chunk with usage alone follows.
    """
    for chunk in reversed(kept_chunks(stream)):
        if getattr(chunk, "usage", None) is not None:
            return True
        choices = value_of(chunk, "choices")
        if choices and value_of(value_of(choices[0], "delta"), "content"):
            return False
    return False


def is_mock(stream: Any) -> bool:
    """Whether a chat stream is LiteLLM's own mock answer: a plain generator, which LiteLLM drops at its end."""
    inner = getattr(stream, "completion_stream", None)
    return inspect.isasyncgen(inner) or inspect.isgenerator(inner)


def chat_was_ended(stream: Any) -> bool:
    """Whether the provider ended an exhausted chat stream."""
    names = ("received_finish_reason", "intermittent_finish_reason")
    return any(getattr(stream, name, None) for name in names) or ends_with_usage(stream)


def _is_outer(stream: Any) -> bool:
    """Whether this is the stream of a generator that reads another one, as LiteLLM's Router (1.106) has it."""
    return is_mock(stream) and chat_stream_within(stream.completion_stream) is not None


def _within(stream: Any) -> Iterator[Any]:
    if inspect.isasyncgen(stream):
        frame = stream.ag_frame
    elif inspect.isgenerator(stream):
        frame = stream.gi_frame
    else:
        yield from (inner for name in _INNER_STREAMS if (inner := getattr(stream, name, None)) is not None)
        return
    if frame is not None:
        yield from (value for value in frame.f_locals.values() if _may_hold(value))


def _may_hold(value: Any) -> bool:
    if inspect.isasyncgen(value) or inspect.isgenerator(value) or isinstance(value, litellm.CustomStreamWrapper):
        return True
    return any(name in getattr(value, "__dict__", ()) for name in _INNER_STREAMS)
