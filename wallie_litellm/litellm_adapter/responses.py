"""LiteLLM's responses: what they report, what they say, and of which kind they are."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from math import ceil
from typing import Any, Final, NamedTuple

import litellm

from wallie_litellm.core.demand import Demand
from wallie_litellm.core.token_estimate import CHARACTERS_PER_TOKEN
from wallie_litellm.litellm_adapter.wires.chat import ChatReader
from wallie_litellm.litellm_adapter.wires.fields import hidden_params_of, value_of
from wallie_litellm.litellm_adapter.wires.reader import StreamReader
from wallie_litellm.litellm_adapter.wires.usage import tokens_of

_NO_HEADERS: Final[Mapping[str, str]] = {}


@lru_cache(maxsize=256)
def iterates(kind: type) -> bool:
    """Whether responses of this type are streams. Cached: pydantic makes a missing attribute costly to ask for."""
    return hasattr(kind, "__anext__") or hasattr(kind, "__next__")


def is_cached_stream(stream: Any) -> bool:
    """Whether LiteLLM streams an answer from its own cache."""
    return getattr(stream, "custom_llm_provider", None) == "cached_response"


def answer_headers(response: Any) -> Mapping[str, str]:
    """The vendor's headers of a response, or of a stream that has begun, as LiteLLM keeps them."""
    found = value_of(hidden_params_of(response), "additional_headers")
    return found if type(found) is dict else _NO_HEADERS


def deployment_id_of(response: Any) -> str | None:
    """The id of the deployment that answered."""
    key = value_of(hidden_params_of(response), "model_id")
    return str(key) if key else None


def is_filtered(response: Any) -> bool:
    """Whether the provider's content filter has emptied an answer."""
    if not isinstance(response, litellm.ModelResponse):
        return False
    choices = response.choices
    return bool(choices) and value_of(choices[0], "finish_reason") == "content_filter"


def text_of_chunk(chunk: Any) -> str | None:
    """The text in a chat chunk; ``None`` where it has anything else of an answer, such as a part of a tool call."""
    choices = value_of(chunk, "choices")
    if choices is None or len(choices) > 1:
        return None
    delta = value_of(choices[0], "delta") if choices else None
    others = ("tool_calls", "function_call", "audio", "images", "reasoning_content", "thinking_blocks")
    if any(value_of(delta, name) for name in others):
        return None
    return str(value_of(delta, "content") or "")


def response_headers(error: BaseException) -> Mapping[str, str] | None:
    """The provider's response headers, from wherever this exception keeps them."""
    for found in (
        getattr(error, "litellm_response_headers", None),
        getattr(getattr(error, "response", None), "headers", None),
        getattr(error, "headers", None),
    ):
        if isinstance(found, Mapping) and found:
            return dict(found)
    return None


class UsageReport(NamedTuple):
    """The usage of an answer in one piece.

    ``usage`` are its tokens and ``reported`` the same as the provider wrote it down, with its details; ``cost`` is in
    US dollars by LiteLLM's own calculation. All are ``None`` where the answer reports nothing.
    """

    usage: Demand | None
    reported: Any
    cost: float | None
    from_cache: bool


def answer_of(response: Any, wire: type[StreamReader] = ChatReader) -> UsageReport:
    """The report of a response, read once: a missing attribute of pydantic's models is costly to ask for."""
    raw = wire.usage_in(response)
    usage = None if raw is None else tokens_of(raw)
    cost, from_cache = None, False
    hidden = hidden_params_of(response)
    if isinstance(hidden, dict):
        cost, from_cache = hidden.get("response_cost"), hidden.get("cache_hit") is True
    cost = float(cost) if isinstance(cost, int | float) else None
    return UsageReport(usage, None if usage is None else raw, cost, from_cache)


def counted_usage(response: Any, wire: type[StreamReader], prompt_tokens: int) -> Demand:
    """The usage of an answer that reports none: the estimated prompt, and the output by its text."""
    tokens_out = ceil(wire.characters_in(response) / CHARACTERS_PER_TOKEN)
    return Demand(1, prompt_tokens + tokens_out, prompt_tokens, tokens_out)
