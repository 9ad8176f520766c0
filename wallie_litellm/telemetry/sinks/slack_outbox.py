"""Facts that wait to be sent to Slack, as single messages or merged into a digest. No clock, no I/O."""

from __future__ import annotations

import math
from collections import deque
from typing import Final

from wallie_litellm.telemetry.alert_facts import Fact
from wallie_litellm.telemetry.sinks.slack_messages import Group, Groups, count_of, fold

_PACE: Final = 1.0  # seconds between two messages: Slack's documented limit for a webhook


class Outbox:
    """Facts that wait to be sent, and when. Callers pass ``now`` in monotonic seconds.

    Within an ``interval`` (seconds) the first ``burst`` facts are messages of their own; later ones are merged into a
    digest that is due at its end. The facts of a digest count against the next interval's burst, so that a continuing
    storm is one message an interval. Memory grows with the kinds of facts, not with their number.
    """

    def __init__(self, burst: int, interval: float) -> None:
        self._burst = burst
        self._interval = interval
        self._single: deque[Group] = deque()
        self._folded: Groups = {}
        self._room = 0
        self._interval_ends = self._digest_at = self._not_before = self._asked_until = -math.inf

    def __len__(self) -> int:
        return len(self._single) + count_of(self._folded)

    def add(self, now: float, fact: Fact) -> None:
        """Add a fact."""
        one = Group(1, fact.at, fact)
        if self._folded:
            fold(self._folded, one)
            return
        if now >= self._interval_ends:
            self._interval_ends, self._room = now + self._interval, self._burst
        if self._room:
            self._room -= 1
            self._single.append(one)
            return
        self._digest_at = self._interval_ends
        fold(self._folded, one)

    def due(self) -> float | None:
        """When the next message is due; ``None`` without a fact."""
        if self._single:
            return self._not_before
        return max(self._not_before, self._digest_at) if self._folded else None

    def take(self, now: float) -> Groups | None:
        """Remove and return the facts of the next message, if it is due."""
        due = self.due()
        if due is None or now < due:
            return None
        if self._single:
            one = self._single.popleft()
            return {one.last.key: one}
        groups, self._folded = self._folded, {}
        self._interval_ends, self._room = now + self._interval, max(0, self._burst - count_of(groups))
        return groups

    def delivered(self, now: float) -> None:
        """The message was accepted."""
        self._not_before = now + _PACE

    def put_back(self, now: float, groups: Groups, wait: float, *, asked: bool) -> None:
        """The message was not accepted: all facts are due in one message in ``wait`` seconds.

        ``asked`` states that Slack itself named that time, which :meth:`hurry` then does not shorten.
        """
        self._gather(groups)
        self._digest_at = self._not_before = now + wait
        if asked:
            self._asked_until = now + wait

    def hurry(self, now: float) -> None:
        """Make all facts due in one message, as soon as Slack allows."""
        self._gather({})
        self._digest_at = now
        self._not_before = self._asked_until

    def clear(self) -> int:
        """Remove every fact; returns how many there were."""
        count = len(self)
        self._single.clear()
        self._folded = {}
        return count

    def _gather(self, oldest: Groups) -> None:
        for group in (*self._single, *self._folded.values()):
            fold(oldest, group)
        self._single.clear()
        self._folded = oldest
