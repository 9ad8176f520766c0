"""The PostHog sink, over real HTTP with the real SDK: what is sent, and that nothing is lost."""

from __future__ import annotations

import builtins
import json
import logging
import sys
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any

import posthog
import pytest
from event_samples import FORESEEN, NOON, ended, failed, settled
from posthog_support import assert_all_arrived, completions, posthog_sink
from support import wait_until

from wallie_litellm.errors import ConfigError
from wallie_litellm.events import (
    ArmStopped,
    BreakerChanged,
    BudgetCrossed,
    ErrorRateCrossed,
    Event,
    ExperimentChanged,
    FeedbackGiven,
    FellBack,
    HealthChanged,
    LimitOverstated,
    OperatorActed,
    OrderChanged,
    QueueCrossed,
    QuotaCrossed,
    Unpriced,
    UsageReported,
    new_id,
)
from wallie_litellm.simulator.posthog_endpoint import PROJECT_KEY, PostHogEndpoint, PostHogEvent
from wallie_litellm.telemetry.sinks.posthog import PostHogSink

Sent = Callable[[Event], PostHogEvent]


def ours(event: PostHogEvent) -> dict[str, Any]:
    """The event's properties without the SDK's."""
    return {name: value for name, value in event.properties.items() if not name.startswith("$")}


# Names and properties


def test_a_completed_request_has_exactly_these_properties(sent: Sent) -> None:
    event = sent(ended(settled(metadata={}), request_id="r1", metadata={"conversationId": "123", "hasRAG": True}))
    assert event.name == "ai.request.completed"
    assert ours(event) == {
        "provider": "openai",
        "model": "gpt-4o-mini",
        "requestedModel": "gpt-4o-mini",
        "deployment": "openai/gpt-4o-mini-2024-07-18",
        "requestId": "r1",
        "operation": "chat",
        "stream": False,
        "success": True,
        "latencyMs": 2000.0,
        "waitedMs": 250.0,
        "promptTokens": 100,
        "completionTokens": 20,
        "totalTokens": 120,
        "firstTokenMs": None,
        "cachedTokens": 40,
        "cacheWriteTokens": 0,
        "reasoningTokens": 8,
        "costUsd": 0.003,
        "unpriced": False,
        "estimated": False,
        "wastedTokens": 0,
        "wastedCostUsd": 0.0,
        "attempts": 1,
        "usedFallback": False,
        "statusCode": None,
        "byCaller": False,
        "userId": "user-7",
        "feature": "wallie-chat",
        "metadata": {"conversationId": "123", "hasRAG": True},
    }


def test_a_failed_request_has_its_error_its_user_and_the_proxys_key(sent: Sent) -> None:
    event = sent(ended(failed(), error="HTTP 503", proxy_key="batch"))
    assert event.name == "ai.request.failed"
    properties = ours(event)
    assert {
        name: properties[name] for name in ("provider", "model", "error", "feature", "userId", "proxyKey", "success")
    } == {
        "provider": "openai",
        "model": "gpt-4o-mini",
        "error": "HTTP 503",
        "feature": "wallie-chat",
        "userId": "user-7",
        "proxyKey": "batch",
        "success": False,
    }


def test_a_fallbacks_figures_are_of_its_last_attempt_and_the_others_are_wasted(sent: Sent) -> None:
    cut = settled(success=False, outcome="cut", total_tokens=50, cost_usd=0.001)
    served = settled(provider="anthropic", model="claude-sonnet-4", total_tokens=70, cost_usd=0.002)
    properties = ours(sent(ended(failed(), cut, served)))
    assert (properties["provider"], properties["model"]) == ("anthropic", "claude-sonnet-4")
    assert (properties["requestedModel"], properties["usedFallback"]) == ("gpt-4o-mini", True)
    assert (properties["totalTokens"], properties["wastedTokens"]) == (70, 50)
    assert (properties["costUsd"], properties["wastedCostUsd"]) == (0.002, 0.001)
    assert properties["attempts"] == 3


def test_an_unknown_price_is_null_and_never_0(sent: Sent) -> None:
    unpriced = settled(cost_usd=None, unpriced=True)
    properties = ours(sent(ended(unpriced._replace(success=False), unpriced)))
    assert properties["costUsd"] is None
    assert properties["wastedCostUsd"] is None
    assert properties["unpriced"] is True


