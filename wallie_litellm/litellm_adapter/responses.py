"""LiteLLM's responses and streams: the tokens that they report, and how they end."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from functools import lru_cache
from math import ceil
from typing import Any, Final, NamedTuple

import litellm

from wallie_litellm.core.demand import Demand
from wallie_litellm.core.token_estimate import CHARACTERS_PER_TOKEN, count_characters

# Under these names LiteLLM's wrappers for the Responses and Anthropic formats hold the chat stream they translate.
_INNER_STREAMS: Final = ("litellm_custom_stream_wrapper", "completion_stream")
PLAUSIBLE_TOKENS: Final = 10**9  # tokens of one call: a report of more is wrong
# Anthropic's names of errors: https://docs.anthropic.com/en/api/errors
_ERROR_TYPES: Final = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
_LAST_EVENTS: Final = frozenset({"message_stop", "response.completed", "response.incomplete"})


def value_of(thing: Any, name: str) -> Any:
    """The value under ``name`` of a mapping or an object, else ``None``: the wire formats come as either."""
    return thing.get(name) if isinstance(thing, Mapping) else getattr(thing, name, None)


@lru_cache(maxsize=256)
def iterates(kind: type) -> bool:
    """Whether responses of this type are streams. Cached: pydantic makes a missing attribute costly to ask for."""
    return hasattr(kind, "__anext__") or hasattr(kind, "__next__")


def is_cached_stream(stream: Any) -> bool:
    """Whether LiteLLM streams an answer from its own cache."""
    return getattr(stream, "custom_llm_provider", None) == "cached_response"


def headers_of(response: Any) -> dict[str, Any] | None:
    """The headers that LiteLLM keeps with a response or a stream, to be added to; ``None`` where it can keep none."""
    hidden = value_of(response, "_hidden_params")
    if not isinstance(hidden, dict):
        return None
    found = hidden.get("additional_headers")
    if not isinstance(found, dict):
        found = hidden["additional_headers"] = {}
    return found


def is_filtered(response: Any) -> bool:
    """Whether the provider's content filter has emptied an answer."""
    if not isinstance(response, litellm.ModelResponse):
        return False
    return any(value_of(choice, "finish_reason") == "content_filter" for choice in response.choices[:1])


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


def stream_was_ended(stream: Any, marked: bool) -> bool:
    """Whether the provider ended an exhausted stream, rather than the connection just closing.

    LiteLLM makes up a finish reason for a connection that closes, and keeps the received one apart. ``marked`` is
    whether one of the chunks was an end. A plain generator is LiteLLM's own mock answer.
    """
    source = getattr(stream, "completion_stream", None)
    if source is None or inspect.isasyncgen(source) or inspect.isgenerator(source):
        return marked or source is not None
    return any(getattr(stream, name, None) for name in ("received_finish_reason", "intermittent_finish_reason"))


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
    """The usage that an answer in one piece reports.

    ``usage`` are its tokens and ``reported`` the same as the provider wrote it down, with its details; ``cost`` is in
    US dollars by LiteLLM's own calculation. All are ``None`` where the answer reports nothing.
    """

    usage: Demand | None
    reported: Any
    cost: float | None
    from_cache: bool


def answer_of(response: Any) -> UsageReport:
    """The report of a response, read once: a missing attribute of pydantic's models is costly to ask for."""
    raw = value_of(response, "usage")
    usage = None if raw is None else tokens_of(raw)
    hidden = getattr(response, "_hidden_params", None)
    if not isinstance(hidden, Mapping):
        return UsageReport(usage, raw if usage is not None else None, None, False)
    cost = hidden.get("response_cost")
    return UsageReport(
        usage,
        raw if usage is not None else None,
        float(cost) if isinstance(cost, int | float) else None,
        hidden.get("cache_hit") is True,
    )


def tokens_of(usage: Any) -> Demand | None:
    """The tokens of a reported usage, including those read from or written to the provider's prompt cache."""
    if isinstance(usage, litellm.Usage) and usage.total_tokens > 0:  # the usual case, without any lookup by name
        return Demand(1, usage.total_tokens, usage.prompt_tokens, usage.completion_tokens)
    tokens_in = value_of(usage, "prompt_tokens")
    tokens_out = value_of(usage, "completion_tokens")
    if tokens_in is None:
        tokens_in, tokens_out = value_of(usage, "input_tokens"), value_of(usage, "output_tokens")
        # Anthropic counts the tokens of its prompt cache apart from input_tokens.
        cached = [value_of(usage, name) for name in ("cache_read_input_tokens", "cache_creation_input_tokens")]
        tokens_in = None if tokens_in is None else tokens_in + sum(count or 0 for count in cached)
    if not isinstance(tokens_in, int) or not 0 <= tokens_in <= PLAUSIBLE_TOKENS:
        return None
    tokens_out = tokens_out if isinstance(tokens_out, int) and tokens_out > 0 else 0
    total = value_of(usage, "total_tokens")
    total = total if isinstance(total, int) and total else tokens_in + tokens_out
    return Demand(1, total, tokens_in, tokens_out) if 0 < total <= PLAUSIBLE_TOKENS else None


