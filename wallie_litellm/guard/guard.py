"""The guard: filter, admit and settle. Every decision about a provider is made here."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from wallie_litellm.clock import Clock, SystemClock
from wallie_litellm.config import WallieConfig
from wallie_litellm.config.models import StoreSettings
from wallie_litellm.core.backoff import Backoff
from wallie_litellm.core.circuit_breaker import Verdict
from wallie_litellm.core.demand import Demand, charge
from wallie_litellm.core.validation import require_count
from wallie_litellm.errors import ConfigError
from wallie_litellm.guard.admission import Admission
from wallie_litellm.guard.capacity_lease import CapacityLease
from wallie_litellm.guard.context import Attempt, AttemptResult, RequestContext, RequestFailure
from wallie_litellm.guard.reporter import Reporter
from wallie_litellm.limiter.limiter import Limiter
from wallie_litellm.limiter.registry import LimiterRegistry
from wallie_litellm.limiter.status import describe_all, health
from wallie_litellm.telemetry.bus import SHUTDOWN, Bus

if TYPE_CHECKING:
    from wallie_litellm.limiter.redis.fleet import RedisFleet

# Looking up an enum's member costs more than the arithmetic around it (CPython 3.11).
_SUCCESS = Verdict.SUCCESS

DRAIN = 5.0  # seconds that closing waits for calls under way

ONE_REQUEST = Demand(1, 1, 1, 1)  # the least that a request can ask for


class Guard:
    """Holds every provider to its limits and keeps requests away from those that are down.

    Safe to use from several event loops and threads at once. ``bus`` is told what happens; ``clock`` is for tests.
    ``processes`` is how many guards share the limits: each keeps to its part, unless they share a store.
    """

    def __init__(
        self,
        config: WallieConfig | None = None,
        chains: Mapping[str, Sequence[str]] | None = None,
        clock: Clock | None = None,
        bus: Bus | None = None,
        *,
        processes: int = 1,
    ) -> None:
        self.config = config if config is not None else WallieConfig()
        #: Among how many processes every limit is divided.
        self.processes = processes if self.config.store.url == "memory" else 1
        #: What makes a request part of the trace that its caller is in, as metadata; set where traces are wanted.
        self.trace_of_caller: Callable[[], Mapping[str, str]] = dict
        self.chains: Mapping[str, Sequence[str]] = chains or {}
        self.clock: Clock = clock or SystemClock()
        self.backoff = Backoff(
            self.config.retry.initial, self.config.retry.max, self.config.retry.multiplier, self.config.retry.jitter
        )
        self._now = self.clock.now
        self._waits = {feature: self.config.waits(feature) for feature in (None, *self.config.features)}
        self.bus = bus if bus is not None else Bus()
        self.reporter = Reporter(self.config, self.clock, self.bus.publish)
        self._fleet = _join_fleet(self.config.store)
        if self._fleet is not None:
            self.reporter.once = self._fleet.once
        self._limiters = LimiterRegistry(self.config, self.clock, self.reporter, self.processes, self._fleet)
        self._admission = Admission(self.config, self.clock, self._limiters)
        self._lock = threading.Lock()
        self._rejections: dict[str, int] = {}
        self._on_close: list[Callable[[], None]] = []
        self._closed = False

    @property
    def providers_of(self) -> Callable[[str], Iterable[str]]:
        """The providers behind a model group; the router knows."""
        return self._admission.providers_of

    @providers_of.setter
    def providers_of(self, look_up: Callable[[str], Iterable[str]]) -> None:
        self._admission.providers_of = look_up

    # Requests

    def open_context(
        self,
        group: str,
        *,
        chain: Sequence[str] | None = None,
        feature: str | None = None,
        user_id: str | None = None,
        priority: int | None = None,
        deadline: float | None = None,
        estimated_tokens: int | None = None,
        operation: str = "chat",
        stream: bool = False,
        metadata: Mapping[str, Any] | None = None,
    ) -> RequestContext:
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
        return RequestContext(
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
            operation=operation,
            stream=stream,
            metadata={**(metadata or {}), **self.trace_of_caller()},
        )

    def begin_fallback(self, scope: RequestContext, group: str) -> None:
        """The request goes on to ``group``, the next member of its chain.

        Raises:
            Refused: its feature's own limit is used up, so that no member can help.
        """
        if scope.feature_refusal is not None:
            raise scope.feature_refusal
        self.reporter.fell_back(scope, group)

    def end(self, scope: RequestContext, failure: RequestFailure | None = None) -> None:
        """End a request, well unless there is a ``failure``. Only the first time counts."""
        self.reporter.ended(scope, failure)

    def chain_of(self, group: str) -> Sequence[str]:
        """The groups tried after ``group``; the chain of ``*`` serves every group that has none of its own."""
        members = self.chains.get(group, self.chains.get("*", ()))
        return tuple(member for member in members if member != group)

    def check_deadline(self, scope: RequestContext) -> None:
        """Raise :class:`~wallie_litellm.errors.DeadlineExceeded` once the caller's deadline has passed."""
        self._admission.check_deadline(scope)

    def preferred(self, scope: RequestContext, group: str, providers: Iterable[str], demand: Demand) -> frozenset[str]:
        """The filter: which of ``providers`` an attempt should choose from, those that can serve soonest.

        Raises:
            Refused: none of them may be waited for.
        """
        return self._admission.preferred(scope, group, providers, demand)

    async def admit(self, scope: RequestContext, attempt: Attempt, demand: Demand, *, guessed: bool = False) -> None:
        """Wait for ``attempt.provider``'s capacity and take it, and that of the request's feature if it is limited.

        ``guessed`` says that the output part of ``demand`` is only a guess, which is no reason to call it too large.

        Raises:
            Refused: the wait would be too long, or the provider is not being called.
            DeadlineExceeded: the caller's deadline passed.
        """
        await self._admission.admit(scope, attempt, demand, guessed)

    def admit_blocking(self, scope: RequestContext, attempt: Attempt, demand: Demand, *, guessed: bool = False) -> None:
        """:meth:`admit` for a thread that has no event loop to give way to."""
        self._admission.admit_blocking(scope, attempt, demand, guessed)

    def settle(self, scope: RequestContext, attempt: Attempt, ending: AttemptResult) -> bool:
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
        charged = charge(ending.outcome, reservation.demand, ending.usage)
        settled = self._limiters.provider(attempt.provider).settle(
            reservation, charged, ending.verdict, reason=ending.reason, pause_for=pause_for
        )
        if attempt.shared is not None:
            limiter, share = attempt.shared
            limiter.settle(share, charge(ending.outcome, share.demand, ending.usage))
        self.reporter.settled(scope, attempt, ending, charged)
        return settled

    def later(self, callback: Callable[[], object]) -> None:
        """Have ``callback`` called in a moment, by the clock.

        For finalisers: a garbage collection may run them in a thread that is just holding the lock they would need.
        """
        self._admission.later(callback)

    # What operators and applications ask and order

    async def wait_for_capacity(self, provider: str, tokens: int = 0) -> CapacityLease:
        """Wait, at most ``admission.max_wait``, until ``provider`` can take one request of ``tokens`` tokens; take it.

        For calls that are made outside the router. The lease is settled by what was used, or by itself.

        Raises:
            Refused: the wait would be too long, or the provider is not being called.
        """
        self._limiters.known(provider)
        require_count("tokens", tokens, optional=False)
        scope = self.open_context(provider, chain=())
        attempt = Attempt(group=provider, provider=provider)
        await self.admit(scope, attempt, Demand(1, tokens, tokens, 0))
        assert attempt.reservation is not None, "admit raises or reserves"  # noqa: S101 - narrows the type
        limiter, reporter = self._limiters.provider(provider), self.reporter
        return CapacityLease(limiter, attempt.reservation, lambda used: reporter.used_outside(provider, used, "lease"))

    def is_provider_available(self, provider: str) -> bool:
        """Whether ``provider`` would take a request now, without waiting."""
        return self._limiters.known(provider).check(ONE_REQUEST) is None

    def next_fallback(self, model: str, exclude: Sequence[str] = ()) -> str | None:
        """The first member of ``model``'s chain that can serve now and is not excluded, by group or by provider."""
        for group in self.chain_of(model):
            providers = [name for name in self.providers_of(group) if name not in exclude]
            if group not in exclude and any(self.limiter(name).check(ONE_REQUEST) is None for name in providers):
                return group
        return None

    def update_usage(self, provider: str, requests: int = 1, tokens: int = 0) -> None:
        """Charge what was used of ``provider``'s limits by calls that did not go through the guard."""
        require_count("requests", requests, optional=False)
        require_count("tokens", tokens, optional=False)
        used = Demand(requests, tokens, tokens, 0)
        self._limiters.known(provider).consume(used)
        self.reporter.used_outside(provider, used, "update_usage")

    def should_switch_provider(self, provider: str) -> bool:
        """Whether to prefer another provider: this one is down, paused, or past a share of one of its limits.

        The share is ``quota.switch_at``, else ``quota.critical``.
        """
        limiter = self._limiters.known(provider)
        state = limiter.state()
        if state.paused_for > 0 or health(state) == "down":
            return True
        quota = self.config.quota
        return limiter.utilization()[1] >= (quota.critical if quota.switch_at is None else quota.switch_at)

    # Whoever gives one of these orders, ``actor``, goes on record, and so does ``detail``: why.

    def reset_quota(self, provider: str, actor: str = "app", detail: str | None = None) -> None:
        """Forget what ``provider`` has used, and any pause it asked for."""
        self._limiters.known(provider).reset()
        self._rejections.pop(provider, None)
        self.reporter.acted(actor, "reset_quota", provider, detail)

    def close_circuit(self, provider: str, actor: str = "app", detail: str | None = None) -> None:
        """Let requests through to ``provider`` again, whatever its breaker thought."""
        self._limiters.known(provider).act("close")
        self.reporter.acted(actor, "close_circuit", provider, detail)

    def open_circuit(self, provider: str, actor: str = "app", detail: str | None = None) -> None:
        """Let no request through to ``provider`` until :meth:`close_circuit` or :meth:`release_circuit`."""
        self._limiters.known(provider).act("force_open")
        self.reporter.acted(actor, "open_circuit", provider, detail)

    def release_circuit(self, provider: str, actor: str = "app", detail: str | None = None) -> None:
        """End :meth:`open_circuit` carefully: the next request is a probe, and what comes of it decides."""
        self._limiters.known(provider).act("release")
        self.reporter.acted(actor, "release_circuit", provider, detail)

    def status(self) -> dict[str, Any]:
        """All providers at this moment, as plain JSON-ready data. Times named ``_at`` are ISO 8601 in UTC."""
        wall = self.clock.wall()
        return {
            "providers": describe_all(self._limiters.providers, wall),
            "features": describe_all(self._limiters.features, wall),
            "store": {"scope": "process", "state": "ok", "processes": self.processes}
            if self._fleet is None
            else self._fleet.status(),
            "sinks": self.bus.stats(),
            "budget": {"spent_usd": self.reporter.budget.spent_at(wall), "limit_usd": self.reporter.budget.limit},
        }

    def leave_alerts_to_others(self) -> None:
        """State no alert that a fleet states once: whoever has all the sinks shall."""
        self.reporter.once = lambda _key, _ttl, _action: None
        if self._fleet is not None:
            self._fleet.others_announce = True

    async def flush(self, timeout: float = SHUTDOWN) -> bool:
        """Wait until everything stated so far has reached its sinks; ``False`` after ``timeout`` seconds."""
        return await self.bus.flush(timeout)

    async def aclose(self) -> None:
        """Turn everybody who waits away, take the router's hooks out of LiteLLM, and drain the sinks.

        Calls under way are given five seconds to end; what ends later is not recorded. What the sinks cannot deliver
        within ten seconds, those that have a spool leave there. Idempotent.
        """
        self._shut()
        # Calls that are under way are billed: they are given a moment to end, so that they are on record.
        deadline = time.monotonic() + DRAIN
        while time.monotonic() < deadline and self._calls_under_way():  # noqa: ASYNC110 - they end in any thread
            await asyncio.sleep(0.02)
        await asyncio.to_thread(self._end)

    def close(self) -> None:
        """:meth:`aclose` for code without an event loop."""
        self._shut()
        self._end()

    def _shut(self) -> None:
        if self._closed:
            return
        self._closed = True
        for callback in self._on_close:
            callback()
        for limiter in self._limiters:
            limiter.close()

    def _calls_under_way(self) -> bool:
        return any(limiter.in_flight for limiter in self._limiters)

    def _end(self) -> None:
        if self._fleet is not None:
            self._fleet.close()
        self.clock.close()
        self.bus.close()

    def on_close(self, callback: Callable[[], None]) -> None:
        """Have ``callback`` called when the guard closes."""
        self._on_close.append(callback)

    def limiter(self, provider: str) -> Limiter:
        """The queue and the state of one provider; a provider without limits still has a breaker."""
        return self._limiters.provider(provider)

    def limiters(self) -> list[Limiter]:
        """All limiters there are so far, those of features included."""
        return list(self._limiters)

    def _pause_after_rejection(self, provider: str, asked: float | None) -> float:
        with self._lock:
            count = self._rejections[provider] = self._rejections.get(provider, 0) + 1
        return asked if asked else self.backoff.seconds(count)


def _join_fleet(store: StoreSettings) -> RedisFleet | None:
    """The processes that share the store's Redis, or ``None`` for a process on its own."""
    if store.url == "memory":
        return None
    try:
        from wallie_litellm.limiter.redis.fleet import RedisFleet
    except ImportError as error:
        raise ConfigError(
            [f"wallie.store.url: {error.name} is not installed; install wallie-litellm[redis]"]
        ) from error
    return RedisFleet(store.url, store.on_store_error)
