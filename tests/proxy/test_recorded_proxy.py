"""Every way a request can end at a proxy, over HTTP: what is in the ledger afterwards, and on whose account."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ledger_support import assert_sums_are_right
from proxy_outcomes import (
    CASES,
    ENDPOINTS,
    GENERATING,
    METADATA,
    OPERATIONS,
    OWN,
    OWN_PROVIDERS,
    STREAMS,
    Recorded,
    own,
)
from proxy_support import MASTER_KEY, Crowd, RecordedLedger
from support import shipped_config, wait_until

from wallie_litellm.simulator.provider import SimulatedProvider
from wallie_litellm.simulator.providers import SimulatedProviders


@pytest.fixture(scope="module")
def started(running_fleet, start_proxy, tmp_path_factory) -> Callable[[], Recorded]:
    """The proxy, which is started again where a test has ended it."""
    folder: Path = tmp_path_factory.mktemp("ledger")
    config = shipped_config()
    limits: dict[str, Any] = {}
    chains: list[dict[str, list[str]]] = []
    for case, name, endpoint in OWN_PROVIDERS:
        group = own(name, endpoint)
        model = "openai/text-embedding-3-small" if endpoint == "embeddings" else "openai/gpt-4o-mini"
        params = {"model": model} | ({} if case.timeout is None else {"timeout": case.timeout})
        entry = {"model_name": group, "litellm_params": params, "model_info": {"wallie_provider": group}}
        config["model_list"].append(entry)
        limits[group] = dict(case.limits)
        chains += [{group: ["claude-sonnet-4"]}] if case.chain else []
    config["model_list"] = running_fleet.point(config["model_list"])
    config["router_settings"]["fallbacks"] = chains
    config["litellm_settings"] |= {"cache": True, "cache_params": {"type": "local", "mode": "default_off"}}
    ledger = RecordedLedger(folder / "wallie.db")
    config["wallie"] |= {
        "providers": limits,
        "admission": {"max_wait": "100ms"},
        "retry": {"max_retries": 1, "initial": "1ms", "max": "1ms"},
        "breaker": {"failures": 2},
        "ledger": {"url": ledger.url},
        "telemetry": {"spool": str(folder / "spool")},
    }
    running: list[Recorded] = []

    def start() -> Recorded:
        if not running or running[-1].proxy.process.poll() is not None:
            running.append(Recorded(start_proxy(config), ledger))
        return running[-1]

    return start


@pytest.fixture
def recorded(started: Callable[[], Recorded]) -> Recorded:
    return started()


def check_row(row: dict[str, Any], user: str) -> None:
    assert (row["feature"], row["user_id"], row["metadata"]) == ("wallie-chat", user, METADATA)


def check_attempts(attempts: list[dict[str, Any]], request: dict[str, Any], user: str) -> None:
    """Attempts belong to the request, are counted from one, and are billed where the provider had the prompt."""
    assert [row["number"] for row in attempts] == list(range(1, request["attempts"] + 1))
    assert {row["request_id"] for row in attempts} <= {request["request_id"]}
    check_row(request, user)
    for row in attempts:
        check_row(row, user)
        billed = row["outcome"] in ("success", "cut")
        assert (row["total_tokens"] > 0, row["cost_usd"] > 0) == (billed, billed), row
        assert row["total_tokens"] >= row["prompt_tokens"] + row["completion_tokens"]
        assert not row["unpriced"]
        assert row["operation"] == request["operation"]


@pytest.mark.parametrize("name", CASES)
def test_one_row_per_attempt_and_one_per_request(recorded, fleet: SimulatedProviders, name: str) -> None:
    reached = {endpoint: run_case(recorded, fleet["openai"], name, endpoint) for endpoint in CASES[name].endpoints}
    for endpoint, calls in reached.items():
        check_ledger(recorded.ledger, name, endpoint, calls)


def run_case(recorded: Recorded, openai: SimulatedProvider, name: str, endpoint: str) -> int:
    """Have a request end like the case at this endpoint; returns how many calls its own provider has seen."""
    case, group = CASES[name], own(name, endpoint)
    user = f"user-{group}"
    openai.heal()
    case.prepare(SimpleNamespace(openai=openai, user=user, ask=lambda user: recorded.ask(endpoint, group, user)))
    already = openai.counts().received
    assert recorded.ask(endpoint, group, user).status == case.status, endpoint
    return openai.counts().received - already


def check_ledger(ledger: RecordedLedger, name: str, endpoint: str, calls: int) -> None:
    case, group = CASES[name], own(name, endpoint)
    user = f"user-{group}"
    attempts, request = ledger.of(user)
    expected = [(group if provider == OWN else provider, outcome, error) for provider, outcome, error in case.attempts]
    assert [(row["provider"], row["outcome"], row["error"]) for row in attempts] == expected, endpoint
    assert (request["success"], request["error"]) == (case.error is None, case.error)
    assert (request["by_caller"], request["used_fallback"]) == (case.by_caller, case.chain)
    assert (request["model"], request["stream"]) == (group, endpoint in STREAMS)
    assert request["operation"] == OPERATIONS.get(endpoint, endpoint.removesuffix("_stream"))
    assert request["provider"] == (expected[-1][0] if expected else group)
    check_attempts(attempts, request, user)
    reached = [row for row in attempts if row["provider"] == group and row["outcome"] != "not_sent"]
    assert len(reached) == calls, f"a call at {endpoint} was not recorded"
    for row in attempts:
        on_chain = row["provider"] == "anthropic"
        assert row["model"] == ("claude-sonnet-4" if on_chain else group)
        assert row["deployment"].startswith("anthropic/" if on_chain else "openai/")
        assert row["success"] == (row["error"] is None)
        assert not (row["success"] and row["estimated"]), "the provider's own figures are there"


def test_claude_codes_sessions_are_one_user_and_a_header_in_utf8_is_read(recorded, fleet) -> None:
    device, session = "5f" * 32, "1c9e6a52-77d0-4a0e-8a34-0c2f6a1b7d1"
    path, body = ENDPOINTS["messages"]
    older = f"user_{device}_account__session_{session}1"
    newer = json.dumps({"device_id": device, "account_uuid": "", "session_id": f"{session}2"})
    for number, form in enumerate((older, newer)):
        asked = {**body, "model": "claude-sonnet-4", "metadata": {"user_id": form}, "stream": number == 1}
        utf8 = "wallie-чат".encode().decode("latin-1")  # http.client writes Latin-1
        assert recorded.proxy.post(path, asked, {"x-wallie-feature": utf8}).status == 200
    wait_until(lambda: len(recorded.ledger.requests(f"user_{device}")) == 2)
    assert {row["feature"] for row in recorded.ledger.requests(f"user_{device}")} == {"wallie-чат"}


def test_geminis_own_wire_is_served_eight_times_and_has_its_tokens_and_cost_on_record(recorded, fleet) -> None:
    """As Gemini's CLI asks: the feature in a header, no metadata."""
    path = "/v1beta/models/gemini-2.0-flash:streamGenerateContent?alt=sse"
    body = {"contents": [{"role": "user", "parts": [{"text": "Hello there"}]}]}
    feature = {"x-wallie-feature": "gemini-cli"}
    for _ in range(8):
        answer = recorded.proxy.post(path, body, feature)
        assert answer.status == 200
        assert '"finishReason"' in answer.text
    wait_until(lambda: len(recorded.ledger.select("wallie_requests", "feature = 'gemini-cli'")) == 8)
    rows = recorded.ledger.select("wallie_attempts", "feature = 'gemini-cli'")
    assert {(row["provider"], row["outcome"], row["operation"]) for row in rows} == {
        ("gemini", "success", "generate_content")
    }
    assert {(row["prompt_tokens"] > 0, row["completion_tokens"] > 0, row["cost_usd"] > 0) for row in rows} == {
        (True, True, True)
    }
    assert recorded.proxy.chat("gemini-2.0-flash").status == 200


