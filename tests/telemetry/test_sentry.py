"""The Sentry sink: reports requests that failed finally, and nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sentry_support import Ingestion, ended, settled
from support import wait_until

from wallie_litellm.errors import ConfigError
from wallie_litellm.events import FellBack
from wallie_litellm.telemetry.sinks.sentry import SentrySink

SinkMaker = Callable[..., SentrySink]


@pytest.fixture
def ingestion() -> Iterator[Ingestion]:
    ingestion = Ingestion()
    yield ingestion
    ingestion.close()


@pytest.fixture
def make_sink(ingestion: Ingestion, monkeypatch: pytest.MonkeyPatch) -> Iterator[SinkMaker]:
    for name in ("SENTRY_ENVIRONMENT", "SENTRY_RELEASE", "SENTRY_DSN"):
        monkeypatch.delenv(name, raising=False)
    made: list[SentrySink] = []

    def make(**options: Any) -> SentrySink:
        sink = SentrySink(ingestion.dsn, **options)
        made.append(sink)
        return sink

    yield make
    ingestion.go.set()
    for sink in made:
        sink.close(5)


# Its own process: the SDK's integrations patch libraries for good.
APPLICATION = """
import json, sys
import sentry_sdk
from sentry_sdk.profiler import continuous_profiler

sentry_sdk.init(sys.argv[1], environment="the-application", auto_enabling_integrations=False)
sentry_sdk.set_user({"id": "user-of-the-application"})
sentry_sdk.set_tag("team", "tag-of-the-application")
sentry_sdk.add_breadcrumb(message="breadcrumb-of-the-application")


def state():
    name = sentry_sdk.client.SDK_INFO["name"]
    return [id(sentry_sdk.get_client()), id(continuous_profiler._scheduler), name, sentry_sdk.last_event_id()]


before = state()
from sentry_support import ended
from wallie_litellm.telemetry.sinks.sentry import SentrySink

