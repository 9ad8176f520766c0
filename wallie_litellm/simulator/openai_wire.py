"""The OpenAI wire format, and where Groq and DeepSeek differ from it.

Header names and their meaning follow the vendors' rate-limit pages; error bodies are those that the
services return, as published in their documentation and in public bug reports.
"""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Iterable, Iterator
from typing import Any, Final

from wallie_litellm.simulator import openai_responses
from wallie_litellm.simulator.limit_header_values import duration
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

EMBEDDING_SIZE: Final = 8
_KINDS: Final = {"/chat/completions": "chat", "/embeddings": "embeddings", "/responses": "responses"}
_LIMIT_WORDS: dict[LimitName, tuple[str, str]] = {
    "rpm": ("requests", "requests per min (RPM)"),
    "tpm": ("tokens", "tokens per min (TPM)"),
    "itpm": ("tokens", "input tokens per min (ITPM)"),
    "otpm": ("tokens", "output tokens per min (OTPM)"),
    "rpd": ("requests", "requests per day (RPD)"),
    "tpd": ("tokens", "tokens per day (TPD)"),
    "concurrency": ("requests", "concurrent requests"),
}
_ERRORS: dict[int, tuple[str, str, str | None]] = {
    400: ("Invalid request.", "invalid_request_error", None),
    401: ("Incorrect API key provided: sk-sim.", "invalid_request_error", "invalid_api_key"),
    402: ("Insufficient Balance", "unknown_error", "invalid_request_error"),
    403: ("Country, region, or territory not supported", "request_forbidden", "unsupported_country_region_territory"),
    404: ("The model does not exist or you do not have access to it.", "invalid_request_error", "model_not_found"),
    408: ("Request timed out.", "timeout", None),
    429: ("Rate limit reached.", "requests", "rate_limit_exceeded"),
    500: ("The server had an error while processing your request. Sorry about that!", "server_error", None),
    503: ("The engine is currently overloaded, please try again later", "server_error", None),
}


def error_body(message: str, kind: str, code: str | None, param: str | None = None) -> Json:
    """OpenAI's error object."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def _finish(answer: WireAnswer) -> str:
    return "stop" if answer.call is None else "tool_calls"


def _tool_call(call: ToolCall) -> Json:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.text}}


def _deltas(answer: WireAnswer) -> Iterator[Json]:
    if answer.call is None:
        yield from ({"content": piece} for piece in answer.pieces)
        return
    first = _tool_call(answer.call)
    yield {"tool_calls": [{"index": 0, **first, "function": {**first["function"], "arguments": ""}}]}
    for piece in answer.call.pieces:
        yield {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}


class OpenAIWire(Wire):
    """Chat completions, embeddings and responses as OpenAI speaks them."""

    vendor = "openai"
    api_path = "/v1"
    service_tier: str | None = "default"
    reserves_output = True
    ends_with_usage = False  # whether a stream's chunk with the finish reason has usage, unasked

    def parse(self, path: str, body: Json) -> Ask | None:
        """Any path prefix is fine: LiteLLM and OpenAI's SDK build different ones."""
        kind = next((kind for suffix, kind in _KINDS.items() if path.endswith(suffix)), None)
        if kind is None:
            return None
        chars = sum(text_chars(body.get(key)) for key in ("messages", "input", "instructions"))
        stream = bool(body.get("stream")) and kind != "embeddings"
        return Ask(kind, str(body.get("model", "")), chars, stream, body, answers=kind != "embeddings")

    def complete(self, ask: Ask, answer: WireAnswer) -> Json:
        """A chat completion, an embedding list or a response."""
        if ask.kind == "responses":
            return openai_responses.complete(ask, answer)
        if ask.kind == "embeddings":
            return self._embeddings(ask, answer)
        message: Json = {"role": "assistant", "content": answer.text, "refusal": None, "annotations": []}
        if answer.call is not None:
            message |= {"content": None, "tool_calls": [_tool_call(answer.call)]}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _finish(answer)}
        return {**self._head(ask, answer, "chat.completion"), "choices": [choice], "usage": self.usage(answer)}

    def stream(self, ask: Ask, answer: WireAnswer) -> Iterable[Event]:
        """Chunks, then usage when ``stream_options.include_usage`` asked for it, then ``[DONE]``."""
        return openai_responses.stream(ask, answer) if ask.kind == "responses" else self._chunks(ask, answer)

    def _chunks(self, ask: Ask, answer: WireAnswer) -> Iterator[Event]:
        head = self._head(ask, answer, "chat.completion.chunk")
        wants_usage = answer.with_usage and bool((ask.body.get("stream_options") or {}).get("include_usage"))
        usage: Json = {"usage": None} if wants_usage else {}
        if not answer.with_finish:
            usage = {"usage": self.usage(answer)}
        end = {"usage": self.usage(answer)} if answer.with_usage and self.ends_with_usage else {}

        def chunk(delta: Json, finish: str | None = None) -> bytes:
            choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
            return sse({**head, "choices": [choice], **usage, **(end if finish else {})})

        yield Event(chunk({"role": "assistant", "content": "", "refusal": None}))
        for delta in _deltas(answer):
            yield Event(chunk(delta), content=True)
        if answer.with_finish:
            yield Event(chunk({}, _finish(answer)))
        if wants_usage and answer.with_finish:
            yield Event(sse({**head, "choices": [], "usage": self.usage(answer)}))
        yield Event(sse("[DONE]"))

    def _head(self, ask: Ask, answer: WireAnswer, kind: str) -> Json:
        return {
            "id": f"chatcmpl-sim{answer.serial:08d}",
            "object": kind,
            "created": answer.created,
            "model": ask.model,
            # Always present: LiteLLM's groq adapter fails on an answer without it.
            "service_tier": self.service_tier,
            "system_fingerprint": "fp_simulated",
        }

    def _embeddings(self, ask: Ask, answer: WireAnswer) -> Json:
        given = ask.body.get("input")
        several = isinstance(given, list) and bool(given) and isinstance(given[0], str | list)
        count = len(given) if several and isinstance(given, list) else 1
        vector: Any = [round(1 / (position + 2), 6) for position in range(EMBEDDING_SIZE)]
        if ask.body.get("encoding_format") == "base64":
            vector = base64.b64encode(struct.pack(f"<{EMBEDDING_SIZE}f", *vector)).decode()
        data = [{"object": "embedding", "index": index, "embedding": vector} for index in range(count)]
        usage = {"prompt_tokens": answer.prompt_tokens, "total_tokens": answer.prompt_tokens}
        return {"object": "list", "data": data, "model": ask.model, "usage": usage}

    def usage(self, answer: WireAnswer) -> Json:
        """The usage object of a chat completion."""
        return {
            "prompt_tokens": answer.prompt_tokens,
            "completion_tokens": answer.completion_tokens,
            "total_tokens": answer.total_tokens,
            "prompt_tokens_details": {"cached_tokens": answer.cached_tokens, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
        }

    def failure(self, status: int, model: str, serial: int) -> WireReply:
        """OpenAI's error codes page has these messages; a status it does not name gets a plain one."""
        kind = "server_error" if status >= 500 else "invalid_request_error"
        return WireReply(status, error_body(*_ERRORS.get(status, (f"HTTP {status}", kind, None))))

    def limited(self, verdict: LimitVerdict, meters: Meters, model: str, serial: int) -> WireReply:
        """``rate_limit_exceeded``, with the sentence that names limit, use and wait."""
        kind, words = _LIMIT_WORDS[verdict.refused_by or "rpm"]
        limit, used = verdict.meter.limit, verdict.meter.limit - verdict.meter.remaining
        headers = self.limit_headers(meters)
        if math.isinf(verdict.retry_after):
            message = (
                f"Request too large for {self.subject(model)} on {words}: Limit {limit}, Requested {verdict.asked}. "
                "The input or output tokens must be reduced in order to run successfully."
            )
        else:
            headers |= self.wait_headers(verdict.retry_after)
            message = (
                f"Rate limit reached for {self.subject(model)} on {words}: Limit {limit}, Used {used}, "
                f"Requested {verdict.asked}. Please try again in {duration(verdict.retry_after)}."
            )
        return WireReply(429, error_body(message, kind, "rate_limit_exceeded"), headers)

    def rate_limited(self, retry_after: RetryAfter, model: str, serial: int) -> WireReply:
        """Without ``retry-after-ms``, which would contradict a Retry-After that lies."""
        message = f"Rate limit reached for {self.subject(model)} on requests per min (RPM)."
        return WireReply(429, error_body(message, "requests", "rate_limit_exceeded"), retry_after_header(retry_after))

    def content_policy(self, model: str, serial: int) -> WireReply:
        """A 400 with code ``content_policy_violation``."""
        message = (
            "Your request was rejected as a result of our safety system. "
            "Your prompt may contain text that is not allowed by our safety system."
        )
        return WireReply(400, error_body(message, "invalid_request_error", "content_policy_violation"))

    def context_window(self, model: str, serial: int) -> WireReply:
        """A 400 with code ``context_length_exceeded``."""
        message = (
            "This model's maximum context length is 128000 tokens. However, your messages resulted in "
            "130000 tokens. Please reduce the length of the messages."
        )
        return WireReply(400, error_body(message, "invalid_request_error", "context_length_exceeded", "messages"))

    def quota_exhausted(self, model: str, serial: int) -> WireReply:
        """A 429 with ``insufficient_quota``: not a limit that waiting would cure."""
        message = (
            "You exceeded your current quota, please check your plan and billing details. For more information "
            "on this error, read the docs: https://platform.openai.com/docs/guides/error-codes/api-errors."
        )
        return WireReply(429, error_body(message, "insufficient_quota", "insufficient_quota"))

    def prefill_refused(self, model: str, serial: int) -> WireReply:
        """The words of servers behind this format that take no prefill; OpenAI itself begins a new message."""
        message = "Expected last role User or Tool (or Assistant with prefix True) for serving but got assistant"
        return WireReply(400, error_body(message, "invalid_request_error", None))

    def error_events(self, ask: Ask, answer: WireAnswer, status: int) -> bytes:
        """An error object with the status as its code, and ``[DONE]``, as vLLM and OpenRouter send it."""
        if ask.kind == "responses":
            return openai_responses.failed(ask, answer)
        message, kind, _ = _ERRORS.get(status, ("Engine queue is full", "server_error", None))
        return sse({"error": {"message": message, "type": kind, "code": status}}) + sse("[DONE]")

    def subject(self, model: str) -> str:
        """How a 429 names what was limited."""
        return f"{model} in organization org-simulated"

    def wait_headers(self, seconds: float) -> dict[str, str]:
        """How long to wait: whole seconds, and milliseconds beside it."""
        return {"retry-after": whole_seconds(seconds), "retry-after-ms": str(math.ceil(seconds * 1000))}

    def request_id(self, serial: int) -> dict[str, str]:
        """``x-request-id``."""
        return {"x-request-id": f"req_sim{serial:08d}"}