# What the client brings about, or the provider in the middle of an answer


@pytest.mark.parametrize("endpoint", STREAMS)
def test_a_client_that_breaks_off_in_mid_stream(recorded, fleet, endpoint) -> None:
    user = f"broke-off-{endpoint}"
    fleet["openai"].hang(after_chunks=2)
    path, body = ENDPOINTS[endpoint]
    metadata = {**METADATA, "feature": "wallie-chat", "user_id": user}
    connection = recorded.proxy.connect()
    recorded.proxy.send(connection, path, {**body, "model": "gpt-4o-mini", "metadata": metadata})
    assert connection.getresponse().read1(10)
    recorded.proxy.hang_up(connection)
    attempts, request = recorded.ledger.of(user)
    (attempt,) = attempts
    assert (attempt["provider"], attempt["outcome"], attempt["estimated"]) == ("openai", "cut", True)
    assert attempt["error"] in ("cancelled", "abandoned")
    assert (request["success"], request["by_caller"], request["error"]) == (False, True, attempt["error"])
    check_attempts(attempts, request, user)


@pytest.mark.parametrize("endpoint", GENERATING)
def test_a_client_that_leaves_before_there_is_an_answer(recorded, fleet, endpoint) -> None:
    """LiteLLM's proxy goes on with the call, and what the provider then bills is what is on record."""
    user = f"left-{endpoint}"
    fleet["openai"].slow(0.3)
    path, body = ENDPOINTS[endpoint]
    metadata = {**METADATA, "feature": "wallie-chat", "user_id": user}
    connection = recorded.proxy.connect()
    recorded.proxy.send(connection, path, {**body, "model": "gpt-4o-mini", "metadata": metadata})
    wait_until(lambda: fleet["openai"].counts().received == 1)
    recorded.proxy.hang_up(connection)
    attempts, request = recorded.ledger.of(user)
    (attempt,) = attempts
    assert attempt["outcome"] in ("success", "cut")
    assert (request["success"], request["error"]) == (attempt["success"], attempt["error"])
    assert request["by_caller"] == (not request["success"])
    check_attempts(attempts, request, user)
    assert fleet["openai"].counts().received == 1


