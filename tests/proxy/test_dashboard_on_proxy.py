"""The operator's view of a real LiteLLM proxy, and its figures against those of every other output."""

from __future__ import annotations

import csv
import http.client
import io
import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from html import unescape
from typing import Any

import pytest
from click.testing import CliRunner
from proxy_support import MASTER_KEY, Answer, Proxy, RecordedLedger
from support import shipped_config, wait_until

from wallie_litellm.cli import main
from wallie_litellm.simulator.posthog_endpoint import PostHogEndpoint
from wallie_litellm.simulator.providers import SimulatedProviders

ADMIN_TOKEN = "an-operators-own-token"
PROVIDERS = ("openai", "anthropic", "gemini", "groq", "deepseek")


@pytest.fixture(scope="module")
def endpoint() -> Iterator[PostHogEndpoint]:
    with PostHogEndpoint() as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def proxy(
    running_fleet: SimulatedProviders, start_proxy: Any, endpoint: PostHogEndpoint, ledger: RecordedLedger
) -> Proxy:
    config = shipped_config()
    config["model_list"] = running_fleet.point(config["model_list"])
    config["wallie"] |= {
        "ledger": {"url": ledger.url},
        "admin_token": ADMIN_TOKEN,
        "retry": {"max_retries": 0},
        "telemetry": {
            "posthog": {"api_key": endpoint.project_key, "host": endpoint.url},
            "prometheus": {},
            "spool": str(ledger.path.parent / "spool"),
        },
    }
    started: Proxy = start_proxy(config)
    return started


def ask(proxy: Proxy, path: str, token: str | None = ADMIN_TOKEN, method: str = "GET", **headers: str) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=30)
    sent = {**headers} if token is None else {"authorization": f"Bearer {token}", **headers}
    try:
        connection.request(method, f"/wallie/{path}", headers=sent)
        response = connection.getresponse()
        found = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, found, response.read().decode())
    finally:
        connection.close()


def test_the_proxy_serves_the_dashboard_to_operators_only(proxy: Proxy) -> None:
    for token in (ADMIN_TOKEN, MASTER_KEY):
        assert ask(proxy, "api/status", token).json["providers"].keys() >= set(PROVIDERS)
        assert "panel-health" in ask(proxy, "", token).text
    assert "wallie_" in ask(proxy, "metrics").text
    for path in (
        "api/status",
        "api/usage",
        "api/alerts",
        "api/export.csv",
        "api/kpis",
        "api/openapi.json",
        "metrics",
        "panels",
    ):
        assert ask(proxy, path, None).status == 401, path
    assert ask(proxy, "api/status", "wrong").status == 401
    page = ask(proxy, "", None)
    assert (page.status, page.headers["location"]) == (303, "/wallie/login")
    refused = ask(proxy, "api/providers/openai/circuit/open", ADMIN_TOKEN, "POST", origin="https://evil.example")
    assert refused.status == 403
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert ask(proxy, "api/status").json["providers"]["openai"]["health"] == "healthy"


def wait_for_records(endpoint: PostHogEndpoint, ledger: RecordedLedger, count: int) -> None:
    """Wait until all ``count`` requests that the proxy has served are on record; the next test begins with that."""
    wait_until(lambda: len(ledger.select("wallie_requests")) == count)
    wait_until(lambda: len(endpoint.events("ai.request.completed")) == count)


def test_an_action_over_http_stops_the_proxys_calls(
    proxy: Proxy, fleet: SimulatedProviders, endpoint: PostHogEndpoint, ledger: RecordedLedger
) -> None:
    recorded = len(ledger.select("wallie_requests"))
    assert proxy.chat("gpt-4o-mini").status == 200
    assert ask(proxy, "api/providers/openai/circuit/open", method="POST").status == 200
    before = fleet["openai"].counts().received
    answer = proxy.chat("gpt-4o-mini")
    assert answer.status == 200
    assert fleet["openai"].counts().received == before  # the chain's next member has answered
    assert ask(proxy, "api/providers/openai/circuit/close", method="POST").status == 200
    assert proxy.chat("gpt-4o-mini").status == 200
    assert fleet["openai"].counts().received == before + 1
    wait_for_records(endpoint, ledger, recorded + 3)


