"""``first_token: auto``: how long a call may say nothing, by what calls of its kind have taken."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from wallie_litellm.core.last_used import LastUsed
from wallie_litellm.core.latency_histogram import WINDOW
from wallie_litellm.routing.latencies import MOST_KINDS, Latencies
from wallie_litellm.routing.switches import Switches

SHORTEST: Final = 5.0  # seconds: no bound is below
TIMES: Final = 4.0  # the 99th percentile
PERCENTILE: Final = 0.99
REFRESHED: Final = 2.0  # seconds for which a bound is not computed again


class FirstTokenBounds:
    """The bounds of one guard, by scope and kind of call.

    Before twenty calls in ten minutes there is none, so that a model that is slow by nature is not taken for dead. A
    bound that was known once stays when a model answers no more, and doubles every ten minutes: a model that has become
    four times slower than it was comes back in the end.
    """

    def __init__(self, latencies: Latencies, now: Callable[[], float], switches: Switches) -> None:
        self._latencies = latencies
        self._now = now
        self._switches = switches
        self._lock = threading.Lock()
        #: When it was looked at, the bound, and when that was measured.
        self._known: LastUsed[tuple[str, bool], tuple[float, float, float]] = LastUsed(MOST_KINDS)

    def of(self, scope: str, streamed: bool) -> float | None:
        """Seconds in which the first token must come; ``None`` for no bound."""
        if not self._switches.on("first_token"):
            return None
        now = self._now()
        with self._lock:
            known = self._known.get((scope, streamed))
            looked_at, bound, measured_at = (now, None, now) if known is None else known
            if bound is None or now - looked_at >= REFRESHED:
                slowest = self._latencies.first_token(scope, streamed, PERCENTILE)
                if slowest is not None:
                    bound, measured_at = max(SHORTEST, TIMES * slowest), now
                if bound is not None:
                    self._known.keep((scope, streamed), (now, bound, measured_at))
        return None if bound is None else bound * 2.0 ** int((now - measured_at) / WINDOW)

    def describe(self) -> dict[str, dict[str, float]]:
        """The bounds that are known, in seconds, by scope and kind."""
        with self._lock:
            known = list(self._known.items())
        described: dict[str, dict[str, float]] = {}
        for (scope, streamed), (_, bound, _) in known:
            described.setdefault(scope, {})["stream" if streamed else "whole"] = round(bound, 3)
        return described
