"""One provider's limits and breaker in the memory of this process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from math import inf
from typing import Final

from wallie_litellm.core.circuit_breaker import BreakerRules, BreakerState, CircuitBreaker
from wallie_litellm.core.daily_quota import next_midnight
from wallie_litellm.core.demand import NOTHING, Demand
from wallie_litellm.core.dimensions import DIMENSION_KINDS, Kind
from wallie_litellm.core.limit_keys import ACCOUNT, limit_key
from wallie_litellm.core.token_bucket import TokenBucket
from wallie_litellm.limiter.accounting import StoreAccounting
from wallie_litellm.limiter.limits import AccountLimits
from wallie_litellm.limiter.listener import LimiterListener
from wallie_litellm.limiter.scope_accounting import ScopeAccounting
from wallie_litellm.limiter.store import (
    Denial,
    DenialReason,
    LimitUsage,
    Reservation,
    limit_denial,
    longest_denial,
)

# Looking up an enum's member costs more than the arithmetic around it (CPython 3.11).
_CLOSED: Final = BreakerState.CLOSED
_CIRCUIT_OPEN: Final = DenialReason.CIRCUIT_OPEN
_PAUSED: Final = DenialReason.PAUSED

# The wall clock may be set, and the monotonic one stand still while the machine sleeps.
MIDNIGHT_LOOKUP: Final = 60.0  # seconds after which midnight is looked up again


class MemoryStore(StoreAccounting):
    """A :class:`~wallie_litellm.limiter.store.ProviderStore` of one process that shares its limits with no other."""

    def __init__(
        self,
        name: str,
        limits: AccountLimits,
        rules: BreakerRules,
        wall: Callable[[], float],
        levels: Mapping[str, float] | None = None,
        listener: LimiterListener | None = None,
    ) -> None:
        super().__init__(name, limits, levels, listener)
        self.breaker = CircuitBreaker(rules)
        self._wall = wall
        self._index()

    def _index(self) -> None:
        """Look up what each scope's admissions pass, and all daily counters."""
        self._ways = {scope: _Way(passed) for scope, passed in self._passed.items()}
        self._counters = tuple(counter for scope in self._scopes.values() for counter in scope.days.values())
        self._midnight_lookup = -inf if self._counters else inf

    def reserve(self, now: float, demand: Demand, scope: str = ACCOUNT) -> Reservation | Denial:
        """Take all of ``demand`` from the account's limits and those of ``scope``, or nothing."""
        breaker, way = self.breaker, self._ways[scope]
        if now < self.paused_until or breaker.state is not _CLOSED or way.has_concurrency:
            denial = self.check(now, demand, NOTHING, scope)
            if denial is not None:
                return denial
        if now >= self._midnight_lookup:
            self._roll_day(now)
        for counter, kind in way.counters:
            if counter.used + demand[kind] > counter.limit:
                return self._limit_denial(now, demand, scope)
        for bucket, kind in way.rates:
            if not bucket.take_if_there(now, demand[kind]):
                way.untake(bucket, demand)
                return self._limit_denial(now, demand, scope)
        for counter, kind in way.counters:
            counter.used += demand[kind]
        requests = demand[0]
        for window in way.request_windows:
            window.add(now, requests)
        probe = 0 if breaker.state is _CLOSED else breaker.enter(now)
        reservation = self._enter_reservation(now, demand, scope, breaker.generation, probe)
        # Only thresholds of requests are announced here: reserved tokens may be refunded.
        for meter, window in way.request_meters:
            if window.total >= meter.near or window.total - requests < meter.low:
                self._report(meter, now, window.total - requests)
        for meter, counter in way.daily_request_meters:
            if counter.used >= meter.near or counter.used - requests < meter.low:
                self._report(meter, now, counter.used - requests)
        return reservation

    def _limit_denial(self, now: float, demand: Demand, scope: str) -> Denial:
        """The denial of ``demand``, which does not fit one of the limits."""
        wait, limit = self._longest_wait(now, demand, NOTHING, scope, NOTHING)
        return self._too_large(demand, scope) or limit_denial(limit, wait)

    def check(
        self, now: float, demand: Demand, ahead: Demand, scope: str = ACCOUNT, ahead_in_scope: Demand = NOTHING
    ) -> Denial | None:
        """The denial of ``demand`` once what is ``ahead`` has been served, the one of the longest wait."""
        if now >= self._midnight_lookup:
            self._roll_day(now)
        worst = self._too_large(demand, scope)
        if worst is not None:
            return worst
        blocked = self.breaker.wait(now)
        if blocked > 0:
            return Denial(_CIRCUIT_OPEN, blocked)
        wait, limit = self._longest_wait(now, demand, ahead, scope, ahead_in_scope)
        paused_for = self.paused_until - now
        if paused_for > wait:
            return Denial(_PAUSED, paused_for)
        return limit_denial(limit, wait) if wait > 0 else None

    def _longest_wait(
        self, now: float, demand: Demand, ahead: Demand, scope: str, ahead_in_scope: Demand
    ) -> tuple[float, str]:
        """Seconds until all limits have room for ``demand`` after what is ahead, and the limit that takes longest."""
        account = _wait_for(now, self._account, demand, ahead)
        if scope == ACCOUNT:
            return account
        return longest_denial(account, _wait_for(now, self._scopes[scope], demand, ahead_in_scope))

    def settle(self, now: float, reservation: Reservation, charged: Demand) -> bool:
        """Replace the reservation by ``charged``; ``False`` if it had been settled before."""
        if not self._enter_settlement(reservation, charged):
            return False
        demand, way = reservation.demand, self._ways[reservation.scope]
        for window, kind in way.token_windows:
            window.add(now, charged[kind])
        if charged == demand:
            self._report_tokens(now, way, charged)
            return True
        if now >= self._midnight_lookup:
            self._roll_day(now)
        for bucket, kind in way.rates:
            delta = charged[kind] - demand[kind]
            if delta > 0:
                bucket.take(now, delta)
            elif delta:
                bucket.give_back(now, reservation.at, -delta)
        for counter, kind in way.counters:
            if reservation.at >= counter.started_at:
                counter.used += charged[kind] - demand[kind]
        if charged[0] != demand[0]:
            for window in way.request_windows:
                if charged[0] > demand[0]:
                    window.add(now, charged[0] - demand[0])
                else:
                    window.take_back(now, reservation.at, demand[0] - charged[0])
        self._report_tokens(now, way, charged)
        return True

    def consume(self, now: float, amount: Demand, scope: str = ACCOUNT) -> None:
        """Charge ``amount``, which was used without a reservation."""
        if now >= self._midnight_lookup:
            self._roll_day(now)
        way = self._ways[scope]
        for bucket, kind in way.rates:
            bucket.take(now, amount[kind])
        for counter, kind in way.counters:
            counter.used += amount[kind]
        for window in way.request_windows:
            window.add(now, amount[0])
        for window, kind in way.token_windows:
            window.add(now, amount[kind])
        for one in self._passed[scope]:
            for meter in one.meters.values():
                self._report(meter, now, meter.used(now, one.held[meter.kind]) - amount[meter.kind])
        self._enter_use(amount, scope)

    def _report_tokens(self, now: float, way: _Way, charged: Demand) -> None:
        for meter, window in way.token_meters:
            before = window.total - charged[meter.kind]
            if window.total >= meter.near or before < meter.low:
                self._report(meter, now, before)
        for meter, counter, held in way.daily_token_meters:
            used = counter.used - held[meter.kind]
            if used >= meter.near or used - charged[meter.kind] < meter.low:
                self._report(meter, now, used - charged[meter.kind])

    def restore(self, now: float, day: Demand, recent: Iterable[tuple[float, Demand]], scope: str = ACCOUNT) -> None:
        """Count what was used before this process began; thresholds that it crosses were announced at the time.

        ``recent`` goes back :attr:`lookback` seconds. The buckets count as empty at the beginning of that time: it is
        long enough that their level is the same if they were full then.
        """
        if now >= self._midnight_lookup:
            self._roll_day(now)
        own = self._scopes[scope]
        for bucket in own.buckets.values():
            bucket.take(now - self.lookback, bucket.capacity)
        for age, amount in sorted(recent, key=lambda use: -use[0]):
            for name, bucket in own.buckets.items():
                bucket.take(now - age, amount.of(name))
                own.windows[name].add_at(now, now - age, amount.of(name))
        for name, counter in own.days.items():
            counter.used += day.of(name)
        for meter in own.meters.values():
            meter.announce(now, inf)

    def on_breaker_report(self, now: float) -> None:
        """Nothing to do: the breaker of this process is the only one."""

    def pause(self, until: float) -> None:
        """Admit nothing before ``until``; an earlier, longer pause stands."""
        self.paused_until = max(self.paused_until, until)

    def reset(self, now: float, scope: str = ACCOUNT) -> None:
        """Forget what was used and any pause; with a ``scope``, what was used of its own limits alone."""
        if scope == ACCOUNT:
            self.paused_until = -inf
        for one in self._scopes.values() if scope == ACCOUNT else (self._scopes[scope],):
            one.reset(now)

    def set_limit(self, now: float, scope: str, dimension: str, amount: int | None) -> None:
        """Have ``amount`` in force from now on, or with ``None`` the configured limit again."""
        self._set_limit(now, scope, dimension, amount)
        self._index()

    def configure(
        self, now: float, limits: AccountLimits, rules: BreakerRules, levels: Mapping[str, float] | None
    ) -> None:
        """Go by other limits of the file, other rules of the breaker and other thresholds from now on."""
        is_moved = limits.reset_timezone != self.limits.reset_timezone
        self._configure(now, limits, levels)
        self.breaker.use(rules)
        self._index()
        if is_moved:
            wall = self._wall()
            midnight = next_midnight(wall, limits.reset_timezone)
            for counter in self._counters:
                counter.move_end(now + midnight - wall, midnight)

    def charge(self, now: float, scope: str, dimension: str, units: float) -> None:
        """Take units of a limit per minute that others have used."""
        if (bucket := self._scopes[scope].buckets.get(dimension)) is not None:
            bucket.take(now, units)

    def add_scope(self, scope: str) -> None:
        """Add a scope without limits."""
        self._add_scope(scope)
        self._index()

    def bound(self, now: float, scope: str, dimension: str, left: float) -> None:
        """Leave no more than ``left`` units of a limit."""
        if now >= self._midnight_lookup:
            self._roll_day(now)
        self._scopes[scope].bound(now, dimension, left)

    def usage(self, now: float, scope: str = ACCOUNT) -> dict[str, LimitUsage]:
        """The usage of one scope's limits, by dimension."""
        if now >= self._midnight_lookup:
            self._roll_day(now)
        return super().usage(now, scope)

    def _roll_day(self, now: float) -> None:
        wall = self._wall()
        midnight = next_midnight(wall, self.limits.reset_timezone)
        resets_at = now + midnight - wall
        days = [counter.started_at for counter in self._counters]
        for counter in self._counters:
            counter.roll(now, resets_at, midnight)
        if days != [counter.started_at for counter in self._counters]:
            for meter in self._meters():
                if meter.is_daily:
                    meter.restart()
        self._midnight_lookup = min(now + MIDNIGHT_LOOKUP, resets_at)


