"""Anthropic's Messages API: bodies, events, errors and headers after its API reference."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

from wallie_litellm.simulator.buckets import Meter
from wallie_litellm.simulator.limits import LimitName, LimitVerdict, Meters
from wallie_litellm.simulator.tool_calls import ToolCall
from wallie_litellm.simulator.wire import (
    Ask,
    Event,
    Json,
    RetryAfter,
    Wire,
    WireAnswer,
    WireReply,
    retry_after_header,
    sse,
    text_chars,
    whole_seconds,
)

_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_MESSAGES: Final = {401: "invalid x-api-key", 500: "Internal server error", 529: "Overloaded"}
_LIMIT_WORDS: dict[LimitName, str] = {
    "rpm": "requests per minute",
    "tpm": "tokens per minute",
    "itpm": "input tokens per minute",
    "otpm": "output tokens per minute",
    "rpd": "requests per day",
    "tpd": "tokens per day",
    "concurrency": "concurrent connections",
}
_SPLIT: Final[tuple[LimitName, ...]] = ("itpm", "otpm")


def _stop_reason(answer: WireAnswer) -> str:
    return "end_turn" if answer.call is None else "tool_use"


def _tool_use(call: ToolCall, given: Json) -> Json:
    return {"type": "tool_use", "id": call.id, "name": call.name, "input": given}


def _deltas(answer: WireAnswer) -> list[Json]:
    if answer.call is None:
        return [{"type": "text_delta", "text": piece} for piece in answer.pieces]
    return [{"type": "input_json_delta", "partial_json": piece} for piece in answer.call.pieces]


class AnthropicWire(Wire):
    """``POST /v1/messages``, streamed and not.

    Its limits count neither cache reads nor ``max_tokens``: its rate-limits page.
    """

    vendor = "anthropic"
    counts_cached = False

    def parse(self, path: str, body: Json) -> Ask | None:
        """Any prefix before ``/messages``."""
        if not path.endswith("/messages"):
            return None
        chars = text_chars(body.get("system")) + text_chars(body.get("messages"))
        return Ask("messages", str(body.get("model", "")), chars, bool(body.get("stream")), body)

    def complete(self, ask: Ask, answer: WireAnswer) -> Json:
        """A whole message."""
        content: list[Json] = [{"type": "text", "text": answer.text}]
        if answer.call is not None:
            content = [_tool_use(answer.call, answer.call.arguments)]
        usage = self._usage(answer, answer.completion_tokens)
        return {**self._head(ask, answer), "content": content, "stop_reason": _stop_reason(answer), "usage": usage}

    def stream(self, ask: Ask, answer: WireAnswer) -> Iterator[Event]:
        """The documented order of events; input tokens come first, output tokens with the end."""

        def event(kind: str, fields: Json | None = None, *, content: bool = False) -> Event:
            return Event(sse({"type": kind, **(fields or {})}, kind), content)

        # message_start always has a usage object on the wire; "no usage" is one that counts nothing.
        usage = self._usage(answer, 1) if answer.with_usage else {"input_tokens": 0, "output_tokens": 0}
        end = {"usage": {"output_tokens": answer.completion_tokens}} if answer.with_usage else {}
        yield event("message_start", {"message": {**self._head(ask, answer), "usage": usage}})
        block = {"type": "text", "text": ""} if answer.call is None else _tool_use(answer.call, {})
        yield event("content_block_start", {"index": 0, "content_block": block})
        yield event("ping")
        for delta in _deltas(answer):
            yield event("content_block_delta", {"index": 0, "delta": delta}, content=True)
        yield event("content_block_stop", {"index": 0})
        yield event("message_delta", {"delta": {"stop_reason": _stop_reason(answer), "stop_sequence": None}, **end})
        yield event("message_stop")

    def _head(self, ask: Ask, answer: WireAnswer) -> Json:
        return {
            "id": f"msg_sim{answer.serial:08d}",
            "type": "message",
            "role": "assistant",
            "model": ask.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
        }

    def _usage(self, answer: WireAnswer, output_tokens: int) -> Json:
        return {
            "input_tokens": answer.prompt_tokens - answer.cached_tokens - answer.cache_write_tokens,
            "cache_creation_input_tokens": answer.cache_write_tokens,
            "cache_read_input_tokens": answer.cached_tokens,
            "output_tokens": output_tokens,
            "service_tier": "standard",
        }

    def _error(self, status: int, message: str, serial: int) -> WireReply:
        kind = _TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")
        error = {"type": kind, "message": message}
        return WireReply(status, {"type": "error", "error": error, "request_id": self.request_id(serial)["request-id"]})

    def failure(self, status: int, model: str, serial: int) -> WireReply:
        """The error types of the documentation's errors page."""
        return self._error(status, _MESSAGES.get(status, f"HTTP {status}"), serial)

    def limited(self, verdict: LimitVerdict, meters: Meters, model: str, serial: int) -> WireReply:
        """``rate_limit_error`` with ``retry-after`` in whole seconds and the rate-limit headers."""
        name = verdict.refused_by or "rpm"
        reply = self._limit_error(f"{verdict.meter.limit:,} {_LIMIT_WORDS[name]}", serial)
        wait = {} if math.isinf(verdict.retry_after) else {"retry-after": whole_seconds(verdict.retry_after)}
        return WireReply(429, reply.body, {**self.limit_headers(meters), **wait})

    def rate_limited(self, retry_after: RetryAfter, model: str, serial: int) -> WireReply:
        """The same body, and the Retry-After of the fault."""
        return WireReply(429, self._limit_error("50 requests per minute", serial).body, retry_after_header(retry_after))

    def _limit_error(self, limit: str, serial: int) -> WireReply:
        message = (
            f"This request would exceed the rate limit for your organization (simulated) of {limit}. For details, "
            "refer to: https://docs.claude.com/en/api/rate-limits. You can see the response headers for current "
            "usage. Please reduce the prompt length or the maximum tokens requested, or try again later."
        )
        return self._error(429, message, serial)

    def content_policy(self, model: str, serial: int) -> WireReply:
        """A 400 of the filter on answers."""
        return self._error(400, "Output blocked by content filtering policy", serial)

    def context_window(self, model: str, serial: int) -> WireReply:
        """A 400 that says the prompt is too long."""
        return self._error(400, "prompt is too long: 210000 tokens > 200000 maximum", serial)

    def quota_exhausted(self, model: str, serial: int) -> WireReply:
        """A 400, not a 402 or 429: an empty account looks like a bad request."""
        message = (
            "Your credit balance is too low to access the Anthropic API. "
            "Please go to Plans & Billing to upgrade or purchase credits."
        )
        return self._error(400, message, serial)

    def prefill_refused(self, model: str, serial: int) -> WireReply:
        """A 400, as the models since Claude Opus 4.6 answer."""
        message = (
            "This model does not support assistant message prefill. The conversation must end with a user message."
        )
        return self._error(400, message, serial)

    def invalid(self, ask: Ask, serial: int) -> WireReply | None:
        """A prefill must not end in white space."""
        if ask.prefill == ask.prefill.rstrip():
            return None
        return self._error(400, "messages: final assistant content cannot end with trailing whitespace", serial)

    def error_events(self, ask: Ask, answer: WireAnswer, status: int) -> bytes:
        """``event: error`` with the error object of the same status."""
        return sse(self.failure(status, ask.model, answer.serial).body, "error")

    def limit_headers(self, meters: Meters, kind: str = "") -> dict[str, str]:
        """``anthropic-ratelimit-*``; without a limit of its own, ``tokens`` is the sum of input and output."""
        split = [meters[name] for name in _SPLIT if name in meters]
        if "tpm" not in meters and len(split) == len(_SPLIT):
            total = Meter(
                sum(meter.limit for meter in split),
                sum(meter.remaining for meter in split),
                max(meter.reset_after for meter in split),
            )
            meters = {**meters, "tpm": total}
        return super().limit_headers(meters, kind)

    def request_id(self, serial: int) -> dict[str, str]:
        """``request-id``."""
        return {"request-id": f"req_sim{serial:08d}"}
