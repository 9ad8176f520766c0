"""Marked prompts, answers, keys and error texts go through every path; no file or request holds a mark afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from privacy_support import ANSWER, ERROR, KEY, MESSAGES, METADATA, PROMPT, PROVIDERS, marked, marked_data, written

from wallie_litellm import build_router, execute_ai_request, stream_ai_request
from wallie_litellm.config import parse_config
from wallie_litellm.simulator.providers import SimulatedProviders
from wallie_litellm.telemetry.sinks.opentelemetry import OpenTelemetrySink


@pytest.fixture(scope="module")
def marked_fleet() -> Iterator[SimulatedProviders]:
    with SimulatedProviders({name: {"text": ANSWER} for name in PROVIDERS}, in_process=False) as fleet:
        yield fleet


async def every_way(router: Any, fleet: SimulatedProviders) -> None:
    """Answers, streams, errors of every kind, refusals, broken-off streams and cancelled calls."""

    async def chat(**more: Any) -> None:
        await execute_ai_request(router, "gpt-4o-mini", MESSAGES, feature="f", metadata=METADATA, **more)

    async def stream(leave: bool = False) -> None:
        async with stream_ai_request(router, "claude-opus-4", MESSAGES, user_id="u", metadata=METADATA) as deltas:
            async for _ in deltas:
                if leave:
                    break

    async def others() -> None:
        await router.aembedding("text-embedding-3-small", input=[PROMPT], metadata=METADATA)
        await router.aresponses(model="gpt-4o", input=PROMPT, instructions=PROMPT, metadata={"conversationId": "1"})
        await router.aanthropic_messages(
            model="claude-sonnet-4", messages=MESSAGES[1:], system=PROMPT, max_tokens=9, litellm_metadata=METADATA
        )

    def break_all(**fault: Any) -> None:
        for name in PROVIDERS:
            fleet[name].fail(**fault)

    await chat()
    await stream()
    await stream(leave=True)
    await others()
    for fault in ({"status": 500}, {"status": 400}, {"status": 401}, {"status": 429, "retry_after": 0.01}):
        break_all(**fault, body={"error": {"message": ERROR, "type": ERROR, "code": ERROR}})
        for attempt in (chat, stream, others):
            with contextlib.suppress(Exception):
                await attempt()
        for name in PROVIDERS:
            fleet[name].heal()
            router.guard.close_circuit(name)
            router.guard.reset_quota(name)
    fleet["openai"].malformed(times=1)
    with contextlib.suppress(Exception):
        await chat()
    fleet["openai"].hang(times=1)
    task = asyncio.create_task(chat())
    await asyncio.sleep(0.2)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    router.guard.open_circuit("deepseek")
    with contextlib.suppress(Exception):
        await execute_ai_request(router, "deepseek-chat", MESSAGES, metadata=METADATA)


@pytest.mark.parametrize("ledger", ["there", "away"])
async def test_no_prompt_answer_or_key_is_written_anywhere(marked_fleet, receivers, tmp_path, caplog, ledger):
    caplog.set_level(logging.DEBUG, "wallie_litellm")
    for name in marked_fleet:
        marked_fleet[name].heal()
    # A database that does not answer sends every record through the spool.
    url = f"sqlite:///{tmp_path}/wallie.db" if ledger == "there" else "postgresql://u:p@127.0.0.1:9/wallie"
    config = parse_config(marked_data(tmp_path, receivers, url), env={})
    spans, tracers = InMemorySpanExporter(), TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(spans))
    router = build_router(config, model_list=marked_fleet.point(config.model_list))
    for entry in router.model_list:
        entry["litellm_params"]["api_key"] = KEY
    router.guard.bus.add(lambda: OpenTelemetrySink(tracer_provider=tracers))
    await every_way(router, marked_fleet)
    await router.guard.flush()
    prometheus = next(sink for sink in router.guard.bus.sinks() if sink.name == "prometheus")
    endpoint, webhook, ingestion = receivers
    contents = {
        "prometheus": prometheus.render()[0].decode(),
        "status": json.dumps(router.guard.status(), default=str),
    }
    await router.guard.aclose()
    contents |= {
        "posthog": "\n".join(endpoint.bodies),
        "slack": "\n".join(webhook.texts),
        "webhooks": "\n".join(body.decode() for _, body in webhook.posts if b'"severity"' in body),
        "sentry": "\n".join(envelope.raw for envelope in ingestion.envelopes),
        "spans": "\n".join(span.to_json() for span in spans.get_finished_spans()),
        "logs": "\n".join(record.getMessage() for record in caplog.records if "wallie" in record.name),
        **written(tmp_path),
    }
    for name in ("prometheus", "posthog", "slack", "webhooks", "sentry", "spans"):
        assert len(contents[name]) > 100, f"{name} has received nothing, so that its check proves nothing"
    kept = "\n".join(text for file, text in contents.items() if "wallie.db" in file or "spool" in file)
    assert "conversationId" in kept
    assert not marked(contents)