def test_a_request_without_an_attempt_has_spent_nothing(sent: Sent) -> None:
    refused = ended(success=False, error="rate limit", status_code=429, provider="groq")
    properties = ours(sent(refused))
    assert (properties["provider"], properties["model"], properties["error"]) == ("groq", "gpt-4o-mini", "rate limit")
    assert (properties["totalTokens"], properties["costUsd"], properties["attempts"]) == (0, 0.0, 0)


def test_an_answer_from_the_cache_has_no_tokens(sent: Sent) -> None:
    cached = settled(outcome="cache_hit", prompt_tokens=0, completion_tokens=0, total_tokens=0, cost_usd=0.0)
    properties = ours(sent(ended(cached)))
    assert (properties["promptTokens"], properties["completionTokens"], properties["totalTokens"]) == (0, 0, 0)
    assert properties["costUsd"] == 0.0


def test_what_routing_decided_is_sent_and_nothing_of_what_it_did_not(sent: Sent) -> None:
    hedge = settled(provider="anthropic", model="claude-sonnet-4", cost_usd=0.002, hedge=True)
    lost = settled(success=False, outcome="cut", cost_usd=0.001)
    request = ended(hedge, lost, success=True, provider="anthropic", requested="chat", tier="flash", arm="gpt-4o-mini")
    request = request._replace(experiment="chat-model", auto_tier="premium", auto_saved_usd=0.01, hedged=True)
    request = request._replace(order="claude-sonnet-4", wasted_usd=0.001, cache_hit=True, saved_usd=0.02, why=("tier",))
    properties, plain = ours(sent(request)), ours(sent(ended(settled())))
    decided = {
        "tier": "flash", "experiment": "chat-model", "arm": "gpt-4o-mini", "autoTier": "premium", "autoSavedUsd": 0.01,
        "plannedModel": "claude-sonnet-4", "hedged": True, "cacheHit": True, "savedUsd": 0.02, "why": ["tier"],
    }  # fmt: skip
    assert {name: properties[name] for name in decided} == decided
    assert (properties["requestedModel"], properties["model"]) == ("chat", "claude-sonnet-4")
    assert (properties["costUsd"], properties["wastedCostUsd"]) == (0.002, 0.001)
    assert not decided.keys() & plain.keys()


