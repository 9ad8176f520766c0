"""The guard's voice: turns what it decides and sees into events, and hands them to whoever listens."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from functools import partial

from wallie_litellm.clock import Clock
from wallie_litellm.config import WallieConfig
from wallie_litellm.core.bill import NO_BILL, Bill
from wallie_litellm.core.budget import Budget, month_of
from wallie_litellm.core.circuit_breaker import Breaker, BreakerState, health_of
from wallie_litellm.core.demand import Demand, Outcome
from wallie_litellm.events import (
    BreakerChanged,
    BudgetCrossed,
    Ended,
    Event,
    FellBack,
    HealthChanged,
    OperatorActed,
    QuotaCrossed,
    Settled,
    Unpriced,
    UsageReported,
    new_id,
)
from wallie_litellm.guard.context import Attempt, AttemptResult, RequestContext, RequestFailure
from wallie_litellm.limiter.listener import Crossing
from wallie_litellm.litellm_adapter.metadata import COUNTED

_SUCCESS, _CACHE_HIT, _CUT = Outcome.SUCCESS, Outcome.CACHE_HIT, Outcome.CUT

DAY = 86_400.0  # seconds
MOST_UNPRICED = 1_000  # deployments that are told of: with a wildcard, callers invent names

Pricer = Callable[[str, Attempt, AttemptResult], Bill]  # for an operation


def tokens_only(_operation: str, _attempt: Attempt, ending: AttemptResult) -> Bill:
    """The bill of a guard that no router has given its prices to."""
    usage = ending.usage
    return NO_BILL if usage is None else Bill(usage.input, usage.output, usage.tokens, cost_usd=None)


class Reporter:
    """Builds events and publishes them. What it is told is told once by the guard; it keeps no queue of its own."""

    def __init__(self, config: WallieConfig, clock: Clock, publish: Callable[[Event], object]) -> None:
        self.price: Pricer = tokens_only
        self.levels: Mapping[str, float] = {"warning": config.quota.warning, "critical": config.quota.critical}
        self.budget = Budget(config.kpis.monthly_cost, self.levels)
        self.unpriced_announced: set[str] = set()
        #: Has an action done once in the fleet: the key, the seconds that this holds, the action.
        self.once: Callable[[str, float, Callable[[], object]], object] = lambda _key, _ttl, action: action()
        self._lock = threading.Lock()  # for the two above
        self._publish = publish
        self._now, self._wall = clock.now, clock.wall

    def settled(self, scope: RequestContext, attempt: Attempt, ending: AttemptResult, charged: Demand) -> None:
        """An attempt has ended."""
        outcome, wall = ending.outcome, self._wall()
        bill = self._bill(scope.operation, attempt, ending)
        served = outcome is _SUCCESS or outcome is _CACHE_HIT
        record = Settled(
            new_id(wall),
            wall,
            scope.request_id,
            len(scope.attempts) + 1,
            attempt.provider,
            attempt.group,
            attempt.deployment,
            scope.operation,
            attempt.streaming or scope.stream,
            outcome.value,
            served,
            None if served else ending.reason,
            ending.status_code,
            (self._now() - attempt.started_at) * 1000,
            attempt.waited * 1000,
            *bill,
            charged,
            scope.feature,
            scope.user_id,
            scope.metadata,
        )
        scope.attempts.append(record)
        self._publish(record)
        if bill.unpriced:
            self._tell_unpriced(record)
        elif bill.cost_usd:
            self._spend(wall, bill.cost_usd)

    def ended(self, scope: RequestContext, failure: RequestFailure | None) -> None:
        """A request has ended. Only the first time counts."""
        if scope.ended:
            return
        scope.ended = True
        wall, served = self._wall(), scope.served_by
        provider = scope.last_provider()
        if failure is None and served is not None:
            provider = served.provider
        self._publish(
            Ended(
                new_id(wall),
                wall,
                scope.request_id,
                scope.group,
                scope.operation,
                scope.stream,
                failure is None,
                None if failure is None else failure.error,
                None if failure is None else failure.status_code,
                failure is not None and failure.by_caller,
                (self._now() - scope.started_at) * 1000,
                scope.waited * 1000,
                failure is None and served is not None and served.group != scope.group,
                provider,
                scope.feature,
                scope.user_id,
                scope.metadata,
                tuple(scope.attempts),
            )
        )

    def fell_back(self, scope: RequestContext, group: str) -> None:
        """A request goes on to ``group``."""
        failed = scope.failures[-1] if scope.failures else None
        wall = self._wall()
        self._publish(
            FellBack(
                new_id(wall),
                wall,
                scope.request_id,
                failed.model if failed is not None else scope.group,
                group,
                failed.provider if failed is not None else "",
                failed.reason if failed is not None else "",
                scope.feature,
                scope.user_id,
            )
        )

    def on_breaker_change(
        self,
        provider: str,
        before: tuple[BreakerState, int],
        after: tuple[BreakerState, int],
        breaker: Breaker,
        now: float,
    ) -> None:
        """A breaker's state or count of failures has changed, and with it perhaps the provider's health."""
        wall = self._wall()
        if before[0] is not after[0]:
            reopens_in = max(0.0, breaker.reopens_at - now) if after[0] is BreakerState.OPEN else 0.0
            states = before[0].value, after[0].value
            self._publish(BreakerChanged(new_id(wall), wall, provider, *states, breaker.reason, reopens_in))
        health, was = health_of(*after), health_of(*before)
        if health != was:
            self._publish(HealthChanged(new_id(wall), wall, provider, was, health, breaker.reason))

    def on_threshold(self, provider: str, crossing: Crossing) -> None:
        """A limit's utilisation has reached a threshold."""
        wall = self._wall()
        dimension, level, share, use, _ = crossing
        self._publish(
            QuotaCrossed(new_id(wall), wall, provider, dimension, level, share, use.units, use.full, use.reset_in)
        )

    def acted(self, actor: str, action: str, provider: str, detail: str | None = None) -> None:
        """An operator has given an order."""
        wall = self._wall()
        self._publish(OperatorActed(new_id(wall), wall, actor, action, provider, detail))

    def used_outside(self, provider: str, charged: Demand, source: str) -> None:
        """A provider was used by a call outside the router."""
        wall = self._wall()
        self._publish(UsageReported(new_id(wall), wall, provider, charged, source))

    def _bill(self, operation: str, attempt: Attempt, ending: AttemptResult) -> Bill:
        outcome = ending.outcome
        if outcome is not _SUCCESS and outcome is not _CUT:
            return NO_BILL  # a provider bills neither what it rejects nor what it never saw
        if ending.usage is None and attempt.reservation is not None and operation in COUNTED:
            usage = attempt.reservation.demand
            if outcome is _CUT:
                # It has had the prompt, and providers bill for that whether or not anybody waits for the answer.
                usage = Demand(1, usage.input, usage.input, 0)
            ending = ending._replace(usage=usage)
        return self.price(operation, attempt, ending)

    def _tell_unpriced(self, record: Settled) -> None:
        with self._lock:
            if record.deployment in self.unpriced_announced or len(self.unpriced_announced) >= MOST_UNPRICED:
                return
            self.unpriced_announced.add(record.deployment)
        news = Unpriced(new_id(record.at), record.at, record.provider, record.model, record.deployment)
        self.once(f"unpriced:{record.deployment}", DAY, lambda: self._publish(news))

    def _spend(self, wall: float, cost: float) -> None:
        budget = self.budget
        with self._lock:
            levels = budget.add(wall, cost)
        for level in levels:
            month = month_of(wall)
            news = BudgetCrossed(new_id(wall), wall, level, budget.utilization, budget.spent, budget.limit, month)
            self.once(f"budget:{level}:{month}", 32 * DAY, partial(self._publish, news))
