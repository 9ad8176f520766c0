"""Groq and DeepSeek: OpenAI's format with their own limits, headers and refusals."""

from __future__ import annotations

from collections.abc import Iterable

from wallie_litellm.simulator.anthropic_wire import AnthropicWire
from wallie_litellm.simulator.limits import LimitVerdict
from wallie_litellm.simulator.openai_wire import OpenAIWire, error_body
from wallie_litellm.simulator.wire import (
    Ask,
    Event,
    Json,
    Meters,
    RetryAfter,
    WireAnswer,
    WireReply,
    retry_after_header,
    whole_seconds,
)


class GroqWire(OpenAIWire):
    """Groq: OpenAI's header names, but the ``-requests`` ones always describe the requests per day.

    From Groq's rate-limit page; ``retry-after`` is in whole seconds and only on a 429.
    """

    api_path = "/openai/v1"
    service_tier = "on_demand"
    request_meters = ("rpd",)

    def subject(self, model: str) -> str:
        """Groq names the model in backquotes and the service tier."""
        return f"model `{model}` in organization `org_simulated` service tier `on_demand`"

    def wait_headers(self, seconds: float) -> dict[str, str]:
        """Groq sends no milliseconds."""
        return {"retry-after": whole_seconds(seconds)}


class DeepSeekWire(OpenAIWire):
    """DeepSeek: a bare 429 without any header, and 402 for an empty account, as its documentation has it."""

    api_path = "/beta"
    _messages = AnthropicWire()

    def parse(self, path: str, body: Json) -> Ask | None:
        """Also ``/anthropic/v1/messages``, which LiteLLM prefers for Anthropic's message format."""
        return super().parse(path, body) or self._messages.parse(path, body)

    def complete(self, ask: Ask, answer: WireAnswer) -> Json:
        """In the format that was asked for."""
        return self._messages.complete(ask, answer) if ask.kind == "messages" else super().complete(ask, answer)

    def stream(self, ask: Ask, answer: WireAnswer) -> Iterable[Event]:
        """In the format that was asked for."""
        return self._messages.stream(ask, answer) if ask.kind == "messages" else super().stream(ask, answer)

    def error_events(self, ask: Ask, answer: WireAnswer, status: int) -> bytes:
        """In the format that was asked for."""
        if ask.kind == "messages":
            return self._messages.error_events(ask, answer, status)
        return super().error_events(ask, answer, status)

    def usage(self, answer: WireAnswer) -> Json:
        """DeepSeek counts prompt tokens by whether its cache had them."""
        cache = {"prompt_cache_hit_tokens": 0, "prompt_cache_miss_tokens": answer.prompt_tokens}
        return {**super().usage(answer), **cache}

    def limited(self, verdict: LimitVerdict, meters: Meters, model: str, serial: int) -> WireReply:
        """DeepSeek documents no rate-limit header and no Retry-After."""
        return self.rate_limited(None, model, serial)

    def rate_limited(self, retry_after: RetryAfter, model: str, serial: int) -> WireReply:
        """The documented words, and the Retry-After that the fault sets."""
        body = error_body("Rate Limit Reached", "rate_limit_error", "rate_limit_exceeded")
        return WireReply(429, body, retry_after_header(retry_after))

    def quota_exhausted(self, model: str, serial: int) -> WireReply:
        """402, Insufficient Balance."""
        return self.failure(402, model, serial)

    def limit_headers(self, meters: Meters) -> dict[str, str]:
        """DeepSeek sends none."""
        return {}
