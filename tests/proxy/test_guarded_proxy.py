"""The same guard in a LiteLLM proxy: every endpoint, any client, no code."""

from __future__ import annotations

import json
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType
from typing import Any, Final

import pytest
from support import messages, shipped_config, wait_until

PATIENCE = {"max_wait": "1s"}
SPENT_BY_ONE = {"daily_usd": 1e-9, "on_exhausted": "refuse"}
BUDGETED = ("chat", "messages", "responses", "chat-stream", "messages-stream", "responses-stream", "embeddings")


PLACES: Final = 16  # calls in flight that openai's limit allows: few enough to begin together on a busy machine


@pytest.fixture(scope="module")
def proxy(running_fleet, start_proxy):
    config = shipped_config()
    config["model_list"] = running_fleet.point(config["model_list"])
    config["wallie"] |= {
        "admission": PATIENCE,
        "retry": {"max_retries": 1, "initial": "10ms"},
        "breaker": {"failures": 5, "open_for": "2s", "max_open_for": "2s"},
        "providers": {"deepseek": {"rpm": 6, "burst": {"rpm": 2}}, "openai": {"rpm": 60_000, "concurrency": PLACES}},
        "features": {
            "impatient": {"patience": "1ms"},
            "faq": {"cache": {"ttl": "1h", "per": "all"}},
            "hedged": {"hedge": {"after": "200ms", "budget": 1}},
            **{f"spent-{way}": {"budget": SPENT_BY_ONE} for way in BUDGETED},
        },
        "rate_limit_headers": "own",
    }
    # Our status page comes with the dashboard; until then a callback of the test's own shows the guard.
    return start_proxy(config)


REQUESTS: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", {"messages": messages()}),
    "messages": ("/v1/messages", {"messages": messages(), "max_tokens": 20}),
    "responses": ("/v1/responses", {"input": "Hello there"}),
}


def ask(proxy, kind, model, headers=MappingProxyType({}), **more):
    path, body = REQUESTS[kind]
    return proxy.post(path, {"model": model, **body, **more}, headers=headers)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kind", REQUESTS)
@pytest.mark.parametrize("model", ["gpt-4o-mini", "claude-sonnet-4"])
def test_every_endpoint_answers(proxy, fleet, kind, model, stream):
    answer = ask(proxy, kind, model, stream=stream)
    assert answer.status == 200
    assert "Hello " in answer.text
    assert answer.headers.get("x-ratelimit-limit-requests") == ("60000" if model == "gpt-4o-mini" else None)


def test_embeddings_answer(proxy, fleet):
    answer = proxy.post("/v1/embeddings", {"model": "text-embedding-3-small", "input": "Hello"})
    assert answer.status == 200
    assert answer.json["usage"]["prompt_tokens"] > 0


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kind", REQUESTS)
def test_a_failing_provider_is_fallen_back_from(proxy, fleet, kind, stream):
    fleet["openai"].fail(401)
    answer = ask(proxy, kind, "gpt-4o-mini", stream=stream)
    assert answer.status == 200
    assert fleet["anthropic"].counts().received == 1


