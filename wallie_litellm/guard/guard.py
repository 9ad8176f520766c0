"""The guard: the facade of filter, admission and settlement, and of what operators and applications ask for."""

from __future__ import annotations

import asyncio
import math
import time
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from wallie_litellm.clock import Clock, SystemClock
from wallie_litellm.config import FeatureRules, WallieConfig
from wallie_litellm.core.attempt_result import AttemptResult, RequestFailure
from wallie_litellm.core.demand import ONE_REQUEST, Demand
from wallie_litellm.core.limit_keys import ACCOUNT
from wallie_litellm.core.operations import GENERATING
from wallie_litellm.core.validation import require_count
from wallie_litellm.forecast.forecasts import forecasts_for
from wallie_litellm.guard.admission import Admission
from wallie_litellm.guard.alerting import watch_alerts
from wallie_litellm.guard.capacity_lease import CapacityLease
from wallie_litellm.guard.context import Attempt, Caller, RequestContext, Route
from wallie_litellm.guard.estimates import Estimates
from wallie_litellm.guard.experiments import ExperimentActions
from wallie_litellm.guard.live_config import Reloading
from wallie_litellm.guard.operator_actions import OperatorMethods
from wallie_litellm.guard.own_limits import own_limits
from wallie_litellm.guard.reporter import Announcer, Reporter, announce, announce_nothing
from wallie_litellm.guard.router_view import RouterView, RouterViews, chains_of
from wallie_litellm.guard.settlement import Settlement
from wallie_litellm.guard.shared_store import join_fleet, open_budgets, store_status
from wallie_litellm.guard.status import limits_status
from wallie_litellm.guard.under_way import UnderWay
from wallie_litellm.guard.vendor_limits import VendorLimits
from wallie_litellm.limiter.limiter import Limiter
from wallie_litellm.limiter.registry import LimiterRegistry
from wallie_litellm.routing.plan import Plan
from wallie_litellm.routing.routing import Routing
from wallie_litellm.routing.switches import Switches
from wallie_litellm.telemetry.bus import SHUTDOWN, Bus

if TYPE_CHECKING:
    from wallie_litellm.limiter.redis.fleet import RedisFleet

DRAIN: Final = 5.0  # seconds that closing waits for calls under way


