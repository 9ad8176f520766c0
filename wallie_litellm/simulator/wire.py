"""What every vendor's wire format has to offer the simulated server."""

from __future__ import annotations

import json
import math
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from wallie_litellm.simulator.limit_header_values import limit_headers
from wallie_litellm.simulator.limits import Charge, LimitVerdict, Meters
from wallie_litellm.simulator.tool_calls import ToolCall

Json = dict[str, Any]
RetryAfter = float | str | None

# Where a request states the most tokens of its answer.
_MAX_OUTPUT: Final = ("max_completion_tokens", "max_output_tokens", "max_tokens", "maxOutputTokens")


@dataclass(frozen=True)
class Ask:
    """A model request, read from the vendor's format."""

    kind: str  # which of the vendor's endpoints was called
    model: str
    prompt_chars: int
    stream: bool
    body: Json
    answers: bool = True  # false for embeddings, which have no completion tokens

    @property
    def prompt_tokens(self) -> int:
        """A quarter of the characters, rounded up."""
        return math.ceil(self.prompt_chars / 4)

    @property
    def max_output(self) -> int | None:
        """The most tokens of the answer, where the request states it."""
        places = (self.body, self.body.get("generationConfig") or {})
        stated = (place.get(key) for key in _MAX_OUTPUT for place in places)
        return next((value for value in stated if isinstance(value, int)), None)

    @property
    def prefill(self) -> str:
        """The beginning of the answer, where the last message is the assistant's; else empty."""
        messages = self.body.get("messages")
        last = messages[-1] if isinstance(messages, list) and messages else None
        if not isinstance(last, dict) or last.get("role") != "assistant":
            return ""
        return text_of(last.get("content"))


@dataclass(frozen=True)
class WireAnswer:
    """The answer's text, and the tokens that the provider counts for it."""

    serial: int
    created: int  # unix time in seconds
    text: str
    prompt_tokens: int
    completion_tokens: int
    with_usage: bool = True
    with_finish: bool = True  # without it a stream never says why it ended, and has usage on every chunk
    call: ToolCall | None = None  # in place of the text
    cached_tokens: int = 0  # tokens of the prompt that were read from the cache
    cache_write_tokens: int = 0  # tokens of the prompt that were written to it

    @property
    def total_tokens(self) -> int:
        """Prompt and completion together."""
        return self.prompt_tokens + self.completion_tokens

    @property
    def pieces(self) -> list[str]:
        """The text word by word, as a stream delivers it."""
        return re.findall(r"\S+\s*", self.text) or [self.text]


@dataclass(frozen=True)
class WireReply:
    """A complete answer over HTTP; a string body goes out as it is."""

    status: int
    body: Any
    headers: Mapping[str, str] = field(default_factory=dict)

    def payload(self) -> bytes:
        """The body's bytes."""
        return (self.body if isinstance(self.body, str) else json.dumps(self.body)).encode()


@dataclass(frozen=True)
class Event:
    """One server-sent event; ``content`` is True for those that carry a piece of the text."""

    payload: bytes
    content: bool = False


class Wire(ABC):
    """A vendor's HTTP format: its routes, bodies, streams, errors and headers."""

    vendor = ""  # the name of its headers' vocabulary
    api_path = ""  # what LiteLLM's api_base has after the host for this vendor
    counts_cached = True  # whether limits count prompt tokens that were read from the cache
    counts_output = True  # whether limits on tokens count answers
    reserves_output = False  # whether a request is charged its stated maximum of output until it has ended
    day_zone = "UTC"  # where the vendor's daily limits reset

    @abstractmethod
    def parse(self, path: str, body: Json) -> Ask | None:
        """The request, or None when this vendor has no such path."""

    @abstractmethod
    def complete(self, ask: Ask, answer: WireAnswer) -> Json:
        """The answer in one piece."""

    @abstractmethod
    def stream(self, ask: Ask, answer: WireAnswer) -> Iterable[Event]:
        """The answer as server-sent events."""

    @abstractmethod
    def failure(self, status: int, model: str, serial: int) -> WireReply:
        """The vendor's error body for a status."""

    @abstractmethod
    def limited(self, verdict: LimitVerdict, meters: Meters, model: str, serial: int) -> WireReply:
        """The vendor's 429 for one of its own limits."""

    @abstractmethod
    def rate_limited(self, retry_after: RetryAfter, model: str, serial: int) -> WireReply:
        """A 429 that claims ``retry_after``, whatever is true."""

    @abstractmethod
    def content_policy(self, model: str, serial: int) -> WireReply:
        """The vendor's refusal of a prompt."""

    @abstractmethod
    def context_window(self, model: str, serial: int) -> WireReply:
        """The vendor's refusal of a prompt that is too long."""

    @abstractmethod
    def quota_exhausted(self, model: str, serial: int) -> WireReply:
        """The vendor's refusal of an account without money or quota."""

    @abstractmethod
    def prefill_refused(self, model: str, serial: int) -> WireReply:
        """The refusal of a request whose last message is the assistant's."""

    def invalid(self, ask: Ask, serial: int) -> WireReply | None:
        """The vendor's refusal of a request that breaks its rules; None for one that keeps them."""
        return None

    def error_events(self, ask: Ask, answer: WireAnswer, status: int) -> bytes:
        """An error in the middle of a 200: what the vendor sends in place of the rest of the stream."""
        return sse(self.failure(status, ask.model, answer.serial).body)

    def charge_of(self, answer: WireAnswer) -> Charge:
        """What the vendor's limits count of a request and its answer."""
        cached = 0 if self.counts_cached else answer.cached_tokens
        return Charge(answer.prompt_tokens - cached, answer.completion_tokens if self.counts_output else 0)

    def limit_headers(self, meters: Meters, kind: str = "") -> dict[str, str]:
        """The rate-limit headers of every answer from the endpoint ``kind``; none unless the vendor sends some."""
        return limit_headers(self.vendor, meters, datetime.fromtimestamp(time.time(), UTC))

    def request_id(self, serial: int) -> dict[str, str]:
        """The header in which the vendor names the request."""
        return {}


def text_chars(value: Any) -> int:
    """Characters of text in a message, a list of them, or any nesting of ``text``/``content``/``parts``."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, list):
        return sum(text_chars(item) for item in value)
    if isinstance(value, dict):
        return sum(text_chars(value[key]) for key in ("text", "content", "parts", "input") if key in value)
    return 0


def text_of(content: Any) -> str:
    """The text of a message's content, a string or a list of parts."""
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def retry_after_header(retry_after: RetryAfter) -> dict[str, str]:
    """A Retry-After header with the value as given; none for None."""
    if retry_after is None:
        return {}
    text = retry_after if isinstance(retry_after, str) else f"{retry_after:g}"
    return {"retry-after": text}


def whole_seconds(seconds: float) -> str:
    """A wait rounded up to whole seconds, at least 1, as vendors send Retry-After."""
    return str(max(1, math.ceil(seconds)))


def sse(data: Json | str, event: str | None = None) -> bytes:
    """One server-sent event."""
    text = data if isinstance(data, str) else json.dumps(data)
    return (f"event: {event}\n" if event else "").encode() + f"data: {text}\n\n".encode()
