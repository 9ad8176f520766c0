"""A sink of your own: every failed request as a line of JSON in a file.

Put this file where Python finds it (beside router_config.yaml, or on PYTHONPATH), and name the class in the config::

    wallie:
      telemetry:
        sinks: ["own_sink:FailureLog"]

It is called without arguments. Each sink has a thread of its own: it may block, and no request waits for it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from wallie_litellm.events import Ended, Event


class FailureLog:
    """Appends to the file named by ``FAILURE_LOG``, else to ``failed_requests.jsonl`` where the process runs."""

    name = "failure-log"

    def __init__(self, path: str | Path | None = None) -> None:
        self._path = Path(path or os.environ.get("FAILURE_LOG") or "failed_requests.jsonl")
        self._unwritten: list[str] = []
        self._written = 0

    def handle(self, events: Sequence[Event]) -> None:
        """Write a batch's failures; what cannot be written is kept, and tried again with the next batch."""
        self._unwritten += [
            json.dumps(describe(event)) + "\n" for event in events if isinstance(event, Ended) and is_failure(event)
        ]
        self._write()

    def flush(self, timeout: float) -> bool:
        """Write what is still unwritten; ``False`` where that fails."""
        try:
            self._write()
        except OSError:
            return False
        return True

    def close(self, timeout: float) -> None:
        """Write what is still unwritten. The file is open only while it is being written."""
        self.flush(timeout)

    def stats(self) -> dict[str, int]:
        """The counts that the status and the metrics show of this sink."""
        return {"delivered": self._written, "pending": len(self._unwritten)}

    def _write(self) -> None:
        if not self._unwritten:
            return
        # Opened anew for each batch, so that the file may be moved away at any time, as logrotate does.
        with self._path.open("a", encoding="utf-8") as file:
            file.write("".join(self._unwritten))
        # An error above goes to the bus, which counts and logs it.
        self._written += len(self._unwritten)
        self._unwritten.clear()


def is_failure(request: Ended) -> bool:
    """Whether the providers failed it. A request that its caller cancelled, or asked wrongly, is not a failure."""
    return not request.success and not request.by_caller


def describe(request: Ended) -> dict[str, Any]:
    """What a search for the cause needs. No event holds a prompt or an answer, and so neither does the file."""
    return {
        "id": request.id,
        "at": datetime.fromtimestamp(request.at, UTC).isoformat(),
        "requestId": request.request_id,
        "model": request.model,
        "feature": request.feature,
        "error": request.error,
        "statusCode": request.status_code,
        "latencyMs": round(request.latency_ms),
        "attempts": [
            {"provider": attempt.provider, "deployment": attempt.deployment, "error": attempt.error}
            for attempt in request.settled
        ],
    }
