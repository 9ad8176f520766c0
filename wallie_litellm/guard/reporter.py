"""Builds events from what the guard decides and sees, and publishes them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from wallie_litellm.alerts.watch import AlertWatch
from wallie_litellm.clock import DAY, Clock
from wallie_litellm.config import WallieConfig
from wallie_litellm.core.attempt_result import AttemptResult, RequestFailure
from wallie_litellm.core.bill import NO_BILL, Bill
from wallie_litellm.core.budget import Budget, month_of
from wallie_litellm.core.circuit_breaker import BreakerState, health_of
from wallie_litellm.core.day_forecast import Forecast
from wallie_litellm.core.demand import Demand, Outcome
from wallie_litellm.core.operations import COUNTED
from wallie_litellm.events import (
    BreakerChanged,
    BudgetCrossed,
    Ended,
    Event,
    ExhaustionForeseen,
    FellBack,
    HealthChanged,
    LimitOverstated,
    OperatorActed,
    OrderChanged,
    ProviderDown,
    QuotaCrossed,
    Settled,
    Unpriced,
    UsageReported,
    named_id,
    new_id,
)
from wallie_litellm.forecast.limits import DayLimit
from wallie_litellm.guard.auto_savings import note_saving
from wallie_litellm.guard.context import Attempt, RequestContext
from wallie_litellm.limiter.listener import BreakerChange, Crossing
from wallie_litellm.limiter.recent_calls import CALLED_LATELY
from wallie_litellm.routing.order import OrderChange

_SUCCESS, _CACHE_HIT, _CUT = Outcome.SUCCESS, Outcome.CACHE_HIT, Outcome.CUT
_CLOSED: Final = BreakerState.CLOSED

_NO_FAILURE: Final = (None, None, False)  # the fields of one
MOST_UNPRICED: Final = 1_000  # deployments announced: with a wildcard, callers invent names

# Has an action done once in the fleet: a key, the seconds for which this holds, the action.
Announcer = Callable[[str, float, Callable[[], object]], object]


def announce(_key: str, _seconds: float, action: Callable[[], object]) -> None:
    """An :data:`Announcer` for a process that shares no store."""
    action()


def announce_nothing(_key: str, _seconds: float, _action: Callable[[], object]) -> None:
    """An :data:`Announcer` for a process that leaves the fleet's alerts to others."""


