"""Spans and metrics for OpenTelemetry, by its semantic conventions for generative AI.

A request is one ``INTERNAL`` span with a ``CLIENT`` span below it for each attempt. Only attempts carry token usage, so
that a backend which adds up spans counts every token once. Spans are created when a request has ended, with the times
of its events.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from wallie_litellm.core.demand import Outcome
from wallie_litellm.errors import ConfigError
from wallie_litellm.events import Ended, Event, Settled

try:
    from opentelemetry import metrics, trace
    from opentelemetry.context import Context
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import Span, SpanKind, Status, StatusCode, TracerProvider
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    from wallie_litellm.telemetry.sinks.opentelemetry_metrics import Attributes, Instruments
except ImportError as missing:
    raise ConfigError(
        [
            "wallie.telemetry.opentelemetry: needs the package opentelemetry-api:"
            " pip install 'wallie-litellm[opentelemetry]'"
        ]
    ) from missing

logger = logging.getLogger(__name__)

SCOPE: Final = "wallie_litellm"  # the instrumentation scope

PROVIDER_NAMES: Final = {  # LiteLLM's prefix of a model → the conventions' name of the provider
    "anthropic": "anthropic",
    "azure": "azure.ai.openai",
    "azure_ai": "azure.ai.inference",
    "bedrock": "aws.bedrock",
    "cohere": "cohere",
    "cohere_chat": "cohere",
    "deepseek": "deepseek",
    "gemini": "gcp.gemini",
    "groq": "groq",
    "mistral": "mistral_ai",
    "moonshot": "moonshot_ai",
    "openai": "openai",
    "perplexity": "perplexity",
    "vertex_ai": "gcp.vertex_ai",
    "watsonx": "ibm.watsonx.ai",
    "xai": "x_ai",
}

OPERATION_NAMES: Final = {  # ours → the conventions', where they differ
    "completion": "text_completion",
    "embedding": "embeddings",
    "messages": "chat",
    "responses": "chat",
    "background_response": "chat",
    "generate_content": "generate_content",
}

_CACHE_HIT: Final = Outcome.CACHE_HIT.value
_PROPAGATOR: Final = TraceContextTextMapPropagator()


class OpenTelemetrySink:
    """Records requests with the application's OpenTelemetry providers, the global ones unless given.

    The sink flushes the providers and never shuts them down. ``user_ids`` puts ``user.id`` on spans. A request whose
    metadata has a W3C ``traceparent`` becomes part of that trace.
    """

    name = "opentelemetry"

    def __init__(
        self,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        *,
        user_ids: bool = False,
    ) -> None:
        self._tracer_provider = tracer_provider
        self._meter_provider = meter_provider
        self._user_ids = user_ids
        self._tracer = trace.get_tracer(SCOPE, tracer_provider=tracer_provider)
        self._instruments = Instruments(metrics.get_meter(SCOPE, meter_provider=meter_provider))
        self._delivered = 0

    def handle(self, events: Sequence[Event]) -> None:
        """Create the spans of the requests that ended, and count other events."""
        for event in events:
            if type(event) is Ended:
                self._trace(event)
            elif not self._instruments.count(event):
                continue
            self._delivered += 1

    def flush(self, timeout: float) -> bool:
        """Flush the providers; ``False`` when they could not within ``timeout`` seconds."""
        flushed: list[bool] = []
        # On a thread of its own: the SDK's batch processor ignores its timeout.
        thread = threading.Thread(
            target=lambda: flushed.append(self._force_flush(timeout)), name="wallie-opentelemetry-flush", daemon=True
        )
        thread.start()
        thread.join(timeout)
        return flushed == [True]

    def close(self, timeout: float) -> None:
        """Flush. The providers belong to the application and stay open."""
        self.flush(timeout)

    def stats(self) -> dict[str, int]:
        """``delivered``: how many events became spans or counts."""
        return {"delivered": self._delivered}

    def _force_flush(self, timeout: float) -> bool:
        # Looked up each time: an application may set its providers after the sink was created.
        providers = (
            self._tracer_provider or trace.get_tracer_provider(),
            self._meter_provider or metrics.get_meter_provider(),
        )
        deadline = time.monotonic() + timeout
        results = [_force_flush(provider, deadline - time.monotonic()) for provider in providers]  # all, in any case
        return all(results)

    def _trace(self, request: Ended) -> None:
        span = self._tracer.start_span(
            f"{_operation(request)} {request.model}",
            _parent_of(request.metadata),
            SpanKind.INTERNAL,
            self._request_attributes(request),
            start_time=_nanoseconds(request.at - request.latency_ms / 1000),
        )
        context = trace.set_span_in_context(span, Context())
        previous, model = None, request.model
        for attempt in request.settled:
            if attempt.model != model:
                _add_fallback(span, attempt, model, previous)
            self._trace_attempt(attempt, context)
            previous, model = attempt, attempt.model
        _end_span(span, request)

    def _trace_attempt(self, attempt: Settled, parent: Context) -> None:
        provider, model = _vendor(attempt.provider, attempt.deployment or attempt.model)
        convention: Attributes = {
            "gen_ai.operation.name": _operation(attempt),
            "gen_ai.provider.name": provider,
            "gen_ai.request.model": model,
        }
        if not attempt.success:
            convention["error.type"] = attempt.error or "_OTHER"
        cached = attempt.outcome == _CACHE_HIT  # no provider was called
        span = self._tracer.start_span(
            f"{convention['gen_ai.operation.name']} {model}",
            parent,
            SpanKind.INTERNAL if cached else SpanKind.CLIENT,
            convention | _usage(attempt) | _attempt_attributes(attempt) | self._tags(attempt),
            start_time=_nanoseconds(attempt.at - attempt.latency_ms / 1000),
        )
        if not cached:
            self._instruments.record(attempt, convention, trace.set_span_in_context(span, parent))
        _end_span(span, attempt)

    def _request_attributes(self, request: Ended) -> Attributes:
        served = request.served or (request.settled[-1] if request.settled else None)
        provider, model = _vendor(request.provider, (served.deployment or served.model) if served is not None else "")
        priced = [attempt.cost_usd for attempt in request.settled if attempt.cost_usd is not None]
        attributes: Attributes = {
            "gen_ai.operation.name": _operation(request),
            "gen_ai.provider.name": provider,
            "gen_ai.request.model": request.model,
            "wallie.request_id": request.request_id,
            "wallie.provider": request.provider,
            "wallie.attempts": len(request.settled),
            "wallie.waited_ms": request.waited_ms,
            "wallie.used_fallback": request.used_fallback,
            "wallie.by_caller": request.by_caller,
            "wallie.unpriced": any(attempt.unpriced for attempt in request.settled),
        }
        if request.stream:
            attributes["gen_ai.request.stream"] = True
        if not request.success:
            attributes["error.type"] = request.error or "_OTHER"
        elif served is not None:
            attributes["gen_ai.response.model"] = model
        if priced:
            attributes["wallie.total_cost_usd"] = sum(priced)
        if request.status_code is not None:
            attributes["wallie.status_code"] = request.status_code
        return attributes | _decided(request) | self._tags(request)

    def _tags(self, event: Ended | Settled) -> Attributes:
        attributes: Attributes = {}
        if event.feature:
            attributes["wallie.feature"] = event.feature
        if self._user_ids and event.user_id:
            attributes["user.id"] = event.user_id
        return attributes


def _decided(request: Ended) -> Attributes:
    """What routing decided; nothing of what it did not."""
    decided: dict[str, Any] = {
        "wallie.requested_model": request.requested,
        "wallie.tier": request.tier,
        "wallie.experiment": request.experiment,
        "wallie.arm": request.arm,
        "wallie.auto_tier": request.auto_tier,
        "wallie.auto_saved_usd": request.auto_saved_usd,
        "wallie.planned_model": request.order,
        "wallie.hedged": request.hedged or None,
        "wallie.wasted_cost_usd": request.wasted_usd or None,
        "wallie.cache_hit": request.cache_hit or None,
        "wallie.saved_usd": request.saved_usd,
        "wallie.why": request.why or None,
    }
    return {name: value for name, value in decided.items() if value is not None}


def _usage(attempt: Settled) -> Attributes:
    counts = {
        "gen_ai.usage.input_tokens": attempt.prompt_tokens,
        "gen_ai.usage.output_tokens": attempt.completion_tokens,
        "gen_ai.usage.cache_read.input_tokens": attempt.cached_tokens,
        "gen_ai.usage.cache_creation.input_tokens": attempt.cache_write_tokens,
        "gen_ai.usage.reasoning.output_tokens": attempt.reasoning_tokens,
    }
    return {key: count for key, count in counts.items() if count}


def _attempt_attributes(attempt: Settled) -> Attributes:
    attributes: Attributes = {
        "wallie.request_id": attempt.request_id,
        "wallie.provider": attempt.provider,
        "wallie.model": attempt.model,
        "wallie.attempt": attempt.number,
        "wallie.outcome": attempt.outcome,
        "wallie.waited_ms": attempt.waited_ms,
        "wallie.estimated": attempt.estimated,
        "wallie.unpriced": attempt.unpriced,
    }
    if attempt.hedge:
        attributes["wallie.hedge"] = True
    if attempt.stream:
        attributes["gen_ai.request.stream"] = True
    if attempt.cost_usd is not None:
        attributes["wallie.cost_usd"] = attempt.cost_usd
    if attempt.status_code is not None:
        attributes["wallie.status_code"] = attempt.status_code
    return attributes


def _add_fallback(span: Span, to: Settled, from_model: str, previous: Settled | None) -> None:
    """An event for the fallback to ``to``, at the time when that attempt began to wait for capacity."""
    attributes: Attributes = {"wallie.fallback.from": from_model, "wallie.fallback.to": to.model}
    if previous is not None and previous.error:
        attributes["error.type"] = previous.error
    span.add_event("wallie.fallback", attributes, _nanoseconds(to.at - (to.latency_ms + to.waited_ms) / 1000))


def _end_span(span: Span, event: Ended | Settled) -> None:
    if not event.success:
        span.set_status(Status(StatusCode.ERROR, event.error))
    span.end(_nanoseconds(event.at))


def _operation(event: Ended | Settled) -> str:
    return OPERATION_NAMES.get(event.operation, event.operation)


def _vendor(provider: str, deployment: str) -> tuple[str, str]:
    """The conventions' name of a provider, and the vendor's name of the model: without LiteLLM's prefix."""
    prefix, slash, model = deployment.partition("/")
    if slash and prefix in PROVIDER_NAMES:
        return PROVIDER_NAMES[prefix], model
    return PROVIDER_NAMES.get(provider, provider), deployment


def _parent_of(metadata: Mapping[str, Any]) -> Context:
    """The trace of a valid W3C ``traceparent`` in the metadata, else an empty context."""
    carrier = {key: metadata[key] for key in ("traceparent", "tracestate") if isinstance(metadata.get(key), str)}
    return _PROPAGATOR.extract(carrier, Context()) if "traceparent" in carrier else Context()


def current_trace() -> dict[str, str]:
    """Metadata that makes a request part of the current span's trace; empty without a span."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return carrier


def _nanoseconds(unix: float) -> int:
    return int(unix * 1e9)


def _force_flush(provider: object, timeout: float) -> bool:
    force_flush = getattr(provider, "force_flush", None)
    if force_flush is None:  # not the SDK's: it buffers nothing
        return True
    try:
        return force_flush(max(0, int(timeout * 1000))) is not False
    except Exception as error:  # noqa: BLE001 - the SDK raises a bare Exception for a reader that failed
        logger.warning("OpenTelemetry could not be flushed: %s", type(error).__name__)
        return False
