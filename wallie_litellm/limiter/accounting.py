"""What every store keeps of one provider in its own process: calls in flight, sums per dimension, and meters."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Final

from wallie_litellm.core.daily_quota import DailyQuota
from wallie_litellm.core.demand import Demand, Tally
from wallie_litellm.core.dimensions import DAY_DIMENSIONS, DIMENSION_KINDS, RATE_DIMENSIONS, Kind
from wallie_litellm.core.sliding_window import SlidingWindow
from wallie_litellm.core.thresholds import ThresholdWatch
from wallie_litellm.core.token_bucket import SECONDS_PER_MINUTE, TokenBucket
from wallie_litellm.limiter.limits import AccountLimits
from wallie_litellm.limiter.listener import Crossing, LimiterListener
from wallie_litellm.limiter.quota_meter import QuotaMeter
from wallie_litellm.limiter.store import Balance, Denial, DenialReason, LimitUsage, Reservation

KINDS: Final = tuple(map(int, Kind))  # positions in a demand

ADD_UP_AFTER: Final = 1000  # settlements after which the tallies are added up, so that they stay short


class StoreAccounting:
    """One provider's limits as buckets and counters, and what this process has reserved, settled and refunded."""

    def __init__(
        self, name: str, limits: AccountLimits, levels: Mapping[str, float] | None, listener: LimiterListener | None
    ) -> None:
        self.name = name
        self.limits = limits
        self.paused_until = -inf
        self.epoch = 0  # resets of a quota that a fleet shares; stays 0 in a process of its own
        self._listener = listener
        self._live: dict[Reservation, None] = {}
        self._buckets: dict[str, TokenBucket] = {
            dimension: TokenBucket(limits.usable(dimension), limits.capacity(dimension))
            for dimension in RATE_DIMENSIONS
            if dimension in limits.per_dimension
        }
        self._windows = {dimension: SlidingWindow() for dimension in self._buckets}
        self._days: dict[str, DailyQuota] = {
            dimension: DailyQuota(limits.whole(dimension))
            for dimension in DAY_DIMENSIONS
            if dimension in limits.per_dimension
        }
        self._concurrency: int | None = None
        if "concurrency" in limits.per_dimension:
            self._concurrency = max(1, limits.whole("concurrency"))
        meters = {name: self._meter(name, levels) for name in (*self._buckets, *self._days)} if levels else {}
        self._meters = tuple(meters.values())
        kinds = {int(DIMENSION_KINDS[name]) for name in (*self._buckets, *self._days)}
        self._token_kinds = tuple(kinds - {int(Kind.REQUESTS)})
        self._reserved, self._settled = Tally(), Tally()
        self._held = [0] * len(KINDS)  # tokens reserved and not yet settled, of the kinds that a limit counts
        self._overrun, self._refunded = [0, 0, 0, 0], [0, 0, 0, 0]

    def _meter(self, name: str, levels: Mapping[str, float]) -> QuotaMeter:
        kind, watch = int(DIMENSION_KINDS[name]), ThresholdWatch(levels)
        if name in self._windows:
            return QuotaMeter(name, kind, self.limits.per_minute(name), watch, self._windows[name])
        return QuotaMeter(name, kind, self._days[name].limit, watch, self._days[name])

    @property
    def lookback(self) -> float:
        """For how many seconds usage still counts: a minute, or twice a bucket's refill, in case of debt."""
        return max((SECONDS_PER_MINUTE, *(2 * bucket.depth for bucket in self._buckets.values())))

    @property
    def in_flight(self) -> int:
        """Reservations not yet settled."""
        return len(self._live)

    def capacity(self, dimension: str) -> float:
        """The most units that one request may demand in ``dimension``; ``inf`` without a limit."""
        if dimension in self._buckets:
            return self._buckets[dimension].capacity
        return self._days[dimension].limit if dimension in self._days else inf

    def fit(self, demand: Demand) -> Demand:
        """``demand`` with its output cut to the capacity of the limits."""
        tokens = min([demand.tokens, *(self.capacity(name) for name in ("tpm", "tpd"))])
        output = min(demand.output, self.capacity("otpm"))
        return Demand(demand.requests, int(max(tokens, demand.input)), demand.input, int(output))

    def expire(self, before: float) -> list[Reservation]:
        """The unsettled reservations admitted before ``before``."""
        late = []
        for reservation in self._live:  # in the order of admission
            if reservation.at >= before:
                break
            late.append(reservation)
        return late

    def oldest(self) -> float | None:
        """When the oldest unsettled reservation was admitted."""
        return next((reservation.at for reservation in self._live), None)

    def _too_large(self, demand: Demand) -> Denial | None:
        for dimension in (*self._buckets, *self._days):
            if demand.of(dimension) > self.capacity(dimension) + 1e-9:
                return Denial(DenialReason.TOO_LARGE, inf, dimension)
        return None

    def _enter_settlement(self, reservation: Reservation, charged: Demand) -> bool:
        """Count the end of a reservation; ``False`` if it had been counted before."""
        if reservation.settled:
            return False
        reservation.settled = True
        del self._live[reservation]
        demand = reservation.demand
        self._settled.add(charged)
        if len(self._settled) > ADD_UP_AFTER:
            self._settled.total()
            self._reserved.total()
        for kind in self._token_kinds:
            self._held[kind] -= demand[kind]
        if charged != demand:
            for kind in KINDS:
                delta = charged[kind] - demand[kind]
                if delta > 0:  # an overrun counts as reserved after the fact, so that the balance adds up
                    self._overrun[kind] += delta
                elif delta:
                    self._refunded[kind] -= delta
        return True

    def _report(self, meter: QuotaMeter, now: float, before: float) -> None:
        """Announce the thresholds that are reached; ``before`` were used until a moment ago."""
        reserved = self._held[meter.kind]
        if meter.used(now, reserved) < meter.near and before >= meter.low:
            return
        for level, used in meter.announce(now, before, reserved):
            if self._listener is not None:
                usage = self.usage(now)[meter.dimension]._replace(used=used)
                crossing = Crossing(meter.dimension, level, usage.utilization, usage, self.epoch)
                self._listener.on_threshold(self.name, crossing)

    def usage(self, now: float) -> dict[str, LimitUsage]:
        """The usage of each configured dimension."""
        stated = self.limits.per_dimension
        usage = {
            name: LimitUsage(
                used=self._windows[name].used(now),
                limit=stated[name],
                full=self.limits.per_minute(name),
                left=max(0.0, bucket.capacity - bucket.used(now)),
                reset_in=bucket.full_in(now),
                balance=self._balance(name),
                reserved=self._held[DIMENSION_KINDS[name]],
            )
            for name, bucket in self._buckets.items()
        }
        for name, counter in self._days.items():
            left, reset_in = max(0.0, counter.limit - counter.used), counter.resets_at - now
            usage[name] = LimitUsage(counter.used, stated[name], counter.limit, left, reset_in, self._balance(name))
        if (most := self._concurrency) is not None:
            used, balance = len(self._live), self._balance("concurrency")
            usage["concurrency"] = LimitUsage(used, most, most, max(0.0, most - used), 0.0, balance)
        return usage

    def _balance(self, dimension: str) -> Balance:
        kind = DIMENSION_KINDS[dimension]
        reserved = self._reserved.total()[kind] + self._overrun[kind]
        return Balance(reserved, self._settled.total()[kind], self._refunded[kind])
