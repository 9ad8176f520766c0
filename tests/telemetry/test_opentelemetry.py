from __future__ import annotations

import importlib
import subprocess
import sys
import threading
from collections.abc import Mapping
from typing import Any

import pytest
from event_samples import NOON, PROMPT, ended, failed, settled
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes, user_attributes
from opentelemetry.semconv._incubating.metrics import gen_ai_metrics
from opentelemetry.semconv.attributes import error_attributes
from opentelemetry.trace import SpanKind, StatusCode

from wallie_litellm.core.demand import Demand
from wallie_litellm.errors import ConfigError
from wallie_litellm.events import (
    BreakerChanged,
    BudgetCrossed,
    Ended,
    FellBack,
    HealthChanged,
    QuotaCrossed,
    Settled,
    UsageReported,
)
from wallie_litellm.telemetry.sinks.opentelemetry import OpenTelemetrySink

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Pipeline:
    """The SDK as an application sets it up, with exporters that keep what they are given."""

    def __init__(self, **options: Any) -> None:
        self.exporter = InMemorySpanExporter()
        self.reader = InMemoryMetricReader()
        self.tracers = TracerProvider(sampler=ParentBased(TraceIdRatioBased(1.0)))
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.sink = OpenTelemetrySink(self.tracers, MeterProvider([self.reader]), **options)

    def spans(self, *events: Ended) -> tuple[ReadableSpan, list[ReadableSpan]]:
        """The request's span and those of its attempts, of the one request in ``events``."""
        self.sink.handle(events)
        *attempts, request = self.exporter.get_finished_spans()
        return request, attempts

    def points(self, name: str) -> list[Any]:
        data = self.reader.get_metrics_data()
        resources = data.resource_metrics if data is not None else []
        return [
            point
            for resource in resources
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]

    def counted(self, name: str) -> list[tuple[dict[str, Any], float]]:
        return [(dict(point.attributes), point.value) for point in self.points(name)]


@pytest.fixture
def pipeline() -> Pipeline:
    return Pipeline()


def attributes(span: ReadableSpan) -> Mapping[str, Any]:
    assert span.attributes is not None
    return span.attributes


def fallen_back() -> Ended:
    """Asked for gpt-4o-mini, which failed after 0.5 s; claude-sonnet-4 answered."""
    first = failed(at=NOON - 1.6, latency_ms=500.0, waited_ms=0.0)
    second = settled(
        number=2,
        provider="anthropic",
        model="claude-sonnet-4",
        deployment="anthropic/claude-sonnet-4-5",
        latency_ms=1000.0,
        waited_ms=400.0,
    )
    return ended(first, second, latency_ms=2200.0)


def test_a_request_is_a_span_with_a_client_span_below_it(pipeline: Pipeline) -> None:
    request, (attempt,) = pipeline.spans(ended(settled()))
    assert (request.name, request.kind, request.parent) == ("chat gpt-4o-mini", SpanKind.INTERNAL, None)
    assert (attempt.name, attempt.kind) == ("chat gpt-4o-mini-2024-07-18", SpanKind.CLIENT)
    assert attempt.parent == request.context
    assert request.status.status_code is attempt.status.status_code is StatusCode.UNSET


def test_the_spans_have_the_times_of_the_events(pipeline: Pipeline) -> None:
    request, (attempt,) = pipeline.spans(ended(settled()))
    second = 1_000_000_000
    assert request.end_time == attempt.end_time == int(NOON) * second
    assert request.start_time == pytest.approx((NOON - 2.0) * second, abs=1_000)
    assert attempt.start_time == pytest.approx((NOON - 1.5) * second, abs=1_000)


