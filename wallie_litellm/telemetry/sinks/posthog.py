"""PostHog, through its official SDK.

The SDK's own queue drops events when it is full and after a few retries. The SDK therefore only supplies the properties
that belong into every event and sends batches; queueing and retrying are done by a :class:`Delivery`.
"""

from __future__ import annotations

import contextvars
import logging
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID, uuid5

from wallie_litellm.core.backoff import Backoff
from wallie_litellm.core.http_status import is_sent_again
from wallie_litellm.core.iso_time import iso_time
from wallie_litellm.errors import ConfigError
from wallie_litellm.events import Event
from wallie_litellm.telemetry.sinks.posthog_bisect import Message, PostHogReply, SendResult
from wallie_litellm.telemetry.sinks.posthog_delivery import Delivery
from wallie_litellm.telemetry.sinks.posthog_events import Captured, captured
from wallie_litellm.telemetry.sinks.posthog_values import json_size
from wallie_litellm.telemetry.spool import Spool

if TYPE_CHECKING:
    from requests import Session

logger = logging.getLogger(__name__)
_client_logger = logging.getLogger(f"{__name__}.client")  # of the SDK's client that this sink makes

LARGEST_EVENT: Final = 900 * 1024  # bytes; the SDK's own limit for an event

_NAMESPACE: Final = UUID("6f2c1a52-0c55-5d0c-9b0e-3c1d6a0d8f11")  # arbitrary but constant: event ids become UUIDs in it
_CALLERS: Final = ("metadata", "userId", "feature", "requestedModel")  # properties whose length callers determine
_OTHERS: Final = 2_000  # bytes that the rest of an event takes