@pytest.mark.parametrize(
    ("fact", "name", "properties"),
    [
        (
            HealthChanged(new_id(), NOON, "openai", "healthy", "down", "5 failures"),
            "ai.provider.health",
            {"provider": "openai", "status": "down", "before": "healthy", "reason": "5 failures"},
        ),
        (
            QuotaCrossed(new_id(), NOON, "openai", "rpm", "warning", 0.8, 400.0, 500, 12.5),
            "ai.quota.alert",
            {
                "provider": "openai",
                "type": "warning",
                "dimension": "rpm",
                "utilization": 0.8,
                "used": 400.0,
                "limit": 500,
                "resetIn": 12.5,
            },
        ),
        (
            QuotaCrossed(new_id(), NOON, "groq", "tpd", "critical", 1.25, 125.0, 100, float("inf")),
            "ai.quota.alert",
            {
                "provider": "groq",
                "type": "critical",
                "dimension": "tpd",
                "utilization": 1.0,
                "used": 125.0,
                "limit": 100,
                "resetIn": None,
            },
        ),
        (
            FORESEEN,
            "ai.quota.alert",
            {
                "provider": "openai",
                "type": "forecast",
                "dimension": "rpd",
                "model": "gpt-4o*",
                "utilization": 1.0,
                "expected": 1250.0,
                "limit": 1000,
                "exhaustsAt": "2026-09-21T18:13:20.000Z",
                "earliest": "2026-09-21T17:13:20.000Z",
                "latest": None,
                "resetAt": "2026-09-22T00:00:00.000Z",
                "method": "weekly",
            },
        ),
        (
            LimitOverstated(new_id(), NOON, "openai", "gpt-4o", "rpm", 500, 60),
            "ai.quota.alert",
            {
                "provider": "openai",
                "type": "limit_overstated",
                "dimension": "rpm",
                "model": "gpt-4o",
                "configured": 500,
                "limit": 60,
            },
        ),
        (
            ErrorRateCrossed(new_id(), NOON, "", "gpt-4o", 0.25, 0.2, 30, 120, 300.0),
            "ai.quota.alert",
            {
                "model": "gpt-4o",
                "type": "error_rate",
                "dimension": "error_rate",
                "utilization": 0.25,
                "used": 0.25,
                "limit": 0.2,
                "failed": 30,
                "requests": 120,
                "window": 300.0,
                "resolved": False,
                "lasted": 0.0,
            },
        ),
        (
            QueueCrossed(new_id(), NOON, "openai", 2, 20, 60.0, True, 90.0),
            "ai.quota.alert",
            {
                "provider": "openai",
                "type": "queue",
                "dimension": "queue",
                "utilization": 0.1,
                "used": 2,
                "limit": 20,
                "window": 60.0,
                "resolved": True,
                "lasted": 90.0,
            },
        ),
        (
            Unpriced(new_id(), NOON, "openai", "new-model", "openai/new"),
            "ai.quota.alert",
            {
                "provider": "openai",
                "type": "unpriced",
                "dimension": "cost",
                "model": "new-model",
                "deployment": "openai/new",
            },
        ),
        (
            BudgetCrossed(new_id(), NOON, "critical", 0.96, 480.0, 500.0, "2026-11"),
            "ai.quota.alert",
            {
                "type": "budget",
                "level": "critical",
                "dimension": "cost",
                "utilization": 0.96,
                "used": 480.0,
                "limit": 500.0,
                "month": "2026-11",
            },
        ),
        (
            BudgetCrossed(
                new_id(), NOON, "exhausted", 1.2, 1.2, 1.0, "2026-11-28", "day", "chat", "u1", "refuse", "batch"
            ),
            "ai.quota.alert",
            {
                "type": "budget",
                "level": "exhausted",
                "dimension": "cost",
                "utilization": 1.0,
                "used": 1.2,
                "limit": 1.0,
                "month": "2026-11-28",
                "window": "day",
                "feature": "chat",
                "onExhausted": "refuse",
                "userId": "u1",
                "proxyKey": "batch",
            },
        ),
        (
            ArmStopped(new_id(), NOON, "chat-model", "gpt-4o", 0.3, 0.1, 120),
            "ai.quota.alert",
            {
                "type": "arm_stopped",
                "dimension": "error_rate",
                "experiment": "chat-model",
                "arm": "gpt-4o",
                "utilization": 0.3,
                "used": 0.3,
                "limit": 0.1,
            },
        ),
        (
            FellBack(new_id(), NOON, "r1", "gpt-4o", "claude-sonnet-4", "openai", "circuit open", "f", "u1"),
            "ai.fallback.triggered",
            {
                "from": "gpt-4o",
                "to": "claude-sonnet-4",
                "fromProvider": "openai",
                "reason": "circuit open",
                "requestId": "r1",
                "feature": "f",
                "userId": "u1",
            },
        ),
        (
            OrderChanged(new_id(), NOON, ("a", "b"), True, ("a", "b"), ("b", "a"), "b takes 20 ms"),
            "ai.order.changed",
            {"chain": ["a", "b"], "stream": True, "before": ["a", "b"], "after": ["b", "a"], "reason": "b takes 20 ms"},
        ),
    ],
    ids=[
        "health",
        "quota",
        "quota-in-debt",
        "forecast",
        "overstated",
        "error-rate",
        "queue",
        "unpriced",
        "budget",
        "budget-of-a-user",
        "arm",
        "fallback",
        "order",
    ],
)
def test_every_other_event_has_its_name_and_properties(
    sent: Sent, fact: Event, name: str, properties: dict[str, Any]
) -> None:
    event = sent(fact)
    assert (event.name, ours(event)) == (name, properties)