def test_the_names_are_those_of_the_conventions(pipeline: Pipeline) -> None:
    request, (attempt,) = pipeline.spans(ended(settled(stream=True)))
    for span in (request, attempt):
        assert attributes(span)[gen_ai_attributes.GEN_AI_OPERATION_NAME] == "chat"
        assert attributes(span)[gen_ai_attributes.GEN_AI_PROVIDER_NAME] == "openai"
        assert attributes(span)[gen_ai_attributes.GEN_AI_REQUEST_STREAM] is True
    assert attributes(request)[gen_ai_attributes.GEN_AI_REQUEST_MODEL] == "gpt-4o-mini"
    assert attributes(request)[gen_ai_attributes.GEN_AI_RESPONSE_MODEL] == "gpt-4o-mini-2024-07-18"
    assert attributes(attempt)[gen_ai_attributes.GEN_AI_REQUEST_MODEL] == "gpt-4o-mini-2024-07-18"
    assert attributes(attempt)[gen_ai_attributes.GEN_AI_USAGE_INPUT_TOKENS] == 100
    assert attributes(attempt)[gen_ai_attributes.GEN_AI_USAGE_OUTPUT_TOKENS] == 20
    assert attributes(attempt)[gen_ai_attributes.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS] == 40
    assert attributes(attempt)[gen_ai_attributes.GEN_AI_USAGE_REASONING_OUTPUT_TOKENS] == 8
    assert not any(key.startswith("gen_ai.usage") for key in attributes(request)), "every token is counted once"
    known = {value for key, value in vars(gen_ai_attributes).items() if key.startswith("GEN_AI_")}
    named = {key for span in (request, attempt) for key in attributes(span)}
    assert {key for key in named if not key.startswith("wallie.")} <= known


def test_attributes_without_a_convention_are_named_wallie(pipeline: Pipeline) -> None:
    request, (attempt,) = pipeline.spans(ended(settled(estimated=True)))
    assert {key: value for key, value in attributes(request).items() if key.startswith("wallie.")} == {
        "wallie.request_id": "r1",
        "wallie.provider": "openai",
        "wallie.attempts": 1,
        "wallie.waited_ms": 250.0,
        "wallie.used_fallback": False,
        "wallie.by_caller": False,
        "wallie.unpriced": False,
        "wallie.total_cost_usd": 0.003,
        "wallie.feature": "wallie-chat",
    }
    assert {key: value for key, value in attributes(attempt).items() if key.startswith("wallie.")} == {
        "wallie.request_id": "r1",
        "wallie.provider": "openai",
        "wallie.model": "gpt-4o-mini",
        "wallie.attempt": 1,
        "wallie.outcome": "success",
        "wallie.waited_ms": 250.0,
        "wallie.estimated": True,
        "wallie.unpriced": False,
        "wallie.cost_usd": 0.003,
        "wallie.feature": "wallie-chat",
    }


def test_what_routing_decided_is_on_the_request(pipeline: Pipeline) -> None:
    decided = {"tier": "flash", "experiment": "chat-model", "arm": "gpt-4o-mini", "auto_tier": "premium"}
    decided |= {"auto_saved_usd": 0.01, "hedged": True, "cache_hit": True, "saved_usd": 0.02, "why": ("tier",)}
    end = ended(settled(hedge=True), requested="chat", order="claude-sonnet-4", wasted_usd=0.001, **decided)
    request, (attempt,) = pipeline.spans(end)
    found = attributes(request)
    assert {name: found[f"wallie.{name}"] for name in decided} == decided
    assert (found["wallie.requested_model"], found["wallie.planned_model"]) == ("chat", "claude-sonnet-4")
    assert found["wallie.wasted_cost_usd"] == 0.001
    assert attributes(attempt)["wallie.hedge"] is True


@pytest.mark.parametrize(
    ("provider", "deployment", "named", "model"),
    [
        ("gemini", "gemini/gemini-2.5-flash", "gcp.gemini", "gemini-2.5-flash"),
        ("openai-eu", "azure/gpt-4o", "azure.ai.openai", "gpt-4o"),
        ("groq", "groq/meta-llama/llama-4", "groq", "meta-llama/llama-4"),
        ("together_ai", "together_ai/Qwen/Qwen3", "together_ai", "together_ai/Qwen/Qwen3"),
        ("openai", "gpt-4o", "openai", "gpt-4o"),
        ("our-own", "", "our-own", "gpt-4o-mini"),
    ],
)
def test_well_known_providers_have_the_conventions_names(
    pipeline: Pipeline, provider: str, deployment: str, named: str, model: str
) -> None:
    _, (attempt,) = pipeline.spans(ended(settled(provider=provider, deployment=deployment)))
    assert attributes(attempt)["gen_ai.provider.name"] == named
    assert attributes(attempt)["gen_ai.request.model"] == model
    assert attributes(attempt)["wallie.provider"] == provider


@pytest.mark.parametrize(
    ("operation", "named"),
    [("chat", "chat"), ("embedding", "embeddings"), ("responses", "chat"), ("messages", "chat"), ("rerank", "rerank")],
)
def test_operations_have_the_conventions_names(pipeline: Pipeline, operation: str, named: str) -> None:
    request, (attempt,) = pipeline.spans(ended(settled(operation=operation)))
    assert request.name == f"{named} gpt-4o-mini"
    assert attributes(attempt)["gen_ai.operation.name"] == named


def test_a_fallback_is_an_event_on_the_request(pipeline: Pipeline) -> None:
    request, attempts = pipeline.spans(fallen_back())
    assert [attributes(span)["wallie.attempt"] for span in attempts] == [1, 2]
    (event,) = request.events
    assert event.name == "wallie.fallback"
    assert dict(event.attributes or {}) == {
        "wallie.fallback.from": "gpt-4o-mini",
        "wallie.fallback.to": "claude-sonnet-4",
        "error.type": "HTTP 503",
    }
    assert event.timestamp == pytest.approx((NOON - 1.4) * 1e9, abs=1_000)
    assert attributes(request)["wallie.used_fallback"] is True
    assert attributes(request)["gen_ai.response.model"] == "claude-sonnet-4-5"


def test_a_first_member_that_was_refused_before_any_attempt_is_a_fallback_too(pipeline: Pipeline) -> None:
    request, _ = pipeline.spans(ended(settled(model="claude-sonnet-4")))
    (event,) = request.events
    assert dict(event.attributes or {}) == {
        "wallie.fallback.from": "gpt-4o-mini",
        "wallie.fallback.to": "claude-sonnet-4",
    }


def test_a_retry_is_no_fallback(pipeline: Pipeline) -> None:
    request, attempts = pipeline.spans(ended(failed(), settled(number=2)))
    assert len(attempts) == 2
    assert not request.events


def test_a_failure_has_an_error_type_and_a_status(pipeline: Pipeline) -> None:
    request, (attempt,) = pipeline.spans(ended(failed()))
    for span in (request, attempt):
        assert span.status.status_code is StatusCode.ERROR
        assert span.status.description == "HTTP 503"
        assert attributes(span)[error_attributes.ERROR_TYPE] == "HTTP 503"
        assert attributes(span)["wallie.status_code"] == 503
    assert "gen_ai.response.model" not in attributes(request)


def test_a_request_that_was_refused_without_an_attempt_is_one_span(pipeline: Pipeline) -> None:
    request, attempts = pipeline.spans(ended(success=False, error="wallie_rate_limited", status_code=429))
    assert attempts == []
    assert attributes(request)["error.type"] == "wallie_rate_limited"
    assert attributes(request)["wallie.attempts"] == 0


def test_a_cache_hit_is_an_internal_span(pipeline: Pipeline) -> None:
    _, (attempt,) = pipeline.spans(ended(settled(outcome="cache_hit")))
    assert attempt.kind is SpanKind.INTERNAL
    assert pipeline.points("gen_ai.client.operation.duration") == []


def test_an_unpriced_attempt_has_no_cost(pipeline: Pipeline) -> None:
    request, (attempt,) = pipeline.spans(ended(settled(cost_usd=None, unpriced=True)))
    assert "wallie.cost_usd" not in attributes(attempt)
    assert "wallie.total_cost_usd" not in attributes(request)
    assert attributes(request)["wallie.unpriced"] is attributes(attempt)["wallie.unpriced"] is True


def test_a_traceparent_in_the_metadata_becomes_the_parent(pipeline: Pipeline) -> None:
    metadata = {"traceparent": f"00-{TRACE}-{SPAN}-01", "tracestate": "vendor=1"}
    request, (attempt,) = pipeline.spans(ended(settled(), metadata=metadata))
    assert request.parent is not None
    assert request.parent.is_remote
    assert (f"{request.parent.trace_id:032x}", f"{request.parent.span_id:016x}") == (TRACE, SPAN)
    assert request.parent.trace_state.get("vendor") == "1"
    assert attempt.context is not None
    assert f"{attempt.context.trace_id:032x}" == TRACE


def test_a_parent_that_is_not_sampled_keeps_the_request_out_of_the_traces(pipeline: Pipeline) -> None:
    pipeline.sink.handle([ended(settled(), metadata={"traceparent": f"00-{TRACE}-{SPAN}-00"})])
    assert pipeline.exporter.get_finished_spans() == ()
    assert len(pipeline.points("gen_ai.client.operation.duration")) == 1, "metrics are not sampled"


