"""The Slack sink: its messages, their pace, and outages of Slack."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from event_samples import FORESEEN
from fake_clock import FakeClock
from slack_support import AT, PATH, Webhook, breaker, budget, opened, quota, unpriced
from support import pass_time, wait_until

from wallie_litellm.errors import ConfigError
from wallie_litellm.events import ArmStopped, ErrorRateCrossed, HealthChanged, LimitOverstated, QueueCrossed
from wallie_litellm.telemetry.sinks import slack
from wallie_litellm.telemetry.sinks.slack import SlackSink

SinkMaker = Callable[..., SlackSink]


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    webhook = Webhook()
    yield webhook
    webhook.close()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(wall=AT)


@pytest.fixture
def make_sink(webhook: Webhook, clock: FakeClock) -> Iterator[SinkMaker]:
    made: list[SlackSink] = []

    def make(url: str | None = None, **options: Any) -> SlackSink:
        sink = SlackSink(url or webhook.url, clock=clock, **options)
        made.append(sink)
        return sink

    yield make
    webhook.go.set()
    for sink in made:
        sink.close(5)


def delivered(sink: SlackSink) -> int:
    return sink.stats()["delivered"]


def counted(texts: list[str]) -> int:
    """How many facts the texts account for."""
    digests = [re.match(r"\*([\d,]+) alerts", text) for text in texts]
    return sum(int(digest[1].replace(",", "")) if digest else 1 for digest in digests)


def advice(section: str) -> str:
    return f"\nWhat to do: `wallie-litellm playbook {section}`"


# Texts


@pytest.mark.parametrize(
    ("events", "text"),
    [
        (
            [quota()],
            "*Quota critical:* `openai` is at 95 % of its `rpm` limit (475 of 500). "
            f"All of it is free again in 57 s (2026-09-21 14:14:17 UTC).{advice('quota')}",
        ),
        (
            [quota(dimension="tpd", utilization=1.2, used=1_200_000, limit=1_000_000, reset_in=35_200)],
            "*Quota critical:* `openai` is at 120 % of its `tpd` limit (1,200,000 of 1,000,000). "
            f"All of it is free again in 9 h 46 min (2026-09-22 00:00:00 UTC).{advice('exhausted-day')}",
        ),
        (
            [quota(dimension="tpd", utilization=1.2, used=1_200_000, limit=1_000_000, reset_in=35_200 - 0.000159)],
            "*Quota critical:* `openai` is at 120 % of its `tpd` limit (1,200,000 of 1,000,000). "
            f"All of it is free again in 9 h 46 min (2026-09-22 00:00:00 UTC).{advice('exhausted-day')}",
        ),
        (
            [opened()],
            "*Breaker opened:* `openai` is not called any more after: HTTP 500. "
            f"Next probe in 30 s (2026-09-21 14:13:50 UTC).{advice('breaker-open')}",
        ),
        (
            [breaker("closed", "forced_open")],
            "*Breaker opened by the operator:* `openai` is not called any more until the operator closes its breaker.",
        ),
        ([breaker("half_open", "closed")], "*Breaker closed:* `openai` is called again."),
        (
            [unpriced()],
            "*Model without a price:* `gpt-next` at `openai` calls `openai/gpt-next`, whose price is unknown: "
            f"what it costs is missing from every total. Set the prices in its `model_info`.{advice('unpriced-model')}",
        ),
        (
            [LimitOverstated("l-1", AT, "openai", "gpt-4o", "tpm", 150_000, 30_000)],
            "*Limit larger than the account's:* The file gives `gpt-4o` at `openai` 150,000 `tpm`, and the account has "
            "30,000. `wallie-litellm limits --write` prints what it has.",
        ),
        (
            [FORESEEN],
            "*Limit will run out:* `gpt-4o*` at `openai` `rpd` ends 18:13 (17:13-not), resets 00:00 UTC. 1,250 are "
            f"expected in the day, of 1,000.{advice('quota')}",
        ),
        (
            [FORESEEN._replace(provider="", model=None, dimension="cost_usd", reset_at=FORESEEN.at + 9 * 86_400)],
            "*Budget will run out:* The month's budget ends 2026-09-21 18:13 (2026-09-21 17:13-not), resets "
            f"2026-09-30 14:13 UTC. $1,250.00 are expected, of $1,000.00.{advice('cost')}",
        ),
        (
            [ArmStopped("a-1", AT, "chat-model", "gpt-4o", 0.3, 0.1, 120)],
            "*Arm of an experiment stopped:* `gpt-4o` has not answered 30 % of its last 120 requests in `chat-model`, "
            "and may not answer 10 %. Its requests go to the other arms.",
        ),
        (
            [ErrorRateCrossed("e-1", AT, "", "gpt-4o", 0.25, 0.2, 30, 120, 300.0)],
            "*Error rate high:* 25 % of the requests for `gpt-4o` failed in the last 5 min (30 of 120); the limit is "
            f"20 %.{advice('error-rate')}",
        ),
        (
            [ErrorRateCrossed("e-2", AT, "groq", None, 0.05, 0.2, 6, 120, 300.0, True, 3700.0)],
            "*Error rate down again:* It lasted 1 h 1 min. 5 % of the attempts at `groq` failed in the last 5 min "
            "(6 of 120).",
        ),
        (
            [ErrorRateCrossed("e-3", AT, "groq", None, 0.0, 0.2, 0, 0, 300.0, True, 400.0)],
            "*Error rate down again:* It lasted 6 min 40 s. There were no attempts at `groq` in the last 5 min.",
        ),
        (
            [QueueCrossed("q-1", AT, "openai", 25, 20, 60.0)],
            "*Queue does not empty:* Never fewer than 25 requests have waited for `openai` in the last 1 min; the "
            f"limit is 20.{advice('queue')}",
        ),
        (
            [QueueCrossed("q-2", AT, "feature:nightly", 2, 20, 60.0, True, 90.0)],
            "*Queue short again:* It lasted 1 min 30 s. 2 requests wait for `feature:nightly` now.",
        ),
        ([budget()], f"*Budget warning:* `2026-09` has cost $400.00 of $500.00 (80 %).{advice('cost')}"),
        (
            [budget("exhausted")._replace(feature="chat", month="2026-09-01", window="day", on_exhausted="cheapest")],
            "*Budget exhausted:* `2026-09-01` of `chat` has cost $400.00 of $500.00 (80 %). "
            f"Its requests now go to the cheapest member of their chain.{advice('cost')}",
        ),
    ],
)
def test_each_fact_is_one_message_in_plain_words(make_sink, webhook, events, text):
    make_sink().handle(events)
    wait_until(lambda: len(webhook.messages) == 1)
    assert webhook.messages == [{"text": text, "unfurl_links": False, "unfurl_media": False}]


def test_events_that_are_not_urgent_are_not_sent(make_sink, webhook):
    sink = make_sink()
    sink.handle(
        [
            quota(level="warning"),
            breaker("open", "half_open"),
            breaker("closed", "disabled"),
            breaker("disabled", "closed"),
            HealthChanged("h-1", AT, "openai", "healthy", "degraded", None),
        ]
    )
    assert sink.flush(60)
    assert sink.stats() == {"delivered": 0, "messages": 0, "failed": 0, "dropped": 0, "pending": 0}
    assert webhook.requests == 0


def test_failed_probes_are_not_sent_until_the_breaker_closes(make_sink, webhook, clock):
    sink = make_sink()
    sink.handle([opened()])
    for probe in range(3):
        sink.handle([breaker("open", "half_open", AT + 30 * probe), opened(AT + 30 * probe + 1, before="half_open")])
    sink.handle([breaker("open", "half_open", AT + 120), breaker("half_open", "closed", AT + 125)])
    sink.handle([opened(AT + 200)])
    wait_until(lambda: delivered(sink) == 1)
    pass_time(clock, 1, lambda: delivered(sink) == 2)
    pass_time(clock, 1, lambda: delivered(sink) == 3)
    assert [text.partition(":*")[0] for text in webhook.texts] == [
        "*Breaker opened",
        "*Breaker closed",
        "*Breaker opened",
    ]
    assert webhook.texts[1] == "*Breaker closed:* `openai` is called again after 2 min 5 s."


def test_an_operators_action_during_an_outage_is_sent(make_sink, webhook):
    sink = make_sink()
    sink.handle([opened(), breaker("open", "forced_open", AT + 5), breaker("forced_open", "forced_open", AT + 6)])
    assert sink.flush(60)
    assert "*Breaker opened by the operator:*" in webhook.texts[-1]
    assert counted(webhook.texts) == 2


def test_names_can_neither_mention_nor_link(make_sink, webhook):
    name = "<!channel> <@U1> <http://a.example|b> & http://c.example `*x*`\n# y"
    sink = make_sink()
    sink.handle([unpriced(model=name), opened(provider="@here")])
    wait_until(lambda: delivered(sink) == 1)
    text = webhook.texts[0]
    assert "<" not in text
    assert ">" not in text
    assert text.splitlines()[1:] == advice("unpriced-model").splitlines()[1:]
    safe = "`&lt;!channel&gt; &lt;@U1&gt; &lt;http://a.example|b&gt; &amp; http://c.example '*x*' # y`"
    assert f"*Model without a price:* {safe} at" in text


# How often


def test_messages_are_a_second_apart(make_sink, webhook, clock):
    sink = make_sink()
    sink.handle([quota("openai"), quota("groq")])
    wait_until(lambda: delivered(sink) == 1 and clock.armed == 1)
    clock.advance(0.9)
    assert (sink.stats()["pending"], webhook.requests) == (1, 1)
    pass_time(clock, 0.1, lambda: delivered(sink) == 2)


def test_a_storm_is_a_few_messages_that_count_every_fact(make_sink, webhook, clock):
    sink = make_sink(burst=3, interval=60)
    providers = ["openai", "groq", "gemini"]
    for batch in range(10):
        sink.handle([quota(providers[n % 3], AT + batch) for n in range(1000)])
    for sent in (1, 2, 3):
        pass_time(clock, 1 if sent > 1 else 0, lambda sent=sent: delivered(sink) == sent)
    wait_until(lambda: clock.armed == 1)
    clock.advance(57)
    assert webhook.requests == 3  # the rest waits until the minute is over
    pass_time(clock, 1, lambda: delivered(sink) == 10_000)
    assert len(webhook.texts) == 4
    assert counted(webhook.texts) == 10_000
    assert sink.stats() == {"delivered": 10_000, "messages": 4, "failed": 0, "dropped": 0, "pending": 0}
    head, *lines, last = webhook.texts[3].splitlines()
    assert last == advice("quota").strip()
    assert head == "*9,997 alerts from 2026-09-21 14:13:20 UTC to 2026-09-21 14:13:29 UTC*"
    assert [line.partition("`openai` is")[0] for line in lines if "openai" in line] == [
        "• *Quota critical (3,339 times, the last):* "
    ]
    assert sum(int(re.search(r"\(([\d,]+) times", line)[1].replace(",", "")) for line in lines) == 9_997


def test_a_storm_that_goes_on_is_one_message_a_minute(make_sink, webhook, clock):
    sink = make_sink(burst=1, interval=60)
    sink.handle([quota()])
    wait_until(lambda: delivered(sink) == 1)
    for minute in range(4):
        sink.handle([quota(at=AT + minute * 60 + n) for n in range(100)])
        pass_time(clock, 60, lambda minute=minute: delivered(sink) == 100 * (minute + 1) + 1)
    assert len(webhook.texts) == 5
    assert counted(webhook.texts) == 401


def test_after_a_storm_a_fact_is_sent_at_once_again(make_sink, webhook, clock):
    sink = make_sink(burst=1, interval=60)
    sink.handle([quota() for _ in range(10)])
    wait_until(lambda: delivered(sink) == 1)
    pass_time(clock, 60, lambda: delivered(sink) == 10)
    clock.advance(60)
    sink.handle([budget()])
    wait_until(lambda: delivered(sink) == 11)
    assert webhook.texts[-1].startswith("*Budget warning:*")


def test_a_digest_of_many_kinds_stays_short_and_still_counts_all(make_sink, webhook):
    sink = make_sink(burst=0)
    sink.handle([quota(f"provider-{n}") for n in range(300)])
    assert sink.flush(60)
    assert len(webhook.texts) == 1
    assert webhook.texts[0].endswith(f"\n• … and 260 more{advice('quota')}")
    assert counted(webhook.texts) == 300
    assert len(webhook.texts[0]) < 10_000


def test_a_digest_of_one_fact_is_its_message(make_sink, webhook):
    sink = make_sink(burst=0)
    sink.handle([budget("critical")])
    assert sink.flush(60)
    assert webhook.texts == [f"*Budget critical:* `2026-09` has cost $400.00 of $500.00 (80 %).{advice('cost')}"]


# When Slack does not respond


def test_retry_after_is_honoured(make_sink, webhook, clock):
    webhook.script.append((429, {"Retry-After": "30"}, "rate_limited"))
    sink = make_sink()
    sink.handle([quota("openai"), quota("groq")])
    wait_until(lambda: sink.stats()["failed"] == 1 and clock.armed == 1)
    clock.advance(29.9)
    assert not sink.flush(0.05)  # not even then
    assert webhook.requests == 1
    pass_time(clock, 0.1, lambda: delivered(sink) == 2)
    assert counted(webhook.texts) == 2
    assert len(webhook.texts) == 1
    assert sink.stats()["failed"] == 1


def test_facts_wait_for_slack_to_recover(make_sink, webhook, clock, caplog):
    caplog.set_level(logging.INFO)
    webhook.always = (500, {}, "server_error")
    sink = make_sink()
    sink.handle([opened(provider="groq")])
    for failed in (1, 2, 3):
        pass_time(clock, 60, lambda failed=failed: sink.stats()["failed"] >= failed)
    sink.handle([quota(at=AT + n) for n in range(50)])
    webhook.always = None
    pass_time(clock, 60, lambda: delivered(sink) == 51)
    assert counted(webhook.texts) == 51
    assert "`groq` is not called any more" in webhook.texts[0].splitlines()[1]
    ours = [record.getMessage() for record in caplog.records if record.name == slack.__name__]
    assert [message.partition("(")[0] for message in ours] == [
        "Slack did not take a message ",
        "Slack takes messages again.",
    ]


def test_waits_between_attempts_grow_to_a_minute(make_sink, webhook, clock):
    webhook.always = (503, {}, "")
    sink = make_sink()
    sink.handle([quota()])
    for failed in range(1, 13):
        wait_until(lambda failed=failed: sink.stats()["failed"] == failed and clock.armed == 1)
        clock.advance(min(60.0, 2.0 ** (failed - 1) * 1.25))
    wait_until(lambda: sink.stats()["failed"] == 13)
    assert sink.stats()["pending"] == 1
    webhook.always = None


def test_facts_wait_until_slack_can_be_reached(clock):
    webhook = Webhook(listening=False)
    sink = SlackSink(webhook.url, clock=clock)
    sink.handle([quota()])
    wait_until(lambda: sink.stats()["failed"] == 1)
    assert sink.stats()["pending"] == 1
    webhook.listen()
    pass_time(clock, 2, lambda: delivered(sink) == 1)
    sink.close(5)
    webhook.close()


def test_a_slack_that_hangs_delays_no_caller(make_sink, webhook, monkeypatch, clock):
    monkeypatch.setattr(slack, "_TIMEOUT", 0.2)
    webhook.hang()
    sink = make_sink()
    sink.handle([quota() for _ in range(1000)])  # returns: requests are made by the sink's own thread
    assert sink.stats()["pending"] == 1000
    assert not sink.flush(0.05)
    wait_until(lambda: sink.stats()["failed"] >= 1)
    webhook.go.set()
    pass_time(clock, 60, lambda: delivered(sink) == 1000)


def test_an_invalid_webhook_is_logged_once_and_later_facts_are_dropped(make_sink, webhook, clock, caplog):
    webhook.always = (404, {}, "no_service")
    sink = make_sink()
    for n in range(20):
        sink.handle([quota(at=AT + n)])
    wait_until(lambda: sink.stats()["dropped"] == 20)
    sink.handle([quota()] * 5)
    assert sink.stats() == {"delivered": 0, "messages": 0, "failed": 1, "dropped": 25, "pending": 0}
    assert webhook.requests == 1
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert errors == [
        "Slack refuses the messages (HTTP 404, no_service); they are dropped. "
        "Check SLACK_WEBHOOK_URL or wallie.telemetry.slack.webhook_url."
    ]


def test_an_invalid_webhook_is_tried_again_after_an_hour(make_sink, webhook, clock):
    webhook.script.append((410, {}, "channel_is_archived"))
    sink = make_sink()
    sink.handle([quota()])
    wait_until(lambda: sink.stats()["dropped"] == 1)
    clock.advance(3600)
    sink.handle([quota()])
    wait_until(lambda: delivered(sink) == 1)


def test_a_message_that_slack_refuses_does_not_stop_the_next(make_sink, webhook, clock):
    webhook.script.append((400, {}, "invalid_payload"))
    sink = make_sink()
    sink.handle([quota()])
    wait_until(lambda: sink.stats()["dropped"] == 1)
    sink.handle([budget()])
    wait_until(lambda: delivered(sink) == 1)


# The end


def test_closing_sends_pending_facts_as_a_digest(make_sink, webhook):
    sink = make_sink(burst=2)
    sink.handle([quota("openai"), quota("groq"), quota("gemini"), unpriced()])
    sink.close(10)
    assert sink.stats()["pending"] == 0
    assert counted(webhook.texts) == 4
    assert len(webhook.texts) <= 2  # the first may have been on its way
    assert "wallie-slack" not in {thread.name for thread in threading.enumerate()}


def test_facts_that_were_not_sent_before_the_end_are_counted(make_sink, webhook):
    webhook.always = (500, {}, "")
    sink = make_sink()
    sink.handle([quota(), budget()])
    sink.close(0.2)
    wait_until(lambda: sink.stats()["pending"] == 0)
    assert sink.stats()["dropped"] == 2


def test_the_sink_works_with_the_systems_clock(webhook):
    sink = SlackSink(webhook.url, interval=0.2, burst=1)
    sink.handle([quota() for _ in range(10)])
    wait_until(lambda: delivered(sink) == 10)
    sink.close(5)
    assert len(webhook.texts) == 2
    assert counted(webhook.texts) == 10


# The secret


def test_the_webhooks_address_is_in_no_log(make_sink, webhook, clock, caplog):
    caplog.set_level(logging.DEBUG)
    page = f"Cannot POST {PATH}"
    webhook.script.extend([(200, {}, "ok"), (500, {}, page), (429, {"Retry-After": "1"}, page), (404, {}, page)])
    sink = make_sink()
    sink.handle([quota()])
    wait_until(lambda: delivered(sink) == 1)
    sink.handle([quota()])
    for failed in (1, 2, 3):
        pass_time(clock, 60, lambda failed=failed: sink.stats()["failed"] == failed)
    lost = SlackSink(f"http://127.0.0.1:1{PATH}", clock=clock)
    lost.handle([quota()])
    wait_until(lambda: lost.stats()["failed"] == 1)
    lost.close(0.1)
    assert any(record.name.startswith("httpcore") for record in caplog.records)
    written = [f"{record.getMessage()} {record.args} {record.exc_info} {record.exc_text}" for record in caplog.records]
    assert not [line for line in written if "SECRET" in line or "marked-webhook-secret" in line]


def test_other_requests_are_logged_as_before(make_sink, webhook, caplog):
    import httpx

    caplog.set_level(logging.INFO, "httpx")
    make_sink()
    httpx.post(f"http://127.0.0.1:{webhook.port}/elsewhere", json={})
    assert "/elsewhere" in caplog.text


@pytest.mark.parametrize(
    "url", ["", "hooks.slack.com/services/SECRET", "ftp://host/SECRET", "http://host:SECRET/", "https:///SECRET"]
)
def test_an_invalid_webhook_address_is_refused_without_showing_it(url):
    with pytest.raises(ConfigError, match=r"wallie\.telemetry\.slack\.webhook_url: expected") as caught:
        SlackSink(url)
    assert "SECRET" not in str(caught.value)
