"""The share of failures: of the requests for a group, as callers see it, and of the attempts at a provider.

An episode begins where the share reaches the limit, among a minimum of calls, and is over once it is at most half of
the limit, among however few: a share that moves about the limit is one episode. A provider that is down has an alert
of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

from wallie_litellm.alerts.episodes import Episodes, EventOf
from wallie_litellm.config.alerts import AlertSettings
from wallie_litellm.core.attempt_result import ended_by_caller
from wallie_litellm.core.recent_outcomes import RecentOutcomes
from wallie_litellm.events import Ended, ErrorRateCrossed, Settled, new_id

OVER_BELOW: Final = 0.5  # of the limit: a share at most so large ends an episode
MOST: Final = 1_000  # groups and providers that are counted: with a wildcard, callers invent names


class Subject(NamedTuple):
    """Whose share it is: that of a ``provider``, or that of a group; the other is empty."""

    provider: str
    model: str


class ErrorRates:
    """The shares of all groups and providers, and the episodes of those that are too large.

    ``limit`` is the share that is too large. ``is_down`` returns whether a provider is down. Times are seconds of the
    guard's clock; ``wall`` is the wall clock.
    """

    def __init__(
        self,
        settings: AlertSettings,
        limit: float,
        episodes: Episodes,
        is_down: Callable[[str], bool],
        wall: Callable[[], float],
    ) -> None:
        self._limit = limit
        self._window = settings.window
        self._minimum = settings.min_requests
        self._episodes = episodes
        self._is_down = is_down
        self._wall = wall
        self._recent: dict[Subject, RecentOutcomes] = {}

    def look(self, ended: Iterable[Settled | Ended], now: float) -> None:
        """Count what has ``ended`` since the last look, and announce what is due."""
        for subject, (calls, failures) in _counted(ended).items():
            recent = self._recent.get(subject)
            if recent is None:
                if len(self._recent) >= MOST:
                    continue
                recent = self._recent[subject] = RecentOutcomes(self._window)
            recent.add(now, calls, failures)
        for subject, recent in list(self._recent.items()):
            recent.forget(now)
            self._judge(subject, recent, now)
            if not recent.calls:
                del self._recent[subject]

    def going_on(self) -> list[dict[str, Any]]:
        """The episodes that go on, ready for JSON but for ``since``, in seconds of the guard's clock."""
        found = []
        for (provider, model), since in self._episodes.since():
            recent = self._recent.get(Subject(provider, model))
            value = 0.0 if recent is None else recent.share
            whose = {"provider": provider, "model": model or None}
            found.append({"type": "error_rate", **whose, "value": value, "limit": self._limit, "since": since})
        return found

    def _judge(self, subject: Subject, recent: RecentOutcomes, now: float) -> None:
        if recent.share <= self._limit * OVER_BELOW:
            self._episodes.end(subject, now, self._event_of(subject, recent))
        elif recent.share >= self._limit and recent.calls >= self._minimum and not self._has_another_alert(subject):
            self._episodes.begin(subject, now, self._event_of(subject, recent))

    def _has_another_alert(self, subject: Subject) -> bool:
        return bool(subject.provider) and self._is_down(subject.provider)

    def _event_of(self, subject: Subject, recent: RecentOutcomes) -> EventOf:
        share, failed, requests = recent.share, recent.failures, recent.calls

        def event(is_over: bool, lasted: float) -> ErrorRateCrossed:
            wall = self._wall()
            return ErrorRateCrossed(
                id=new_id(wall),
                at=wall,
                provider=subject.provider,
                model=subject.model or None,
                error_rate=share,
                limit=self._limit,
                failed=failed,
                requests=requests,
                window=self._window,
                resolved=is_over,
                lasted=lasted,
            )

        return event


def _counted(ended: Iterable[Settled | Ended]) -> dict[Subject, tuple[int, int]]:
    """Calls and failures by whose they are, without what callers ended themselves."""
    counts: dict[Subject, tuple[int, int]] = {}
    for record in ended:
        if isinstance(record, Ended):
            subject, is_callers = Subject("", record.model), record.by_caller
        else:
            subject = Subject(record.provider, "")
            is_callers = ended_by_caller(record.success, record.error, record.status_code)
        if not is_callers:
            calls, failures = counts.get(subject, (0, 0))
            counts[subject] = calls + 1, failures + (not record.success)
    return counts
