"""OpenAI's format with the limits, headers and refusals of Groq, DeepSeek, Mistral, Cerebras and Together."""

from __future__ import annotations

import math
from collections.abc import Iterable

from wallie_litellm.simulator.anthropic_wire import AnthropicWire
from wallie_litellm.simulator.limits import ACCOUNT, LimitVerdict, Meters
from wallie_litellm.simulator.openai_wire import OpenAIWire, error_body
from wallie_litellm.simulator.wire import (
    Ask,
    Event,
    Json,
    RetryAfter,
    WireAnswer,
    WireReply,
    retry_after_header,
    whole_seconds,
)


class GroqWire(OpenAIWire):
    """Groq: OpenAI's header names, but the ``-requests`` ones always describe the requests per day.

    From Groq's rate-limit page; ``retry-after`` is in whole seconds and only on a 429. Cached tokens are not counted.
    """

    vendor = "groq"
    api_path = "/openai/v1"
    service_tier = "on_demand"  # LiteLLM fails on an answer of Groq's without it
    counts_cached = False

    def subject(self, model: str) -> str:
        """Groq names the model in backquotes and the service tier."""
        return f"model `{model}` in organization `org_simulated` service tier `on_demand`"

    def wait_headers(self, seconds: float) -> dict[str, str]:
        """Groq sends no milliseconds."""
        return {"retry-after": whole_seconds(seconds)}


class DeepSeekWire(OpenAIWire):
    """DeepSeek: a bare 429 without any header, and 402 for an empty account, as its documentation has it."""

    vendor = "deepseek"
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
        hit = answer.cached_tokens
        cache = {"prompt_cache_hit_tokens": hit, "prompt_cache_miss_tokens": answer.prompt_tokens - hit}
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


class MistralWire(OpenAIWire):
    """Mistral: headers whose names end with the window, an error without a wrapper, and no Retry-After."""

    vendor = "mistral"
    service_tier = None
    ends_with_usage = True
    reserves_output = False

    def limited(self, verdict: LimitVerdict, meters: Meters, model: str, serial: int) -> WireReply:
        """The same body for every limit; a model that is not on the plan has a limit of 0."""
        return WireReply(429, self.rate_limited(None, model, serial).body, self.limit_headers(meters))

    def rate_limited(self, retry_after: RetryAfter, model: str, serial: int) -> WireReply:
        """Code 1300."""
        body = {
            "object": "error",
            "message": "Rate limit exceeded",
            "type": "rate_limited",
            "param": None,
            "code": "1300",
        }
        return WireReply(429, body, retry_after_header(retry_after))


class CerebrasWire(OpenAIWire):
    """Cerebras: limits by minute and by day in headers of their own, and an error without a wrapper."""

    vendor = "cerebras"
    service_tier = None
    ends_with_usage = True

    def limited(self, verdict: LimitVerdict, meters: Meters, model: str, serial: int) -> WireReply:
        """The sentence and the codes that the service returns."""
        name = verdict.refused_by or "rpm"
        window = "day" if name.endswith("d") else "minute"
        what, verb, code = ("Tokens", "processed", "token") if "tp" in name else ("Requests", "sent", "request")
        body = {
            "message": f"{what} per {window} limit exceeded - too many {what.lower()} {verb}.",
            "type": f"too_many_{what.lower()}_error",
            "param": "quota",
            "code": f"{code}_quota_exceeded",
        }
        return WireReply(429, body, {**self.limit_headers(meters), **self.wait_headers(verdict.retry_after)})

    def wait_headers(self, seconds: float) -> dict[str, str]:
        """None for a request that never fits."""
        return {} if math.isinf(seconds) else {"retry-after": whole_seconds(seconds)}


class TogetherWire(OpenAIWire):
    """Together: headers by the second, and a 429 that says whether the model's or the account's limit is reached."""

    vendor = "together_ai"
    service_tier = None
    reserves_output = False

    def limited(self, verdict: LimitVerdict, meters: Meters, model: str, serial: int) -> WireReply:
        """The limit in queries per minute."""
        limit = f"{verdict.meter.limit} queries per minute."
        if verdict.scope == ACCOUNT:
            message, kind = f"You have been rate limited. Your rate limit is {limit}", "credit_limit"
        else:
            message = f"You have reached the rate limit specific to this model {model}. "
            message, kind = f"{message}The maximum rate limit for this model is {limit}", "model_rate_limit"
        return WireReply(429, error_body(message, kind, None), self.limit_headers(meters))
