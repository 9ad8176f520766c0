"""Slack: urgent alerts as messages to an incoming webhook.

Alerts are a quota at its critical share, a breaker that opened or closed, a model without a price, and a budget. Each
is a message of its own; of many within a minute, the first few are, and one digest a minute counts all others. Alerts
that Slack does not accept are kept, merged by kind and provider, and sent when it does.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import Final

import httpx

from wallie_litellm.clock import Clock
from wallie_litellm.errors import ConfigError
from wallie_litellm.telemetry.alert_facts import Fact
from wallie_litellm.telemetry.alert_sink import AlertSink
from wallie_litellm.telemetry.sinks.slack_messages import Groups, count_of, message_of
from wallie_litellm.telemetry.sinks.slack_outbox import Outbox

logger = logging.getLogger(__name__)

_MUTED_FOR: Final = 3600.0  # seconds until a webhook that Slack calls invalid is tried again
_TIMEOUT: Final = 10.0  # seconds for each step of a request
_LONGEST_WAIT: Final = 60.0  # seconds between two tries
_NOT_URGENT: Final = "quota.warning"  # the type of alerts that are not sent
_INVALID_MESSAGE: Final = 400  # status of a single message that Slack refuses; the webhook itself may be valid


class SlackSink(AlertSink[Groups]):
    """A :class:`~wallie_litellm.telemetry.sink.Sink` that posts to a webhook, on a thread of its own.

    Within ``interval`` seconds the first ``burst`` facts are single messages. ``clock`` is for tests. A message may
    arrive twice when Slack's response to it was lost. The sink adds a filter to the process's logger ``httpx``, which
    drops what is logged about requests of the sink's own thread: it would hold the webhook's address.

    Raises:
        ConfigError: ``webhook_url`` is not a web address.
    """

    def __init__(self, webhook_url: str, *, interval: float = 60.0, burst: int = 5, clock: Clock | None = None) -> None:
        self._url = _valid_url(webhook_url)
        super().__init__("slack", timeout=_TIMEOUT, longest_wait=_LONGEST_WAIT, clock=clock)
        self._outbox = Outbox(burst, interval)
        self._sending = 0  # facts in the message under way
        self._refusal_logged = False
        self._counts["messages"] = 0

    def flush(self, timeout: float) -> bool:
        """Send what is pending as one digest within ``timeout`` seconds; returns whether Slack accepted it."""
        with self._changed:
            dropped = self._counts["dropped"]
            self._outbox.hurry(self._clock.now())
            if self._outbox:
                self._start()
            sent = self._changed.wait_for(lambda: not self._outbox and not self._sending, timeout)
            return sent and self._counts["dropped"] == dropped

    def stats(self) -> dict[str, int]:
        """Facts ``delivered``, ``dropped`` and ``pending``; ``messages`` accepted and requests ``failed``."""
        with self._changed:
            return {**self._counts, "pending": len(self._outbox) + self._sending}

    def _is_wanted(self, fact: Fact) -> bool:
        return fact.type != _NOT_URGENT

    def _add(self, facts: Sequence[Fact]) -> None:
        now = self._clock.now()
        for fact in facts:
            self._outbox.add(now, fact)

    def _take(self) -> Groups | None:
        groups = self._outbox.take(self._clock.now())
        if groups is not None:
            self._sending = count_of(groups)
        return groups

    def _due(self) -> float | None:
        return self._outbox.due()

    def _request(self, client: httpx.Client, message: Groups) -> tuple[int, httpx.Headers, str]:
        response = client.post(
            self._url, json={"text": message_of(message), "unfurl_links": False, "unfurl_media": False}
        )
        return response.status_code, response.headers, response.text

    def _accepted(self, message: Groups) -> None:
        if self._failures:
            logger.info("Slack takes messages again.")
        self._refusal_logged = False
        self._counts["delivered"] += count_of(message)
        self._counts["messages"] += 1
        self._outbox.delivered(self._clock.now())
        self._finish_message()

    def _kept(self, message: Groups, what: str, wait: float, *, asked: bool) -> None:
        if self._failures == 1:
            logger.warning("Slack did not take a message (%s). It is kept and sent again in %.0f s.", what, wait)
        self._outbox.put_back(self._clock.now(), message, wait, asked=asked)
        self._finish_message()

    def _refused(self, message: Groups, status: int, text: str) -> None:
        self._counts["dropped"] += count_of(message)
        if status != _INVALID_MESSAGE:
            self._counts["dropped"] += self._outbox.clear()
            self._muted_until = self._clock.now() + _MUTED_FOR
        if not self._refusal_logged:
            self._refusal_logged = True
            logger.error(
                "Slack refuses the messages (HTTP %d%s); they are dropped. Check SLACK_WEBHOOK_URL or "
                "wallie.telemetry.slack.webhook_url.",
                status,
                _error_code(text),
            )
        self._finish_message()

    def _leave(self) -> None:
        self._counts["dropped"] += self._outbox.clear()

    def _finish_message(self) -> None:
        self._sending = 0
        if self._closed:
            self._leave()


def _valid_url(webhook_url: str) -> str:
    try:
        url = httpx.URL(webhook_url)
    except (httpx.InvalidURL, TypeError):
        url = httpx.URL()
    if url.scheme not in ("http", "https") or not url.host:
        raise ConfigError(
            [
                "wallie.telemetry.slack.webhook_url: expected the address of an incoming webhook, https://hooks.slack.com/…"
            ]
        )
    return webhook_url


def _error_code(body: str) -> str:
    # Slack responds with a word such as ``no_service``; any other text may quote the address.
    return f", {body}" if re.fullmatch(r"[a-z_]{1,40}", body) else ""