class Reporter:
    """Builds events and publishes them at once: it has no queue of its own."""

    def __init__(
        self, config: WallieConfig, clock: Clock, publish: Callable[[Event], object], once: Announcer = announce
    ) -> None:
        self.levels: Mapping[str, float] = {"warning": config.quota.warning, "critical": config.quota.critical}
        self.budget = Budget(config.kpis.monthly_cost, self.levels)
        self.unpriced_announced: set[str] = set()
        self.once = once  #: has an action done once in the fleet
        self._lock = threading.Lock()  # for budget and unpriced_announced
        self.publish = publish  #: has an event sent to every sink
        self.alerts: AlertWatch  #: what is announced of failures and queues; set by the guard
        self._now, self._wall = clock.now, clock.wall

    def configure(self, config: WallieConfig) -> None:
        """Go by the thresholds and the budget of another configuration from now on."""
        self.levels = {"warning": config.quota.warning, "critical": config.quota.critical}
        with self._lock:
            self.budget.use(config.kpis.monthly_cost, self.levels)
        self.alerts.configure(config)

    def settled(
        self,
        context: RequestContext,
        attempt: Attempt,
        result: AttemptResult,
        charged: Demand,
    ) -> None:
        """An attempt has ended."""
        outcome, wall = result.outcome, self._wall()
        bill, reservation = self._bill(context, attempt, result), attempt.reservation
        served, first = outcome is _SUCCESS or outcome is _CACHE_HIT, attempt.first_token_at
        # By position: 32 keywords would cost another 1.3 µs per attempt (CPython 3.11). A test names every field.
        record = Settled(
            new_id(wall) if context.response is None else _id_of("attempt", *context.response),
            wall,  # at
            context.request_id,
            len(context.attempts) + 1,  # number
            attempt.provider,
            attempt.group,  # model
            attempt.deployment,
            context.operation,
            attempt.streaming or context.stream,
            outcome._value_,  # `value` is a property in Python: 1 µs (CPython 3.11)
            served,  # success
            None if served else result.reason,  # error
            result.status_code,
            (self._now() - attempt.started_at) * 1000,  # latency_ms
            attempt.waited * 1000,  # waited_ms
            *bill[:-1],  # prompt_tokens to estimated
            charged,
            *context.caller[:3],  # feature, user_id, metadata
            None if first is None else (first - attempt.started_at) * 1000,  # first_token_ms
            None if result.reported is None else bill.cache_write_tokens,
            None if reservation is None else reservation.scope or None,
            None if reservation is None else reservation.demand.input,  # estimated_input
            None if reservation is None else reservation.demand.output,  # estimated_output
            attempt.hedge,
            context.caller.proxy_key,
        )
        context.attempts.append(record)
        if attempt.budget_hold is not None:
            attempt.budget_hold.settle(wall, bill.cost_usd)
        self.publish(record)
        if (lately := self.alerts.ended) is not None:
            lately.append(record)
        if bill.unpriced:
            self._announce_unpriced(record)
        elif bill.cost_usd:
            self._spend(wall, bill.cost_usd)

    def finished_later(
        self,
        context: RequestContext,
        attempt: Attempt,
        result: AttemptResult,
        charged: Demand,
        response: tuple[str, float],
    ) -> None:
        """The background ``response`` that an earlier request has begun is finished.

        The records have ids made of it: in whatever process and how often this is reported, the ledger has it once.
        """
        context.response = response
        context.request_id = _id_of("request", *response)
        self.settled(context, attempt, result, charged)
        context.served_by = attempt
        self.ended(context, None)

    def ended(self, context: RequestContext, failure: RequestFailure | None) -> None:
        """A request has ended. Only the first time counts."""
        if context.ended:
            return
        context.ended = True
        wall, served, decided = self._wall(), context.served_by if failure is None else None, context.decided
        if decided is not None and failure is None:
            note_saving(context, decided)
        error, status_code, by_caller = _NO_FAILURE if failure is None else failure
        # By position, as in `settled`.
        fields = (
            new_id(wall) if context.response is None else _id_of("end", *context.response),
            wall,  # at
            context.request_id,
            context.group,  # model
            context.operation,
            context.stream,
            failure is None,  # success
            error,
            status_code,
            by_caller,
            (self._now() - context.started_at) * 1000,  # latency_ms
            context.waited * 1000,  # waited_ms
            served is not None and served.group != context.group,  # used_fallback
            context.last_provider() if served is None else served.provider,
            *context.caller[:3],  # feature, user_id, metadata
            tuple(context.attempts),  # settled
        )
        routed = {} if decided is None else decided.recorded()
        record = Ended(*fields, **routed, proxy_key=context.caller.proxy_key)
        self.publish(record)
        if (lately := self.alerts.ended) is not None:
            lately.append(record)

    def fell_back(self, context: RequestContext, group: str) -> None:
        """A request goes on to ``group``."""
        failed = context.failures[-1] if context.failures else None
        wall = self._wall()
        self.publish(
            FellBack(
                id=new_id(wall),
                at=wall,
                request_id=context.request_id,
                from_model=failed.model if failed is not None else context.group,
                to_model=group,
                from_provider=failed.provider if failed is not None else "",
                reason=failed.reason if failed is not None else "",
                feature=context.caller.feature,
                user_id=context.caller.user_id,
            )
        )

    def on_breaker_change(self, change: BreakerChange) -> None:
        """A breaker's state or its count of failures has changed, and with it possibly its provider's health."""
        wall, provider, model, breaker = self._wall(), change.provider, change.model, change.breaker
        before, after = change.before[0], change.after[0]
        if before is not after:
            reopens_in = max(0.0, breaker.reopens_at - change.now) if after is BreakerState.OPEN else 0.0
            states = before.value, after.value
            self.publish(BreakerChanged(new_id(wall), wall, provider, *states, breaker.reason, reopens_in, model))
            if model is not None:
                self._report_health(change, health_of(*change.before), health_of(*change.after), model)
        self._report_health(change, change.overall_before.health, change.overall_after.health)
        # A failed probe opens a breaker that was half open: the same outage.
        is_down = change.overall_before.state is _CLOSED and change.overall_after.state is BreakerState.OPEN
        if is_down or (before is _CLOSED and after is BreakerState.OPEN and change.outage is not None):
            event = ProviderDown(new_id(wall), wall, provider, breaker.reason, None if is_down else model)
            if is_down or change.outage == change.scope:
                self.once(f"down:{change.scope}:{breaker.generation}", DAY, partial(self.publish, event))
            else:  # of several models, whose breakers count their generations apart
                self.once(f"down:{change.outage}", CALLED_LATELY, partial(self.publish, event))

    def _report_health(self, change: BreakerChange, was: str, health: str, model: str | None = None) -> None:
        if health != was:
            wall, reason = self._wall(), change.breaker.reason
            self.publish(HealthChanged(new_id(wall), wall, change.provider, was, health, reason, model))

    def on_threshold(self, provider: str, crossing: Crossing) -> None:
        """A limit's utilisation has reached a threshold."""
        wall = self._wall()
        dimension, level, share, use, _, scope = crossing
        amounts = share, use.units, use.full, use.reset_in
        self.publish(QuotaCrossed(new_id(wall), wall, provider, dimension, level, *amounts, scope or None))

    def on_foreseen(self, limit: DayLimit, forecast: Forecast, full: float, reset_at: float, timezone: str) -> None:
        """A limit per day, or a budget, will be used up before it resets; ``full`` units are all of it."""
        wall, key = self._wall(), f"forecast:{':'.join(limit)}:{reset_at:.0f}"
        event = ExhaustionForeseen(
            id=named_id(reset_at, key),  # of several processes without a common store too, the ledger has it once
            at=wall,
            provider=limit.name,
            dimension=limit.dimension,
            exhausts_at=forecast.exhausts_at,
            earliest=forecast.earliest,
            latest=forecast.latest,
            reset_at=reset_at,
            timezone=timezone,
            expected=forecast.end,
            limit=full,
            method=forecast.method,
            model=limit.scope or None,
        )
        self.once(key, max(DAY, reset_at - wall), partial(self.publish, event))

    def on_overstated(self, provider: str, model: str, dimension: str, configured: int, learned: int) -> None:
        """The file promises more of a limit than the account has."""
        wall = self._wall()
        event = LimitOverstated(new_id(wall), wall, provider, model, dimension, configured, learned)
        key = f"overstated:{provider}:{model}:{dimension}:{configured}:{learned}"
        self.once(key, DAY, partial(self.publish, event))

    def on_order_change(self, change: OrderChange) -> None:
        """A chain is asked in another order than before."""
        wall, (chain, before, after, streamed, reason) = self._wall(), change
        self.publish(OrderChanged(new_id(wall), wall, chain, streamed, before, after, reason))

    def on_action(
        self, actor: str, action: str, provider: str, detail: str | None = None, model: str | None = None
    ) -> None:
        """An operator has acted on ``provider``: on one ``model`` of its, or the limits of those of a pattern."""
        wall = self._wall()
        self.publish(OperatorActed(new_id(wall), wall, actor, action, provider, detail, model))

    def used_outside(self, provider: str, charged: Demand, source: str) -> None:
        """A provider was used by a call outside the router."""
        wall = self._wall()
        self.publish(UsageReported(new_id(wall), wall, provider, charged, source))

    def _bill(self, context: RequestContext, attempt: Attempt, result: AttemptResult) -> Bill:
        outcome, operation = result.outcome, context.operation
        if outcome is not _SUCCESS and outcome is not _CUT:
            return NO_BILL  # a provider bills neither what it rejects nor what it never received
        if result.usage is None and attempt.reservation is not None and operation in COUNTED:
            prompt, output = attempt.prompt_tokens, attempt.reservation.demand.output
            if outcome is _CUT:
                # The provider has had the prompt, and bills for it whether or not the answer is read.
                output = 0
            usage = Demand(1, prompt + output, prompt, output)
            result = result._replace(usage=usage)
        return context.route.router.price(operation, attempt.entry, result)

    def _announce_unpriced(self, record: Settled) -> None:
        with self._lock:
            if record.deployment in self.unpriced_announced or len(self.unpriced_announced) >= MOST_UNPRICED:
                return
            self.unpriced_announced.add(record.deployment)
        event = Unpriced(new_id(record.at), record.at, record.provider, record.model, record.deployment)
        self.once(f"unpriced:{record.deployment}", DAY, partial(self.publish, event))

    def _spend(self, wall: float, cost: float) -> None:
        budget = self.budget
        with self._lock:
            levels = budget.add(wall, cost)
        for level in levels:
            month = month_of(wall)
            event = BudgetCrossed(new_id(wall), wall, level, budget.utilization, budget.spent, budget.limit, month)
            self.once(f"budget:{level}:{month}", 32 * DAY, partial(self.publish, event))


def _id_of(kind: str, response: str, at: float) -> str:
    """The id of a background response's record: the same in whatever process, and by whatever request, it is billed."""
    return named_id(at, f"{kind}:{response}")
