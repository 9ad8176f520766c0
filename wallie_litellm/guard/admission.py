"""Filter and admit: who may go where, who waits and for how long, and who is told to go elsewhere."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterable
from math import inf
from typing import Any

from wallie_litellm.clock import Clock
from wallie_litellm.config import WallieConfig
from wallie_litellm.core.demand import NOTHING, Demand
from wallie_litellm.errors import DeadlineExceeded, RateLimited, Refused
from wallie_litellm.guard.context import Attempt, RequestContext
from wallie_litellm.guard.pacing import pacer
from wallie_litellm.guard.refusals import refusal
from wallie_litellm.limiter.limiter import Limiter, Waiter
from wallie_litellm.limiter.registry import LimiterRegistry
from wallie_litellm.limiter.store import CIRCUIT, LEASE, TOO_LARGE, Denial, Reservation

# Seconds: somebody without any patience still looks around only so often.
SHORTEST_LOOK = 0.1

ASKING = 0.5  # seconds that the store the fleet shares may take to answer, or to be found away

Alarm = Callable[[Callable[[], None]], tuple[Any, Callable[[], None]]]


class Admission:
    """Takes the capacity for an attempt, or says why not."""

    def __init__(self, config: WallieConfig, clock: Clock, limiters: LimiterRegistry) -> None:
        self._open_for = config.breaker.open_for
        self._switch_at = config.quota.switch_at
        self._clock = clock
        self._now = clock.now
        self._limiters = limiters
        self._features = limiters.features

    def check_deadline(self, scope: RequestContext) -> None:
        """Raise :class:`DeadlineExceeded` once the caller's deadline has passed."""
        if scope.deadline_at is not None and self._now() >= scope.deadline_at:
            raise DeadlineExceeded(f"The deadline passed before {scope.group} could answer.")

    def preferred(self, scope: RequestContext, group: str, providers: Iterable[str], demand: Demand) -> frozenset[str]:
        """Which of ``providers`` an attempt should choose from: those that can serve soonest.

        Raises:
            Refused: none of them may be waited for.
        """
        soonest: dict[str, tuple[float, bool]] = {}
        refusals: list[Refused] = []
        for provider in providers:
            limiter = self._limiters.provider(provider)
            hurdle = limiter.hurdle(demand, scope.priority)
            used_up = self._switch_at is not None and limiter.utilization()[1] >= self._switch_at
            if hurdle is None:
                soonest[provider] = (0.0, used_up)
            elif self._may_wait(scope, Attempt(group), limiter, hurdle, demand) is None:
                refusals.append(self._refusal(hurdle, limiter, group))
            else:
                soonest[provider] = (hurdle.wait, used_up)
        if not soonest:
            raise min(refusals, key=lambda refusal: refusal.retry_after)
        best = min(soonest.values())
        return frozenset(provider for provider, rank in soonest.items() if rank == best)

    async def admit(self, scope: RequestContext, attempt: Attempt, demand: Demand, guessed: bool) -> None:
        """See :meth:`Guard.admit`."""
        await pacer().enter()
        limiter = self._limiters.provider(attempt.provider)
        feature = self._features.get(scope.caller.feature) if scope.caller.feature is not None else None
        if feature is None:
            attempt.reservation = await self._pass(scope, attempt, limiter, demand, guessed)
            return
        share = await self._pass(scope, attempt, feature, demand, guessed)
        try:
            attempt.reservation = await self._pass(scope, attempt, limiter, demand, guessed)
        except GeneratorExit:
            self.later(lambda: feature.settle(share, NOTHING))
            raise
        except BaseException:
            feature.settle(share, NOTHING)
            raise
        attempt.feature_reservation = (feature, share)

    def admit_blocking(self, scope: RequestContext, attempt: Attempt, demand: Demand, guessed: bool) -> None:
        """:meth:`admit` for a thread that has no event loop to give way to."""
        limiter = self._limiters.provider(attempt.provider)
        feature = self._features.get(scope.caller.feature) if scope.caller.feature is not None else None
        if feature is None:
            attempt.reservation = self._pass_blocking(scope, attempt, limiter, demand, guessed)
            return
        share = self._pass_blocking(scope, attempt, feature, demand, guessed)
        try:
            attempt.reservation = self._pass_blocking(scope, attempt, limiter, demand, guessed)
        except BaseException:
            feature.settle(share, NOTHING)
            raise
        attempt.feature_reservation = (feature, share)

    def later(self, callback: Callable[[], object]) -> None:
        """See :meth:`Guard.later`."""
        self._clock.call_at(self._now(), callback)

    # One door

    async def _pass(
        self, scope: RequestContext, attempt: Attempt, limiter: Limiter, demand: Demand, guessed: bool
    ) -> Reservation:
        result, woken = self._begin(scope, attempt, limiter, demand, guessed, _future_alarm)
        if type(result) is not Waiter:
            return result  # type: ignore[return-value] # what is no waiter has passed
        try:
            await woken
        except GeneratorExit:
            self.later(lambda: limiter.abandon(result))
            raise
        except BaseException:
            limiter.abandon(result)
            raise
        finally:
            self._count_wait(scope, attempt)
        return self._conclude(scope, attempt, limiter, result)

    def _pass_blocking(
        self, scope: RequestContext, attempt: Attempt, limiter: Limiter, demand: Demand, guessed: bool
    ) -> Reservation:
        result, event = self._begin(scope, attempt, limiter, demand, guessed, _event_alarm)
        if type(result) is not Waiter:
            return result  # type: ignore[return-value] # as above
        try:
            event.wait()
        except BaseException:
            limiter.abandon(result)
            raise
        finally:
            self._count_wait(scope, attempt)
        return self._conclude(scope, attempt, limiter, result)

    def _begin(
        self, scope: RequestContext, attempt: Attempt, limiter: Limiter, demand: Demand, guessed: bool, alarm: Alarm
    ) -> tuple[Reservation | Waiter, Any]:
        """Take the capacity at once, or get in line: returns the waiter and what to wait on."""
        if self._switch_at is not None:
            self._prefer_another(scope, attempt, limiter, demand)
        result = limiter.reserve(demand, scope.priority)
        if guessed and type(result) is Denial and result.reason.startswith(TOO_LARGE):
            demand = limiter.fit(demand)
            result = limiter.reserve(demand, scope.priority)
        attempt.started_at = self._now()
        if type(result) is Reservation:
            return result, None
        assert isinstance(result, Denial)  # noqa: S101 - narrows the type
        allowed = self._may_wait(scope, attempt, limiter, result, demand)
        if result.reason == LEASE:  # asking takes a moment, whatever the patience
            allowed = max(allowed or 0.0, ASKING)
        if allowed is None:
            self.check_deadline(scope)
            raise self._refuse(scope, attempt, limiter, result)
        waitable, wake = alarm(lambda: self.later(lambda: limiter.abandon(waiter)))
        waiter = Waiter(demand, scope.priority, attempt.started_at + allowed, wake)
        limiter.enqueue(waiter)
        if scope.patience < allowed and not limiter.is_feature:
            self._mind_patience(scope, attempt.group, limiter, waiter)
        return waiter, waitable

    def _conclude(self, scope: RequestContext, attempt: Attempt, limiter: Limiter, waiter: Waiter) -> Reservation:
        if isinstance(waiter.result, Reservation):
            return waiter.result
        self.check_deadline(scope)
        hurdle = waiter.result or Denial("abandoned", 0.0)
        raise self._refuse(scope, attempt, limiter, hurdle)

    def _count_wait(self, scope: RequestContext, attempt: Attempt) -> None:
        now = self._now()
        waited = now - attempt.started_at
        attempt.waited += waited
        attempt.started_at = now
        scope.waited += waited

    # Wait or fall back

    def _may_wait(
        self, scope: RequestContext, attempt: Attempt, limiter: Limiter, hurdle: Denial, demand: Demand
    ) -> float | None:
        """How many seconds this request may wait here, ``None`` for not at all."""
        allowed = scope.max_wait - attempt.waited
        if hurdle.reason == CIRCUIT or hurdle.wait > allowed:
            return None
        uncertain = hurdle.reason == "concurrency"
        impatient = scope.patience < allowed and (uncertain or hurdle.wait > scope.patience)
        if impatient and not limiter.is_feature and self._another_could_serve(scope, attempt.group, demand):
            allowed = scope.patience
        if scope.deadline_at is not None:
            allowed = min(allowed, scope.deadline_at - self._now())
        return allowed if hurdle.wait <= allowed else None

    def _mind_patience(self, scope: RequestContext, group: str, limiter: Limiter, waiter: Waiter) -> None:
        """Look again each time ``waiter``'s patience has run out: by then somebody else may be able to serve."""

        def look() -> None:
            if waiter.result is not None:
                return
            if self._another_could_serve(scope, group, waiter.demand):
                limiter.evict(waiter)
            else:
                self._mind_patience(scope, group, limiter, waiter)

        self._clock.call_at(self._now() + max(scope.patience, SHORTEST_LOOK), look)

    def _another_could_serve(self, scope: RequestContext, group: str, demand: Demand, below: float = inf) -> bool:
        """Whether a later member of the chain could serve now, from a provider that is used to less than ``below``."""
        others = (provider for other in scope.remaining(group) for provider in scope.route.router.providers_of(other))
        return any(
            limiter.hurdle(demand, scope.priority) is None and (below == inf or limiter.utilization()[1] < below)
            for limiter in map(self._limiters.provider, others)
        )

    def _prefer_another(self, scope: RequestContext, attempt: Attempt, limiter: Limiter, demand: Demand) -> None:
        """``quota.switch_at``: keep what is left of a limit, as long as somebody else can serve."""
        assert self._switch_at is not None  # noqa: S101 - narrows the type
        dimension, share = limiter.utilization()
        if limiter.is_feature or share < self._switch_at:
            return
        if self._another_could_serve(scope, attempt.group, demand, below=self._switch_at):
            raise RateLimited(
                f"{limiter.name} has used {share:.0%} of its {dimension} limit, and another provider can serve "
                f"(wallie.quota.switch_at is {self._switch_at:.0%}).",
                provider=limiter.name,
                model=attempt.group,
                retry_after=0.0,
            )

    def _refuse(self, scope: RequestContext, attempt: Attempt, limiter: Limiter, hurdle: Denial) -> Refused:
        refused = self._refusal(hurdle, limiter, attempt.group, attempt.waited)
        if limiter.is_feature:
            scope.feature_refusal = refused
        return refused

    def _refusal(self, hurdle: Denial, limiter: Limiter, group: str, waited: float = 0.0) -> Refused:
        return refusal(hurdle, limiter, group, waited=waited, open_for=self._open_for)


def _future_alarm(abandon: Callable[[], None]) -> tuple[Awaitable[None], Callable[[], None]]:
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()

    def resolve() -> None:
        if not future.done():
            future.set_result(None)

    def wake() -> None:
        try:
            loop.call_soon_threadsafe(resolve)
        except RuntimeError:  # the loop was closed with the request still waiting
            abandon()

    return future, wake


def _event_alarm(_abandon: Callable[[], None]) -> tuple[threading.Event, Callable[[], None]]:
    event = threading.Event()
    return event, event.set
