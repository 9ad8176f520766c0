"""What calls have taken, per model at an account and kind of call: for the order of chains, bounds and hedges.

Our own waiting is no part of it, nor is an answer from a cache. What is measured is this process's own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from functools import partial
from math import inf
from typing import Final, Protocol

from wallie_litellm.core.attempt_result import HEDGED, AttemptResult
from wallie_litellm.core.circuit_breaker import Verdict
from wallie_litellm.core.demand import Outcome
from wallie_litellm.core.last_used import LastUsed
from wallie_litellm.core.latency_histogram import LatencyHistogram
from wallie_litellm.core.latency_score import PENALTY, LatencyScore, Pace, normalised
from wallie_litellm.core.silence import Silence

_SUCCESS: Final = Outcome.SUCCESS  # looking up an enum's member costs more than the arithmetic around it
FEWEST: Final = 20  # calls in ten minutes below which no quantile is known
LOOKED_EVERY: Final = 0.1  # seconds between two looks at whether a model is silent
MOST_KINDS: Final = 2_000  # scopes times two: with a wildcard, callers invent models


class MeasuredAttempt(Protocol):
    """What is read of an attempt: the scope of its model, and when it began and had its first token, in seconds."""

    scope: str
    started_at: float
    first_token_at: float | None
    hedge: bool


class _Kind:
    """The calls of one scope that stream, or of those that do not."""

    __slots__ = ("first_tokens", "in_flight", "is_silent", "looked_at", "score", "silence", "streamed")

    def __init__(self, streamed: bool) -> None:
        self.streamed = streamed
        self.first_tokens = LatencyHistogram()
        self.score = LatencyScore()
        self.silence = Silence()
        self.in_flight: dict[int, MeasuredAttempt] = {}  # by their identity
        self.looked_at = -inf  # when ``is_silent`` was found out
        self.is_silent = False


class Latencies:
    """The latencies of one guard. ``now`` is its clock, in seconds. Safe to use from several threads."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._kinds: LastUsed[tuple[str, bool], _Kind] = LastUsed(MOST_KINDS)
        self._kind_of: dict[int, _Kind] = {}  # of attempts in flight, by their identity

    def begin(self, attempt: MeasuredAttempt, streamed: bool) -> None:
        """A call begins."""
        with self._lock:
            kind = self._kinds.use((attempt.scope, streamed), partial(_Kind, streamed))
            kind.in_flight[id(attempt)] = attempt
            self._kind_of[id(attempt)] = kind

    def end(self, attempt: MeasuredAttempt, result: AttemptResult) -> None:
        """A call has ended. One that says nothing of its model counts only where it took longer than usual already."""
        with self._lock:
            kind = self._kind_of.pop(id(attempt), None)
            if kind is None:
                return
            del kind.in_flight[id(attempt)]
            now, outcome = self._now(), result.outcome
            total = now - attempt.started_at
            if outcome is _SUCCESS:
                first = total if attempt.first_token_at is None else attempt.first_token_at - attempt.started_at
                output = 0 if result.usage is None else result.usage.output
                kind.silence.answered(attempt.started_at + first)
                kind.first_tokens.add(now, first)
                kind.score.add(attempt.started_at, normalised(first, total, output, streamed=kind.streamed))
            elif outcome is not Outcome.CACHE_HIT:
                self._end_unserved(kind, attempt, result, now)

    @staticmethod
    def _end_unserved(kind: _Kind, attempt: MeasuredAttempt, result: AttemptResult, now: float) -> None:
        total = now - attempt.started_at
        if result.status_code is not None and not result.timed_out:
            kind.silence.answered(now)
        elif attempt.first_token_at is not None:
            kind.silence.answered(attempt.first_token_at)
        elif kind.first_tokens.counted(now) >= FEWEST:
            kind.silence.given_up(attempt, now, kind.first_tokens.tail(now))
        if result.verdict is Verdict.FAILURE:
            kind.score.add(attempt.started_at, max(PENALTY, total))
        elif result.reason == HEDGED and not attempt.hedge:
            # It would have taken longer still: without it, quantiles would leave out just what hedges are sent for.
            kind.first_tokens.add(now, total)
            kind.score.add(attempt.started_at, total)
        elif _is_longer(total, kind.score.pace(now)):
            kind.score.add(attempt.started_at, total)

    def first_token(self, scope: str, streamed: bool, quantile: float) -> float | None:
        """Seconds in which this share of the calls have had their first token; ``None`` with too few calls.

        Of calls that do not stream, their whole answer.
        """
        with self._lock:
            kind, now = self._kinds.get((scope, streamed)), self._now()
            if kind is None or kind.first_tokens.counted(now) < FEWEST:
                return None
            return kind.first_tokens.quantile(now, quantile)

    def is_silent(self, scope: str, streamed: bool) -> bool:
        """Whether the calls that wait for the scope's model show that it says nothing; unknown of too few, it does not.

        It is found out anew ten times a second.
        """
        with self._lock:
            kind, now = self._kinds.get((scope, streamed)), self._now()
            if kind is None:
                return False
            if kind.silence.is_known:
                return not kind.silence.tries(now)
            if kind.in_flight and now - kind.looked_at >= LOOKED_EVERY:
                kind.looked_at = now
                kind.is_silent = kind.first_tokens.counted(now) >= FEWEST and kind.silence.shows(
                    kind.in_flight.values(), now, kind.first_tokens.tail(now)
                )
            return kind.is_silent and bool(kind.in_flight)

    def pace_of(self, scopes: Iterable[str], streamed: bool) -> Pace | None:
        """The present pace of all ``scopes`` together; ``None`` without a call in ten minutes.

        A call in flight for longer than the pace counts as that slow already.
        """
        with self._lock:
            now, merged = self._now(), LatencyScore()
            kinds = [kind for scope in set(scopes) if (kind := self._kinds.get((scope, streamed))) is not None]
            for kind in kinds:
                merged = merged.merged(kind.score)
            pace = merged.pace(now)
            waiting = [one for kind in kinds for one in kind.in_flight.values() if one.first_token_at is None]
            if longer := [one.started_at for one in waiting if _is_longer(now - one.started_at, pace)]:
                for started_at in longer:
                    merged.add(started_at, now - started_at)
                pace = merged.pace(now)
            return pace


def _is_longer(seconds: float, pace: Pace | None) -> bool:
    return pace is not None and seconds > pace.seconds
