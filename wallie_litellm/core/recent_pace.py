"""Whether a few calls are late, or most are: what a tail is, and what an outage."""

from __future__ import annotations

from collections import deque
from math import inf
from typing import Final

KEPT: Final = 256  # calls
REACH: Final = 4  # times as long as a call usually takes: so far back the calls that are kept should reach
JUDGED: Final = 20  # calls, the last ones, whose share of late ones is looked at
LEAST_JUDGED: Final = 8  # calls without which there is no share
JUDGED_FOR: Final = 60.0  # seconds that a late call counts
LEAST_YOUNGER: Final = 2  # calls; of two that have taken the median, chance leaves both unanswered 1 time in 4 at most


class WatchedCall:
    """One call: begun at ``began``, usually answered by ``due``, and late from ``late_at`` on. Times are seconds."""

    __slots__ = ("answered_at", "began", "due", "failed", "late_at")

    def __init__(self, began: float, due: float, late_at: float) -> None:
        self.began = began
        self.due = due
        self.late_at = late_at
        self.answered_at = inf
        self.failed = False


class RecentPace:
    """The recent calls of a feature, and how many of them were late. Times are seconds of one clock."""

    __slots__ = ("_begun", "_calls", "_stride")

    def __init__(self) -> None:
        self._calls: deque[WatchedCall] = deque(maxlen=KEPT)
        self._stride = 1  # each so many-th call is kept
        self._begun = 0

    def begin(self, now: float, usual: float, late_after: float) -> WatchedCall:
        """A call begins that usually takes ``usual`` seconds, and is late after ``late_after``."""
        call = WatchedCall(now, now + usual, now + late_after)
        self._begun += 1
        if self._begun % self._stride == 0:
            self._calls.append(call)
            if self._begun % (self._stride * KEPT) == 0:
                self._set_stride(now - self._calls[0].began, REACH * usual)
        return call

    def _set_stride(self, reach: float, wanted: float) -> None:
        if reach < wanted:
            self._stride *= 2
        elif reach > 4 * wanted:
            self._stride = max(1, self._stride // 2)

    def most_are_late(self, now: float, call: WatchedCall) -> bool:
        """Whether ``call``, which is late, is so because most are.

        Either more than half of the last calls whose time is up were late, or failed; or more than half of those that
        began after it, and have taken longer than usual, are not answered either: the first calls of an outage become
        late before any other has.
        """
        judged = late = younger = unanswered = 0
        for one in reversed(self._calls):
            answered = one.answered_at <= now
            if judged < JUDGED and one.late_at > now - JUDGED_FOR and (answered or one.failed or one.late_at <= now):
                judged += 1
                late += one.failed or not answered or one.answered_at > one.late_at
            if one.began >= call.began and one.due <= now and one is not call:
                younger += 1
                unanswered += not answered
        if judged >= LEAST_JUDGED and late * 2 > judged:
            return True
        return younger >= LEAST_YOUNGER and unanswered * 2 > younger
