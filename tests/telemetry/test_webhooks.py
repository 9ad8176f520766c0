"""Webhooks: what is posted and how it is signed, and receivers that are slow, away, or refuse."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from event_samples import FORESEEN, settled
from fake_clock import FakeClock
from slack_support import AT, PATH, Webhook, breaker, budget, opened, quota, unpriced
from support import pass_time, wait_until

from wallie_litellm.bootstrap import open_guard
from wallie_litellm.config import parse_config
from wallie_litellm.errors import ConfigError
from wallie_litellm.events import ArmStopped, ErrorRateCrossed, Event, LimitOverstated, QueueCrossed
from wallie_litellm.telemetry.alert_facts import FACT_TYPES
from wallie_litellm.telemetry.sinks.webhook import CAPACITY, WebhookSink
from wallie_litellm.telemetry.sinks.webhook_messages import Sender, headers_of, key_of

KEY = b"0123456789abcdef0123456789abcdef"
SECRET = f"whsec_{base64.b64encode(KEY).decode()}"
SCHEMA = json.loads(Path(__file__).parents[2].joinpath("docs/webhook-1.schema.json").read_text())
SENDER = Sender("shop-eu", "https://ops.example.com/wallie/")

SinkMaker = Callable[..., WebhookSink]

ALERTS: tuple[Event, ...] = (
    quota(level="warning"), quota(reset_in=float("inf")), FORESEEN,
    FORESEEN._replace(provider="", model=None, dimension="cost_usd"),
    LimitOverstated("l-1", AT, "openai", "gpt-4o", "tpm", 150_000, 30_000),
    *map(budget, ("warning", "critical", "exhausted")),
    opened(), breaker("open", "closed"), breaker("closed", "forced_open"),
    ErrorRateCrossed("e-1", AT, "", "gpt-4o", 0.25, 0.2, 30, 120, 300.0),
    ErrorRateCrossed("e-2", AT, "groq", None, 0.05, 0.2, 6, 120, 300.0, True, 3700.0),
    QueueCrossed("w-1", AT, "openai", 25, 20, 60.0), QueueCrossed("w-2", AT, "openai", 2, 20, 60.0, True, 90.0),
    unpriced(), ArmStopped("a-1", AT, "chat-model", "gpt-4o", 0.3, 0.1, 120),
)  # fmt: skip


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    webhook = Webhook()
    yield webhook
    webhook.close()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(wall=AT)


@pytest.fixture
def make_sink(webhook: Webhook, clock: FakeClock, tmp_path: Path) -> Iterator[SinkMaker]:
    made: list[WebhookSink] = []

    def make(url: str = "", **options: Any) -> WebhookSink:
        sink = WebhookSink("ops", url or webhook.url, SENDER, tmp_path, clock=clock, **options)
        made.append(sink)
        return sink

    yield make
    webhook.go.set()
    for sink in made:
        sink.close(5)


def types(webhook: Webhook) -> list[str]:
    return [message["type"] for message in webhook.messages]


# What is posted


def test_an_alert_is_a_document_with_the_playbooks_advice(make_sink: SinkMaker, webhook: Webhook) -> None:
    sink = make_sink()
    sink.handle([settled(), quota(reset_in=float("inf"))])
    assert sink.flush(20)
    assert webhook.messages == [
        {
            "type": "quota.critical",
            "timestamp": "2026-09-21T14:13:20.000Z",
            "version": 1,
            "severity": "critical",
            "installation": "shop-eu",
            "title": "Quota critical",
            "text": "openai is at 95 % of its rpm limit (475 of 500). All of it is free again at an unknown time.",
            "playbook": {
                "section": "quota",
                "command": "wallie-litellm playbook quota",
                "url": "https://ops.example.com/wallie/playbook#quota",
            },
            "data": {
                "provider": "openai", "dimension": "rpm", "level": "critical", "utilization": 0.95, "used": 475.0,
                "limit": 500, "reset_in": None, "model": None,
            },
        }
    ]  # fmt: skip
    assert "webhook-signature" not in webhook.posts[0][0]


def test_documents_of_all_alerts_are_as_the_schema_says(make_sink: SinkMaker, webhook: Webhook) -> None:
    sink = make_sink()
    sink.handle(ALERTS)
    assert sink.flush(20)
    assert len(webhook.messages) == len(ALERTS)
    for message in webhook.messages:
        jsonschema.validate(message, SCHEMA)
    assert set(types(webhook)) == set(FACT_TYPES) == set(SCHEMA["properties"]["type"]["enum"])
    ids = [headers["webhook-id"] for headers, _ in webhook.posts]
    assert ids == [event.id for event in ALERTS]


def test_only_alerts_of_the_types_that_are_asked_for_are_sent(make_sink: SinkMaker, webhook: Webhook) -> None:
    sink = make_sink(events=("breaker.*", "queue.resolved"))
    sink.handle(ALERTS)
    assert sink.flush(20)
    assert types(webhook) == ["breaker.opened", "breaker.closed", "breaker.opened_by_operator", "queue.resolved"]


@pytest.mark.parametrize("form", ["slack", "teams"])
def test_chats_are_sent_what_they_show(make_sink: SinkMaker, webhook: Webhook, form: str) -> None:
    sink = make_sink(form=form)
    sink.handle([opened()])
    assert sink.flush(20)
    [message] = webhook.messages
    if form == "slack":
        assert message["text"].startswith("*Breaker opened* (shop-eu): `openai` is not called any more")
        assert message["text"].endswith("What to do: `wallie-litellm playbook breaker-open`")
        return
    [attachment] = message["attachments"]
    assert (message["type"], attachment["contentType"]) == ("message", "application/vnd.microsoft.card.adaptive")
    card = attachment["content"]
    title, text, facts = card["body"]
    assert (title["text"], text["text"][:30]) == ("Breaker opened", "openai is not called any more ")
    assert {fact["title"]: fact["value"] for fact in facts["facts"]}["Installation"] == "shop-eu"
    assert card["actions"][0]["url"].endswith("/wallie/playbook#breaker-open")


def test_the_signature_is_that_of_standard_webhooks(make_sink: SinkMaker, webhook: Webhook) -> None:
    # The vector with which the libraries of Standard Webhooks are tested.
    body, at = b'{"test": 2432232314}', 1614265330.9
    headers = headers_of("msg_p5jXN8AQM9LWM0D4loKWxJek", at, body, key_of("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"))
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert headers["webhook-timestamp"] == "1614265330"
    sink = make_sink(secret=SECRET)
    sink.handle([opened()])
    assert sink.flush(20)
    [(got, raw)] = webhook.posts
    signed = f"{got['webhook-id']}.{got['webhook-timestamp']}.".encode() + raw
    expected = base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()
    assert got["webhook-signature"] == f"v1,{expected}"


# Receivers in trouble


def test_what_is_not_accepted_is_sent_again_in_order_and_under_the_same_id(
    make_sink: SinkMaker, webhook: Webhook, clock: FakeClock
) -> None:
    webhook.script += [(500, {}, ""), (503, {"Retry-After": "40"}, "")]
    sink = make_sink(secret=SECRET)
    sink.handle([quota("openai"), quota("groq")])
    wait_until(lambda: sink.stats()["failed"] == 1)
    pass_time(clock, 2, lambda: sink.stats()["failed"] == 2)
    clock.advance(30)  # less than was asked for
    assert not sink.flush(0.01)
    pass_time(clock, 11, lambda: sink.stats()["delivered"] == 2)
    assert [message["data"]["provider"] for message in webhook.messages] == ["openai", "groq"]
    tries = [headers for headers, _ in webhook.posts][:3]
    assert len({headers["webhook-id"] for headers in tries}) == 1
    assert [int(headers["webhook-timestamp"]) - int(AT) for headers in tries] == [0, 2, 43]
    assert len({headers["webhook-signature"] for headers in tries}) == 3
    assert sink.stats() == {"delivered": 2, "failed": 2, "dropped": 0, "pending": 0, "spooled": 0}


def test_a_receiver_that_is_away_is_tried_until_it_is_back(clock: FakeClock, tmp_path: Path) -> None:
    receiver = Webhook(listening=False)
    sink = WebhookSink("ops", receiver.url, SENDER, tmp_path, clock=clock)
    try:
        sink.handle([opened()])
        wait_until(lambda: sink.stats()["failed"] == 1)
        assert not sink.flush(20)  # is not waited for
        receiver.listen()
        pass_time(clock, 600, lambda: sink.stats()["delivered"] == 1)
    finally:
        receiver.close()
        sink.close(5)


@pytest.mark.parametrize("ended", ["closed", "killed"])
def test_what_a_receiver_has_not_taken_is_sent_by_the_next_process(
    make_sink: SinkMaker, webhook: Webhook, clock: FakeClock, ended: str
) -> None:
    webhook.always = (503, {}, "")
    sink = make_sink()
    sink.handle([quota("openai")])
    wait_until(lambda: sink.stats()["failed"] == 1)
    sink.handle([quota("groq")])  # while the first is waited with
    assert sink.stats()["spooled"] == 2
    if ended == "closed":
        sink.close(5)
    else:
        sink._spool.close()  # releases the locks, as the end of a process does
    webhook.always = None
    tried = len(webhook.posts)
    clock.advance(3600)
    later = make_sink(secret=SECRET)
    assert later.flush(20)
    assert [message["data"]["provider"] for message in webhook.messages] == ["openai", "groq"]
    assert [headers["webhook-id"] for headers, _ in webhook.posts[tried:]] == [quota("openai").id, quota("groq").id]
    assert "webhook-signature" in webhook.posts[-1][0]
    assert later.stats() == {"delivered": 2, "failed": 0, "dropped": 0, "pending": 0, "spooled": 0}


def test_an_alert_that_has_waited_for_a_day_is_dropped(
    make_sink: SinkMaker, webhook: Webhook, clock: FakeClock
) -> None:
    webhook.always = (503, {}, "")
    sink = make_sink()
    sink.handle([quota("openai")])
    sink.close(5)
    webhook.always = None
    clock.advance(86_401)
    later = make_sink()
    later.handle([quota("groq")])
    wait_until(lambda: later.stats()["delivered"] == 1)
    assert [message["data"]["provider"] for message in webhook.messages] == ["groq"]
    assert (later.stats()["dropped"], later.stats()["spooled"]) == (1, 0)


def test_a_spool_that_cannot_be_written_leaves_alerts_in_memory(
    make_sink: SinkMaker, webhook: Webhook, clock: FakeClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    webhook.script.append((503, {}, ""))
    tmp_path.rmdir()
    tmp_path.write_text("no folder")
    sink = make_sink()
    sink.handle([quota("openai"), quota("groq")])
    wait_until(lambda: sink.stats()["failed"] == 1)
    pass_time(clock, 60, lambda: sink.stats()["delivered"] == 2)
    assert [message["data"]["provider"] for message in webhook.messages] == ["openai", "groq"]
    assert "the spool of webhook-ops cannot be used (File exists): alerts wait in memory" in caplog.text
    tmp_path.unlink()


def test_an_alert_that_is_never_accepted_does_not_keep_the_others_for_ever(
    make_sink: SinkMaker, webhook: Webhook, clock: FakeClock
) -> None:
    webhook.script += [(500, {}, "")] * 30
    sink = make_sink()
    sink.handle([quota("openai"), quota("groq")])
    for tries in range(1, 30):
        wait_until(lambda tries=tries: sink.stats()["failed"] == tries)
        pass_time(clock, 600, lambda tries=tries: sink.stats()["failed"] > tries)
    pass_time(clock, 600, lambda: sink.stats()["delivered"] == 1)
    assert [message["data"]["provider"] for message in webhook.messages] == ["groq"]
    assert sink.stats()["dropped"] == 1


@pytest.mark.parametrize(("status", "delivered"), [(404, 1), (302, 1), (410, 0)])
def test_what_is_refused_is_dropped_and_a_receiver_that_is_gone_is_left_alone_for_an_hour(
    make_sink: SinkMaker, webhook: Webhook, clock: FakeClock, status: int, delivered: int
) -> None:
    webhook.script.append((status, {"Location": "http://127.0.0.1:9/"}, ""))
    sink = make_sink()
    sink.handle([quota("openai"), quota("groq")])
    wait_until(lambda: not sink.stats()["pending"])
    sink.handle([quota("gemini")])
    assert sink.flush(20)
    assert sink.stats()["delivered"] == delivered * 2
    clock.advance(3600)
    sink.handle([quota("deepseek")])
    assert sink.flush(20)
    assert webhook.messages[-1]["data"]["provider"] == "deepseek"


def test_a_receiver_that_hangs_delays_nothing_and_what_waits_is_bounded(
    make_sink: SinkMaker, webhook: Webhook, clock: FakeClock
) -> None:
    webhook.hang()
    sink = make_sink()
    sink.handle([quota("first")])
    wait_until(lambda: webhook.requests == 1)
    sink.handle([quota(f"p{number}") for number in range(CAPACITY)])  # returns, though nothing is taken
    assert sink.stats() == {"delivered": 0, "failed": 0, "dropped": 1, "pending": CAPACITY, "spooled": 0}
    assert not sink.flush(0.01)
    sink.close(0.01)
    assert sink.stats()["dropped"] == 1
    webhook.go.set()
    wait_until(lambda: "wallie-webhook-ops" not in {thread.name for thread in threading.enumerate()})


def test_its_address_stays_out_of_the_log(
    make_sink: SinkMaker, webhook: Webhook, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    webhook.script.append((400, {}, ""))
    sink = make_sink()
    sink.handle([quota("openai"), quota("groq")])
    wait_until(lambda: sink.stats()["delivered"] == 1)
    shown = [record.getMessage() for record in caplog.records if not record.name.startswith("httpcore")]
    assert "webhook-ops refuses alerts (HTTP 400)" in "\n".join(shown)
    assert PATH not in "\n".join(shown)


# Configuration


def parsed(webhooks: dict[str, Any], env: dict[str, str] | None = None, **more: Any) -> Any:
    models = [{"model_name": "a", "litellm_params": {"model": "openai/gpt-4o", "api_key": "sk-x"}}]
    wallie = {"ledger": None, "telemetry": {"webhooks": webhooks}, **more}
    return parse_config({"model_list": models, "wallie": wallie}, env=env or {})


def test_a_guard_posts_its_alerts_and_what_is_left_when_it_closes(webhook: Webhook, tmp_path: Path) -> None:
    env = {"OPS_URL": webhook.url, "OPS_SECRET": SECRET}
    ops = {"url": "os.environ/OPS_URL", "secret": "os.environ/OPS_SECRET"}
    page = {"name": "shop-eu", "url": "https://ops.example.com/wallie"}
    guard = open_guard(parsed({"ops": ops}, env, providers={"openai": {"rpm": 10}}, dashboard=page))
    webhook.hang()
    began = time.monotonic()
    guard.update_usage("openai", requests=9)
    guard.update_usage("openai", requests=1)
    assert time.monotonic() - began < 10  # seconds; the receiver takes thirty
    assert "webhook-ops" in guard.status()["sinks"]
    webhook.go.set()
    guard.close()
    assert types(webhook) == ["quota.warning", "quota.critical"]
    assert webhook.posts[0][0]["webhook-signature"].startswith("v1,")
    assert webhook.messages[0]["installation"] == "shop-eu"
    assert webhook.messages[0]["playbook"]["url"] == "https://ops.example.com/wallie/playbook#quota"


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({}, "url: missing"),
        ({"url": "ops.example.com/secret"}, "url: found '***', expected a URL starting with https://"),
        ({"url": "os.environ/NOT_SET"}, "url: the variable NOT_SET is not set"),
        ({"url": "https://x", "secret": "whsec_c2hvcnQ="}, "secret: found '***', expected 'whsec_' and 24 to 64 bytes"),
        ({"url": "https://x", "events": ["Quota"]}, "events: found "),
        ({"url": "https://x", "format": "discord"}, "format: found 'discord', expected one of json, slack, teams"),
    ],
)
def test_a_webhook_that_is_wrong_is_told_so_without_its_secrets(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parsed({"ops": settings})
    assert f"wallie.telemetry.webhooks.ops.{problem}" in str(caught.value)
    assert "c2hvcnQ" not in str(caught.value)