sink = SentrySink(sys.argv[2])
sink.handle([ended()])
flushed = sink.flush(10)
untouched = state() == before
sink.close(10)
sentry_sdk.capture_message("its own event")
sentry_sdk.flush(10)
print(json.dumps({"flushed": flushed, "untouched": untouched}))
"""


def test_a_failed_request_is_one_event_on_the_wire(make_sink, ingestion):
    sink = make_sink(environment="staging")
    sink.handle([ended()])
    assert sink.flush(60)
    (envelope,) = ingestion.envelopes
    ((header, event),) = envelope.items
    event_id = uuid.uuid5(uuid.NAMESPACE_OID, "e-1").hex
    assert header["type"] == "event"
    assert envelope.headers.keys() == {"event_id", "sent_at"}
    assert envelope.headers["event_id"] == event_id
    assert "sentry_key=publickey" in envelope.auth
    assert event == {
        "event_id": event_id,
        "timestamp": "2026-09-21T14:13:20+00:00",
        "platform": "python",
        "level": "error",
        "logger": "wallie_litellm",
        "message": "ai.request.failed",
        "transaction": "groq gpt-4o",
        "environment": "staging",
        "fingerprint": ["ai.request.failed", "groq", "HTTP 500", "gpt-4o"],
        "tags": {
            "provider": "groq",
            "model": "gpt-4o",
            "error": "HTTP 500",
            "status_code": "500",
            "feature": "wallie-chat",
            "operation": "chat",
        },
        "extra": {
            "request_id": "r-1",
            "latency_ms": 250.0,
            "waited_ms": 3.0,
            "attempts": [
                {
                    "provider": "openai",
                    "model": "gpt-4o",
                    "deployment": "openai/gpt-4o-2024",
                    "outcome": "rejected",
                    "error": "HTTP 500",
                    "status_code": 500,
                    "latency_ms": 120.0,
                },
                {
                    "provider": "groq",
                    "model": "gpt-4o",
                    "deployment": "groq/gpt-4o-2024",
                    "outcome": "cut",
                    "error": "timeout",
                    "status_code": 408,
                    "latency_ms": 120.0,
                },
            ],
        },
    }
    assert sink.stats() == {"delivered": 1, "dropped": 0, "pending": 0, "sampled_out": 0}


@pytest.mark.parametrize(
    "event",
    [
        ended(success=True, error=None, status_code=200),
        ended(by_caller=True, error="cancelled"),
        settled(),
        FellBack("f-1", 0.0, "r-1", "gpt-4o", "claude-sonnet-4", "openai", "HTTP 500", None, None),
    ],
    ids=["served", "the-callers-own-doing", "an-attempt", "a-fallback"],
)
def test_requests_that_did_not_fail_finally_are_not_reported(make_sink, ingestion, event):
    sink = make_sink()
    sink.handle([event])
    assert sink.flush(60)
    assert sink.stats() == {"delivered": 0, "dropped": 0, "pending": 0, "sampled_out": 0}
    assert not ingestion.envelopes


def test_a_failed_request_without_an_attempt_is_reported(make_sink, ingestion):
    sink = make_sink()
    sink.handle([ended(error=None, status_code=None, feature=None, settled=())])
    assert sink.flush(60)
    (event,) = ingestion.events
    assert event["tags"] == {"provider": "groq", "model": "gpt-4o", "error": "unknown", "operation": "chat"}
    assert event["extra"]["attempts"] == []


def test_every_attempt_of_a_long_chain_is_listed(make_sink, ingestion):
    sink = make_sink()
    sink.handle([ended(settled=tuple(settled(number) for number in range(1, 17)))])
    assert sink.flush(60)
    assert len(ingestion.events[0]["extra"]["attempts"]) == 16


def test_failures_of_one_kind_are_one_issue(make_sink, ingestion):
    sink = make_sink()
    sink.handle([ended(1), ended(2, feature="other"), ended(3, error="timeout"), ended(4, provider="openai")])
    assert sink.flush(60)
    first, second, third, fourth = (tuple(event["fingerprint"]) for event in ingestion.events)
    assert first == second
    assert len({first, third, fourth}) == 3


def test_a_repeated_event_keeps_its_id(make_sink, ingestion):
    sink = make_sink()
    sink.handle([ended(1), ended(1), ended(2)])
    assert sink.flush(60)
    first, again, other = (event["event_id"] for event in ingestion.events)
    assert first == again != other


def test_tags_are_what_sentry_accepts(make_sink, ingestion):
    sink = make_sink()
    sink.handle([ended(feature="two\nlines " + "x" * 500)])
    assert sink.flush(60)
    feature = ingestion.events[0]["tags"]["feature"]
    assert feature.startswith("two lines x")
    assert len(feature) == 200


def test_an_event_has_no_data_of_the_process_or_the_request(make_sink, ingestion, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-marked")
    monkeypatch.setattr(sys, "argv", ["argv-marked"])
    sink = make_sink()
    sink.handle([ended()])
    assert sink.flush(60)
    (envelope,) = ingestion.envelopes
    assert "marked" not in envelope.raw
    (event,) = ingestion.events
    assert not event.keys() & {"server_name", "modules", "breadcrumbs", "user", "request", "contexts", "exception"}
    assert "stacktrace" not in envelope.raw


def test_environment_and_release_are_those_of_the_deployment(make_sink, ingestion, monkeypatch):
    sink = make_sink()
    monkeypatch.setenv("SENTRY_ENVIRONMENT", "canary")
    monkeypatch.setenv("SENTRY_RELEASE", "shop@1.2")
    other = make_sink()
    for each in (sink, other):
        each.handle([ended()])
        assert each.flush(60)
    default, named = ingestion.events
    assert (default["environment"], default.get("release")) == ("production", None)
    assert (named["environment"], named["release"]) == ("canary", "shop@1.2")


# The application's own Sentry


def test_the_applications_own_sentry_client_is_not_affected(ingestion):
    applications = Ingestion()
    run = subprocess.run(
        [sys.executable, "-c", APPLICATION, applications.dsn, ingestion.dsn, "argument-of-the-application"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    applications.close()
    assert run.stdout, run.stderr
    assert json.loads(run.stdout.splitlines()[-1]) == {"flushed": True, "untouched": True}
    assert [event["message"] for event in applications.events] == ["its own event"]
    (event,) = ingestion.events
    assert event["message"] == "ai.request.failed"
    assert not event.keys() & {"user", "breadcrumbs", "modules", "contexts", "server_name"}
    assert "of-the-application" not in ingestion.envelopes[0].raw
    assert "of-the-application" in applications.envelopes[0].raw  # as the SDK's own client reports


# When Sentry does not respond


def test_a_sentry_that_hangs_delays_no_caller(make_sink, ingestion):
    ingestion.go.clear()
    sink = make_sink(per_minute=1000)
    sink.handle([ended(number) for number in range(500)])  # returns
    assert not sink.flush(0.05)
    stats = sink.stats()
    assert 300 < stats["dropped"] < 500  # the SDK's queue holds a hundred
    assert stats["pending"] + stats["dropped"] == 500
    ingestion.go.set()
    assert sink.flush(20)
    assert sink.stats()["delivered"] == 500 - stats["dropped"] == len(ingestion.events)


@pytest.mark.parametrize("status", [400, 413, 500, 503])
def test_events_that_sentry_does_not_accept_are_counted(make_sink, ingestion, status):
    ingestion.status = status
    sink = make_sink()
    sink.handle([ended(1), ended(2)])
    assert not sink.flush(5)
    assert sink.stats() == {"delivered": 0, "dropped": 2, "pending": 0, "sampled_out": 0}
    ingestion.status = 200
    sink.handle([ended(3)])
    assert sink.flush(60)
    assert sink.stats()["delivered"] == 1
    assert [header["type"] for envelope in ingestion.envelopes for header, _ in envelope.items] == ["event"]


def test_sentrys_rate_limit_is_honoured(make_sink, ingestion):
    ingestion.status, ingestion.headers = 429, {"Retry-After": "3600"}
    sink = make_sink()
    sink.handle([ended(1)])
    assert not sink.flush(5)
    ingestion.status = 200
    sink.handle([ended(2), ended(3)])
    assert not sink.flush(5)
    assert sink.stats() == {"delivered": 0, "dropped": 3, "pending": 0, "sampled_out": 0}
    assert not ingestion.envelopes


def test_an_unreachable_sentry_is_counted_as_dropped(ingestion):
    ingestion.close()
    sink = SentrySink(ingestion.dsn)
    sink.handle([ended()])
    wait_until(lambda: sink.stats()["dropped"] == 1)
    sink.close(5)


def test_a_storm_is_sampled_and_counted(make_sink, ingestion):
    time = [0.0]
    sink = make_sink(per_minute=20, now=lambda: time[0])
    sink.handle([ended(number) for number in range(10_000)])
    assert sink.flush(10)
    assert sink.stats() == {"delivered": 20, "dropped": 0, "pending": 0, "sampled_out": 9_980}
    time[0] = 59.9
    sink.handle([ended(20_000)])
    assert sink.stats()["sampled_out"] == 9_981
    time[0] = 60.0
    sink.handle([ended(30_000)])
    assert sink.flush(10)
    assert len(ingestion.events) == 21


def test_closing_sends_what_is_pending(make_sink, ingestion):
    sink = make_sink()
    sink.handle([ended(number) for number in range(30)])
    sink.close(10)
    assert len(ingestion.events) == 30


# Setting up


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "sentry_sdk"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match=r"wallie\.telemetry\.sentry: .*pip install 'wallie-litellm\[sentry\]'"):
        SentrySink("https://key@sentry.example/1")


@pytest.mark.parametrize(
    "dsn", ["", "marked", "https://sentry.example/1", "https://marked@host/x", "https://marked@h:p/1"]
)
def test_an_invalid_dsn_is_refused_without_showing_it(dsn):
    with pytest.raises(ConfigError, match=r"wallie\.telemetry\.sentry\.dsn: not a Sentry DSN") as caught:
        SentrySink(dsn)
    assert "marked" not in str(caught.value)


def test_the_key_is_in_no_log(make_sink, ingestion, caplog):
    caplog.set_level("DEBUG")
    sink = make_sink()
    sink.handle([ended(1)])
    ingestion.status = 500
    sink.handle([ended(2)])
    sink.flush(5)
    assert any(record.name.startswith("urllib3") for record in caplog.records)
    assert "publickey" not in caplog.text