def test_events_without_a_counterpart_are_not_sent(sink: PostHogSink, endpoint: PostHogEndpoint) -> None:
    demand = settled().charged
    sink.handle(
        [
            settled(),
            BreakerChanged(new_id(), NOON, "openai", "closed", "open", None, 30.0),
            OperatorActed(new_id(), NOON, "ops", "reset_quota", "openai", None),
            UsageReported(new_id(), NOON, "openai", demand, "lease"),
            FeedbackGiven(new_id(), NOON, "r1", 1.0),
            ExperimentChanged(new_id(), NOON, "chat-model", "f00d", "started", "", "wallie", None),
        ]
    )
    assert sink.flush(10.0)
    assert endpoint.requests == []


# User, id and time


def test_a_user_is_one_distinct_id(sent: Sent) -> None:
    events = [sent(event) for event in completions(2, user_id="user-7")]
    assert {event.distinct_id for event in events} == {"user-7"}
    assert all("$process_person_profile" not in event.properties for event in events)


def test_events_without_a_user_create_no_person_and_share_an_id(
    sent: Sent, endpoint: PostHogEndpoint, spool: Path
) -> None:
    system = HealthChanged(new_id(), NOON, "openai", "healthy", "down", None)
    events = [sent(event) for event in (*completions(1, user_id=None), *completions(1, user_id=""), system)]
    again = posthog_sink(endpoint, spool)
    again.handle(completions(1, user_id=None))
    again.close(10.0)
    events.append(endpoint.events()[-1])
    assert len({event.distinct_id for event in events}) == 1
    assert all(event.properties["$process_person_profile"] is False for event in events)


def test_events_have_the_sdks_properties_and_geoip_is_off(sent: Sent) -> None:
    properties = sent(completions(1)[0]).properties
    assert properties["$lib"] == "posthog-python"
    assert properties["$lib_version"] == posthog.VERSION
    assert properties["$geoip_disable"] is True


def test_events_do_not_have_the_applications_tags(endpoint: PostHogEndpoint, spool: Path) -> None:
    with posthog.new_context(fresh=True):
        posthog.tag("secret-tag", "MARKED-TAG")
        posthog.identify_context("another-user")
        sink = posthog_sink(endpoint, spool)
        sink.handle(completions(1, user_id=None))
        sink.close(10.0)
    assert endpoint.events()
    assert "MARKED-TAG" not in "".join(endpoint.bodies)
    assert "another-user" not in "".join(endpoint.bodies)


def test_an_event_keeps_its_time_and_uuid_when_it_is_repeated(sink: PostHogSink, endpoint: PostHogEndpoint) -> None:
    fact = completions(1)[0]
    sink.handle([fact, fact])
    assert sink.flush(10.0)
    [event] = endpoint.events()
    assert endpoint.deliveries == 2
    assert uuid.UUID(event.uuid).version == 5
    assert event.timestamp is not None
    assert datetime.fromisoformat(event.timestamp) == datetime.fromtimestamp(NOON, UTC)


def test_every_request_goes_to_the_batch_endpoint(sink: PostHogSink, endpoint: PostHogEndpoint) -> None:
    sink.handle(completions(1_200))
    sink.close(10.0)
    assert set(endpoint.requests) == {"POST /batch/"}
    assert len(endpoint.events()) == 1_200


def test_a_redirect_is_not_followed(sink: PostHogSink, endpoint: PostHogEndpoint) -> None:
    endpoint.fail(302)
    sink.handle(completions(1))
    assert sink.flush(60)
    assert sink.stats()["spooled"] == 1
    assert sink.stats()["delivered"] == 0


# Odd values


class Colour(Enum):
    RED = "red"


class Talkative:
    def __repr__(self) -> str:
        return "MARKED-REPR"