class Guard(ExperimentActions, OperatorMethods, Reloading):
    """Holds every provider to its limits and keeps requests away from those that are down.

    Safe to use from several event loops and threads at once, and by several routers: each request follows the chains
    and prices of its own router.

    ``bus`` receives the events; ``clock`` is for tests. ``processes`` is the number of guards that divide the limits
    among them where they share no store. ``view`` stands in for a router's where none is attached; ``chains`` are
    short for a view that has nothing else. ``trace_of_caller`` returns, as metadata, what makes a request part of its
    caller's trace. With ``others_announce`` the alerts that a fleet publishes once are left to another guard.
    ``fleet`` are the processes that share the limits, in place of those of the configuration's store.
    """

    def __init__(
        self,
        config: WallieConfig | None = None,
        chains: Mapping[str, Sequence[str]] | None = None,
        clock: Clock | None = None,
        bus: Bus | None = None,
        *,
        processes: int = 1,
        view: RouterView | None = None,
        trace_of_caller: Callable[[], Mapping[str, str]] = dict,
        others_announce: bool = False,
        fleet: RedisFleet | None = None,
    ) -> None:
        self.config = config if config is not None else WallieConfig()
        self.processes = processes if self.config.store.url == "memory" else 1  # among which every limit is divided
        self._processes_here = processes  # which share no budget of hedges, whatever the store
        self.clock: Clock = clock or SystemClock()
        if clock is None:
            weakref.finalize(self, self.clock.close).atexit = False
        self.bus = bus if bus is not None else Bus()
        self._rules = _rules_of(self.config)
        self._views = RouterViews(view or RouterView(chains_of(chains or {})))
        self._trace_of_caller = trace_of_caller
        switches = Switches()
        self._fleet = join_fleet(self.config.store, switches, fleet, others_announce=others_announce)
        announcer: Announcer = announce if self._fleet is None else self._fleet.once
        self.reporter = Reporter(
            self.config, self.clock, self.bus.publish, announce_nothing if others_announce else announcer
        )
        self._limiters = LimiterRegistry(self.config, self.clock, self.reporter, self.processes, self._fleet)
        self.routing = Routing(
            self.config, self.clock, switches, self._limiters, self.reporter.on_order_change, processes
        )
        self._admission = Admission(self.config, self.clock, self._limiters)
        self.estimates = Estimates(self.config.providers)
        self.forecasts = forecasts_for(self.config, self.clock.wall())
        self._settlement = Settlement(self.config, self._limiters, self.reporter, self.clock.now, switches)
        self.backoff = self._settlement.backoff
        #: What may be spent, and what was.
        self.budgets = open_budgets(self.config, self.clock, self.reporter, switches, self.processes)
        self.vendor_limits = VendorLimits(
            self.config, self.clock, self._limiters, self.reporter.on_overstated, self.processes
        )
        self.reporter.alerts = watch_alerts(self.config.alerts, self.clock, self._limiters, self.reporter)
        self._under_way = UnderWay(self.clock)

    def configure(self, config: WallieConfig) -> None:
        """Go by another configuration from now on; routers follow with :meth:`reload`."""
        self.config, self._rules = config, _rules_of(config)
        for part in (
            self._limiters, self.reporter, self._admission, self.estimates, self.forecasts, self._settlement,
            self.vendor_limits, self.budgets,
        ):  # fmt: skip
            part.configure(config)
        self.backoff = self._settlement.backoff
        routing, reporter = self.routing, self.reporter
        self.routing = Routing(
            config,
            self.clock,
            routing.switches,
            self._limiters,
            reporter.on_order_change,
            self._processes_here,
            routing,
        )

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
        router: RouterView | None = None,
        plan: Plan | None = None,
        proxy_key: str | None = None,
    ) -> RequestContext:
        """Begin a request for ``group``, as ``router`` serves it; ``deadline`` is in seconds from now.

        Raises:
            TypeError: ``priority`` or ``deadline`` is not a number, or ``estimated_tokens`` no whole number.
            ValueError: ``estimated_tokens`` is negative or implausibly large.
        """
        require_count("estimated_tokens", estimated_tokens)
        if not isinstance(priority, int | None) or isinstance(priority, bool):
            raise TypeError(f"priority: found {priority!r}, expected a whole number")
        if deadline is not None and (isinstance(deadline, str | bool) or math.isnan(deadline)):
            raise TypeError(f"deadline: found {deadline!r}, expected seconds from now")
        router = router or self._views.default
        route = Route(router.chain_of(group) if chain is None else chain, router, plan)
        caller = Caller(feature, user_id, dict(metadata or {}), proxy_key)
        context = self.begin(group, route, caller, operation, stream=stream, priority=priority)
        context.estimated_tokens = estimated_tokens
        if deadline is not None and deadline != math.inf:
            context.deadline_at = context.started_at + deadline
        return context

    def begin(
        self, group: str, route: Route, caller: Caller, operation: str, *, stream: bool, priority: int | None = None
    ) -> RequestContext:
        """:meth:`open_context` of a request without a deadline or an estimate of its own: it checks nothing."""
        settings = None if caller.feature is None else self.config.features.get(caller.feature)
        rules = self._rules[None if settings is None else caller.feature]
        if trace := self._trace_of_caller():
            caller = caller._replace(metadata={**caller.metadata, **trace})
        own = 0 if settings is None else settings.priority
        # By position: as many keywords take 0.5 µs longer (CPython 3.11).
        now = self.clock.now()
        return RequestContext(group, rules, now, route, priority or own, None, caller, None, operation, stream)

    def begin_fallback(self, context: RequestContext, group: str) -> None:
        """Record that the request goes on to ``group``, the next member of its chain.

        Raises:
            Refused: its feature's own limit is used up, so that no member can help.
        """
        if context.feature_refusal is not None:
            raise context.feature_refusal
        self.reporter.fell_back(context, group)

    def end(self, context: RequestContext, failure: RequestFailure | None = None) -> None:
        """End a request, as a success unless there is a ``failure``. Only the first call counts."""
        self.reporter.ended(context, failure)

    def limit_headers(self, context: RequestContext) -> Mapping[str, float | str] | None:
        """The ``x-ratelimit-*`` of an answer's limits here; ``None`` if the vendor's are left to the caller."""
        return own_limits(self._limiters, context) if self.config.rate_limit_headers == "own" else None

    def chain_of(self, group: str) -> Sequence[str]:
        """The groups tried after ``group`` by the first router that has a chain for it."""
        return next(filter(None, (router.chain_of(group) for router in self._views)), ())

    def check_deadline(self, context: RequestContext) -> None:
        """Raise :class:`~wallie_litellm.errors.DeadlineExceeded` once the caller's deadline has passed."""
        self._admission.check_deadline(context)

    def preferred(
        self, context: RequestContext, group: str, scopes: Iterable[str], demand: Demand, *, soonest: bool = True
    ) -> frozenset[str]:
        """The filter: those of ``scopes`` that can serve an attempt soonest, else all that may be waited for.

        Raises:
            Refused: none of them may be waited for.
        """
        return self._admission.preferred(context, group, scopes, demand, soonest=soonest)

    def another_could_serve(self, context: RequestContext, group: str, demand: Demand) -> bool:
        """Whether a member of the chain after ``group`` could serve an attempt now."""
        return self._admission.another_could_serve(context, group, demand)

    async def admit(self, context: RequestContext, attempt: Attempt, demand: Demand, *, guessed: bool = False) -> None:
        """Wait for the capacity of ``attempt.provider`` and of its account, and of the request's feature; take it.

        With ``guessed`` the output part of ``demand`` is only an estimate, and is cut to what the limits can hold.

        Raises:
            Refused: the wait would be too long, or the provider is not being called.
            DeadlineExceeded: the caller's deadline passed.
        """
        if self._under_way.has_ended:
            raise self._admission.closed(attempt)
        await self._admission.admit(context, attempt, demand, guessed)
        self._measure(context, attempt)

    def admit_blocking(
        self, context: RequestContext, attempt: Attempt, demand: Demand, *, guessed: bool = False
    ) -> None:
        """:meth:`admit` for a thread without an event loop."""
        if self._under_way.has_ended:
            raise self._admission.closed(attempt)
        self._admission.admit_blocking(context, attempt, demand, guessed)
        self._measure(context, attempt)

    def admit_at_once(self, context: RequestContext, attempt: Attempt, demand: Demand, *, guessed: bool) -> None:
        """:meth:`admit` for an attempt that may not wait, nor be a breaker's probe."""
        if self._under_way.has_ended:
            raise self._admission.closed(attempt)
        self._admission.admit_at_once(context, attempt, demand, guessed=guessed)
        self._measure(context, attempt)

    def _measure(self, context: RequestContext, attempt: Attempt) -> None:
        latencies = self.routing.latencies
        if latencies is not None and context.operation in GENERATING:
            latencies.begin(attempt, context.stream)

    def settle(self, context: RequestContext, attempt: Attempt, result: AttemptResult) -> bool:
        """End an attempt: its usage to the limits, a sample to the breaker, a pause to the provider.

        Only the first call counts. ``False`` for an attempt that was never admitted, has ended before, or has expired.
        """
        if self.routing.latencies is not None and attempt.result is None:
            self.routing.latencies.end(attempt, result)
        return self._settlement.settle(context, attempt, result)

    def later(self, callback: Callable[[], object]) -> None:
        """Have the clock's thread call ``callback`` as soon as it can.

        For finalisers: a garbage collection may run them in a thread that already holds the lock they would need.
        """
        self._admission.later(callback)

    async def sleep(self, seconds: float) -> None:
        """Wait between two attempts, by the guard's clock. The end of the guard ends it."""
        await self._under_way.sleep(seconds)

    # Questions and actions of operators and applications

    async def wait_for_capacity(self, provider: str, tokens: int = 0) -> CapacityLease:
        """Wait, at most ``admission.max_wait``, until ``provider`` can take one request of ``tokens`` tokens; take it.

        For calls that are made outside the router. The lease is a context manager that settles itself.

        Raises:
            Refused: the wait would be too long, or the provider is not being called.
        """
        self._limiters.known(provider)
        provider = self._limiters.provider_name(provider)
        require_count("tokens", tokens, optional=False)
        context = self.open_context(provider, chain=())
        attempt = Attempt(group=provider, provider=provider)
        self._admission.check_models(attempt)
        await self.admit(context, attempt, Demand(1, tokens, tokens, 0))
        assert attempt.reservation is not None, "admit raises or reserves"  # noqa: S101 - narrows the type
        limiter, reporter = self._limiters.provider(provider), self.reporter
        return CapacityLease(limiter, attempt.reservation, lambda used: reporter.used_outside(provider, used, "lease"))

    def is_provider_available(self, provider: str) -> bool:
        """Whether ``provider`` would take a request now, without waiting; of several keys, or models, one is enough."""
        own, *accounts = self._limiters.limiters_of(provider)
        return self._admits_one(own) and (not accounts or any(map(self._admits_one, accounts)))

    def next_fallback(self, model: str, exclude: Sequence[str] = ()) -> str | None:
        """The first member of ``model``'s chain that can serve now and is not excluded, by group or by provider."""
        for router in self._views:
            for group in router.chain_of(model):
                scopes = [scope for scope in router.scopes(group) if self._limiters.provider_name(scope) not in exclude]
                if group not in exclude and any(self.could_serve(scope, ONE_REQUEST) for scope in scopes):
                    return group
        return None

    def update_usage(self, provider: str, requests: int = 1, tokens: int = 0) -> None:
        """Charge ``provider``'s limits for calls that did not go through the guard."""
        require_count("requests", requests, optional=False)
        require_count("tokens", tokens, optional=False)
        used = Demand(requests, tokens, tokens, 0)
        self._limiters.known(provider).consume(used)
        self.reporter.used_outside(provider, used, "update_usage")

    def should_switch_provider(self, provider: str) -> bool:
        """Whether to prefer another provider: this one is down, paused, or past a share of one of its limits.

        The share is ``quota.switch_at``, else ``quota.critical``.
        """
        own, *accounts = self._limiters.limiters_of(provider)
        if self._is_away(own) or (accounts and all(map(self._is_away, accounts))):
            return True
        quota = self.config.quota
        return own.utilization()[1] >= (quota.critical if quota.switch_at is None else quota.switch_at)

    def limits(self) -> dict[str, Any]:
        """All limits: configured, learned, in force and used, by provider, scope and dimension; JSON-ready."""
        return {"providers": self.vendor_limits.describe(sorted(self._limiters.listed_providers))}

    def status(self) -> dict[str, Any]:
        """The state of all providers, as plain JSON-ready data. Times named ``_at`` are ISO 8601 in UTC."""
        wall = self.clock.wall()
        learned = self._settlement.rejected, self.vendor_limits, self.estimates, self.forecasts
        return {
            **limits_status(self._limiters, *learned, wall),
            "store": store_status(self._fleet, self.budgets, self.processes),
            "routing": {**self.routing.describe(), "chains": self._views.describe_chains()},
            "budgets": self.forecasts.add_to_budgets(self.budgets.rows(), wall),
            "alerts": self.reporter.alerts.going_on(),
            "config": None if self.live is None else self.live.describe(),
            "sinks": self.bus.stats(),
            "budget": self.forecasts.budget(self.reporter.budget.spent_at(wall), self.reporter.budget.limit, wall),
        }

    async def flush(self, timeout: float = SHUTDOWN) -> bool:
        """Wait until every event published so far has reached its sinks; ``False`` after ``timeout`` seconds."""
        return await self.bus.flush(timeout)

    async def aclose(self) -> None:
        """Refuse the requests that wait, take the router's hooks out of LiteLLM, and drain the sinks.

        Calls under way have five seconds to end. Then streams are on record as far as they have been read; the results
        of other calls that end later are not recorded. Events that a sink cannot deliver within ten seconds stay in its
        spool, where it has one. Idempotent.
        """
        self._shut()
        # Calls under way are billed by their providers, and should be recorded.
        deadline = time.monotonic() + DRAIN
        while time.monotonic() < deadline and self._calls_under_way():  # noqa: ASYNC110 - they end in any thread
            await asyncio.sleep(0.02)
        await asyncio.to_thread(self._end)

    def close(self) -> None:
        """:meth:`aclose` for code without an event loop."""
        self._shut()
        self._end()

    def refuse(self) -> None:
        """Refuse the requests that wait, and all that come from now on. Calls under way go on; nothing is repeated."""
        self._shut()

    @property
    def closed(self) -> bool:
        """Whether the guard admits nothing any more."""
        return self._under_way.has_ended

    def _shut(self) -> None:
        if not self._under_way.end():
            return
        for limiter in self._limiters:
            limiter.close()
        self._under_way.wake()

    def _calls_under_way(self) -> bool:
        return any(limiter.in_flight for limiter in self._limiters)

    def _end(self) -> None:
        for stream in self._under_way.being_read():
            stream.break_off()
        if self._fleet is not None:
            self._fleet.close()
        self.budgets.close()
        self.reporter.alerts.close()
        self.clock.close()
        self.bus.close()

    def watch(self, stream: Any) -> None:
        """Have ``stream.break_off()`` called when the guard closes while the stream is still being read."""
        self._under_way.read(stream)

    def add_router(self, view: RouterView) -> None:
        """Add a router's view to those that :meth:`next_fallback` and contexts without a router look up."""
        self._views.add(view)
        self._limiters.has_router = True

    @property
    def meet(self) -> Callable[..., None]:
        """A router calls this provider and this account of it. No method: a router that keeps it keeps no guard."""
        return self._limiters.meet

    def place(self, at_own_address: Mapping[str, bool]) -> None:
        """A router calls these providers at their vendors' own addresses now, or at others."""
        self._limiters.place(at_own_address)

    def call_only(self, destinations: Iterable[tuple[str, str, bool]]) -> None:
        """List these providers and accounts, as if a router called them: see :meth:`LimiterRegistry.meet`."""
        self._limiters.has_router = True
        for destination in destinations:
            self._limiters.meet(*destination)

    def routers_changed(self) -> None:
        """The deployments of a router have changed: status shows the providers and accounts that are left."""
        self._limiters.retain({name for view in self._views.attached for name in view.destinations()})
        self.vendor_limits.accounts_changed()

    def replace_router(self, before: RouterView, view: RouterView) -> None:
        """A router has another view than before."""
        self._views.replace(before, view)

    def remove_router(self, view: RouterView) -> None:
        """Forget a router that is gone."""
        self._views.remove(view)

    def on_close(self, callback: Callable[[], None]) -> None:
        """Have ``callback`` called when the guard closes."""
        self._under_way.on_end.append(callback)

    def could_serve(self, scope: str, demand: Demand, priority: int = 0) -> bool:
        """Whether an attempt in ``scope`` would be admitted now."""
        return self._limiters.denial_of(scope, demand, priority) is None

    def is_open(self, scope: str) -> bool:
        """Whether the breaker of the provider, of the account or of the model of ``scope`` admits nothing now."""
        return self._limiters.is_open(scope)

    def _admits_one(self, limiter: Limiter) -> bool:
        if limiter.check(ONE_REQUEST) is not None or self._limiters.paused_for(limiter.name):
            return False
        return self._limiters.denial_of_models(limiter.name, ONE_REQUEST) is None

    def _is_away(self, limiter: Limiter) -> bool:
        return self._limiters.paused_for(limiter.name) > 0 or self._limiters.overall(limiter.name).health == "down"

    def limiter(self, provider: str) -> Limiter:
        """The limiter of one provider; one without limits still has a breaker."""
        return self._limiters.provider(provider)

    def capacity(self, attempt: Attempt, feature: str | None, dimension: str) -> float:
        """The most units of ``dimension`` that provider and feature allow an attempt; ``inf`` without limits."""
        limiter, own = self._limiters.provider(attempt.provider), self._limiters.features.get(feature or "")
        scope = self._limiters.pattern_of(attempt.scope) if limiter.scopes else ACCOUNT
        most = limiter.capacity(dimension, scope)
        return most if own is None else min(most, own.capacity(dimension))

    def limiters(self) -> list[Limiter]:
        """The limiters of all providers met so far, and of the features that have limits."""
        return list(self._limiters)


def _rules_of(config: WallieConfig) -> dict[str | None, FeatureRules]:
    """What holds for the requests of each feature, and of none."""
    return {feature: config.for_feature(feature) for feature in (None, *config.features)}
