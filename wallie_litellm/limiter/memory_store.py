"""One provider's limits and breaker in the memory of this process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from math import inf
from typing import Final

from wallie_litellm.core.circuit_breaker import BreakerRules, BreakerState, CircuitBreaker
from wallie_litellm.core.daily_quota import next_midnight
from wallie_litellm.core.demand import NOTHING, Demand
from wallie_litellm.core.dimensions import DIMENSION_KINDS, Kind
from wallie_litellm.core.token_bucket import TokenBucket
from wallie_litellm.limiter.accounting import StoreAccounting
from wallie_litellm.limiter.limits import AccountLimits
from wallie_litellm.limiter.listener import LimiterListener
from wallie_litellm.limiter.store import Denial, DenialReason, LimitUsage, Reservation, limit_denial

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
        # The hot path iterates over plain tuples: (bucket, position of its kind in a demand).
        self._rates = tuple((bucket, int(DIMENSION_KINDS[name])) for name, bucket in self._buckets.items())
        # A request counts in the window when it is admitted, tokens when they are settled: an estimate is no use.
        self._request_window = self._windows.get("rpm")
        self._token_windows = tuple(
            (window, int(DIMENSION_KINDS[name])) for name, window in self._windows.items() if name != "rpm"
        )
        self._counters = tuple((counter, int(DIMENSION_KINDS[name])) for name, counter in self._days.items())
        self._midnight_lookup = -inf if self._days else inf
        self._request_meters = tuple(meter for meter in self._meters if meter.kind == Kind.REQUESTS)
        self._token_meters = tuple(meter for meter in self._meters if meter.kind != Kind.REQUESTS)

    def reserve(self, now: float, demand: Demand) -> Reservation | Denial:
        """Take all of ``demand`` or nothing."""
        breaker = self.breaker
        if now < self.paused_until or breaker.state is not _CLOSED or self._concurrency is not None:
            denial = self.check(now, demand, NOTHING)
            if denial is not None:
                return denial
        if now >= self._midnight_lookup:
            self._roll_day(now)
        for counter, kind in self._counters:
            if counter.used + demand[kind] > counter.limit:
                return self._limit_denial(now, demand)
        for bucket, kind in self._rates:
            if not bucket.take_if_there(now, demand[kind]):
                self._untake(bucket, demand)
                return self._limit_denial(now, demand)
        for counter, kind in self._counters:
            counter.used += demand[kind]
        for kind in self._token_kinds:
            self._held[kind] += demand[kind]
        if self._request_window is not None:
            self._request_window.add(now, demand[0])
        # Only thresholds of requests are announced here: reserved tokens may be refunded.
        for meter in self._request_meters:
            used = meter.used(now)
            if used >= meter.near or used - demand[0] < meter.low:
                self._report(meter, now, used - demand[0])
        self._reserved.add(demand)
        probe = 0 if breaker.state is _CLOSED else breaker.enter(now)
        reservation = Reservation(demand, now, breaker.generation, probe)
        self._live[reservation] = None
        return reservation

    def _untake(self, refusing: TokenBucket, demand: Demand) -> None:
        for bucket, kind in self._rates:
            if bucket is refusing:
                return
            bucket.untake(demand[kind])

    def _limit_denial(self, now: float, demand: Demand) -> Denial:
        """The denial of ``demand``, which does not fit one of the limits."""
        wait, dimension = self._longest_wait(now, demand, NOTHING)
        return self._too_large(demand) or limit_denial(dimension, wait)

    def check(self, now: float, demand: Demand, ahead: Demand) -> Denial | None:
        """The denial of ``demand`` once ``ahead`` has been served, the one of the longest wait; ``None`` if it fits."""
        if now >= self._midnight_lookup:
            self._roll_day(now)
        worst = self._too_large(demand)
        if worst is not None:
            return worst
        blocked = self.breaker.wait(now)
        if blocked > 0:
            return Denial(_CIRCUIT_OPEN, blocked)
        wait, dimension = self._longest_wait(now, demand, ahead)
        paused_for = self.paused_until - now
        if paused_for > wait:
            return Denial(_PAUSED, paused_for)
        return limit_denial(dimension, wait) if wait > 0 else None

    def _longest_wait(self, now: float, demand: Demand, ahead: Demand) -> tuple[float, str]:
        """Seconds until all limits have room for ``demand`` after ``ahead``, and the dimension that takes longest."""
        waits = [(0.0, "")]
        for dimension, bucket in self._buckets.items():
            kind = DIMENSION_KINDS[dimension]
            waits.append((bucket.wait(now, demand[kind] + ahead[kind]), dimension))
        for dimension, counter in self._days.items():
            kind = DIMENSION_KINDS[dimension]
            waits.append((counter.wait(now, demand[kind] + ahead[kind]), dimension))
        if self._concurrency is not None:
            # The end of a call cannot be predicted: a slot counts as free in a moment, and the patience decides.
            waits.append((1e-3 if len(self._live) + ahead.requests >= self._concurrency else 0.0, "concurrency"))
        return max(waits)

    def settle(self, now: float, reservation: Reservation, charged: Demand) -> bool:
        """Replace the reservation by ``charged``; ``False`` if it had been settled before."""
        if not self._enter_settlement(reservation, charged):
            return False
        demand = reservation.demand
        for window, kind in self._token_windows:
            window.add(now, charged[kind])
        if charged == demand:
            self._report_tokens(now, charged)
            return True
        if now >= self._midnight_lookup:
            self._roll_day(now)
        for bucket, kind in self._rates:
            delta = charged[kind] - demand[kind]
            if delta > 0:
                bucket.take(now, delta)
            elif delta:
                bucket.give_back(now, reservation.at, -delta)
        for counter, kind in self._counters:
            if reservation.at >= counter.started_at:
                counter.used += charged[kind] - demand[kind]
        if self._request_window is not None and charged[0] != demand[0]:
            if charged[0] > demand[0]:
                self._request_window.add(now, charged[0] - demand[0])
            else:
                self._request_window.take_back(now, reservation.at, demand[0] - charged[0])
        self._report_tokens(now, charged)
        return True

    def consume(self, now: float, amount: Demand) -> None:
        """Charge ``amount``, which was used without a reservation."""
        if now >= self._midnight_lookup:
            self._roll_day(now)
        for bucket, kind in self._rates:
            bucket.take(now, amount[kind])
        for counter, kind in self._counters:
            counter.used += amount[kind]
        for name, window in self._windows.items():
            window.add(now, amount.of(name))
        for meter in self._meters:
            self._report(meter, now, meter.used(now, self._held[meter.kind]) - amount[meter.kind])
        self._reserved.add(amount)
        self._settled.add(amount)

    def _report_tokens(self, now: float, charged: Demand) -> None:
        for meter in self._token_meters:
            used = meter.used(now, self._held[meter.kind])
            if used >= meter.near or used - charged[meter.kind] < meter.low:
                self._report(meter, now, used - charged[meter.kind])

    def restore(self, now: float, day: Demand, recent: Iterable[tuple[float, Demand]]) -> None:
        """Count what was used before this process began; thresholds that it crosses were announced at the time.

        ``recent`` goes back :attr:`lookback` seconds. The buckets count as empty at the beginning of that time: it is
        long enough that their level is the same if they were full then.
        """
        if now >= self._midnight_lookup:
            self._roll_day(now)
        for bucket in self._buckets.values():
            bucket.take(now - self.lookback, bucket.capacity)
        for age, amount in sorted(recent, key=lambda use: -use[0]):
            for bucket, kind in self._rates:
                bucket.take(now - age, amount[kind])
            for name, window in self._windows.items():
                window.add_at(now, now - age, amount.of(name))
        for counter, kind in self._counters:
            counter.used += day[kind]
        for meter in self._meters:
            meter.announce(now, inf)

    def on_breaker_report(self, now: float) -> None:
        """Nothing to do: the breaker of this process is the only one."""

    def pause(self, until: float) -> None:
        """Admit nothing before ``until``; an earlier, longer pause stands."""
        self.paused_until = max(self.paused_until, until)

    def reset(self, now: float) -> None:
        """Forget what was used and any pause."""
        self.paused_until = -inf
        for bucket in self._buckets.values():
            bucket.reset()
        for window in self._windows.values():
            window.reset(now)
        for counter in self._days.values():
            counter.reset(now)
        for meter in self._meters:
            meter.restart()

    def usage(self, now: float) -> dict[str, LimitUsage]:
        """The usage of each configured dimension."""
        if now >= self._midnight_lookup:
            self._roll_day(now)
        return super().usage(now)

    def _roll_day(self, now: float) -> None:
        wall = self._wall()
        midnight = next_midnight(wall, self.limits.reset_timezone)
        resets_at = now + midnight - wall
        days = {counter.started_at for counter in self._days.values()}
        for counter in self._days.values():
            counter.roll(now, resets_at, midnight)
        if days != {counter.started_at for counter in self._days.values()}:
            self._new_day()
        self._midnight_lookup = min(now + MIDNIGHT_LOOKUP, resets_at)

    def _new_day(self) -> None:
        for meter in self._meters:
            if meter.is_daily:
                meter.restart()