class _Way:
    """What an admission passes, as plain tuples for the hot path: buckets and counters with their kinds in a demand."""

    __slots__ = (
        "counters", "daily_request_meters", "daily_token_meters", "has_concurrency", "rates", "request_meters",
        "request_windows", "token_meters", "token_windows",
    )  # fmt: skip

    def __init__(self, passed: Iterable[ScopeAccounting]) -> None:
        scopes = tuple(passed)
        self.has_concurrency = any(one.concurrency is not None for one in scopes)
        self.rates = tuple(
            (bucket, int(DIMENSION_KINDS[name])) for one in scopes for name, bucket in one.buckets.items()
        )
        self.counters = tuple(
            (counter, int(DIMENSION_KINDS[name])) for one in scopes for name, counter in one.days.items()
        )
        # A request counts in the window when it is admitted, tokens when they are settled: an estimate is no use.
        windows = [(name, window) for one in scopes for name, window in one.windows.items()]
        self.request_windows = tuple(window for name, window in windows if name == "rpm")
        self.token_windows = tuple((window, int(DIMENSION_KINDS[name])) for name, window in windows if name != "rpm")
        # Meters are read where what they measure has just been counted, and is up to date.
        meters = [(name, meter, one) for one in scopes for name, meter in one.meters.items()]
        of_minutes = [(meter, one.windows[name]) for name, meter, one in meters if not meter.is_daily]
        of_days = [(meter, one.days[name], one.held) for name, meter, one in meters if meter.is_daily]
        self.request_meters = tuple(found for found in of_minutes if found[0].kind == Kind.REQUESTS)
        self.token_meters = tuple(found for found in of_minutes if found[0].kind != Kind.REQUESTS)
        self.daily_request_meters = tuple(found[:2] for found in of_days if found[0].kind == Kind.REQUESTS)
        self.daily_token_meters = tuple(found for found in of_days if found[0].kind != Kind.REQUESTS)

    def untake(self, refusing: TokenBucket, demand: Demand) -> None:
        """Undo what was taken from the buckets before the ``refusing`` one."""
        for bucket, kind in self.rates:
            if bucket is refusing:
                return
            bucket.untake(demand[kind])


def _wait_for(now: float, scope: ScopeAccounting, demand: Demand, ahead: Demand) -> tuple[float, str]:
    """Seconds until the limits of one scope have room for ``demand`` after ``ahead``, and the longest one's key."""
    waits = [(0.0, "")]
    for dimension, bucket in scope.buckets.items():
        kind = DIMENSION_KINDS[dimension]
        waits.append((bucket.wait(now, demand[kind] + ahead[kind]), dimension))
    for dimension, counter in scope.days.items():
        kind = DIMENSION_KINDS[dimension]
        waits.append((counter.wait(now, demand[kind] + ahead[kind]), dimension))
    if scope.concurrency is not None:
        # The end of a call cannot be predicted: a slot counts as free in a moment, and the patience decides.
        waits.append((1e-3 if scope.in_flight + ahead.requests >= scope.concurrency else 0.0, "concurrency"))
    wait, dimension = max(waits)
    return wait, limit_key(dimension, scope.scope) if dimension else ""
