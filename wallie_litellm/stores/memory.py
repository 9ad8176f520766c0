"""One provider's state in this process's memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from math import ceil, inf

from wallie_litellm.core.breaker import Breaker, BreakerRules, BreakerState
from wallie_litellm.core.bucket import SECONDS_PER_MINUTE, Bucket
from wallie_litellm.core.day import DayCounter, next_midnight
from wallie_litellm.core.demand import NOTHING, Demand, Tally
from wallie_litellm.core.dimensions import DAY_DIMENSIONS, DIMENSION_KINDS, RATE_DIMENSIONS, Kind
from wallie_litellm.core.quota import QuotaWatch
from wallie_litellm.stores.base import CIRCUIT, PAUSED, TOO_LARGE, DimensionUse, Hurdle, Ledger, Reservation

# Looking up an enum's member costs more than the arithmetic around it (CPython 3.11).
_CLOSED = BreakerState.CLOSED
_KINDS = tuple(map(int, Kind))

#: Told of a threshold that was reached: dimension, level, share of the limit, time.
Crossed = Callable[[str, str, float, float], None]

# Settlements after which the books are added up, so that they stay short where nobody asks for them.
ADD_UP_AFTER = 1000

# The wall clock may be set, or stand still while a machine sleeps: midnight is looked up again this often (seconds).
MIDNIGHT_LOOKUP = 60.0


@dataclass(frozen=True, slots=True)
class Limits:
    """A provider's limits: what each dimension allows, per minute, per day or at once."""

    per_dimension: Mapping[str, int] = field(default_factory=dict)
    burst: Mapping[str, int] = field(default_factory=dict)
    headroom: float = 0.0
    reset_timezone: str = "UTC"

    def usable(self, dimension: str) -> float:
        """The limit less the share that is kept unused."""
        return self.per_dimension[dimension] * (1 - self.headroom)


class _Gauge:
    """How far one limit is used, and whom to tell. Amounts are units of the dimension."""

    __slots__ = ("_counter", "_limit", "_per_second", "_watch", "bucket", "dimension", "kind", "low", "near")

    def __init__(
        self,
        dimension: str,
        kind: int,
        limit: float,
        watch: QuotaWatch,
        bucket: Bucket | None,
        counter: DayCounter | None,
    ) -> None:
        self.dimension = dimension
        self.kind = kind
        self.bucket = bucket
        self._counter = counter
        self._limit = limit
        self._watch = watch
        self._per_second = 1 / bucket.cost if bucket is not None else 0.0
        self._look_out()

    def used(self, now: float) -> float:
        """Units used; may be below 0 for a bucket that is full."""
        if self.bucket is not None:
            return (self.bucket.full_at - now) * self._per_second
        return self._counter.used if self._counter is not None else 0

    def news(self, now: float, before: float, held: int = 0) -> list[tuple[str, float]]:
        """The levels to report, each with the share that is used; ``before`` were used until a moment ago.

        ``held`` are those that are only reserved.
        """
        if before < self.low:
            self._watch.fell(max(0.0, before) / self._limit)
        share = ceil(max(0.0, self.used(now) - held - 1e-6)) / self._limit
        ends = now + SECONDS_PER_MINUTE if self._counter is None else self._counter.resets_at
        levels = self._watch.rose(share, now, ends)
        self._look_out()
        return [(level, share) for level in levels]

    def restart(self) -> None:
        """Begin a window in which nothing has been reported yet."""
        self._watch.restart()
        self._look_out()

    def _look_out(self) -> None:
        self.near = self._watch.high * self._limit - 1  # a part of a unit counts as one
        self.low = self._watch.low * self._limit


