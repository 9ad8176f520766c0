"""A PostHog endpoint that records what it receives, and a sink that sends to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from posthog_support import posthog_sink

from wallie_litellm.events import Event
from wallie_litellm.simulator.posthog_endpoint import PostHogEndpoint, PostHogEvent
from wallie_litellm.telemetry.sinks.posthog import PostHogSink


@pytest.fixture
def endpoint() -> Iterator[PostHogEndpoint]:
    with PostHogEndpoint() as endpoint:
        yield endpoint


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def sink(endpoint: PostHogEndpoint, spool: Path) -> Iterator[PostHogSink]:
    sink = posthog_sink(endpoint, spool)
    yield sink
    sink.close(0.5)


@pytest.fixture
def sent(sink: PostHogSink, endpoint: PostHogEndpoint) -> Callable[[Event], PostHogEvent]:
    def send(event: Event) -> PostHogEvent:
        sink.handle([event])
        assert sink.flush(10.0)
        return endpoint.events()[-1]

    return send
