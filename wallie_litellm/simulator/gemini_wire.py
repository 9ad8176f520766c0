"""Gemini's generateContent API: bodies, events and google.rpc errors after its API reference."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Final

from wallie_litellm.simulator.limits import LimitName, LimitVerdict, Meters
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
)

_PATH: Final = re.compile(r"/models/(?P<model>.+):(?P<method>\w+)$")
_STREAM: Final = "streamGenerateContent"
_METHODS: Final = frozenset({"generateContent", _STREAM, "embedContent", "batchEmbedContents"})
_RPC: Final = "type.googleapis.com/google.rpc."
_STATUS: dict[int, tuple[str, str]] = {
    400: ("INVALID_ARGUMENT", "Request contains an invalid argument."),
    401: ("UNAUTHENTICATED", "Request had invalid authentication credentials."),
    403: ("PERMISSION_DENIED", "The caller does not have permission"),
    404: ("NOT_FOUND", "The model is not found for API version v1beta."),
    429: ("RESOURCE_EXHAUSTED", "Resource has been exhausted (e.g. check quota)."),
    500: ("INTERNAL", "An internal error has occurred. Please retry later."),
    503: ("UNAVAILABLE", "The model is overloaded. Please try again later."),
    504: ("DEADLINE_EXCEEDED", "Deadline expired before operation could complete."),
}
_TOKENS: Final = "generate_content_paid_tier_input_token_count"
_QUOTA: dict[LimitName, tuple[str, str]] = {
    "rpm": ("generate_content_paid_tier_requests", "GenerateRequestsPerMinutePerProjectPerModel"),
    "tpm": (_TOKENS, "GenerateContentInputTokensPerModelPerMinute"),
    "itpm": (_TOKENS, "GenerateContentInputTokensPerModelPerMinute"),
    "tpd": (_TOKENS, "GenerateContentInputTokensPerModelPerDay"),
    "rpd": ("generate_content_paid_tier_requests", "GenerateRequestsPerDayPerProjectPerModel"),
}
_EXCEEDED: Final = (
    "You exceeded your current quota, please check your plan and billing details. For more information on this "
    "error, head to: https://ai.google.dev/gemini-api/docs/rate-limits."
)


class GeminiWire(Wire):
    """``models/{model}:generateContent``, ``:streamGenerateContent?alt=sse`` and the embeddings.

    Gemini sends no rate-limit headers: a 429 says how long to wait in its body, as ``RetryInfo``.
    """

    api_path = "/v1beta"
    counts_output = False
    day_zone = "America/Los_Angeles"

    def parse(self, path: str, body: Json) -> Ask | None:
        """The model is in the path, and so is whether to stream."""
        match = _PATH.search(path)
        if match is None or match["method"] not in _METHODS:
            return None
        method, model = match["method"], match["model"]
        given = body.get("requests", []) if method == "batchEmbedContents" else [body.get("content")]
        parts = [body.get("contents"), body.get("systemInstruction"), body.get("system_instruction"), *given]
        answers = "embed" not in method.lower()
        return Ask(method, model, text_chars(parts), method == _STREAM, body, answers)

    def complete(self, ask: Ask, answer: WireAnswer) -> Json:
        """A whole answer, or embeddings."""
        vector = {"values": [round(1 / (position + 2), 6) for position in range(8)]}
        if ask.kind == "batchEmbedContents":
            return {"embeddings": [vector for _ in ask.body.get("requests", [])]}
        if ask.kind == "embedContent":
            return {"embedding": vector}
        part = {"text": answer.text} if answer.call is None else _parts(answer)[0]
        return self._part(ask, answer, part, last=True)

    def stream(self, ask: Ask, answer: WireAnswer) -> Iterator[Event]:
        """One whole object per piece; the last one says why it ends. There is no ``[DONE]``."""
        parts = _parts(answer)
        for number, part in enumerate(parts, start=1):
            yield Event(sse(self._part(ask, answer, part, last=number == len(parts))), content=True)

    def _part(self, ask: Ask, answer: WireAnswer, part: Json, *, last: bool) -> Json:
        candidate: Json = {"content": {"parts": [part], "role": "model"}, "index": 0}
        if last:
            candidate["finishReason"] = "STOP"
        body = {
            "candidates": [candidate],
            "modelVersion": ask.model,
            "responseId": f"sim{answer.serial:08d}",
        }
        return {**body, "usageMetadata": self._usage(answer, last=last)} if answer.with_usage else body

    def _usage(self, answer: WireAnswer, *, last: bool) -> Json:
        usage: Json = {"promptTokenCount": answer.prompt_tokens, "totalTokenCount": answer.prompt_tokens}
        if answer.cached_tokens:
            usage["cachedContentTokenCount"] = answer.cached_tokens
        if last:
            usage |= {"candidatesTokenCount": answer.completion_tokens, "totalTokenCount": answer.total_tokens}
        return usage

    def _error(self, status: int, message: str | None = None, details: list[Json] | None = None) -> WireReply:
        fallback = ("INTERNAL" if status >= 500 else "INVALID_ARGUMENT", f"HTTP {status}")
        name, words = _STATUS.get(status, fallback)
        error: Json = {"code": status, "message": message or words, "status": name}
        return WireReply(status, {"error": {**error, "details": details} if details else error})

    def failure(self, status: int, model: str, serial: int) -> WireReply:
        """The google.rpc status for an HTTP status."""
        return self._error(status)

    def limited(self, verdict: LimitVerdict, meters: Meters, model: str, serial: int) -> WireReply:
        """``RESOURCE_EXHAUSTED`` with the quota that was hit and the delay, both in the body."""
        name = verdict.refused_by or "rpm"
        metric, quota_id = _QUOTA.get(name, _QUOTA["rpm"])
        limit, metric = verdict.meter.limit, f"generativelanguage.googleapis.com/{metric}"
        violation = self._violation(metric, quota_id, model, limit)
        message = f"{_EXCEEDED}\n* Quota exceeded for metric: {metric}, limit: {limit}, model: {model}"
        if math.isinf(verdict.retry_after):
            return self._error(429, message, [violation])
        delay = _delay(verdict.retry_after)
        return self._error(429, f"{message}\nPlease retry in {delay}s.", [violation, _retry_info(delay)])

    def rate_limited(self, retry_after: RetryAfter, model: str, serial: int) -> WireReply:
        """A number goes into ``RetryInfo`` and the header; a date fits only the header."""
        details = [_retry_info(retry_after)] if isinstance(retry_after, int | float) else []
        return WireReply(429, self._error(429, None, details).body, retry_after_header(retry_after))

    def content_policy(self, model: str, serial: int) -> WireReply:
        """Gemini blocks a prompt with a 200 that has feedback and no candidate."""
        usage = {"promptTokenCount": 1, "totalTokenCount": 1}
        feedback = {"blockReason": "PROHIBITED_CONTENT"}
        return WireReply(200, {"promptFeedback": feedback, "usageMetadata": usage, "modelVersion": model})

    def context_window(self, model: str, serial: int) -> WireReply:
        """A 400 that counts the tokens."""
        message = "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)."
        return self._error(400, message)

    def prefill_refused(self, model: str, serial: int) -> WireReply:
        """``INVALID_ARGUMENT``, as models that think answer."""
        return self._error(400, "Please ensure that the last turn is a user turn.")

    def quota_exhausted(self, model: str, serial: int) -> WireReply:
        """A 429 like any other, but for the day's quota and without a delay."""
        metric, quota_id = _QUOTA["rpd"]
        violation = self._violation(f"generativelanguage.googleapis.com/{metric}", quota_id, model, 0)
        return self._error(429, _EXCEEDED, [violation])

    def _violation(self, metric: str, quota_id: str, model: str, limit: int) -> Json:
        where = {"location": "global", "model": model}
        hit = {"quotaMetric": metric, "quotaId": quota_id, "quotaDimensions": where, "quotaValue": str(limit)}
        return {"@type": f"{_RPC}QuotaFailure", "violations": [hit]}


def _parts(answer: WireAnswer) -> list[Json]:
    """What a stream delivers piece by piece; a call comes whole."""
    if answer.call is not None:
        return [{"functionCall": {"name": answer.call.name, "args": answer.call.arguments}}]
    return [{"text": piece} for piece in answer.pieces]


def _delay(seconds: float) -> int:
    """Whole seconds, rounded up: a delay that is over too early would be a promise not kept.

    Gemini's sentence has nine decimals. LiteLLM takes any "403" in Gemini's error for a refused
    permission, so now and then those decimals would turn this 429 into another exception.
    """
    whole = math.ceil(seconds)
    while "403" in str(whole):
        whole += 1
    return whole


def _retry_info(seconds: float) -> Json:
    return {"@type": f"{_RPC}RetryInfo", "retryDelay": f"{seconds:g}s"}
