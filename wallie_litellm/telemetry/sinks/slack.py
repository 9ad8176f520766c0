"""Slack: urgent alerts as messages to an incoming webhook.

Alerts are a quota at its critical share, a breaker that opened or closed, a model without a price, and a budget. Each
is a message of its own; of many within a minute, the first few are, and one digest a minute counts all others. Alerts
that Slack does not accept are kept, merged by kind and provider, and sent when it does.
"""

from __future__ import annotations

import logging
import math
import re
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

import httpx

from wallie_litellm.clock import Clock, SystemClock
from wallie_litellm.core.backoff import Backoff
from wallie_litellm.core.http_status import is_sent_again
from wallie_litellm.core.retry_after import parse_retry_after
from wallie_litellm.errors import ConfigError
from wallie_litellm.events import Event
from wallie_litellm.telemetry.alert_facts import FactSelector
from wallie_litellm.telemetry.http_log import hide_requests_of
from wallie_litellm.telemetry.sinks.slack_messages import Groups, count_of, message_of
from wallie_litellm.telemetry.sinks.slack_outbox import Outbox

logger = logging.getLogger(__name__)

_THREAD: Final = "wallie-slack"  # the name of the thread that sends
_MUTED_FOR: Final = 3600.0  # seconds until a webhook that Slack calls invalid is tried again
_TIMEOUT: Final = 10.0  # seconds for each step of a request
_NOT_URGENT: Final = "quota.warning"  # the type of alerts that are not sent
_INVALID_MESSAGE: Final = 400  # status of a single message that Slack refuses; the webhook itself may be valid


class SlackSink:
    """A :class:`~wallie_litellm.telemetry.sink.Sink` that posts to a webhook, on a thread of its own.

    Within ``interval`` seconds the first ``burst`` facts are single messages. ``clock`` is for tests. A message may
    arrive twice when Slack's response to it was lost. The sink adds a filter to the process's logger ``httpx``, which
    drops what is logged about requests of the sink's own thread: it would hold the webhook's address.

    Raises:
        ConfigError: ``webhook_url`` is not a web address.
    """

    name = "slack"

    def __init__(self, webhook_url: str, *, interval: float = 60.0, burst: int = 5, clock: Clock | None = None) -> None:
        self._url = _valid_url(webhook_url)
        self._clock: Clock = clock or SystemClock()
        self._owns_clock = clock is None
        self._backoff = Backoff(initial=1.0, max=60.0)
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._disarm: Callable[[], None] = lambda: None
        self._closed = False
        self._outbox = Outbox(burst, interval)
        self._sending = 0  # facts in the message under way
        self._failures = 0  # in a row
        self._refusal_logged = False
        self._muted_until = -math.inf
        self._counts = {"delivered": 0, "messages": 0, "failed": 0, "dropped": 0}
        self._facts = FactSelector()
        hide_requests_of(_THREAD)

    def handle(self, events: Sequence[Event]) -> None:
        """Queue the facts among ``events``. Never waits for Slack."""
        facts = [fact for event in events if (fact := self._facts.of(event)) is not None and fact.type != _NOT_URGENT]
        if not facts:
            return
        with self._changed:
            now = self._clock.now()
            if now < self._muted_until:
                self._counts["dropped"] += len(facts)
                return
            for fact in facts:
                self._outbox.add(now, fact)
            self._start()
            self._changed.notify_all()

    def flush(self, timeout: float) -> bool:
        """Send what is pending as one digest within ``timeout`` seconds; returns whether Slack accepted it."""
        with self._changed:
            dropped = self._counts["dropped"]
            self._outbox.hurry(self._clock.now())
            if self._outbox:
                self._start()
            self._changed.notify_all()
            sent = self._changed.wait_for(lambda: not self._outbox and not self._sending, timeout)
            return sent and self._counts["dropped"] == dropped

    def close(self, timeout: float) -> None:
        """Flush within ``timeout`` seconds and stop; facts that were not sent are dropped."""
        end = time.monotonic() + timeout
        self.flush(timeout)
        with self._changed:
            self._closed = True
            self._counts["dropped"] += self._outbox.clear()
            self._disarm()
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(max(0.0, end - time.monotonic()))
        if self._owns_clock:
            self._clock.close()

    def stats(self) -> dict[str, int]:
        """Facts ``delivered``, ``dropped`` and ``pending``; ``messages`` accepted and requests ``failed``."""
        with self._changed:
            return {**self._counts, "pending": len(self._outbox) + self._sending}

    def _start(self) -> None:
        if self._thread is None or not self._thread.is_alive():  # a forked child has the object but not the thread
            self._thread = threading.Thread(target=self._run, name=_THREAD, daemon=True)
            self._thread.start()

    def _run(self) -> None:
        with httpx.Client(timeout=_TIMEOUT) as client:
            while (groups := self._next()) is not None:
                self._deliver(client, groups)

    def _next(self) -> Groups | None:
        with self._changed:
            while not self._closed:
                groups = self._outbox.take(self._clock.now())
                if groups is not None:
                    self._sending = count_of(groups)
                    return groups
                self._wait()
            return None

    def _wait(self) -> None:
        due = self._outbox.due()
        if due is not None:
            self._disarm = self._clock.call_at(due, self._wake)
        self._changed.wait()
        self._disarm()

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _deliver(self, client: httpx.Client, groups: Groups) -> None:
        message = {"text": message_of(groups), "unfurl_links": False, "unfurl_media": False}
        try:
            response = client.post(self._url, json=message)
        except Exception as error:  # noqa: BLE001 - whatever fails, the facts are kept and the thread goes on
            self._keep(groups, type(error).__name__, None)
            return
        status = response.status_code
        if response.is_success:
            self._accepted(groups)
        elif is_sent_again(status):
            self._keep(groups, f"HTTP {status}", parse_retry_after(response.headers, self._clock.wall()))
        else:
            self._drop(groups, status, _error_code(response.text))

    def _accepted(self, groups: Groups) -> None:
        with self._changed:
            if self._failures:
                logger.info("Slack takes messages again.")
            self._failures, self._refusal_logged = 0, False
            self._counts["delivered"] += count_of(groups)
            self._counts["messages"] += 1
            self._outbox.delivered(self._clock.now())
            self._finish_message()

    def _keep(self, groups: Groups, what: str, asked: float | None) -> None:
        with self._changed:
            self._counts["failed"] += 1
            self._failures += 1
            wait = max(self._backoff.seconds(self._failures), asked or 0.0)
            if self._failures == 1:
                logger.warning("Slack did not take a message (%s). It is kept and sent again in %.0f s.", what, wait)
            self._outbox.put_back(self._clock.now(), groups, wait, asked=asked is not None)
            self._finish_message()

    def _drop(self, groups: Groups, status: int, code: str) -> None:
        with self._changed:
            self._counts["failed"] += 1
            self._counts["dropped"] += count_of(groups)
            if status != _INVALID_MESSAGE:
                self._counts["dropped"] += self._outbox.clear()
                self._muted_until = self._clock.now() + _MUTED_FOR
            if not self._refusal_logged:
                self._refusal_logged = True
                logger.error(
                    "Slack refuses the messages (HTTP %d%s); they are dropped. Check SLACK_WEBHOOK_URL or "
                    "wallie.telemetry.slack.webhook_url.",
                    status,
                    code,
                )
            self._finish_message()

    def _finish_message(self) -> None:
        self._sending = 0
        if self._closed:
            self._counts["dropped"] += self._outbox.clear()
        self._changed.notify_all()


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