Figures = dict[str, tuple[int, float]]
"""Tokens and US dollars by provider."""


def of_posthog(events: list[Any]) -> Figures:
    sums: dict[str, list[float]] = defaultdict(lambda: [0, 0.0])
    for event in events:
        sums[event.properties["provider"]][0] += event.properties["totalTokens"]
        sums[event.properties["provider"]][1] += event.properties["costUsd"]
    return {name: (int(tokens), cost) for name, (tokens, cost) in sums.items()}


def of_usage(usage: Mapping[str, Any]) -> Figures:
    return {row["name"]: (row["total_tokens"], row["cost_usd"]) for row in usage["totals"]}


def of_export(text: str) -> Figures:
    sums: dict[str, list[float]] = defaultdict(lambda: [0, 0.0])
    for row in csv.DictReader(io.StringIO(text)):
        sums[row["provider"]][0] += int(row["total_tokens"])
        sums[row["provider"]][1] += float(row["cost_usd"] or 0)
    return {name: (int(tokens), cost) for name, (tokens, cost) in sums.items()}


def of_page(html: str) -> Figures:
    panel = html.partition('id="panel-performance"')[2].partition("</section>")[0]
    found = {}
    for name, row in re.findall(r'<tr data-provider="([^"]+)">(.*?)</tr>', panel, re.DOTALL):
        values = dict(re.findall(r'data-field="([^"]+)" data-value="([^"]*)"', row))
        found[unescape(name)] = int(values["tokens"]), float(values["cost"])
    return found


def test_page_status_export_and_posthog_have_the_same_figures(
    proxy: Proxy, fleet: SimulatedProviders, endpoint: PostHogEndpoint, ledger: RecordedLedger
) -> None:
    before = len(ledger.select("wallie_requests"))
    for number, model in enumerate(
        ("gpt-4o-mini", "gpt-4o", "claude-sonnet-4", "gemini-2.0-flash", "llama-3.1-8b", "deepseek-chat")
    ):
        for stream in (False, True):
            sent = proxy.chat(model, {"x-wallie-feature": "chat"}, max_tokens=20 + number, stream=stream)
            assert sent.status == 200, sent.text
    fleet["openai"].fail(500)
    for _ in range(3):
        assert proxy.chat("gpt-4o-mini").status == 200  # by the chain's next member
    fleet["openai"].heal()
    wait_for_records(endpoint, ledger, before + 15)

    recorded = of_posthog(endpoint.events("ai.request.completed"))
    assert recorded.keys() == set(PROVIDERS)
    assert all(tokens > 0 and cost > 0 for tokens, cost in recorded.values())
    environment = {"WALLIE_ADMIN_TOKEN": ADMIN_TOKEN}
    status = CliRunner().invoke(main, ["status", "--json", "--url", f"http://127.0.0.1:{proxy.port}"], env=environment)
    assert status.exit_code == 0, status.output
    export = CliRunner().invoke(
        main, ["export", "--kind", "attempt", "--url", f"http://127.0.0.1:{proxy.port}"], env=environment
    )
    sources = {
        "page": of_page(ask(proxy, "?range=1h").text),
        "page, 24 h": of_page(ask(proxy, "?range=24h").text),
        "usage": of_usage(ask(proxy, "api/usage?range=24h").json),
        "status": of_usage(json.loads(status.stdout)["usage"]),
        "export": of_export(ask(proxy, "api/export.csv?range=24h").text),
        "export, command": of_export(export.stdout),
    }
    for where, figures in sources.items():
        assert figures.keys() == recorded.keys(), where
        for name, (tokens, cost) in recorded.items():
            assert figures[name][0] == tokens, (where, name)
            assert figures[name][1] == pytest.approx(cost, abs=1e-9), (where, name)
