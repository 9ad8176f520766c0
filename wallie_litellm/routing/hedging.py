"""Whether a call that has said nothing yet is to be hedged: the next member of the chain is asked beside it.

It is not where that would not help, or cost too much: :data:`SUPPRESSED` names the reasons.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from math import inf
from typing import Any, Final, Protocol

from wallie_litellm.clock import Clock
from wallie_litellm.config import WallieConfig
from wallie_litellm.config.hedging import HedgeSettings
from wallie_litellm.core.hedge_budget import DailyDollars, HedgeBudget
from wallie_litellm.core.recent_pace import RecentPace, WatchedCall
from wallie_litellm.routing.switches import Switches

FEW_CALLS: Final = "few_calls"  # there is no percentile yet
NO_MEMBER: Final = "no_member"  # the chain has no other, or the caller may not use it
OUTAGE: Final = "outage"  # most calls are late
BUDGET: Final = "budget"  # as many requests are hedged as may be
UNPRICED: Final = "unpriced"  # dollars are limited, and the next member has no known price
DOLLARS: Final = "max_usd_day"
CIRCUIT: Final = "circuit"  # a breaker of the next member is not closed
CAPACITY: Final = "capacity"  # the next member would have to be waited for
#: Why a late call is not hedged.
SUPPRESSED: Final = (FEW_CALLS, NO_MEMBER, OUTAGE, BUDGET, UNPRICED, DOLLARS, CIRCUIT, CAPACITY)

REFRESHED: Final = 1.0  # seconds for which a percentile is not looked up again
# Where one call in twenty takes ten times as long as the others, p95 is in the gap between these and those, and that of
# a sample on either side of it. So the time to a hedge is bounded by a deeper quantile, which is not in doubt: twice as
# many calls take longer. A smooth distribution is not touched: p95 is below 1.5 times p90 in a log-normal one with a
# sigma up to 1.1.
DEEPER: Final = 2.0  # times the share of calls
FARTHER: Final = 1.5  # times the time of the deeper quantile, at most
# A hedge takes as long as calls usually do: sooner there is little to win, nor is it seen whether others are late, too.
NEARER: Final = 1.5  # times the median, at least
MEDIAN: Final = 0.5


class Percentiles(Protocol):
    """What calls have taken."""

    def first_token(self, scope: str, streamed: bool, quantile: float) -> float | None:
        """Seconds to the first token of calls in a scope, of a stream, or to the answer; ``None`` of too few."""


class HedgePolicy:
    """The hedges of one feature. Safe to use from several threads and event loops."""

    def __init__(
        self, settings: HedgeSettings, percentiles: Percentiles | None, clock: Clock, max_usd_day: float | None
    ) -> None:
        self._settings = settings
        self._percentiles = percentiles
        self._now, self._wall = clock.now, clock.wall
        self._lock = threading.Lock()  # for all below
        self._budget = HedgeBudget(settings.budget)
        self._dollars = DailyDollars(max_usd_day)
        self._pace = RecentPace()
        self._times: dict[tuple[str, bool], tuple[float, float | None, float | None]] = {}
        self._sent = self._won = 0
        self._wasted = 0.0
        self._suppressed: Counter[str] = Counter()

    def is_for(self, settings: HedgeSettings, percentiles: Percentiles | None) -> bool:
        """Whether it hedges by these settings and percentiles."""
        return settings == self._settings and percentiles is self._percentiles

    def go_on(self, earlier: HedgePolicy) -> None:
        """Go on from the policy of an earlier configuration: with the hedges and dollars that it has spent."""
        with earlier._lock:
            self._budget.take_over(earlier._budget)
            self._dollars.correct(self._wall(), earlier._dollars.spent(self._wall()))
            self._pace, self._suppressed = earlier._pace, earlier._suppressed
            self._sent, self._won, self._wasted = earlier._sent, earlier._won, earlier._wasted

    def count_request(self) -> None:
        """A request that may be hedged begins."""
        with self._lock:
            self._budget.deposit(self._now())

    def begin(self, scope: str, streamed: bool) -> WatchedCall | None:
        """A call begins: when it will be late. ``None`` where too few calls are known to tell."""
        now = self._now()
        with self._lock:
            expires, late_after, usual = self._times.get((scope, streamed), (now, None, None))
            if expires <= now:
                late_after, usual = self._look_up(scope, streamed)
                self._times[scope, streamed] = now + REFRESHED, late_after, usual
            if late_after is None:
                self._suppressed[FEW_CALLS] += 1
                return None
            return self._pace.begin(now, late_after if usual is None else min(usual, late_after), late_after)

    def _look_up(self, scope: str, streamed: bool) -> tuple[float | None, float | None]:
        after = self._settings.after
        if self._percentiles is None:
            return after.seconds, None
        measured = self._percentiles.first_token
        usual = measured(scope, streamed, MEDIAN)
        if after.quantile is None:
            return after.seconds, usual
        late_after = measured(scope, streamed, after.quantile)
        deeper = measured(scope, streamed, max(MEDIAN, 1.0 - DEEPER * (1.0 - after.quantile)))
        if late_after is None or deeper is None:
            return None, usual
        return max(min(late_after, FARTHER * deeper), NEARER * (usual or 0.0)), usual

    def answered(self, call: WatchedCall) -> None:
        """The first token of a call has come, or its answer."""
        call.answered_at = self._now()

    def failed(self, call: WatchedCall) -> None:
        """A call has failed."""
        call.failed = True

    def forget(self, call: WatchedCall) -> None:
        """A call was cancelled: when it would have been answered is not known, unless it is late already."""
        if self._now() < call.late_at:
            call.due = call.late_at = inf

    def denial(self, call: WatchedCall) -> str | None:
        """Why a ``call``, which is late, is not to be hedged; ``None`` if it is."""
        now = self._now()
        with self._lock:
            reason = None
            if self._pace.most_are_late(now, call):
                reason = OUTAGE
            elif not self._budget.left(now):
                reason = BUDGET
            if reason is not None:
                self._suppressed[reason] += 1
            return reason

    def spend(self, usd: float | None) -> str | None:
        """Take one hedge, which is estimated to cost ``usd``, out of the budgets; else why that cannot be."""
        with self._lock:
            reason = self._spend(usd)
            if reason is None:
                self._sent += 1
            else:
                self._suppressed[reason] += 1
            return reason

    def _spend(self, usd: float | None) -> str | None:
        if usd is None and self._dollars.limit is not None:
            return UNPRICED
        if not self._budget.withdraw(self._now()):
            return BUDGET
        if usd is not None and not self._dollars.spend(self._wall(), usd):
            self._budget.put_back(self._now())
            return DOLLARS
        return None

    def take_back(self, usd: float | None, reason: str) -> None:
        """A hedge was not sent after all."""
        with self._lock:
            self._sent -= 1
            self._budget.put_back(self._now())
            self._dollars.correct(self._wall(), -(usd or 0.0))
            self._suppressed[reason] += 1

    def suppress(self, reason: str) -> None:
        """A late call is not hedged."""
        with self._lock:
            self._suppressed[reason] += 1

    def settle(self, usd: float | None, wasted_usd: float | None, *, won: bool) -> None:
        """A hedge is over: it has ``won`` or not, and cost ``wasted_usd`` in addition; ``None`` is not known."""
        with self._lock:
            self._won += won
            if wasted_usd is not None:
                self._wasted += wasted_usd
                self._dollars.correct(self._wall(), wasted_usd - (usd or 0.0))

    def describe(self) -> dict[str, Any]:
        """The figures of this process since its beginning, JSON-ready; ``late_after`` is in seconds, by scope."""
        with self._lock:
            limit, late_after = self._dollars.limit, dict[str, dict[str, float]]()
            for (scope, streamed), (_, seconds, _) in self._times.items():
                if seconds is not None:
                    late_after.setdefault(scope, {})["stream" if streamed else "whole"] = round(seconds, 3)
            return {
                "after": str(self._settings.after),
                "late_after": late_after,
                "budget": self._settings.budget,
                "budget_left": self._budget.left(self._now()),
                "max_usd_day": limit,
                "usd_left_today": None if limit is None else self._dollars.left(self._wall()),
                "sent": self._sent,
                "won": self._won,
                "wasted_usd": self._wasted,
                "suppressed": {reason: self._suppressed[reason] for reason in SUPPRESSED},
            }


class Hedging:
    """The hedges of one guard, by feature."""

    def __init__(
        self,
        config: WallieConfig,
        clock: Clock,
        switches: Switches,
        percentiles: Percentiles | None = None,
        processes: int = 1,
        before: Hedging | None = None,
    ) -> None:
        self._switches = switches
        self._policies: Mapping[str, HedgePolicy] = {
            name: _policy(
                own.hedge, percentiles, clock, processes, None if before is None else before._policies.get(name)
            )
            for name, own in config.features.items()
            if own.hedge is not None
        }

    def __bool__(self) -> bool:
        return bool(self._policies)

    def of(self, feature: str | None) -> HedgePolicy | None:
        """The policy for the requests of a feature; ``None`` where they are not hedged."""
        policy = None if feature is None else self._policies.get(feature)
        return policy if policy is not None and self._switches.on("hedge") else None

    def describe(self) -> dict[str, Any]:
        """The hedges of each feature, JSON-ready."""
        return {name: policy.describe() for name, policy in self._policies.items()}


def _policy(
    settings: HedgeSettings, percentiles: Percentiles | None, clock: Clock, processes: int, earlier: HedgePolicy | None
) -> HedgePolicy:
    """A feature's policy: the ``earlier`` one, unless its settings have changed."""
    if earlier is not None and earlier.is_for(settings, percentiles):
        return earlier
    dollars = None if settings.max_usd_day is None else settings.max_usd_day / processes
    policy = HedgePolicy(settings, percentiles, clock, dollars)
    if earlier is not None:
        policy.go_on(earlier)
    return policy