class PostHogSink:
    """Sends the five ``ai.*`` events to the project ``api_key`` at ``host``, and nothing to any other address.

    ``spool_directory`` is where events wait on disk while PostHog accepts none. ``timeout`` is how many seconds one
    request may take to connect, and to be answered; events gather for ``interval`` seconds before they are sent.
    ``backoff`` gives the waits between retries.

    Raises:
        ConfigError: the SDK is not installed, or the key is empty.
    """

    name = "posthog"

    def __init__(
        self,
        api_key: str,
        host: str,
        spool_directory: Path,
        *,
        timeout: float = 10.0,
        interval: float = 0.5,
        backoff: Backoff | None = None,
    ) -> None:
        if not api_key.strip():
            raise ConfigError(["telemetry.posthog: the project API key is empty; set POSTHOG_API_KEY"])
        sdk = _SDK(api_key.strip(), host)
        self._envelope = sdk.envelope()
        self._installation_id = _installation(spool_directory)
        self._too_large = 0
        self._sdk = sdk
        self._delivery = Delivery(
            "PostHog",
            sdk.send,
            Spool(spool_directory, self.name),
            timeout=timeout,
            interval=interval,
            backoff=backoff or Backoff(initial=1.0, max=60.0),
        )

    def handle(self, events: Sequence[Event]) -> None:
        """Queue a batch. Never waits for PostHog."""
        self._delivery.put(list(self._messages(events)))

    def flush(self, timeout: float) -> bool:
        """Deliver everything within ``timeout`` seconds or put it on disk; ``False`` if that was not possible."""
        return self._delivery.flush(timeout)

    def close(self, timeout: float) -> None:
        """Deliver or spool everything within ``timeout`` seconds, and stop."""
        self._delivery.close(timeout)
        self._sdk.close()

    def stats(self) -> dict[str, int]:
        """Events ``delivered``, ``pending``, ``spooled`` and ``dropped``; ``failed`` counts requests."""
        stats = self._delivery.stats()
        return {**stats, "dropped": stats["dropped"] + self._too_large}

    def _messages(self, events: Sequence[Event]) -> Iterator[tuple[Message, int]]:
        for event in events:
            what = captured(event)
            if what is None:
                continue
            size = _OTHERS + json_size([what.properties.get(name) for name in _CALLERS])
            if size <= LARGEST_EVENT:
                yield self._message(event, what), size
            else:
                self._too_large += 1
                logger.error("an event of %d KiB is too large for PostHog and was dropped", size // 1024)

    def _message(self, event: Event, what: Captured) -> Message:
        properties = {**what.properties, **self._envelope}
        if what.user_id is None:
            properties["$process_person_profile"] = False
        return {
            "event": what.name,
            # The same in every retry: PostHog drops repetitions by it.
            "uuid": str(uuid5(_NAMESPACE, event.id)),
            "timestamp": iso_time(event.at, utc="+00:00"),
            "distinct_id": self._installation_id if what.user_id is None else what.user_id,
            "properties": properties,
        }


def _installation(spool_directory: Path) -> str:
    """The distinct id of events without a user: the same at every start here, and a hash that reveals no path."""
    return f"wallie-{uuid5(_NAMESPACE, f'{socket.gethostname()}:{spool_directory.resolve()}')}"


class _SDK:
    """The parts of the official SDK that the sink uses."""

    def __init__(self, api_key: str, host: str) -> None:
        try:
            import posthog.request
            import requests
            from posthog.client import Client
        except ImportError:
            raise ConfigError(
                ["telemetry.posthog needs the PostHog SDK, which is not installed: install wallie-litellm[posthog]"]
            ) from None
        self._request = posthog.request
        self._captured: list[dict[str, Any]] = []

        class QuietClient(Client):
            """Sets the level of its logger: the application's logger ``posthog`` is left alone."""

            log = _client_logger

        # Without a thread, a queue or an exit hook of its own.
        self._client = QuietClient(
            api_key,
            host=host,
            send=False,
            sync_mode=True,
            max_retries=0,
            disable_geoip=True,
            enable_exception_autocapture=False,
            before_send=self._captured.append,
        )
        self._api_key = api_key
        self._host = str(self._client.host)
        self._session: Session = requests.Session()
        # A redirected POST becomes a GET, whose status 200 would not mean that PostHog accepted the batch.
        self._session.max_redirects = 0
        self._unreachable: type[Exception] = requests.RequestException
        _add_filter()

    def envelope(self) -> Mapping[str, Any]:
        """The properties that the SDK gives every event."""
        # In a context of its own: the application's tags on its own PostHog events do not belong here.
        contextvars.Context().run(self._client.capture, "envelope", distinct_id="none")
        return dict(self._captured.pop()["properties"])

    def send(self, batch: Sequence[Message], timeout: float) -> PostHogReply:
        """Post one batch; never raises for a failed request."""
        try:
            with _unlogged():
                self._request.batch_post(
                    self._api_key, self._host, gzip=True, timeout=timeout, batch=batch, session=self._session
                )
        except self._request.APIError as error:
            return _reply(error)
        except self._unreachable as error:
            # The class alone: an error's text may quote what was sent.
            return PostHogReply(SendResult.UNAVAILABLE, type(error).__name__)
        return PostHogReply(SendResult.ACCEPTED)

    def close(self) -> None:
        """Close the connections."""
        self._session.close()


def _reply(error: Any) -> PostHogReply:
    status = error.status if isinstance(error.status, int) else 0
    reason = f"HTTP {status}"
    if status == 413:
        return PostHogReply(SendResult.TOO_LARGE, reason)
    if status == 400:
        return PostHogReply(SendResult.REFUSED, reason)
    if status in (401, 403):
        return PostHogReply(SendResult.MISCONFIGURED, f"{reason}: is POSTHOG_API_KEY this project's key?")
    if not is_sent_again(status):
        return PostHogReply(SendResult.MISCONFIGURED, f"{reason}: is POSTHOG_HOST right?")
    return PostHogReply(SendResult.UNAVAILABLE, reason, getattr(error, "retry_after", None) or 0.0)


# At the level DEBUG the SDK logs what it sends. The filter is on the process's logger ``posthog``, since the SDK has no
# other for requests, and drops only what is logged by a thread while it sends a batch of ours.

_sending = threading.local()


@contextmanager
def _unlogged() -> Iterator[None]:
    _sending.now = True
    try:
        yield
    finally:
        _sending.now = False


def _is_not_ours(_: logging.LogRecord) -> bool:
    return not getattr(_sending, "now", False)


def _add_filter() -> None:
    logging.getLogger("posthog").addFilter(_is_not_ours)  # the same filter is added once
