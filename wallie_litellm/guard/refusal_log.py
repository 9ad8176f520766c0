"""Refusals in the log: one line for the first of a kind, then one now and then with the number of the others."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Final

from wallie_litellm.core.last_used import LastUsed
from wallie_litellm.core.scrubbing import one_line
from wallie_litellm.errors import ChainExhausted, DeadlineExceeded, Refused, WallieError

LINE_EVERY: Final = 10.0  # seconds between two lines of one kind
MOST_KINDS: Final = 1_000  # with a wildcard, callers invent models

logger = logging.getLogger(__name__)


class RefusalLog:
    """Logs refusals; a kind is a code, and the provider and the model that are refused. ``now`` is in seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._kinds: LastUsed[tuple[str, str, str], tuple[float, int]] = LastUsed(MOST_KINDS)  # last line, those since

    def note(self, error: WallieError) -> WallieError:
        """Log ``error``, if it is a refusal and its turn; returns it. Nothing of the request is in its text."""
        if not isinstance(error, Refused | ChainExhausted | DeadlineExceeded):
            return error
        kind = error.code, str(getattr(error, "provider", "")), str(getattr(error, "model", "") or "")
        now = self._now()
        with self._lock:
            said_at, more = self._kinds.get(kind) or (float("-inf"), 0)
            is_due = now - said_at >= LINE_EVERY
            self._kinds.keep(kind, (now, 0) if is_due else (said_at, more + 1))
        if is_due:
            logger.warning("refused: %s%s", one_line(str(error)), f" ({more} more since the last line)" if more else "")
        return error


log_refusal = RefusalLog(time.monotonic).note