@pytest.mark.parametrize(
    "traceparent",
    [
        "",
        "nonsense",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        "0" * 10_000,
        17,
        None,
        ["00", TRACE],
        b"00-" + TRACE.encode(),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_a_malformed_traceparent_is_ignored(pipeline: Pipeline, traceparent: object) -> None:
    request, attempts = pipeline.spans(ended(settled(), metadata={"traceparent": traceparent, "tracestate": 3}))
    assert request.parent is None
    assert len(attempts) == 1


def test_a_span_that_is_current_where_the_sink_runs_is_not_the_parent(pipeline: Pipeline) -> None:
    with pipeline.tracers.get_tracer("app").start_as_current_span("something else"):
        request, _ = pipeline.spans(ended(settled()))
    assert request.parent is None


def everything(pipeline: Pipeline) -> str:
    spans = "".join(span.to_json() for span in pipeline.exporter.get_finished_spans())
    data = pipeline.reader.get_metrics_data()
    return spans + (data.to_json() if data is not None else "")


def test_spans_have_no_user_and_no_metadata(pipeline: Pipeline) -> None:
    pipeline.sink.handle([ended(settled()), fallen_back()])
    found = everything(pipeline)
    assert "wallie-chat" in found
    for secret in ("user-7", PROMPT, "conversationId"):
        assert secret not in found


def test_user_ids_are_optional_on_spans_and_never_in_metrics() -> None:
    pipeline = Pipeline(user_ids=True)
    request, (attempt,) = pipeline.spans(ended(settled()))
    assert attributes(request)[user_attributes.USER_ID] == attributes(attempt)[user_attributes.USER_ID] == "user-7"
    points = pipeline.points("gen_ai.client.operation.duration") + pipeline.points("gen_ai.client.token.usage")
    assert all("user.id" not in point.attributes for point in points)


def test_calls_are_measured_in_the_conventions_histograms(pipeline: Pipeline) -> None:
    pipeline.sink.handle([ended(failed(), settled(number=2))])
    common = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o-mini-2024-07-18",
        "wallie.provider": "openai",
    }
    durations = {
        point.attributes.get("error.type"): point
        for point in pipeline.points(gen_ai_metrics.GEN_AI_CLIENT_OPERATION_DURATION)
    }
    assert set(durations) == {None, "HTTP 503"}
    assert dict(durations[None].attributes) == common
    assert durations[None].sum == pytest.approx(1.5)
    assert durations[None].explicit_bounds == (
        0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92,
    )  # fmt: skip
    tokens = {
        point.attributes["gen_ai.token.type"]: point
        for point in pipeline.points(gen_ai_metrics.GEN_AI_CLIENT_TOKEN_USAGE)
    }
    assert {kind: point.sum for kind, point in tokens.items()} == {"input": 100, "output": 20}
    assert tokens["input"].explicit_bounds[:4] == (1, 4, 16, 64)
    assert tokens["input"].explicit_bounds[-1] == 67_108_864
    assert pipeline.counted("wallie.cost") == [(common, 0.003)]


def test_provider_events_are_counted(pipeline: Pipeline) -> None:
    pipeline.sink.handle(
        [
            FellBack("1", NOON, "r1", "gpt-4o-mini", "claude-sonnet-4", "openai", "HTTP 503", None, "user-7"),
            BreakerChanged("2", NOON, "openai", "closed", "open", "5 failures", 30.0),
            HealthChanged("3", NOON, "openai", "healthy", "down", None),
            QuotaCrossed("4", NOON, "openai", "rpm", "critical", 0.95, 475.0, 500, 3.0),
            BudgetCrossed("5", NOON, "warning", 0.8, 400.0, 500.0, "2026-11"),
            UsageReported("6", NOON, "openai", Demand(), "update_usage"),
            settled(),
        ]
    )
    openai = {"wallie.provider": "openai"}
    assert pipeline.counted("wallie.fallbacks") == [
        ({"wallie.fallback.from": "gpt-4o-mini", "wallie.fallback.to": "claude-sonnet-4"}, 1)
    ]
    assert pipeline.counted("wallie.breaker.changes") == [(openai | {"wallie.breaker.state": "open"}, 1)]
    assert pipeline.counted("wallie.health.changes") == [(openai | {"wallie.health": "down"}, 1)]
    assert pipeline.counted("wallie.quota.alerts") == [
        (openai | {"wallie.quota.dimension": "rpm", "wallie.alert.level": "critical"}, 1)
    ]
    assert pipeline.counted("wallie.budget.alerts") == [({"wallie.alert.level": "warning"}, 1)]
    assert pipeline.exporter.get_finished_spans() == (), "an attempt is traced with its request"
    assert pipeline.sink.stats() == {"delivered": 5}


class Held(SpanExporter):
    """An exporter whose backend does not answer until it is let go."""

    def __init__(self) -> None:
        self.answer = threading.Event()
        self.exported = 0

    def export(self, spans: Any) -> SpanExportResult:
        self.answer.wait(30)
        self.exported += len(spans)
        return SpanExportResult.SUCCESS


def test_flush_exports_a_batch_processors_spans_and_close_does_not_shut_it_down() -> None:
    exporter = InMemorySpanExporter()
    tracers = TracerProvider()
    tracers.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=600_000))
    sink = OpenTelemetrySink(tracers, MeterProvider())
    sink.handle([ended(settled())])
    assert exporter.get_finished_spans() == ()
    assert sink.flush(10.0)
    assert len(exporter.get_finished_spans()) == 2
    sink.close(10.0)
    tracers.get_tracer("app").start_span("the application goes on").end()
    tracers.force_flush()
    assert len(exporter.get_finished_spans()) == 3
    tracers.shutdown()


