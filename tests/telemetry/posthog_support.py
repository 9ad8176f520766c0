"""Shared by the PostHog tests: sinks with short timeouts, and scripts in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from event_samples import ended, settled

from wallie_litellm.core.backoff import Backoff
from wallie_litellm.events import Ended
from wallie_litellm.simulator.posthog_endpoint import PROJECT_KEY, PostHogEndpoint
from wallie_litellm.telemetry.sinks.posthog import PostHogSink

TESTS = Path(__file__).parent
IMPATIENT: dict[str, Any] = {"timeout": 0.5, "interval": 0.02, "backoff": Backoff(initial=0.05, max=0.1)}


def posthog_sink(endpoint: PostHogEndpoint, spool: Path, key: str = PROJECT_KEY, **more: Any) -> PostHogSink:
    """A sink that gives a request half a second and tries again after a tenth of one at most."""
    return PostHogSink(key, endpoint.url, spool, **{**IMPATIENT, **more})


def completions(count: int, **changes: Any) -> list[Ended]:
    """So many completed requests, each with an id of its own."""
    return [ended(settled(), request_id=f"r{number}", **changes) for number in range(count)]


def assert_all_arrived(endpoint: PostHogEndpoint, events: list[Ended]) -> None:
    """Each event is at the endpoint once, by its uuid."""
    arrived = Counter(event.properties["requestId"] for event in endpoint.events())
    assert arrived == Counter(event.request_id for event in events)


def run_script(body: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run Python code in a process of its own; ``sys.argv[1:]`` are the arguments."""
    paths = [str(TESTS.parents[1]), str(TESTS.parent), str(TESTS)]
    return subprocess.run(
        [sys.executable, "-c", body, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )
