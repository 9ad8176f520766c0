"""What calls have taken, per model at an account and kind of call: for the order of chains, bounds and hedges.

Our own waiting is no part of it, nor is an answer from a cache. What is measured is this process's own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from math import inf
from typing import Final, Protocol

from wallie_litellm.core.attempt_result import HEDGED, AttemptResult
from wallie_litellm.core.circuit_breaker import Verdict
from wallie_litellm.core.demand import Outcome
from wallie_litellm.core.last_used import LastUsed
from wallie_litellm.core.latency_histogram import LatencyHistogram
from wallie_litellm.core.latency_score import PENALTY, LatencyScore, Pace, normalised

FEWEST: Final = 20  # calls in ten minutes below which no quantile is known
SLOWEST: Final = 0.99  # of the calls: what takes FAR_LONGER times as long is overdue
FAR_LONGER: Final = 1.5
GIVEN_UP_FOR: Final = 10.0  # seconds
COUNTED_EVERY: Final = 0.1  # seconds
MOST_KINDS: Final = 2_000  # scopes times two: with a wildcard, callers invent models


class MeasuredAttempt(Protocol):
    """What is read of an attempt: the scope of its model, and when it began and had its first token, in seconds."""

    scope: str
    started_at: float
    first_token_at: float | None
    hedge: bool


class _Kind:
    """The calls of one scope that stream, or of those that do not."""

    __slots__ = ("answered_at", "counted_at", "first_tokens", "given_up", "given_up_at", "overdue", "score")

    def __init__(self) -> None:
        self.first_tokens = LatencyHistogram()
        self.score = LatencyScore()
        self.answered_at = -inf  # when a call was answered last, with a token or with an error
        self.given_up = 0  # calls since then that were given up without an answer
        self.given_up_at = -inf  # when the last of them was
        self.counted_at = -inf  # when ``overdue`` was counted
        self.overdue = 0


class Latencies:
    """The latencies of one guard. ``now`` is its clock, in seconds. Safe to use from several threads."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._kinds: LastUsed[tuple[str, bool], _Kind] = LastUsed(MOST_KINDS)
        self._in_flight: dict[int, tuple[MeasuredAttempt, bool]] = {}  # by their identity

    def begin(self, attempt: MeasuredAttempt, streamed: bool) -> None:
        """A call begins."""
        with self._lock:
            self._in_flight[id(attempt)] = attempt, streamed

    def end(self, attempt: MeasuredAttempt, result: AttemptResult) -> None:
        """A call has ended. One that says nothing of its model counts only where it took longer than usual already."""
        with self._lock:
            _, streamed = self._in_flight.pop(id(attempt), (None, None))
            if streamed is None:
                return
            now, kind = self._now(), self._kinds.use((attempt.scope, streamed), _Kind)
            total = now - attempt.started_at
            if result.timed_out and attempt.started_at >= kind.answered_at:
                kind.given_up, kind.given_up_at = kind.given_up + 1, now
            elif not result.timed_out and result.status_code is not None:
                kind.answered_at, kind.given_up = now, 0
            if result.verdict is Verdict.FAILURE:
                kind.score.add(now, max(PENALTY, total))
            elif result.outcome is Outcome.SUCCESS:
                first = total if attempt.first_token_at is None else attempt.first_token_at - attempt.started_at
                output = 0 if result.usage is None else result.usage.output
                kind.answered_at, kind.given_up = max(kind.answered_at, attempt.started_at + first), 0
                kind.first_tokens.add(now, first)
                kind.score.add(now, normalised(first, total, output, streamed=streamed))
            elif result.reason == HEDGED and not attempt.hedge:
                # It would have taken longer still: without it, quantiles would leave out just what hedges are sent for.
                kind.first_tokens.add(now, total)
                kind.score.add(now, total)
            elif result.outcome is not Outcome.CACHE_HIT and _is_longer(total, kind.score.pace()):
                kind.score.add(now, total)

    def first_token(self, scope: str, streamed: bool, quantile: float) -> float | None:
        """Seconds in which this share of the calls have had their first token; ``None`` with too few calls.

        Of calls that do not stream, their whole answer.
        """
        with self._lock:
            kind, now = self._kinds.get((scope, streamed)), self._now()
            if kind is None or kind.first_tokens.counted(now) < FEWEST:
                return None
            return kind.first_tokens.quantile(now, quantile)

    def overdue(self, scope: str, streamed: bool) -> int:
        """How many calls wait far longer than usual, though nothing has been answered since they began.

        Those that were given up meanwhile count for ten seconds, and then as one: a single call tries again. It is
        counted anew ten times a second; with too few calls to know what is usual, none is.
        """
        with self._lock:
            kind, now = self._kinds.get((scope, streamed)), self._now()
            if kind is None:
                return 0
            if now - kind.counted_at >= COUNTED_EVERY:
                kind.counted_at, kind.overdue = now, self._count_overdue(kind, scope, streamed, now)
            return kind.overdue

    def _count_overdue(self, kind: _Kind, scope: str, streamed: bool, now: float) -> int:
        if kind.first_tokens.counted(now) < FEWEST:
            return 0
        slowest = kind.first_tokens.quantile(now, SLOWEST)
        waits_since = now - FAR_LONGER * (slowest or 0.0)
        mine = [one for one, streams in self._in_flight.values() if one.scope == scope and streams is streamed]
        answered_at = max((one.first_token_at for one in mine if one.first_token_at is not None), default=-inf)
        since = max(answered_at, kind.answered_at)
        waiting = sum(one.first_token_at is None and since <= one.started_at <= waits_since for one in mine)
        return waiting + (kind.given_up if now - kind.given_up_at < GIVEN_UP_FOR else min(kind.given_up, 1))

    def pace_of(self, scopes: Iterable[str], streamed: bool) -> tuple[Pace | None, int]:
        """The present pace of all ``scopes`` together, and how many of their calls were answered in ten minutes.

        A call in flight for longer than the pace counts as that slow already.
        """
        with self._lock:
            now, merged, count = self._now(), LatencyScore(), 0
            names = set(scopes)
            for scope in names:
                if (kind := self._kinds.get((scope, streamed))) is not None:
                    merged = merged.merged(kind.score)
                    count += kind.first_tokens.counted(now)
            pace = merged.pace()
            if pace is None:
                return None, count
            for attempt, streams in self._in_flight.values():
                is_silent = attempt.scope in names and streams is streamed and attempt.first_token_at is None
                if is_silent and _is_longer(now - attempt.started_at, pace):
                    merged.add(now, now - attempt.started_at)
            return merged.pace(), count


def _is_longer(seconds: float, pace: Pace | None) -> bool:
    return pace is not None and seconds > pace.seconds