def test_flush_keeps_to_its_timeout_though_the_exporter_hangs() -> None:
    exporter = Held()
    tracers = TracerProvider()
    tracers.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=600_000))
    sink = OpenTelemetrySink(tracers, MeterProvider())
    sink.handle([ended(settled())])
    assert not sink.flush(0.05)
    assert exporter.exported == 0
    exporter.answer.set()
    assert sink.flush(10.0)
    assert exporter.exported == 2
    tracers.shutdown()


def test_flush_returns_false_when_a_metric_reader_fails() -> None:
    reader = InMemoryMetricReader()
    meters = MeterProvider([reader])
    sink = OpenTelemetrySink(TracerProvider(), meters)
    assert sink.flush(60)

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("unreachable")

    reader.force_flush = broken  # type: ignore[method-assign]
    assert not sink.flush(5.0)


def test_the_applications_global_providers_are_used_even_when_set_later() -> None:
    # In a process of its own: the global providers can be set only once.
    script = """
from event_samples import ended, settled
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from wallie_litellm.telemetry.sinks.opentelemetry import OpenTelemetrySink

sink = OpenTelemetrySink()
sink.handle([ended(settled())])
assert sink.flush(60), "without any provider there is nothing to flush"
exporter, reader, tracers = InMemorySpanExporter(), InMemoryMetricReader(), TracerProvider()
tracers.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=600_000))
trace.set_tracer_provider(tracers)
metrics.set_meter_provider(MeterProvider([reader]))
sink.handle([ended(settled())])
assert sink.flush(60)
assert len(exporter.get_finished_spans()) == 2
assert reader.get_metrics_data() is not None
print("seen")
"""
    result = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path!r}\n{script}"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (result.returncode, result.stdout) == (0, "seen\n"), result.stderr


def test_without_the_package_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    module = "wallie_litellm.telemetry.sinks.opentelemetry"
    for name in [name for name in sys.modules if name == "opentelemetry" or name.startswith("opentelemetry.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    monkeypatch.delitem(sys.modules, module)
    with pytest.raises(ConfigError, match=r"wallie-litellm\[opentelemetry\]"):
        importlib.import_module(module)


def test_a_batch_with_every_kind_of_event_is_handled_in_order(pipeline: Pipeline) -> None:
    attempts: list[Settled | Ended] = [settled(request_id=f"r{number}") for number in range(3)]
    attempts += [ended(settled(request_id=f"r{number}"), request_id=f"r{number}") for number in range(3)]
    pipeline.sink.handle(attempts)
    requests = [span for span in pipeline.exporter.get_finished_spans() if span.kind is SpanKind.INTERNAL]
    assert [attributes(span)["wallie.request_id"] for span in requests] == ["r0", "r1", "r2"]
