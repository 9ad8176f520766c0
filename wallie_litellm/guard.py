"""The guard: filter, admit and settle. Every decision about a provider is made here."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from wallie_litellm.clock import Clock, SystemClock
from wallie_litellm.config import ProviderLimits, WallieConfig
from wallie_litellm.core.backoff import Backoff
from wallie_litellm.core.breaker import BreakerRules, Verdict
from wallie_litellm.core.demand import Demand, Outcome, charge
from wallie_litellm.counts import require_count
from wallie_litellm.errors import ConfigError, DeadlineExceeded, Refused
from wallie_litellm.lease import CapacityLease
from wallie_litellm.limiter import Limiter, Waiter
from wallie_litellm.refusals import refusal
from wallie_litellm.scope import Attempt, AttemptRecord, Ending, RequestScope
from wallie_litellm.status import describe, health
from wallie_litellm.stores.base import CIRCUIT, TOO_LARGE, Hurdle, Reservation
from wallie_litellm.stores.memory import Limits, MemoryProvider
from wallie_litellm.turnstile import turnstile

# Looking up an enum's member costs more than the arithmetic around it (CPython 3.11).
_SUCCESS = Verdict.SUCCESS
_SERVED = (Outcome.SUCCESS, Outcome.CACHE_HIT)


# Seconds: somebody without any patience still looks around only so often.
SHORTEST_LOOK = 0.1

ONE_REQUEST = Demand(1, 1, 1, 1)  # the least that a request can ask for


class Guard:
    """Holds every provider to its limits and keeps requests away from those that are down.

    Safe to use from several event loops and threads at once. ``clock`` is for tests.
    """

    def __init__(
        self,
        config: WallieConfig | None = None,
        chains: Mapping[str, Sequence[str]] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.config = config if config is not None else WallieConfig()
        if self.config.store.url != "memory":
            # Limits per process where a fleet was asked for would be broken limits.
            raise ConfigError(["wallie.store.url: this version keeps its state in memory; a Redis store is to come"])
        self.chains: Mapping[str, Sequence[str]] = chains or {}
        self.clock: Clock = clock or SystemClock()
        self.backoff = Backoff(
            self.config.retry.initial, self.config.retry.max, self.config.retry.multiplier, self.config.retry.jitter
        )
        self.providers_of: Callable[[str], Iterable[str]] = lambda _group: ()
        self._now = self.clock.now
        self._waits = {feature: self.config.waits(feature) for feature in (None, *self.config.features)}
        self._limiters: dict[str, Limiter] = {}
        self._lock = threading.Lock()
        self._rejections: dict[str, int] = {}
        self._on_close: list[Callable[[], None]] = []
        self._closed = False
        for name in self.config.providers:
            self.limiter(name)

    # Requests

    def open_scope(
        self,
        group: str,
        *,
        chain: Sequence[str] | None = None,
        feature: str | None = None,
        user_id: str | None = None,
        priority: int | None = None,
        deadline: float | None = None,
        estimated_tokens: int | None = None,
    ) -> RequestScope:
        """Begin a request for ``group``; ``deadline`` is in seconds from now.

        Raises:
            TypeError, ValueError: a number that is none, or makes no sense.
        """
        require_count("estimated_tokens", estimated_tokens)
        if not isinstance(priority, int | None) or isinstance(priority, bool):
            raise TypeError(f"priority: found {priority!r}, expected a whole number")
        if deadline is not None and (isinstance(deadline, str | bool) or math.isnan(deadline)):
            raise TypeError(f"deadline: found {deadline!r}, expected seconds from now")
        now = self._now()
        settings = self.config.features.get(feature) if feature is not None else None
        patience, max_wait = self._waits[feature if settings is not None else None]
        return RequestScope(
            group=group,
            patience=patience,
            max_wait=max_wait,
            started_at=now,
            priority=priority or (settings.priority if settings is not None else 0),
            deadline_at=None if deadline is None or deadline == math.inf else now + deadline,
            feature=feature,
            user_id=user_id,
            estimated_tokens=estimated_tokens,
            chain=self.chain_of(group) if chain is None else chain,
        )

    def chain_of(self, group: str) -> Sequence[str]:
        """The groups tried after ``group``; the chain of ``*`` serves every group that has none of its own."""
        members = self.chains.get(group, self.chains.get("*", ()))
        return tuple(member for member in members if member != group)

    def check_deadline(self, scope: RequestScope) -> None:
        """Raise :class:`DeadlineExceeded` once the caller's deadline has passed."""
        if scope.deadline_at is not None and self._now() >= scope.deadline_at:
            raise DeadlineExceeded(f"The deadline passed before {scope.group} could answer.")

    def preferred(self, scope: RequestScope, group: str, providers: Iterable[str], demand: Demand) -> frozenset[str]:
        """The filter: which of ``providers`` an attempt should choose from, those that can serve soonest.

        Raises:
            Refused: none of them may be waited for.
        """
        soonest: dict[str, float] = {}
        refusals: list[Refused] = []
        for provider in providers:
            limiter = self.limiter(provider)
            hurdle = limiter.hurdle(demand, scope.priority)
            if hurdle is None:
                soonest[provider] = 0.0
            elif self._may_wait(scope, group, hurdle, demand) is None:
                refusals.append(self._refusal(hurdle, provider, group))
            else:
                soonest[provider] = hurdle.wait
        if not soonest:
            raise min(refusals, key=lambda refusal: refusal.retry_after)
        best = min(soonest.values())
        return frozenset(provider for provider, wait in soonest.items() if wait == best)

    async def admit(self, scope: RequestScope, attempt: Attempt, demand: Demand, *, guessed: bool = False) -> None:
        """Wait for ``attempt.provider``'s capacity and take it.

        ``guessed`` says that the output part of ``demand`` is only a guess, which is no reason to call it too large.

        Raises:
            Refused: the wait would be too long, or the provider is not being called.
            DeadlineExceeded: the caller's deadline passed.
        """
        await turnstile().enter()
        waiter, woken = self._begin(scope, attempt, demand, guessed, _future_alarm)
        if waiter is not None:
            limiter = self._limiters[attempt.provider]
            try:
                await woken
            except GeneratorExit:
                self.later(lambda: limiter.abandon(waiter))
                raise
            except BaseException:
                limiter.abandon(waiter)
                raise
            finally:
                self._count_wait(scope, attempt)
            self._conclude(scope, attempt, waiter)

    def admit_blocking(self, scope: RequestScope, attempt: Attempt, demand: Demand, *, guessed: bool = False) -> None:
        """:meth:`admit` for a thread that has no event loop to give way to."""
        waiter, event = self._begin(scope, attempt, demand, guessed, _event_alarm)
        if waiter is not None:
            limiter = self._limiters[attempt.provider]
            try:
                event.wait()
            except BaseException:
                limiter.abandon(waiter)
                raise
            finally:
                self._count_wait(scope, attempt)
            self._conclude(scope, attempt, waiter)

    def settle(self, scope: RequestScope, attempt: Attempt, ending: Ending) -> bool:
        """End an attempt: usage to the buckets, a sample to the breaker, a pause if one was asked for. Once."""
        reservation = attempt.reservation
        if reservation is None or attempt.ending is not None:
            return False
        attempt.ending = ending
        pause_for = ending.pause_for
        if ending.rate_limited:
            pause_for = self._pause_after_rejection(attempt.provider, ending.pause_for)
        elif self._rejections and ending.verdict is _SUCCESS:
            self._rejections.pop(attempt.provider, None)
        settled = self._limiters[attempt.provider].settle(
            reservation,
            charge(ending.outcome, reservation.demand, ending.usage),
            ending.verdict,
            reason=ending.reason,
            pause_for=pause_for,
        )
        self._record(scope, attempt, ending)
        return settled

    def later(self, callback: Callable[[], object]) -> None:
        """Have ``callback`` called in a moment, by the clock.

        For finalisers: a garbage collection may run them in a thread that is just holding the lock they would need.
        """
        self.clock.call_at(self._now(), callback)

    # What operators and applications ask and order

    async def wait_for_capacity(self, provider: str, tokens: int = 0) -> CapacityLease:
        """Wait, at most ``admission.max_wait``, until ``provider`` can take one request of ``tokens`` tokens; take it.

        For calls that are made outside the router. The lease is settled by what was used, or by itself.

        Raises:
            Refused: the wait would be too long, or the provider is not being called.
        """
        self._known(provider)
        require_count("tokens", tokens, optional=False)
        scope = self.open_scope(provider, chain=())
        attempt = Attempt(group=provider, provider=provider)
        await self.admit(scope, attempt, Demand(1, tokens, tokens, 0))
        assert attempt.reservation is not None, "admit raises or reserves"  # noqa: S101 - narrows the type
        return CapacityLease(self.limiter(provider), attempt.reservation)

    def is_provider_available(self, provider: str) -> bool:
        """Whether ``provider`` would take a request now, without waiting."""
        return self._known(provider).hurdle(ONE_REQUEST) is None

    def next_fallback(self, model: str, exclude: Sequence[str] = ()) -> str | None:
        """The first member of ``model``'s chain that can serve now and is not excluded, by group or by provider."""
        for group in self.chain_of(model):
            providers = [name for name in self.providers_of(group) if name not in exclude]
            if group not in exclude and any(self.limiter(name).hurdle(ONE_REQUEST) is None for name in providers):
                return group
        return None

    def update_usage(self, provider: str, requests: int = 1, tokens: int = 0) -> None:
        """Charge what was used of ``provider``'s limits by calls that did not go through the guard."""
        require_count("requests", requests)
        require_count("tokens", tokens)
        self._known(provider).consume(Demand(requests, tokens, tokens, 0))

    def should_switch_provider(self, provider: str) -> bool:
        """Whether to prefer another provider: this one is down, paused, or past the critical share of a limit."""
        limiter = self._known(provider)
        state = limiter.state()
        if state.paused_for > 0 or health(state) == "down":
            return True
        return any(use.used / use.limit >= self.config.quota.critical for use in state.use.values())

    def reset_quota(self, provider: str) -> None:
        """Forget what ``provider`` has used, and any pause it asked for."""
        self._known(provider).reset()
        self._rejections.pop(provider, None)

    def close_circuit(self, provider: str) -> None:
        """Let requests through to ``provider`` again, whatever its breaker thought."""
        self._known(provider).command("close")

    def open_circuit(self, provider: str) -> None:
        """Let no request through to ``provider`` until :meth:`close_circuit`."""
        self._known(provider).command("force_open")

    def status(self) -> dict[str, Any]:
        """All providers at this moment, as plain JSON-ready data. Times named ``_at`` are ISO 8601 in UTC."""
        wall = self.clock.wall()
        return {
            "providers": {name: describe(limiter.state(), wall) for name, limiter in sorted(self._limiters.items())},
            "store": {"scope": "process", "state": "ok"},
        }

    async def flush(self) -> None:
        """Wait until everything stated so far has been handed on. Nothing is kept back in memory today."""

    async def aclose(self) -> None:
        """Turn everybody who waits away, stop the timers, and take the router's hooks out of LiteLLM. Idempotent."""
        self.close()

    def close(self) -> None:
        """:meth:`aclose` for code without an event loop."""
        if self._closed:
            return
        self._closed = True
        for callback in self._on_close:
            callback()
        for limiter in list(self._limiters.values()):
            limiter.close()
        self.clock.close()

    def on_close(self, callback: Callable[[], None]) -> None:
        """Have ``callback`` called when the guard closes."""
        self._on_close.append(callback)

    def limiter(self, provider: str) -> Limiter:
        """The queue and the state of one provider; a provider without limits still has a breaker."""
        limiter = self._limiters.get(provider)
        if limiter is None:
            with self._lock:
                limiter = self._limiters.get(provider) or self._build(provider)
                self._limiters[provider] = limiter
        return limiter

    # Inside

    def _build(self, provider: str) -> Limiter:
        rules = BreakerRules(**dict(self.config.breaker))
        store = MemoryProvider(provider, _limits(self.config.providers.get(provider)), rules, self.clock.wall)
        return Limiter(provider, store, self.clock, self.config.admission.reservation_ttl)

    def _known(self, provider: str) -> Limiter:
        limiter = self._limiters.get(provider)
        if limiter is None:
            raise ValueError(f"unknown provider {provider!r}; known: {', '.join(sorted(self._limiters))}")
        return limiter

    def _begin(
        self,
        scope: RequestScope,
        attempt: Attempt,
        demand: Demand,
        guessed: bool,
        alarm: Callable[[Callable[[], None]], tuple[Any, Callable[[], None]]],
    ) -> tuple[Waiter | None, Any]:
        """Take the capacity at once, or get in line: returns the waiter and what to wait on."""
        limiter = self.limiter(attempt.provider)
        result = limiter.reserve(demand, scope.priority)
        if guessed and type(result) is Hurdle and result.reason.startswith(TOO_LARGE):
            demand = limiter.fit(demand)
            result = limiter.reserve(demand, scope.priority)
        attempt.started_at = self._now()
        if type(result) is Reservation:
            attempt.reservation = result
            return None, None
        assert isinstance(result, Hurdle)  # noqa: S101 - narrows the type
        allowed = self._may_wait(scope, attempt.group, result, demand)
        if allowed is None:
            self.check_deadline(scope)
            raise self._refusal(result, attempt.provider, attempt.group)
        waitable, wake = alarm(lambda: self.later(lambda: limiter.abandon(waiter)))
        waiter = Waiter(demand, scope.priority, attempt.started_at + allowed, wake)
        limiter.enqueue(waiter)
        if scope.patience < allowed:
            self._mind_patience(scope, attempt.group, limiter, waiter)
        return waiter, waitable

    def _mind_patience(self, scope: RequestScope, group: str, limiter: Limiter, waiter: Waiter) -> None:
        """Look again each time ``waiter``'s patience has run out: by then somebody else may be able to serve."""

        def look() -> None:
            if waiter.result is not None:
                return
            if self._another_could_serve(scope, group, waiter.demand):
                limiter.turn_away(waiter)
            else:
                self._mind_patience(scope, group, limiter, waiter)

        self.clock.call_at(self._now() + max(scope.patience, SHORTEST_LOOK), look)

    def _count_wait(self, scope: RequestScope, attempt: Attempt) -> None:
        now = self._now()
        attempt.waited = now - attempt.started_at
        attempt.started_at = now
        scope.waited += attempt.waited

    def _conclude(self, scope: RequestScope, attempt: Attempt, waiter: Waiter) -> None:
        if isinstance(waiter.result, Reservation):
            attempt.reservation = waiter.result
            return
        self.check_deadline(scope)
        hurdle = waiter.result or Hurdle("abandoned", 0.0)
        raise self._refusal(hurdle, attempt.provider, attempt.group, waited=attempt.waited)

    def _may_wait(self, scope: RequestScope, group: str, hurdle: Hurdle, demand: Demand) -> float | None:
        """How many seconds this request may wait here, ``None`` for not at all."""
        if hurdle.reason == CIRCUIT or hurdle.wait > scope.max_wait:
            return None
        allowed = scope.max_wait
        uncertain = hurdle.reason == "concurrency"
        impatient = scope.patience < scope.max_wait and (uncertain or hurdle.wait > scope.patience)
        if impatient and self._another_could_serve(scope, group, demand):
            allowed = scope.patience
        if scope.deadline_at is not None:
            allowed = min(allowed, scope.deadline_at - self._now())
        return allowed if hurdle.wait <= allowed else None

    def _another_could_serve(self, scope: RequestScope, group: str, demand: Demand) -> bool:
        return any(
            self.limiter(provider).hurdle(demand, scope.priority) is None
            for other in scope.remaining(group)
            for provider in self.providers_of(other)
        )

    def _refusal(self, hurdle: Hurdle, provider: str, group: str, waited: float = 0.0) -> Refused:
        return refusal(hurdle, self.limiter(provider), group, waited=waited, open_for=self.config.breaker.open_for)

    def _pause_after_rejection(self, provider: str, asked: float | None) -> float:
        with self._lock:
            count = self._rejections[provider] = self._rejections.get(provider, 0) + 1
        return asked if asked else self.backoff.seconds(count)

    def _record(self, scope: RequestScope, attempt: Attempt, ending: Ending) -> None:
        succeeded = ending.outcome in _SERVED
        scope.attempts.append(
            AttemptRecord(
                attempt.provider,
                attempt.group,
                attempt.deployment,
                ending.outcome.value,
                None if succeeded else ending.reason,
                ending.status_code,
                (self._now() - attempt.started_at) * 1000,
                attempt.waited * 1000,
            )
        )


def _limits(settings: ProviderLimits | None) -> Limits:
    if settings is None:
        return Limits()
    stated: dict[str, int] = {str(name): amount for name, amount in settings.by_dimension().items()}
    burst: dict[str, int] = {str(name): amount for name, amount in settings.burst.items()}
    return Limits(stated, burst, settings.headroom, settings.reset_timezone)


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