class StreamMeter:
    """Counts what a stream delivers, chunk by chunk: the usage it reports, else the characters delivered.

    ``source`` is LiteLLM's stream; it shows whether a count of tokens is the provider's or LiteLLM's own.
    """

    def __init__(self, estimate: Demand, source: Any = None) -> None:
        self._estimate = estimate
        self._source = source
        self._raw: Any = None
        self._tokens: Demand | None = None  # the tokens of _raw
        self._characters = 0
        self._sse = b""
        self.begun = False  # a chunk has come
        self.finished = False
        self.failed: int | None = None  # the HTTP status in an error event

    @property
    def reported(self) -> Any | None:
        """The usage as the provider reports it, over all events; ``None`` until it has reported an output."""
        if self._tokens is None or not self._tokens.output or _litellm_counted(self._source):
            return None
        return self._raw

    @property
    def has_content(self) -> bool:
        """Whether any part of an answer has been delivered."""
        return self._characters > 0

    @property
    def ends_with_usage(self) -> bool:
        """Whether usage came with the last text: some local servers say it on every chunk, and no finish reason."""
        for chunk in reversed(getattr(self._source, "chunks", None) or ()):
            choices = value_of(chunk, "choices")
            if choices and value_of(value_of(choices[0], "delta"), "content"):
                return value_of(chunk, "usage") is not None
        return False

    def see(self, chunk: Any) -> None:
        """Count one chunk: a chat chunk, a Responses event, or raw server-sent events."""
        self.begun = True
        if isinstance(chunk, bytes | bytearray | str):
            self._see_events(chunk.encode() if isinstance(chunk, str) else bytes(chunk))
        elif (choices := value_of(chunk, "choices")) is not None:
            self._see_chat(chunk, choices)
        else:
            self._see_event(chunk)

    def usage(self) -> Demand:
        """The usage so far: reported, else estimated from the characters delivered."""
        if self._tokens is not None and self._tokens.output:
            return self._tokens
        tokens_in = self._tokens.input if self._tokens is not None else self._estimate.input
        tokens_out = ceil(self._characters / CHARACTERS_PER_TOKEN)
        return Demand(1, tokens_in + tokens_out, tokens_in, tokens_out)

    def _see_chat(self, chunk: Any, choices: Any) -> None:
        for choice in choices:
            if value_of(choice, "finish_reason"):
                self.finished = True
            delta = value_of(choice, "delta")
            for field in ("content", "reasoning_content"):
                text = value_of(delta, field)
                if isinstance(text, str):
                    self._characters += len(text)
            for call in value_of(delta, "tool_calls") or ():
                arguments = value_of(value_of(call, "function"), "arguments")
                self._characters += len(arguments) if isinstance(arguments, str) else 0
        usage = value_of(chunk, "usage")
        if usage is None and self.finished and not isinstance(chunk, Mapping):
            # Where the caller did not ask for the usage, LiteLLM keeps the provider's report here.
            usage = (getattr(chunk, "_hidden_params", None) or {}).get("usage")
        self._note(usage)

    def _see_event(self, event: Any) -> None:
        kind = value_of(event, "type")
        kind = getattr(kind, "value", kind)
        delta = value_of(event, "delta")
        if isinstance(delta, str):
            self._characters += len(delta)
        elif delta is not None:
            texts = (value_of(delta, name) for name in ("text", "thinking", "partial_json"))
            self._characters += count_characters([text for text in texts if text])
        if kind in _LAST_EVENTS:
            self.finished = True
        elif kind == "error":
            self.failed = _ERROR_TYPES.get(str(value_of(value_of(event, "error"), "type")), 500)
        for name in ("response", "message"):
            if (holder := value_of(event, name)) is not None:
                self._note(value_of(holder, "usage"), begins=kind == "message_start")
        self._note(value_of(event, "usage"))

    def _note(self, usage: Any, *, begins: bool = False) -> None:
        if usage is None:
            return
        if isinstance(usage, Mapping):  # Anthropic reports input and output in two events
            known = self._raw if isinstance(self._raw, Mapping) else {}
            usage = {**known, **{name: value for name, value in usage.items() if value is not None}}
            if begins:
                usage.pop("output_tokens", None)  # of the first few tokens only
        tokens = tokens_of(usage)
        if tokens is not None:
            self._raw, self._tokens = usage, tokens

    def _see_events(self, data: bytes) -> None:
        self._sse += data
        *lines, self._sse = self._sse.split(b"\n")
        for line in lines:
            if not line.startswith(b"data:"):
                continue
            try:
                event = json.loads(line[5:])
            except ValueError:
                continue
            if isinstance(event, dict):
                self._see_chat(event, event["choices"]) if "choices" in event else self._see_event(event)


def _litellm_counted(stream: Any) -> bool:
    """Whether the usage of a finished stream is LiteLLM's own count: then no chunk that it kept has one."""
    for _ in range(3):
        chunks = getattr(stream, "chunks", None)
        if isinstance(chunks, list):
            return all(getattr(chunk, "usage", None) is None for chunk in reversed(chunks))
        stream = next((inner for name in _INNER_STREAMS if (inner := getattr(stream, name, None)) is not None), None)
    return False
