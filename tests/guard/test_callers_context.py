"""The caller's metadata is left unchanged, and its trace goes on through the request."""

from __future__ import annotations

import copy

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from support import messages

from wallie_litellm import execute_ai_request
from wallie_litellm.telemetry.bus import Bus
from wallie_litellm.telemetry.sinks.opentelemetry import OpenTelemetrySink, current_trace


@pytest.mark.parametrize("stream", [False, True])
async def test_the_callers_metadata_is_left_as_it_was(make_router, fleet, stream):
    router = make_router(retry={"max_retries": 1, "initial": "1ms", "max": "1ms"})
    fleet["openai"].fail(500, times=2)
    metadata = {"feature": "wallie-chat", "nested": {"a": [1]}}
    before = copy.deepcopy(metadata)
    answer = await router.acompletion("gpt-4o-mini", messages(), metadata=metadata, stream=stream)
    if stream:
        async for _ in answer:
            pass
    assert metadata == before


async def test_a_request_is_part_of_the_trace_it_was_made_in(make_router):
    spans, tracers = InMemorySpanExporter(), TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(spans))
    bus = Bus()
    bus.add(lambda: OpenTelemetrySink(tracer_provider=tracers))
    router = make_router(bus=bus, trace_of_caller=current_trace)
    with trace.use_span(tracers.get_tracer("app").start_span("handle order"), end_on_exit=True) as outer:
        result = await execute_ai_request(router, "gpt-4o-mini", messages(), metadata={"conversationId": "1"})
        await router.acompletion("gpt-4o-mini", messages())
    await router.guard.flush()
    assert result.provider == "openai"
    finished = {span.context.span_id: span for span in spans.get_finished_spans()}
    assert len(finished) == 5  # the application's, two requests, two attempts
    assert {span.context.trace_id for span in finished.values()} == {outer.get_span_context().trace_id}
    requests = [span for span in finished.values() if span.parent and span.parent.span_id == outer.context.span_id]
    assert len(requests) == 2