@pytest.mark.parametrize("kind", REQUESTS)
def test_a_limit_reaches_the_client_as_a_429_with_retry_after(proxy, fleet, kind):
    for _ in range(4):
        answer = ask(proxy, kind, "deepseek-chat")
    assert answer.status == 429
    assert 1 <= int(answer.headers["retry-after"]) <= 10
    assert fleet["deepseek"].counts().rejected_429 == 0
    if kind == "messages":
        assert answer.json["error"]["type"] == "rate_limit_error"
    else:
        assert answer.json["error"]["code"] == "wallie_rate_limited"
    assert "deepseek is at its rpm limit" in answer.json["error"]["message"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kind", REQUESTS)
@pytest.mark.parametrize(("model", "status"), [("deepseek-chat", 429), ("llama-3.1-8b", 503)])
def test_an_expected_error_is_one_line_of_the_log(proxy, fleet, kind, stream, model, status):
    fleet["groq"].fail(status)
    for _ in range(3 if model == "deepseek-chat" else 0):  # up to its limit
        ask(proxy, kind, model)
    before = proxy.log.stat().st_size
    assert ask(proxy, kind, model, stream=stream).status == status
    written = proxy.log.read_bytes()[before:].decode()
    assert written.count("ERROR") == 1
    assert all(line.lstrip().startswith("INFO") or "LiteLLM Proxy:ERROR" in line for line in written.splitlines())


def test_when_all_are_down_the_client_gets_one_503_that_names_them(proxy, fleet):
    for name in fleet:
        fleet[name].fail(500)
    for _ in range(8):
        answer = proxy.chat("gpt-4o-mini")
    error = answer.json["error"]
    assert (answer.status, error["code"]) == (503, "wallie_chain_exhausted")
    assert all(name in error["message"] for name in ("openai", "anthropic", "gemini", "groq"))
    assert 1 <= int(answer.headers["retry-after"]) <= 2
    received = fleet["openai"].counts().received
    assert received < 16  # the breaker was open for the last of them
    for name in fleet:
        fleet[name].heal()
    time.sleep(2.1)  # the proxy's own clock has to reach the end of open_for
    assert proxy.chat("gpt-4o-mini").status == 200


def test_requests_wait_for_their_turn(proxy, fleet):
    time.sleep(1)
    with ThreadPoolExecutor(60) as pool:
        answers = list(pool.map(lambda _: proxy.chat("gpt-4o-mini"), range(120)))
    assert {200} == {answer.status for answer in answers}


def test_a_feature_in_a_header_selects_its_settings(proxy, fleet):
    fleet["openai"].slow(4)
    with ThreadPoolExecutor(60) as pool:
        busy = [pool.submit(proxy.chat, "gpt-4o-mini") for _ in range(PLACES)]
        wait_until(lambda: fleet["openai"].counts().in_flight == PLACES)
        answer = proxy.chat("gpt-4o-mini", headers={"x-wallie-feature": "impatient"})
        assert "anthropic" in answer.text
        assert {200} == {call.result().status for call in busy}


@pytest.mark.parametrize("way", BUDGETED)
def test_once_a_budget_is_spent_every_endpoint_refuses_and_says_until_when(proxy, fleet, way):
    kind, _, stream = way.partition("-")
    tags = {"x-wallie-feature": f"spent-{way}"}

    def once():
        if kind == "embeddings":
            body = {"model": "text-embedding-3-small", "input": "Hello"}
            return proxy.post("/v1/embeddings", body, headers=tags)
        return ask(proxy, kind, "gpt-4o-mini", stream=bool(stream), headers=tags)

    assert once().status == 200
    wait_until(lambda: once().status == 429)  # a stream's cost is counted once its last part has been sent
    asked = fleet["openai"].counts().received
    refused = once()
    assert fleet["openai"].counts().received == asked
    assert 0 < int(refused.headers["retry-after"]) <= 25 * 3600
    assert refused.headers["x-should-retry"] == "false"
    assert f"wallie.features.spent-{way}.budget" in refused.json["error"]["message"]
    if kind != "messages":
        assert refused.json["error"]["code"] == "wallie_budget_exhausted"


FAQ = {"x-wallie-feature": "faq"}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kind", REQUESTS)
@pytest.mark.parametrize("model", ["gpt-4o-mini", "claude-sonnet-4"])
def test_the_same_question_is_asked_once_where_its_feature_has_a_cache(proxy, fleet, kind, model, stream):
    path, body = REQUESTS[kind]
    question = {"model": model, **body, "stream": stream}
    question["messages" if "messages" in body else "input"] = messages(f"{kind} {stream}")
    with ThreadPoolExecutor(5) as clients:
        answers = list(clients.map(lambda _: proxy.post(path, question, FAQ), range(10)))
    assert {answer.status for answer in answers} == {200}
    assert all("Hello " in answer.text for answer in answers)
    assert sum(fleet[name].counts().received for name in fleet) == 1
    cached = [answer for answer in answers if answer.headers["x-wallie-provider"] == "cache"]
    assert len(cached) == 9
    assert {answer.headers["x-wallie-cost-usd"] for answer in cached} == {"0.00000000"}
    assert {float(answer.headers.get("x-litellm-response-cost", 0)) for answer in cached} == {0.0}
    if stream:
        end = {"chat": "[DONE]", "messages": "message_stop", "responses": "response.completed"}[kind]
        assert all(end in answer.text for answer in answers)


def test_a_stream_that_its_client_leaves_is_not_given_to_another(proxy, fleet):
    fleet["openai"].slow(0.3, times=1, after_chunks=1)
    body = {"model": "gpt-4o-mini", "messages": messages("left"), "stream": True}
    connection = proxy.connect()
    proxy.send(connection, "/v1/chat/completions", body, FAQ)
    connection.getresponse().read(1)
    proxy.hang_up(connection)
    answer = proxy.post("/v1/chat/completions", {**body, "stream": False}, FAQ)
    assert answer.headers["x-wallie-provider"] == "openai"
    assert fleet["openai"].counts().received == 2


def test_clients_that_hang_up_leave_no_slot_taken(proxy, fleet):
    """All fifty slots are needed again afterwards: a slot that leaked would show as a wait or a fallback."""
    fleet["openai"].slow(0.2)
    dice = random.Random(3)

    def hang_up(number):
        connection = proxy.connect()
        body = {"model": "gpt-4o-mini", "messages": messages(), "stream": number % 2 == 0}
        proxy.send(connection, "/v1/chat/completions", body)
        time.sleep(dice.random() * 0.3)
        if connection.sock is not None:
            connection.sock.close()
        connection.close()

    with ThreadPoolExecutor(30) as pool:
        list(pool.map(hang_up, range(150)))
    wait_until(lambda: fleet["openai"].counts().in_flight == 0)
    fleet["openai"].heal()
    fleet["openai"].slow(1.0)

    def all_places_are_free():
        # Requests of clients that hung up may still be on their way through the proxy; a slot that leaked stays taken.
        started = threading.Barrier(PLACES)

        def ask_together(_):
            started.wait(20)
            return proxy.chat("gpt-4o-mini", headers={"x-wallie-feature": "impatient"}).text

        with ThreadPoolExecutor(PLACES) as pool:
            return all("Hello from openai." in answer for answer in pool.map(ask_together, range(PLACES)))

    assert any(all_places_are_free() for _ in range(5))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kind", REQUESTS)
def test_a_hedge_answers_where_a_provider_says_nothing(proxy, fleet, kind, stream):
    fleet["openai"].hang()
    path, body = REQUESTS[kind]
    answer = proxy.post(path, {"model": "gpt-4o-mini", **body, "stream": stream}, {"x-wallie-feature": "hedged"})
    assert answer.status == 200
    assert "Hello from openai." not in answer.text
    assert (answer.headers["x-wallie-hedged"], answer.headers["x-wallie-provider"]) == ("1", "anthropic")
    wait_until(lambda: fleet["openai"].counts().disconnected == 1)


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_ends_an_attempt_and_its_hedge(proxy, fleet, stream):
    for _ in range(12):  # where most calls are late, as after the tests above, none is hedged
        assert proxy.chat("gpt-4o-mini", {"x-wallie-feature": "hedged"}).status == 200
    fleet["openai"].reset()
    for name in ("openai", "anthropic"):
        fleet[name].hang()
    connection = proxy.connect()
    body = {"model": "gpt-4o-mini", "messages": messages(), "stream": stream}
    proxy.send(connection, "/v1/chat/completions", body, {"x-wallie-feature": "hedged"})
    wait_until(lambda: fleet["anthropic"].counts().received == 1)
    connection.close()
    wait_until(lambda: all(fleet[name].counts().disconnected == 1 for name in ("openai", "anthropic")))
    assert fleet["gemini"].counts().received == 0


def test_nothing_of_a_prompt_is_in_our_errors(proxy, fleet):
    for name in fleet:
        fleet[name].fail(400)
    for name in fleet:
        fleet[name].heal()
    answer = ask(proxy, "chat", "deepseek-chat", messages=messages("MARKED-PROMPT"), max_tokens=10)
    if answer.status != 200:
        assert "MARKED-PROMPT" not in json.dumps(answer.json)