def test_odd_metadata_arrives_as_plain_json(sent: Sent) -> None:
    endless: list[Any] = [1]
    endless.append(endless)
    metadata = {
        "greeting": "Grüße, 你好 👋",
        "half": "cut \ud83d",
        "nul": "a\x00b",
        "nan": float("nan"),
        "huge": 10**400,
        7: "seven",
        ("a", 1): "pair",
        "when": datetime(2026, 11, 22, tzinfo=UTC),
        "price": Decimal("1.50"),
        "colour": Colour.RED,
        "bytes": b"MARKED-BYTES",
        "object": Talkative(),
        "set": {1},
        "none": None,
    }
    event = sent(completions(1, metadata={**metadata, "endless": endless})[0])
    found = dict(event.properties["metadata"])
    assert json.dumps(found.pop("endless")).count("[") <= 9
    assert found == {
        "greeting": "Grüße, 你好 👋",
        "half": "cut ?",
        "nul": "a\x00b",
        "nan": None,
        "huge": "<int>",
        "7": "seven",
        "<tuple>": "pair",
        "when": "2026-11-22T00:00:00+00:00",
        "price": "1.50",
        "colour": "red",
        "bytes": "<bytes>",
        "object": "<Talkative>",
        "set": [1],
        "none": None,
    }


def test_odd_users_and_features_arrive(sent: Sent) -> None:
    refused = ended(model="m\ud800", success=False, error="rate limit", user_id="Jürgen \ud83d", feature="f\udc00")
    event = sent(refused)
    assert event.distinct_id == event.properties["userId"] == "Jürgen ?"
    assert (event.properties["feature"], event.properties["model"]) == ("f?", "m?")


def test_a_list_that_holds_itself_twice_does_not_grow_without_end(sent: Sent) -> None:
    endless: list[Any] = []
    endless += [endless] * 20
    assert len(json.dumps(sent(completions(1, metadata={"e": endless})[0]).properties)) < 200_000


def test_only_the_event_that_is_too_large_is_dropped_and_counted(sink: PostHogSink, endpoint: PostHogEndpoint) -> None:
    small = completions(2)
    sink.handle([small[0], *completions(1, metadata={"x": "y" * 1_000_000}), small[1]])
    assert sink.flush(10.0)
    assert_all_arrived(endpoint, small)
    assert sink.stats()["dropped"] == 1


def test_a_batch_that_is_too_large_for_posthog_is_sent_in_parts(spool: Path) -> None:
    with PostHogEndpoint(max_body=200_000) as endpoint:
        sink = posthog_sink(endpoint, spool)
        events = completions(400)
        # One event that is too large for this PostHog even by itself is the only one to go.
        sink.handle([*events[:200], *completions(1, metadata={"x": "y" * 300_000}), *events[200:]])
        sink.close(10.0)
        assert_all_arrived(endpoint, events)
        assert sink.stats()["dropped"] == 1


# Secrets, the SDK and the bus


def test_the_sdk_logs_none_of_the_sinks_requests_even_at_debug(
    endpoint: PostHogEndpoint, spool: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, "posthog")
    sink = posthog_sink(endpoint, spool)
    endpoint.fail(500, times=1)
    sink.handle(completions(3, user_id="MARKED-USER", metadata={"a": "MARKED-METADATA"}))
    wait_until(lambda: len(endpoint.events()) == 3)
    sink.close(5.0)
    assert "MARKED" not in caplog.text
    assert PROJECT_KEY not in caplog.text
    assert logging.getLogger("posthog").level == logging.DEBUG  # the application's own choice


def test_the_key_is_in_the_batch_and_in_no_event(sent: Sent, endpoint: PostHogEndpoint) -> None:
    sent(completions(1)[0])
    [body] = endpoint.bodies
    assert body.count(PROJECT_KEY) == 1


def test_the_applications_own_posthog_client_is_not_changed(sent: Sent) -> None:
    before = (posthog.default_client, posthog.api_key, posthog.host)
    sent(completions(1)[0])
    assert (posthog.default_client, posthog.api_key, posthog.host) == before


def test_the_error_for_a_missing_sdk_names_what_to_install(spool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def no_posthog(name: str, *more: Any) -> Any:
        if name.startswith("posthog"):
            raise ImportError(name)
        return real(name, *more)

    for name in [name for name in sys.modules if name.partition(".")[0] == "posthog"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", no_posthog)
    with pytest.raises(ConfigError, match=r"install wallie-litellm\[posthog\]"):
        PostHogSink(PROJECT_KEY, "http://127.0.0.1:9", spool)


def test_the_error_for_an_empty_key_names_the_variable(spool: Path) -> None:
    with pytest.raises(ConfigError, match="POSTHOG_API_KEY"):
        PostHogSink("  ", "http://127.0.0.1:9", spool)