@pytest.mark.parametrize("endpoint", STREAMS)
def test_a_stream_that_its_provider_cuts(recorded, fleet, endpoint) -> None:
    user = group = own("cut", endpoint)
    fleet["openai"].cut_stream(2, times=1)
    recorded.ask(endpoint, group, user)
    attempts, request = recorded.ledger.of(user)
    (attempt,) = attempts
    assert (attempt["provider"], attempt["outcome"], attempt["estimated"]) == (group, "cut", True)
    assert (request["success"], request["by_caller"], request["error"]) == (False, False, attempt["error"])
    check_attempts(attempts, request, user)


@pytest.mark.parametrize("endpoint", ["chat", "chat_stream"])
def test_an_answer_from_the_cache_costs_nothing(recorded, fleet, endpoint) -> None:
    cached = {"cache": {"use-cache": True}}

    def is_cached() -> bool:
        before = fleet["openai"].counts().received
        assert recorded.ask(endpoint, "gpt-4o", f"fills-the-cache-{endpoint}", **cached).status == 200
        return bool(fleet["openai"].counts().received == before)

    wait_until(is_cached)  # LiteLLM stores an answer in a task of its own
    user = f"cached-{endpoint}"
    assert recorded.ask(endpoint, "gpt-4o", user, **cached).status == 200
    attempts, request = recorded.ledger.of(user)
    (attempt,) = attempts
    assert (attempt["outcome"], attempt["success"], attempt["provider"]) == ("cache_hit", True, "openai")
    assert (attempt["total_tokens"], attempt["cost_usd"]) == (0, 0.0)
    assert request["success"]
    check_attempts(attempts, request, user)


# Who caused it

HEADER = {"x-wallie-feature": "wallie-chat"}
TAGS: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "metadata": ({"metadata": {**METADATA, "feature": "wallie-chat"}}, {}),
    "tags of the metadata": ({"metadata": {**METADATA, "tags": ["blue", "feature:wallie-chat"]}}, {}),
    "tags of the body": ({"metadata": METADATA, "tags": ["blue", "feature:wallie-chat"]}, {}),
    "header": ({"metadata": METADATA}, HEADER),
    "litellm's header": ({"metadata": METADATA}, {"x-litellm-tags": "blue,feature:wallie-chat"}),
    "nothing in the metadata": ({"metadata": {**METADATA, "feature": "", "tags": ["feature:"]}}, HEADER),
}


@pytest.mark.parametrize("way", TAGS)
def test_feature_user_and_metadata_are_recorded_however_they_are_named(recorded, fleet, way) -> None:
    more, headers = TAGS[way]
    private = {"x-forwarded-for": "203.0.113.7", "cookie": "session=MARKED", "x-internal": "MARKED"}
    users = {endpoint: f"user {way} {endpoint}" for endpoint in ENDPOINTS}
    for endpoint, user in users.items():
        path, body = ENDPOINTS[endpoint]
        model = "text-embedding-3-small" if endpoint == "embeddings" else "gpt-4o-mini"
        answer = recorded.proxy.post(path, {**body, **more, "model": model, "user": user}, {**private, **headers})
        assert answer.status == 200, endpoint
    for user in users.values():
        (attempt,), request = recorded.ledger.of(user)
        check_row(attempt, user)
        check_row(request, user)


@pytest.mark.parametrize("endpoint", GENERATING)
def test_a_request_without_tags_has_no_feature_no_user_and_no_metadata(recorded, fleet, endpoint) -> None:
    path, body = ENDPOINTS[endpoint]
    table = "wallie_requests"
    before = {row["id"] for row in recorded.ledger.select(table)}
    assert recorded.proxy.post(path, {**body, "model": "gpt-4o-mini"}).status == 200
    new = "user_id = '' AND metadata = '{}' AND feature = ''"
    wait_until(lambda: any(row["id"] not in before for row in recorded.ledger.select(table, new)))


# The end


def test_an_interrupted_proxy_has_recorded_whatever_it_answered(recorded, fleet) -> None:
    """It ends the proxy, and looks at everything that was recorded: by then, all that the tests before it caused."""
    crowd = Crowd(recorded.proxy, "crowd")
    wait_until(lambda: len(crowd.answered) >= 40)
    recorded.proxy.stop(signal.SIGINT)
    crowd.leave()
    requests = recorded.ledger.select("wallie_requests")
    named = [row["user_id"] for row in requests]
    assert set(crowd.answered) <= set(named)
    once = [user for user in named if user and not user.startswith(("fills-the-cache", "user_"))]
    assert len(once) == len(set(once)), "a request is on record twice"
    attempts = recorded.ledger.select("wallie_attempts")
    assert sorted((row["request_id"], row["number"]) for row in attempts) == sorted(
        (row["request_id"], number + 1) for row in requests for number in range(row["attempts"])
    )
    assert_sums_are_right(recorded.ledger.url)
    written = recorded.ledger.path.read_bytes()
    for marked in (MASTER_KEY, "MARKED", "203.0.113.7", "user_api_key", "Hello there", "sk-simulated"):
        assert marked.encode() not in written, marked
