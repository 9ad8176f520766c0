"""Marked prompts, answers, keys and error texts through a real proxy; nothing that we write holds a mark."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from privacy_support import ANSWER, ERROR, KEY, METADATA, PROMPT, PROVIDERS, Receivers, marked, marked_data, written
from proxy_support import MASTER_KEY, Proxy
from support import wait_until

from wallie_litellm.simulator.providers import SimulatedProviders


@pytest.fixture(scope="module")
def fleet() -> Iterator[SimulatedProviders]:
    with SimulatedProviders({name: {"text": ANSWER} for name in PROVIDERS}, in_process=False) as fleet:
        yield fleet


def send_everything(proxy: Proxy, fleet: SimulatedProviders) -> None:
    system = {"role": "system", "content": PROMPT}
    for more in ({}, {"stream": True}, {"user": "u1", "metadata": METADATA}):
        messages = [system, {"role": "user", "content": PROMPT}]
        assert proxy.post("/v1/chat/completions", {"model": "gpt-4o-mini", "messages": messages, **more}).status == 200
        anthropic: dict[str, Any] = {"model": "claude-sonnet-4", "messages": messages[1:], "max_tokens": 50}
        assert proxy.post("/v1/messages", {**anthropic, "stream": "stream" in more}).status == 200
        assert proxy.post("/v1/responses", {"model": "gpt-4o", "input": PROMPT, **more}).status == 200
    assert proxy.post("/v1/embeddings", {"model": "text-embedding-3-small", "input": [PROMPT]}).status == 200
    for status in (400, 500):
        for name in PROVIDERS:
            fleet[name].fail(status, body={"error": {"message": ERROR, "type": ERROR, "code": ERROR}})
        for stream in (False, True):
            asked = {"model": "gpt-4o", "messages": [{"role": "user", "content": PROMPT}], "stream": stream}
            assert proxy.post("/v1/chat/completions", asked).status >= 400
        for name in PROVIDERS:
            fleet[name].heal()


def test_no_prompt_answer_or_key_leaves_through_the_proxy(
    start_proxy, fleet: SimulatedProviders, receivers: Receivers, tmp_path: Path
) -> None:
    data = marked_data(tmp_path, receivers, f"sqlite:///{tmp_path}/wallie.db")
    data["model_list"] = fleet.point(data["model_list"])
    for entry in data["model_list"]:
        entry["litellm_params"]["api_key"] = KEY
    proxy = start_proxy(data)
    send_everything(proxy, fleet)
    endpoint, webhook, ingestion = receivers
    wait_until(lambda: len(endpoint.events("ai.request.failed")) >= 4 and bool(webhook.texts))
    wait_until(lambda: bool(ingestion.envelopes))
    proxy.stop()
    said = {
        "posthog": "\n".join(endpoint.bodies),
        "slack": "\n".join(webhook.texts),
        "sentry": "\n".join(envelope.raw for envelope in ingestion.envelopes),
        "our log": "\n".join(line for line in proxy.log.read_text().splitlines() if "wallie" in line.lower()),
        **written(tmp_path),
    }
    assert "conversationId" in "\n".join(text for place, text in said.items() if "wallie.db" in place)
    assert not marked(said, MASTER_KEY)