class MemoryProvider:
    """See :class:`~wallie_litellm.stores.base.ProviderStore`."""

    def __init__(
        self,
        name: str,
        limits: Limits,
        rules: BreakerRules,
        wall: Callable[[], float],
        levels: Mapping[str, float] | None = None,
    ) -> None:
        self.name = name
        self.limits = limits
        self.breaker = Breaker(rules)
        self.paused_until = -inf
        self._wall = wall
        self._live: dict[Reservation, None] = {}
        self._buckets: dict[str, Bucket] = {
            dimension: Bucket(
                limits.usable(dimension),
                max(1.0, limits.burst.get(dimension, limits.per_dimension[dimension]) * (1 - limits.headroom)),
            )
            for dimension in RATE_DIMENSIONS
            if dimension in limits.per_dimension
        }
        self._days: dict[str, DayCounter] = {
            dimension: DayCounter(int(limits.usable(dimension) + 1e-9))  # 100 * (1 - 0.9) is a little below 10
            for dimension in DAY_DIMENSIONS
            if dimension in limits.per_dimension
        }
        self._concurrency: int | None = None
        if "concurrency" in limits.per_dimension:
            self._concurrency = max(1, int(limits.usable("concurrency") + 1e-9))
        # The hot path walks plain tuples: (bucket, position of its kind in a demand).
        self._rates = tuple((bucket, int(DIMENSION_KINDS[name])) for name, bucket in self._buckets.items())
        self._counters = tuple((counter, int(DIMENSION_KINDS[name])) for name, counter in self._days.items())
        self._midnight_lookup = -inf if self._days else inf
        self._reserved, self._settled = Tally(), Tally()
        self.on_crossing: Crossed | None = None
        gauges = {name: self._gauge(name, levels) for name in (*self._buckets, *self._days)} if levels else {}
        self._gauges = tuple(gauges.values())
        self._request_gauges = tuple(gauge for gauge in self._gauges if gauge.kind == Kind.REQUESTS)
        self._token_gauges = tuple(gauge for gauge in self._gauges if gauge.kind != Kind.REQUESTS)
        self._token_kinds = tuple({gauge.kind for gauge in self._token_gauges})
        self._held = [0] * len(_KINDS)  # reserved, and not yet used: of the kinds that are counted in tokens
        self._overrun, self._refunded = [0, 0, 0, 0], [0, 0, 0, 0]

    def _gauge(self, name: str, levels: Mapping[str, float]) -> _Gauge:
        kind, watch = int(DIMENSION_KINDS[name]), QuotaWatch(levels)
        return _Gauge(name, kind, self.ceiling(name), watch, self._buckets.get(name), self._days.get(name))

    @property
    def memory(self) -> float:
        """For how many seconds what was taken may still be missing from a bucket; twice that without debt."""
        return 2 * max((bucket.depth for bucket in self._buckets.values()), default=0.0)

    @property
    def in_flight(self) -> int:
        """Reservations not yet settled."""
        return len(self._live)

    def reserve(self, now: float, demand: Demand) -> Reservation | Hurdle:
        """Take all of ``demand`` or nothing."""
        breaker = self.breaker
        if now < self.paused_until or breaker.state is not _CLOSED or self._concurrency is not None:
            hurdle = self.hurdle(now, demand, NOTHING)
            if hurdle is not None:
                return hurdle
        if now >= self._midnight_lookup:
            self._roll(now)
        for counter, kind in self._counters:
            if counter.used + demand[kind] > counter.limit:
                return self._obstacle(now, demand)
        for bucket, kind in self._rates:
            if not bucket.take_if_there(now, demand[kind]):
                self._untake(bucket, demand)
                return self._obstacle(now, demand)
        for counter, kind in self._counters:
            counter.used += demand[kind]
        for kind in self._token_kinds:
            self._held[kind] += demand[kind]
        # Only requests are told of here: tokens that are reserved may come back.
        for gauge in self._request_gauges:
            used = gauge.used(now)
            if used >= gauge.near or used - demand[0] < gauge.low:
                self._report(gauge, now, used - demand[0])
        self._reserved.add(demand)
        probe = 0 if breaker.state is _CLOSED else breaker.enter(now)
        reservation = Reservation(demand, now, breaker.generation, probe)
        self._live[reservation] = None
        return reservation

    def _untake(self, refusing: Bucket, demand: Demand) -> None:
        for bucket, kind in self._rates:
            if bucket is refusing:
                return
            bucket.untake(demand[kind])

    def _obstacle(self, now: float, demand: Demand) -> Hurdle:
        hurdle = self.hurdle(now, demand, NOTHING)
        assert hurdle is not None, "the caller has just found one"  # noqa: S101 - narrows for the type checker
        return hurdle

    def hurdle(self, now: float, demand: Demand, ahead: Demand) -> Hurdle | None:
        """What keeps ``demand`` from being admitted now, once ``ahead`` has been served; the longest wait wins."""
        if now >= self._midnight_lookup:
            self._roll(now)
        worst = self._too_large(demand)
        if worst is not None:
            return worst
        blocked = self.breaker.wait(now)
        if blocked > 0:
            return Hurdle(CIRCUIT, blocked)
        waits = [(self.paused_until - now, PAUSED)]
        for dimension, bucket in self._buckets.items():
            kind = DIMENSION_KINDS[dimension]
            waits.append((bucket.wait(now, demand[kind] + ahead[kind]), dimension))
        for dimension, counter in self._days.items():
            kind = DIMENSION_KINDS[dimension]
            waits.append((counter.wait(now, demand[kind] + ahead[kind]), dimension))
        if self._concurrency is not None:
            # Nobody knows when a call ends; a place counts as free in a moment and the waiter's patience decides.
            waits.append((1e-3 if len(self._live) + ahead.requests >= self._concurrency else 0.0, "concurrency"))
        wait, reason = max(waits)
        return Hurdle(reason, wait) if wait > 0 else None

    def _too_large(self, demand: Demand) -> Hurdle | None:
        for dimension, bucket in self._buckets.items():
            if demand.of(dimension) > bucket.capacity + 1e-9:
                return Hurdle(TOO_LARGE + dimension, inf)
        for dimension, counter in self._days.items():
            if demand.of(dimension) > counter.limit:
                return Hurdle(TOO_LARGE + dimension, inf)
        return None

    def fit(self, demand: Demand) -> Demand:
        """``demand`` with its output cut down to what the limits can hold at all."""
        tokens = min([demand.tokens, *(self.ceiling(name) for name in ("tpm", "tpd"))])
        output = min(demand.output, self.ceiling("otpm"))
        return Demand(demand.requests, int(max(tokens, demand.input)), demand.input, int(output))

    def ceiling(self, dimension: str) -> float:
        """The most that one request can ask for in ``dimension``; ``inf`` without a limit."""
        if dimension in self._buckets:
            return self._buckets[dimension].capacity
        return self._days[dimension].limit if dimension in self._days else inf

    def settle(self, now: float, reservation: Reservation, charged: Demand) -> bool:
        """Replace the reservation by what was used; ``False`` when it had been settled before."""
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
        if charged == demand:
            self._report_tokens(now, charged)
            return True
        if now >= self._midnight_lookup:
            self._roll(now)
        for bucket, kind in self._rates:
            delta = charged[kind] - demand[kind]
            if delta > 0:
                bucket.take(now, delta)
            elif delta:
                bucket.give_back(now, reservation.at, -delta)
        for counter, kind in self._counters:
            if reservation.at >= counter.started_at:
                counter.used += charged[kind] - demand[kind]
        for kind in _KINDS:
            delta = charged[kind] - demand[kind]
            if delta > 0:  # an overrun is reserved after the fact, so that the books balance
                self._overrun[kind] += delta
            elif delta:
                self._refunded[kind] -= delta
        self._report_tokens(now, charged)
        return True

    def consume(self, now: float, amount: Demand) -> None:
        """Charge an amount that was used without a reservation."""
        if now >= self._midnight_lookup:
            self._roll(now)
        for bucket, kind in self._rates:
            bucket.take(now, amount[kind])
        for counter, kind in self._counters:
            counter.used += amount[kind]
        for gauge in self._gauges:
            self._report(gauge, now, gauge.used(now) - amount[gauge.kind])
        self._reserved.add(amount)
        self._settled.add(amount)

    def _report_tokens(self, now: float, charged: Demand) -> None:
        for gauge in self._token_gauges:
            used = gauge.used(now) - self._held[gauge.kind]
            if used >= gauge.near or used - charged[gauge.kind] < gauge.low:
                self._report(gauge, now, used - charged[gauge.kind])

    def _report(self, gauge: _Gauge, now: float, before: float) -> None:
        """Say which thresholds are reached, now that ``before`` has become what it is."""
        held = self._held[gauge.kind]
        used = gauge.used(now) - held
        if used < gauge.near and before >= gauge.low:
            return
        for level, share in gauge.news(now, before, held):
            if self.on_crossing is not None:
                self.on_crossing(gauge.dimension, level, share, now)

    def restore(self, now: float, day: Demand, recent: Iterable[tuple[float, Demand]]) -> None:
        """Count what was used before this process began. What that crosses, its own process has reported.

        ``recent`` goes back :attr:`memory` seconds. Before that the buckets may have been kept empty; what is in them
        now is the same if they were not.
        """
        if now >= self._midnight_lookup:
            self._roll(now)
        for bucket in self._buckets.values():
            bucket.take(now - self.memory, bucket.capacity)
        for age, amount in sorted(recent, key=lambda use: -use[0]):
            for bucket, kind in self._rates:
                bucket.take(now - age, amount[kind])
        for counter, kind in self._counters:
            counter.used += day[kind]
        for gauge in self._gauges:
            gauge.news(now, inf)

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

    def pause(self, until: float) -> None:
        """Admit nothing before ``until``; an earlier, longer pause stands."""
        self.paused_until = max(self.paused_until, until)

    def reset(self, now: float) -> None:
        """Forget what was used and any pause."""
        self.paused_until = -inf
        for bucket in self._buckets.values():
            bucket.reset()
        for counter in self._days.values():
            counter.reset(now)
        for gauge in self._gauges:
            gauge.restart()

    def use(self, now: float) -> dict[str, DimensionUse]:
        """How much of each configured dimension is used."""
        if now >= self._midnight_lookup:
            self._roll(now)
        limits = self.limits.per_dimension
        use = {
            name: DimensionUse(bucket.used(now), limits[name], bucket.capacity, bucket.full_in(now), self._books(name))
            for name, bucket in self._buckets.items()
        }
        for name, counter in self._days.items():
            left = counter.resets_at - now
            use[name] = DimensionUse(counter.used, limits[name], counter.limit, left, self._books(name))
        if self._concurrency is not None:
            most, books = self._concurrency, self._books("concurrency")
            use["concurrency"] = DimensionUse(len(self._live), most, most, 0.0, books)
        return use

    def _books(self, dimension: str) -> Ledger:
        kind = DIMENSION_KINDS[dimension]
        reserved = self._reserved.total()[kind] + self._overrun[kind]
        return Ledger(reserved, self._settled.total()[kind], self._refunded[kind])

    def _roll(self, now: float) -> None:
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
        for gauge in self._gauges:
            if gauge.bucket is None:
                gauge.restart()
