"""Sentry: one ``ai.request.failed`` for each request whose whole chain has failed.

Of the SDK only the transport is used. A second ``Client`` would take over the process's profiler from the
application's own Sentry client, and its events could receive data of the application's integrations: arguments,
modules, the host, breadcrumbs, the user.
"""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from wallie_litellm.core.iso_time import iso_time
from wallie_litellm.core.scrubbing import one_line
from wallie_litellm.errors import ConfigError
from wallie_litellm.events import Ended, Event, Settled

if TYPE_CHECKING:
    from sentry_sdk.envelope import Envelope
    from sentry_sdk.transport import HttpTransport

_NAME: Final = "ai.request.failed"
_MINUTE: Final = 60.0  # seconds
_TIMEOUT: Final = 10  # seconds that Sentry may take to respond
_LONGEST_TAG: Final = 200  # characters; Sentry refuses a longer one


class SentrySink:
    """A :class:`~wallie_litellm.telemetry.sink.Sink` that reports to the project of ``dsn``.

    ``environment`` defaults to the SDK's default: ``SENTRY_ENVIRONMENT``, else ``production``; the release is
    ``SENTRY_RELEASE``, if set. At most ``per_minute`` events are sent in any minute; the others are counted as sampled
    out. ``now`` is a monotonic clock in seconds, for tests.

    Raises:
        ConfigError: ``sentry-sdk`` is not installed, or ``dsn`` is not one.
    """

    name = "sentry"

    def __init__(
        self,
        dsn: str,
        environment: str | None = None,
        *,
        per_minute: int = 100,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._now = now
        self._context = {"environment": environment or os.environ.get("SENTRY_ENVIRONMENT") or "production"}
        if release := os.environ.get("SENTRY_RELEASE"):
            self._context["release"] = release
        self._sent_at: deque[float] = deque(maxlen=per_minute)
        self._lock = threading.Lock()
        self._counts = {"delivered": 0, "dropped": 0, "pending": 0, "sampled_out": 0}
        self._transport = _connect(dsn, self._ended)

    def handle(self, events: Sequence[Event]) -> None:
        """Queue the failed requests among ``events``. Does not wait: the SDK has a thread for sending."""
        for event in events:
            if isinstance(event, Ended) and not event.success and not event.by_caller:
                self._report(event)

    def flush(self, timeout: float) -> bool:
        """Send what is pending within ``timeout`` seconds; returns whether nothing was left or dropped."""
        before = self.stats()
        if before["pending"]:
            self._transport.flush(timeout)
        after = self.stats()
        return not after["pending"] and after["dropped"] == before["dropped"]

    def close(self, timeout: float) -> None:
        """Flush, and stop the SDK's thread."""
        self.flush(timeout)
        self._transport.kill()

    def stats(self) -> dict[str, int]:
        """Events ``delivered``, ``dropped`` by the SDK, ``pending`` in its queue, and ``sampled_out``."""
        with self._lock:
            return dict(self._counts)

    def _report(self, event: Ended) -> None:
        from sentry_sdk.envelope import Envelope, Item, PayloadRef

        if not self._admit():
            return
        report = {**_report_of(event), **self._context}
        envelope = Envelope(headers={"event_id": report["event_id"], "sent_at": iso_time(time.time(), utc="+00:00")})
        envelope.add_item(Item(PayloadRef(json=report), type="event"))
        self._transport.capture_envelope(envelope)

    def _admit(self) -> bool:
        now, sent_at = self._now(), self._sent_at
        sampled_out = len(sent_at) == sent_at.maxlen and (not sent_at or now - sent_at[0] < _MINUTE)
        with self._lock:
            self._counts["sampled_out" if sampled_out else "pending"] += 1
        if not sampled_out:
            sent_at.append(now)
        return not sampled_out

    def _ended(self, lost: bool) -> None:
        with self._lock:
            self._counts["pending"] -= 1
            self._counts["dropped" if lost else "delivered"] += 1


def _connect(dsn: str, ended: Callable[[bool], None]) -> HttpTransport:
    try:
        from sentry_sdk.consts import DEFAULT_OPTIONS
        from sentry_sdk.transport import HttpTransport
        from sentry_sdk.utils import BadDsn, Dsn
    except ImportError:
        raise ConfigError(
            ["wallie.telemetry.sentry: needs the package sentry-sdk: pip install 'wallie-litellm[sentry]'"]
        ) from None

    class CountingTransport(HttpTransport):
        """The SDK's transport, which reports for each event whether it was lost.

        The end of sending has no public hook, so ``_send_envelope`` is overridden. The tests of ``stats`` fail with a
        version of the SDK that calls another method.
        """

        TIMEOUT = _TIMEOUT
        _lost = False

        def on_dropped_event(self, reason: str) -> None:
            if reason == "full_queue":  # in the caller's thread: this event never reaches the sending thread
                ended(True)
            else:
                self._lost = True

        def _send_envelope(self, envelope: Envelope) -> None:
            self._lost = False
            try:
                super()._send_envelope(envelope)
            except BaseException:
                self._lost = True
                raise
            finally:
                ended(self._lost)

    try:
        Dsn(dsn)
    except (BadDsn, ValueError):
        raise ConfigError(
            ["wallie.telemetry.sentry.dsn: not a Sentry DSN, expected https://<key>@<host>/<project number>"]
        ) from None
    # Without client reports, which are envelopes of their own.
    return CountingTransport({**DEFAULT_OPTIONS, "dsn": dsn, "send_client_reports": False})


def _report_of(event: Ended) -> dict[str, Any]:
    error = event.error or "unknown"
    tags = {
        "provider": event.provider,
        "model": event.model,
        "error": error,
        "status_code": event.status_code,
        "feature": event.feature,
        "operation": event.operation,
    }
    return {
        "event_id": uuid.uuid5(uuid.NAMESPACE_OID, event.id).hex,  # the same when repeated, which Sentry recognises
        "timestamp": iso_time(event.at, utc="+00:00"),
        "platform": "python",
        "level": "error",
        "logger": "wallie_litellm",
        "message": _NAME,
        "transaction": f"{event.provider} {event.model}",
        "fingerprint": [_NAME, event.provider, error, event.model],
        "tags": {key: _tag(value) for key, value in tags.items() if value is not None},
        "extra": {
            "request_id": event.request_id,
            "latency_ms": event.latency_ms,
            "waited_ms": event.waited_ms,
            "attempts": [_attempt(settled) for settled in event.settled],
        },
    }


def _attempt(settled: Settled) -> dict[str, Any]:
    return {
        "provider": settled.provider,
        "model": settled.model,
        "deployment": settled.deployment,
        "outcome": settled.outcome,
        "error": settled.error,
        "status_code": settled.status_code,
        "latency_ms": settled.latency_ms,
    }


def _tag(value: object) -> str:
    return one_line(str(value)[:_LONGEST_TAG], " ")
