"""Filter and admit: which provider an attempt goes to, and whether it waits there, falls back or is refused."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable
from math import inf
from typing import Final, NamedTuple

from wallie_litellm.clock import Clock
from wallie_litellm.config import WallieConfig
from wallie_litellm.core.circuit_breaker import BreakerState
from wallie_litellm.core.demand import Demand
from wallie_litellm.core.limit_keys import ACCOUNT, dimension_in, scope_in
from wallie_litellm.errors import DeadlineExceeded, RateLimited, Refused
from wallie_litellm.guard.context import Attempt, RequestContext
from wallie_litellm.guard.pacing import pacer
from wallie_litellm.guard.refusals import refusal
from wallie_litellm.guard.taken_capacity import give_back, hand_over, in_order
from wallie_litellm.limiter.limiter import Limiter
from wallie_litellm.limiter.registry import LimiterRegistry
from wallie_litellm.limiter.store import Denial, DenialReason, Reservation
from wallie_litellm.limiter.waiter import Waiter

# Looking up an enum's member costs more than the arithmetic around it (CPython 3.11).
_OPEN: Final = (BreakerState.OPEN, BreakerState.FORCED_OPEN)
_CIRCUIT_OPEN, _CONCURRENCY = DenialReason.CIRCUIT_OPEN, DenialReason.CONCURRENCY
_TOO_LARGE, _LEASE_REQUESTED, _PAUSED = DenialReason.TOO_LARGE, DenialReason.LEASE_REQUESTED, DenialReason.PAUSED

_LETS_PASS: Final = (BreakerState.CLOSED, BreakerState.DISABLED)

LOOK_AGAIN: Final = 0.5  # seconds between two looks for another provider once a patience is spent
NEXT_LOOK: Final = 1e-3  # seconds; what is left of a patience may be too little to move the clock
LEASE_ANSWER: Final = 2.0  # timeouts in which the lease server has answered, or is found unreachable


class _Wait(NamedTuple):
    """A demand that was denied and may wait, for at most ``allowed`` seconds; ``scope`` is the pattern of its model.

    The lease server's answer is waited for longer: ``for_answer`` seconds. Of a ``guessed`` demand the output may be
    cut.
    """

    demand: Demand
    scope: str
    allowed: float
    for_answer: float
    guessed: bool


class Admission:
    """Takes the capacity for an attempt, or refuses it."""

    def __init__(self, config: WallieConfig, clock: Clock, limiters: LimiterRegistry) -> None:
        self.configure(config)
        self._lease_answer = LEASE_ANSWER * config.store.timeout  # seconds
        self._clock = clock
        self._now = clock.now
        self._limiters = limiters
        self._features = limiters.features
        self._accounts = limiters.accounts
        self._models = limiters.models
        # The requests that wait, by their attempts' ids: with the scope of the model, and where they wait.
        self._waits: dict[int, tuple[str, Limiter, Waiter]] = {}
        limiters.when_model_opens(self._on_open_model)

    def configure(self, config: WallieConfig) -> None:
        """Go by another configuration from now on."""
        self._open_for = config.breaker.open_for
        self._switch_at = config.quota.switch_at

    def check_deadline(self, context: RequestContext) -> None:
        """Raise :class:`DeadlineExceeded` once the caller's deadline has passed."""
        if context.deadline_at is not None and self._now() >= context.deadline_at:
            raise DeadlineExceeded(f"The deadline passed before {context.group} could answer.")

    def preferred(
        self, context: RequestContext, group: str, scopes: Iterable[str], demand: Demand, *, soonest: bool = True
    ) -> frozenset[str]:
        """The scopes that an attempt chooses from: those of ``scopes`` that can serve ``soonest``, or all.

        Raises:
            Refused: none of them may be waited for.
        """
        ranks: dict[str, tuple[float, bool]] = {}
        refusals: list[Refused] = []
        for name, found in self._limiters.denials_of(scopes, demand, context.priority).items():
            used_up = self._switch_at is not None and self._utilization(name) >= self._switch_at
            if found is None:
                ranks[name] = (0.0, used_up)
                continue
            denial, limiter = found
            if self._may_wait(context, Attempt(group), limiter, denial, demand) is None:
                refusals.append(self._refusal(denial, limiter, group))
            else:
                ranks[name] = (denial.retry_after, used_up)
        if not ranks:
            raise min(refusals, key=lambda refusal: refusal.retry_after)
        best = min(ranks.values())
        return frozenset(name for name, rank in ranks.items() if rank == best or not soonest)

    def _utilization(self, scope: str) -> float:
        """The largest used share of the limits that an attempt in ``scope`` passes."""
        limiter = self._limiters.provider(self._limiters.provider_name(scope))
        return limiter.utilization(self._limiters.pattern_of(scope))[1]

    def _pattern_of(self, limiter: Limiter, attempt: Attempt) -> str:
        """The pattern of the limits that an attempt passes at ``limiter``, besides those of all models."""
        return self._limiters.pattern_of(attempt.scope) if limiter.scopes else ACCOUNT

    async def admit(self, context: RequestContext, attempt: Attempt, demand: Demand, guessed: bool) -> None:
        """Wait for the capacity of ``attempt.provider``, its account and the request's feature, and take it.

        Raises:
            Refused: the wait would be too long, or the provider is not being called.
            DeadlineExceeded: the caller's deadline passed.
        """
        if not (paced := pacer()).passes():
            await paced.wait()
        limiter = self._limiters.provider(attempt.provider)
        feature = self._features.get(context.caller.feature) if context.caller.feature is not None else None
        account, model = self._accounts.get(attempt.account), self._models.of_attempt(attempt.scope)
        taken: list[tuple[Limiter, Reservation]] = []
        if feature is None and account is None and model is None:
            result = self._reserve_now(context, attempt, limiter, demand, guessed)
            if isinstance(result, Reservation):
                attempt.reservation = result
                return
            reservation = await self._wait_in_line(context, attempt, limiter, result)
            if not attempt.waited or attempt.scope not in self._models.by_scope:
                attempt.reservation = reservation
                return
            taken.append((limiter, reservation))
        try:
            for one in () if taken else in_order(feature, model, account, limiter):
                taken.append((one, await self._reserve(context, attempt, one, demand, guessed)))
            self._check_again(context, attempt, taken)
            if model is None and (model := self._model_in_trouble(context, attempt, demand)) is not None:
                taken.append((model, await self._reserve(context, attempt, model, demand, guessed)))
        except GeneratorExit:
            self.later(lambda: give_back(taken))
            raise
        except BaseException:
            give_back(taken)
            raise
        hand_over(attempt, taken, limiter, feature, model)

    def admit_blocking(self, context: RequestContext, attempt: Attempt, demand: Demand, guessed: bool) -> None:
        """:meth:`admit` for a thread without an event loop; the thread blocks while it waits."""
        limiter = self._limiters.provider(attempt.provider)
        feature = self._features.get(context.caller.feature) if context.caller.feature is not None else None
        account, model = self._accounts.get(attempt.account), self._models.of_attempt(attempt.scope)
        taken: list[tuple[Limiter, Reservation]] = []
        try:
            for one in in_order(feature, model, account, limiter):
                taken.append((one, self._reserve_blocking(context, attempt, one, demand, guessed)))
            self._check_again(context, attempt, taken)
            if model is None and (model := self._model_in_trouble(context, attempt, demand)) is not None:
                taken.append((model, self._reserve_blocking(context, attempt, model, demand, guessed)))
        except BaseException:
            give_back(taken)
            raise
        hand_over(attempt, taken, limiter, feature, model)

    def admit_at_once(self, context: RequestContext, attempt: Attempt, demand: Demand, *, guessed: bool) -> None:
        """:meth:`admit` for an attempt that may not wait, nor be a breaker's probe.

        Raises:
            Refused: a breaker is not closed, or a limit or a pause would have to be waited for.
        """
        limiter = self._limiters.provider(attempt.provider)
        feature = self._features.get(context.caller.feature) if context.caller.feature is not None else None
        account, model = self._accounts.get(attempt.account), self._models.of_attempt(attempt.scope)
        limiters = in_order(feature, model, account, limiter)
        for one in limiters:
            if one.breaker_state()[0] not in _LETS_PASS:
                raise self._refusal(Denial(_CIRCUIT_OPEN, 0.0), one, attempt.group)
        used = limiter.utilization(self._pattern_of(limiter, attempt))[1] if self._switch_at is not None else 0.0
        if self._switch_at is not None and used >= self._switch_at:
            raise self._refusal(Denial(DenialReason.QUEUED, 0.0), limiter, attempt.group)
        taken: list[tuple[Limiter, Reservation]] = []
        for one in limiters:
            result = self._take(attempt, one, demand, context.priority, guessed=guessed)
            if isinstance(result, Reservation):
                taken.append((one, result))
                if not result.probe:
                    continue
                result = Denial(_CIRCUIT_OPEN, 0.0)
            give_back(taken)
            raise self._refusal(result, one, attempt.group)
        attempt.started_at = self._now()
        hand_over(attempt, taken, limiter, feature, model)

    def _take(
        self, attempt: Attempt, limiter: Limiter, demand: Demand, priority: int, *, guessed: bool
    ) -> Reservation | Denial:
        scope = self._pattern_of(limiter, attempt)
        result = limiter.reserve(demand, priority, scope)
        if guessed and isinstance(result, Denial) and result.reason is _TOO_LARGE:
            result = limiter.reserve(limiter.fit(demand, scope), priority, scope)
        return result

    def _check_again(self, context: RequestContext, attempt: Attempt, taken: list[tuple[Limiter, Reservation]]) -> None:
        """Look at account and model again: while the request waited for its provider, its key may have been refused.

        Raises:
            Refused: a breaker has opened, a permit to probe has been given up as lost, or there is a pause.
        """
        if not attempt.waited:
            return
        for limiter, reservation in taken[:-1]:
            if not limiter.is_feature and (limiter.is_paused() or limiter.has_closed_to(reservation)):
                denial = limiter.check(reservation.demand, context.priority) or Denial(_CIRCUIT_OPEN, 0.0)
                raise self._refuse(context, attempt, limiter, denial)

    def _model_in_trouble(self, context: RequestContext, attempt: Attempt, demand: Demand) -> Limiter | None:
        """The limiter that the attempt's model has got while the request waited: it has to pass that, too.

        Raises:
            Refused: the model's breaker is open, or it is paused.
        """
        model = self._models.of_attempt(attempt.scope) if attempt.waited else None
        if model is not None and (denial := model.check(demand, context.priority)) is not None:
            raise self._refuse(context, attempt, model, denial)
        return model

    def _on_open_model(self, scope: str) -> None:
        """A model's breaker has opened: requests that wait for its provider are not to be kept waiting."""
        if self._waits:
            self.later(lambda: self._evict_waiters(scope))

    def _evict_waiters(self, scope: str) -> None:
        for waits_for, limiter, waiter in list(self._waits.values()):  # other threads add some, and remove theirs
            if waits_for == scope:
                limiter.evict(waiter)

    def check_models(self, attempt: Attempt) -> None:
        """Look at the models of a provider that a call without a model is for.

        Raises:
            Refused: the breakers of all that were called lately are open.
        """
        found = self._limiters.denial_of_models(attempt.provider, attempt.demand)
        if found is not None:
            raise self._refusal(*found, attempt.group)

    def closed(self, attempt: Attempt) -> Refused:
        """The refusal of a guard that admits nothing any more."""
        limiter = self._limiters.provider(attempt.provider)
        return self._refusal(Denial(DenialReason.GUARD_CLOSED, 0.0), limiter, attempt.group)

    def later(self, callback: Callable[[], object]) -> None:
        """Have ``callback`` called in a moment, in the clock's thread."""
        self._clock.call_at(self._now(), callback)

    # One limiter

    async def _reserve(
        self, context: RequestContext, attempt: Attempt, limiter: Limiter, demand: Demand, guessed: bool
    ) -> Reservation:
        result = self._reserve_now(context, attempt, limiter, demand, guessed)
        if isinstance(result, Reservation):
            return result
        return await self._wait_in_line(context, attempt, limiter, result)

    async def _wait_in_line(
        self, context: RequestContext, attempt: Attempt, limiter: Limiter, wait: _Wait
    ) -> Reservation:
        loop = asyncio.get_running_loop()
        woken: asyncio.Future[None] = loop.create_future()
        waiter = self._enqueue(context, attempt, limiter, wait, self._resolver(loop, woken, limiter))
        try:
            await woken
        except GeneratorExit:
            self.later(lambda: limiter.abandon(waiter))
            raise
        except BaseException:
            limiter.abandon(waiter)
            raise
        finally:
            self._count_wait(context, attempt)
        return self._conclude(context, attempt, limiter, waiter)

    def _reserve_blocking(
        self, context: RequestContext, attempt: Attempt, limiter: Limiter, demand: Demand, guessed: bool
    ) -> Reservation:
        result = self._reserve_now(context, attempt, limiter, demand, guessed)
        if isinstance(result, Reservation):
            return result
        woken = threading.Event()
        waiter = self._enqueue(context, attempt, limiter, result, lambda _waiter: woken.set())
        try:
            woken.wait()
        except BaseException:
            limiter.abandon(waiter)
            raise
        finally:
            self._count_wait(context, attempt)
        return self._conclude(context, attempt, limiter, waiter)

    def _reserve_now(
        self, context: RequestContext, attempt: Attempt, limiter: Limiter, demand: Demand, guessed: bool
    ) -> Reservation | _Wait:
        """Take the capacity at once, or return how long the request may wait for it.

        Raises:
            Refused: the request may not wait.
            DeadlineExceeded: the caller's deadline passed.
        """
        scope = self._pattern_of(limiter, attempt)
        if self._switch_at is not None:
            self._check_switch(context, attempt, limiter, demand, scope, self._switch_at)
        result = limiter.reserve(demand, context.priority, scope)
        if guessed and isinstance(result, Denial) and result.reason is _TOO_LARGE:
            demand = limiter.fit(demand, scope)
            result = limiter.reserve(demand, context.priority, scope)
        attempt.started_at = self._now()
        if isinstance(result, Reservation):
            return result
        allowed = self._may_wait(context, attempt, limiter, result, demand)
        if result.reason is _LEASE_REQUESTED:  # the answer takes a moment, whatever the patience
            return _Wait(demand, scope, allowed or 0.0, max(allowed or 0.0, self._lease_answer), guessed)
        if allowed is None:
            self.check_deadline(context)
            raise self._refuse(context, attempt, limiter, result)
        return _Wait(demand, scope, allowed, allowed, guessed)

    def _enqueue(
        self,
        context: RequestContext,
        attempt: Attempt,
        limiter: Limiter,
        wait: _Wait,
        wake: Callable[[Waiter], None],
    ) -> Waiter:
        began_at = attempt.started_at
        give_up_at, worth_until = began_at + wait.for_answer, began_at + wait.allowed
        terms = (wait.demand, context.priority, give_up_at, wake, wait.scope, worth_until)
        waiter = Waiter(*terms, attempt.scope, wait.guessed)
        if attempt.scope:
            self._waits[id(attempt)] = attempt.scope, limiter, waiter
        limiter.enqueue(waiter)
        model = self._models.get(attempt.scope)
        if model is not None and model is not limiter and model.breaker_state()[0] in _OPEN:  # since it was looked at
            self._on_open_model(attempt.scope)
        patience = min(context.patience(paused=False), context.patience(paused=True))
        if patience < wait.for_answer and not limiter.is_feature:
            self._watch_patience(context, attempt, limiter, waiter)
        return waiter

    def _resolver(
        self, loop: asyncio.AbstractEventLoop, woken: asyncio.Future[None], limiter: Limiter
    ) -> Callable[[Waiter], None]:
        """How to wake a waiter of ``loop``: ``woken`` is resolved there, whichever thread calls."""

        def resolve() -> None:
            if not woken.done():
                woken.set_result(None)

        def wake(waiter: Waiter) -> None:
            try:
                loop.call_soon_threadsafe(resolve)
            except RuntimeError:  # the loop was closed with the request still waiting
                self.later(lambda: limiter.abandon(waiter))

        return wake

    def _conclude(self, context: RequestContext, attempt: Attempt, limiter: Limiter, waiter: Waiter) -> Reservation:
        if isinstance(waiter.result, Reservation):
            return waiter.result
        self.check_deadline(context)
        denial = waiter.result or Denial(DenialReason.ABANDONED, 0.0)
        if (model := self._models.get(attempt.scope)) is not None and model.is_open():
            denial, limiter = model.check(waiter.demand, context.priority) or denial, model
        raise self._refuse(context, attempt, limiter, denial)

    def _count_wait(self, context: RequestContext, attempt: Attempt) -> None:
        self._waits.pop(id(attempt), None)
        now = self._now()
        waited = now - attempt.started_at
        attempt.waited += waited
        attempt.started_at = now
        context.waited += waited

    # Wait or fall back

    def _may_wait(
        self, context: RequestContext, attempt: Attempt, limiter: Limiter, denial: Denial, demand: Demand
    ) -> float | None:
        """How many seconds this request may wait here, ``None`` for not at all."""
        rules = context.rules
        allowed = rules.max_wait - context.waited
        if denial.reason is _CIRCUIT_OPEN or denial.retry_after > allowed:
            return None
        patience = context.patience(paused=denial.reason is _PAUSED)
        uncertain = denial.reason is _CONCURRENCY
        impatient = patience < allowed and (uncertain or denial.retry_after > patience)
        if impatient and not limiter.is_feature and self.another_could_serve(context, attempt.group, demand):
            allowed = patience
        if context.deadline_at is not None:
            allowed = min(allowed, context.deadline_at - self._now())
        return allowed if denial.retry_after <= allowed else None

    def _watch_patience(self, context: RequestContext, attempt: Attempt, limiter: Limiter, waiter: Waiter) -> None:
        """Evict ``waiter`` once its patience has run out and another provider can serve; look at it now and again."""

        def look() -> None:
            if waiter.result is not None:
                return
            patience = context.patience(paused=limiter.is_paused())
            impatient = self._now() - attempt.started_at >= patience
            if impatient and self.another_could_serve(context, attempt.group, waiter.demand):
                limiter.evict(waiter)
            else:
                self._watch_patience(context, attempt, limiter, waiter)

        spent = self._now() - attempt.started_at
        bounds = context.patience(paused=False), context.patience(paused=True)
        looks = [bound - spent for bound in bounds if bound > spent]
        if len(looks) < len(bounds):  # one is spent: whether another provider can serve may change at any time
            looks.append(LOOK_AGAIN)
        wait = max(min(looks), NEXT_LOOK)
        self._clock.call_at(self._now() + wait, look)

    def another_could_serve(self, context: RequestContext, group: str, demand: Demand, below: float = inf) -> bool:
        """Whether a later member of the chain could serve now, from a provider that is used to less than ``below``."""
        router = context.route.router
        return any(
            self._limiters.denial_of(scope, demand, context.priority) is None
            and (below == inf or self._utilization(scope) < below)
            for other in context.remaining(group)
            for scope in router.scopes(other)
        )

    def _check_switch(
        self, context: RequestContext, attempt: Attempt, limiter: Limiter, demand: Demand, scope: str, switch_at: float
    ) -> None:
        """``quota.switch_at``: keep the rest of a limit while another provider can serve.

        Raises:
            RateLimited: the limit is used to ``switch_at`` or more, and another provider can serve.
        """
        limit, share = limiter.utilization(scope)
        if limiter.is_feature or share < switch_at:
            return
        if self.another_could_serve(context, attempt.group, demand, below=switch_at):
            whose = f" for {scope_in(limit)}" if scope_in(limit) else ""
            raise RateLimited(
                f"{limiter.name} has used {share:.0%} of its {dimension_in(limit)} limit{whose}, and another provider "
                f"can serve (wallie.quota.switch_at is {switch_at:.0%}).",
                provider=limiter.name,
                model=attempt.group,
                retry_after=0.0,
            )

    def _refuse(self, context: RequestContext, attempt: Attempt, limiter: Limiter, denial: Denial) -> Refused:
        refused = self._refusal(denial, limiter, attempt.group, attempt.waited)
        if limiter.is_feature:
            context.feature_refusal = refused
        return refused

    def _refusal(self, denial: Denial, limiter: Limiter, group: str, waited: float = 0.0) -> Refused:
        provider = self._limiters.provider_name(limiter.name)
        return refusal(denial, limiter, group, provider=provider, waited=waited, open_for=self._open_for)
