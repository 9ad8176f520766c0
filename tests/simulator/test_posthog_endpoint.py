"""The PostHog endpoint, asked by the official SDK as an application uses it, and by hand."""

from __future__ import annotations

import gzip
import json
import logging
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from posthog import Client

from wallie_litellm.simulator.posthog_endpoint import PROJECT_KEY, PostHogEndpoint, wait_for_events


@pytest.fixture
def endpoint() -> Iterator[PostHogEndpoint]:
    with PostHogEndpoint() as endpoint:
        yield endpoint


def event(**changes: Any) -> dict[str, Any]:
    return {"event": "e", "distinct_id": "u", "uuid": str(uuid.uuid4()), "properties": {}, **changes}


def post(endpoint: PostHogEndpoint, *events: Any, key: str = PROJECT_KEY, path: str = "/batch/") -> httpx.Response:
    return send(endpoint, json.dumps({"api_key": key, "batch": list(events)}).encode(), path)


def send(endpoint: PostHogEndpoint, content: bytes, path: str = "/batch/", **headers: str) -> httpx.Response:
    with httpx.Client(trust_env=False, timeout=10.0) as client:
        return client.post(endpoint.url + path, content=content, headers=headers)


@pytest.mark.parametrize("options", [{}, {"gzip": True}, {"capture_mode": "v1"}], ids=str)
def test_the_sdk_delivers_in_all_its_ways(endpoint: PostHogEndpoint, options: dict[str, Any]) -> None:
    client = Client(PROJECT_KEY, host=endpoint.url, **options)
    given = client.capture("greeting", distinct_id="u1", properties={"a": "ü"})
    client.shutdown()
    [event] = endpoint.events("greeting")
    assert (event.uuid, event.distinct_id, event.properties["a"]) == (given, "u1", "ü")


def test_the_sdk_delivers_ai_events(endpoint: PostHogEndpoint) -> None:
    client = Client(PROJECT_KEY, host=endpoint.url)
    client.capture_ai("$ai_generation", distinct_id="u1")
    client.shutdown()
    assert [event.name for event in endpoint.events()] == ["$ai_generation"]
    assert endpoint.requests == ["POST /i/v0/ai/batch/"]


@pytest.mark.parametrize("mode", ["v0", "v1"])
def test_the_sdk_is_refused_for_a_wrong_key(
    endpoint: PostHogEndpoint, mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    errors: list[Any] = []
    client = Client(
        "phc_wrong", host=endpoint.url, capture_mode=mode, on_error=lambda error, _: errors.append(error.status)
    )
    with caplog.at_level(logging.CRITICAL, "posthog"):
        client.capture("greeting", distinct_id="u1")
        client.shutdown()
    assert errors == [401]
    assert endpoint.events() == []


def test_a_repetition_is_counted_but_is_one_event(endpoint: PostHogEndpoint) -> None:
    same = event()
    assert post(endpoint, same, event()).json() == {"status": "Ok"}
    assert post(endpoint, same).status_code == 200
    assert (len(endpoint.events()), endpoint.deliveries) == (2, 3)
    endpoint.reset()
    assert (endpoint.events(), endpoint.deliveries, endpoint.requests) == ([], 0, [])


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"[]",
        b"\xff",
        json.dumps({"api_key": PROJECT_KEY}).encode(),
        json.dumps({"api_key": PROJECT_KEY, "batch": [event(uuid="x")]}).encode(),
        json.dumps({"api_key": PROJECT_KEY, "batch": [event(distinct_id="")]}).encode(),
        json.dumps({"api_key": PROJECT_KEY, "batch": [event(properties={"a": float("nan")})]}).encode(),
        json.dumps({"api_key": PROJECT_KEY, "batch": [event(properties={"a": "\ud83d"})]}).encode(),
        json.dumps({"api_key": PROJECT_KEY, "batch": [event(), 7]}).encode(),
    ],
    ids=["cut", "list", "bytes", "no batch", "uuid", "distinct id", "nan", "surrogate", "number"],
)
def test_a_batch_that_posthog_cannot_read_is_refused_as_a_whole(endpoint: PostHogEndpoint, content: bytes) -> None:
    assert send(endpoint, content).status_code == 400
    assert endpoint.events() == []


def test_other_paths_are_not_found_but_listed(endpoint: PostHogEndpoint) -> None:
    assert post(endpoint, event(), path="/flags/").status_code == 404
    assert endpoint.requests == ["POST /flags/"]


def test_too_large_is_judged_by_the_decompressed_size() -> None:
    with PostHogEndpoint(max_body=1_000) as endpoint:
        body = json.dumps({"api_key": PROJECT_KEY, "batch": [event(properties={"a": "x" * 2_000})]}).encode()
        assert send(endpoint, gzip.compress(body), **{"content-encoding": "gzip"}).status_code == 413
        assert post(endpoint, event()).status_code == 200


def test_faults_apply_as_often_as_set(endpoint: PostHogEndpoint) -> None:
    endpoint.fail(503, times=1, retry_after=7)
    first = post(endpoint, event())
    assert (first.status_code, first.headers["retry-after"]) == (503, "7")
    assert post(endpoint, event()).status_code == 200
    endpoint.fail(500)
    assert [post(endpoint, event()).status_code for _ in range(2)] == [500, 500]
    endpoint.heal()
    assert post(endpoint, event()).status_code == 200
    assert len(endpoint.events()) == 2


def test_a_hang_takes_nothing_and_a_lost_answer_does(endpoint: PostHogEndpoint) -> None:
    endpoint.hang(times=1, seconds=0.05)
    with pytest.raises(httpx.TransportError):
        post(endpoint, event())
    assert endpoint.events() == []
    endpoint.lose_answers(times=1)
    with pytest.raises(httpx.TransportError):
        post(endpoint, event())
    assert len(endpoint.events()) == 1


def test_a_slow_answer_comes_in_the_end(endpoint: PostHogEndpoint) -> None:
    endpoint.slow(0.05, times=1)
    assert post(endpoint, event()).status_code == 200


def test_the_endpoint_refuses_connections_and_accepts_them_again_on_the_same_port(endpoint: PostHogEndpoint) -> None:
    url = endpoint.url
    endpoint.refuse()
    with pytest.raises(httpx.ConnectError):
        post(endpoint, event())
    endpoint.heal()
    assert endpoint.url == url
    assert post(endpoint, event()).status_code == 200


def test_the_endpoint_stops_while_requests_hang() -> None:
    endpoint = PostHogEndpoint().start()
    endpoint.hang()
    with httpx.Client(trust_env=False, timeout=0.2) as client, pytest.raises(httpx.TransportError):
        client.post(endpoint.url + "/batch/", json={})
    endpoint.stop()
    endpoint.stop()
    with pytest.raises(RuntimeError, match="not started"):
        endpoint.heal()


def test_waiting_for_events_ends_with_them_or_with_the_time(endpoint: PostHogEndpoint) -> None:
    post(endpoint, event(event="a"))
    assert wait_for_events(endpoint, 1, "a")
    assert not wait_for_events(endpoint, 1, "b", seconds=0.02)
