"""One scope's limits in this process: buckets and counters, meters, and what was reserved, settled and refunded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import inf
from typing import Final, TypeVar

from wallie_litellm.core.daily_quota import DailyQuota
from wallie_litellm.core.demand import Demand, Tally
from wallie_litellm.core.dimensions import DAY_DIMENSIONS, DIMENSION_KINDS, RATE_DIMENSIONS, Kind
from wallie_litellm.core.limit_keys import limit_key
from wallie_litellm.core.sliding_window import SlidingWindow
from wallie_litellm.core.thresholds import ThresholdWatch
from wallie_litellm.core.token_bucket import TokenBucket
from wallie_litellm.limiter.limits import ScopeLimits
from wallie_litellm.limiter.quota_meter import QuotaMeter
from wallie_litellm.limiter.store import Balance, Denial, DenialReason, LimitUsage

KINDS: Final = tuple(map(int, Kind))  # positions in a demand

_Kept = TypeVar("_Kept")


class ScopeAccounting:
    """The limits of one scope: the account's (``""``), or those of the models that a pattern matches.

    ``limits`` are those in force; ``configured`` are the file's. Buckets, windows and counters are by dimension.
    """

    def __init__(self, scope: str, limits: ScopeLimits, levels: Mapping[str, float] | None) -> None:
        self.scope = scope
        self.limits = self.configured = limits
        self.in_flight = 0  # calls; only kept of a model with a limit for them
        self.concurrency: int | None = None
        self.buckets: dict[str, TokenBucket] = {}
        self.windows: dict[str, SlidingWindow] = {}
        self.days: dict[str, DailyQuota] = {}
        self.meters: dict[str, QuotaMeter] = {}
        self.token_kinds: tuple[int, ...] = ()
        self.reserved, self.settled = Tally(), Tally()
        self.held = [0] * len(KINDS)  # tokens reserved and not yet settled, of the kinds that a limit counts
        self._overrun, self._refunded = [0, 0, 0, 0], [0, 0, 0, 0]
        self._levels = levels
        self._in_force: dict[str, int] = {}  # limits that are not the configured ones
        for dimension in limits.per_dimension:
            self._build(dimension)

    def configure(self, now: float, limits: ScopeLimits, levels: Mapping[str, float] | None) -> None:
        """Go by other ``limits`` of the file, and other thresholds. What is missing or counted stays so."""
        before, self.configured, self._levels = self.limits, limits, levels
        self.limits = self._with_learned()
        for dimension in {*before.per_dimension, *self.limits.per_dimension}:
            if dimension not in self.limits.per_dimension:
                self._drop(dimension)
            elif dimension not in before.per_dimension:
                self._add(now, dimension)
            elif before.terms(dimension) != self.limits.terms(dimension):
                self._resize(now, dimension)
        for meter in self.meters.values():
            meter.use(levels or {})

    def _with_learned(self) -> ScopeLimits:
        limits = self.configured
        for name, limit in self._in_force.items():
            limits = limits.with_limit(name, limit)
        return limits

    def _add(self, now: float, dimension: str) -> None:
        self._build(dimension)
        if (counter := self.days.get(dimension)) is not None:
            counter.started_at = now  # calls from before are not in it: their refunds are none of its

    def _build(self, dimension: str) -> None:
        limits = self.limits
        if dimension in RATE_DIMENSIONS:
            self.buckets[dimension] = TokenBucket(limits.usable(dimension), limits.capacity(dimension))
            self.windows[dimension] = SlidingWindow()
        elif dimension in DAY_DIMENSIONS:
            self.days[dimension] = DailyQuota(limits.whole(dimension))
        else:
            self.concurrency = limits.whole(dimension)
            return
        # In the order of the dimensions, whatever that of the file.
        self.buckets, self.windows = _in_order(self.buckets, RATE_DIMENSIONS), _in_order(self.windows, RATE_DIMENSIONS)
        self.days = _in_order(self.days, DAY_DIMENSIONS)
        if self._levels:
            self.meters[dimension] = self._meter(dimension, self._levels)
            self.meters = _in_order(self.meters, (*RATE_DIMENSIONS, *DAY_DIMENSIONS))
        self._note_kinds()

    def _note_kinds(self) -> None:
        kinds = {int(DIMENSION_KINDS[name]) for name in (*self.buckets, *self.days)}
        self.token_kinds = tuple(kinds - {int(Kind.REQUESTS)})

    def _meter(self, dimension: str, levels: Mapping[str, float]) -> QuotaMeter:
        key, kind, watch = limit_key(dimension, self.scope), int(DIMENSION_KINDS[dimension]), ThresholdWatch(levels)
        if dimension in self.windows:
            return QuotaMeter(key, kind, self.limits.per_minute(dimension), watch, self.windows[dimension])
        return QuotaMeter(key, kind, self.days[dimension].limit, watch, self.days[dimension])

    def set_limit(self, now: float, dimension: str, amount: int | None) -> None:
        """Have ``amount`` in force from now on, or the configured limit again; what is missing stays missing."""
        if amount is None:
            self._in_force.pop(dimension, None)
        else:
            self._in_force[dimension] = max(1, amount)
        had_it = dimension in self.limits.per_dimension
        self.limits = self._with_learned()
        if dimension not in self.limits.per_dimension:
            self._drop(dimension)
        elif had_it:
            self._resize(now, dimension)
        else:
            self._add(now, dimension)

    def in_force(self, dimension: str) -> tuple[int, float, float]:
        """A limit as it is stated, the units of it that are usable, and the capacity of a rate's bucket."""
        limits, stated = self.limits, self.limits.per_dimension[dimension]
        if dimension in self.buckets:
            return stated, limits.usable(dimension), limits.capacity(dimension)
        return stated, limits.whole(dimension), 0

    def _resize(self, now: float, dimension: str) -> None:
        limits = self.limits
        if dimension in self.buckets:
            self.buckets[dimension].resize(now, limits.usable(dimension), limits.capacity(dimension))
            self.buckets[dimension].forgive(now)
            full = limits.per_minute(dimension)
        elif dimension in self.days:
            full = self.days[dimension].limit = limits.whole(dimension)
        else:
            self.concurrency = limits.whole(dimension)
            return
        if dimension in self.meters:
            self.meters[dimension].resize(full)

    def _drop(self, dimension: str) -> None:
        for kept in (self.buckets, self.windows, self.days, self.meters):
            kept.pop(dimension, None)
        if dimension == "concurrency":
            self.concurrency = None
        self._note_kinds()

    def bound(self, now: float, dimension: str, left: float) -> None:
        """Leave no more than ``left`` units: other programs have used the rest."""
        if (bucket := self.buckets.get(dimension)) is not None:
            excess = bucket.capacity - bucket.used(now) - max(0.0, left)
            if excess > 0:
                bucket.take(now, excess)
        elif (counter := self.days.get(dimension)) is not None:
            counter.used = max(counter.used, counter.limit - int(max(0.0, left)))

    def used_before(self, day: Demand, recent: Sequence[tuple[float, Demand]], lookback: float) -> dict[str, float]:
        """What earlier use has left missing: of today, and ``recent`` as (seconds ago, amount), oldest first."""
        found: dict[str, float] = {}
        for name, bucket in self.buckets.items():
            missing, last = bucket.capacity, lookback
            for age, amount in recent:
                missing = max(0.0, missing - (last - age) / bucket.cost) + amount.of(name)
                last = age
            found[name] = max(0.0, missing - last / bucket.cost)
        return {**found, **{name: day.of(name) for name in self.days}}

    def reset(self, now: float) -> None:
        """Forget what was used."""
        for bucket in self.buckets.values():
            bucket.reset()
        for window in self.windows.values():
            window.reset(now)
        for counter in self.days.values():
            counter.reset(now)
        for meter in self.meters.values():
            meter.restart()

    def recount(self, live: Iterable[Demand]) -> None:
        """Take the calls under way for all that there are: a limit has been added or dropped."""
        demands = list(live)
        self.in_flight = len(demands)
        # In place: the stores hold on to the list.
        self.held[:] = [sum(demand[kind] for demand in demands) if kind in self.token_kinds else 0 for kind in KINDS]

    def capacity(self, dimension: str) -> float:
        """The most units that one request may demand in ``dimension``; ``inf`` without a limit."""
        if dimension in self.buckets:
            return self.buckets[dimension].capacity
        return self.days[dimension].limit if dimension in self.days else inf

    def too_large(self, demand: Demand) -> Denial | None:
        """The denial of a demand that exceeds the whole capacity of a limit."""
        for dimension in (*self.buckets, *self.days):
            if demand.of(dimension) > self.capacity(dimension) + 1e-9:
                return Denial(DenialReason.TOO_LARGE, inf, limit_key(dimension, self.scope))
        return None

    def share_within(self, now: float, demand: Demand, seconds: float) -> float:
        """The share of ``demand`` that rates and days let through in that time."""
        left = [
            (demand.of(name), bucket.capacity - bucket.used(now) + seconds / bucket.cost)
            for name, bucket in self.buckets.items()
        ]
        left += [(demand.of(name), float(counter.limit - counter.used)) for name, counter in self.days.items()]
        return max(0.0, min((most / units for units, most in left if units > 0), default=1.0))

    def enter_reservation(self, demand: Demand) -> None:
        """Count an admission."""
        held = self.held
        for kind in self.token_kinds:
            held[kind] += demand[kind]
        self.reserved.add(demand)
        if self.concurrency is not None:
            self.in_flight += 1

    def enter_settlement(self, demand: Demand, charged: Demand) -> None:
        """Count the end of a reservation of ``demand``."""
        if self.concurrency is not None:
            self.in_flight -= 1
        self.settled.add(charged)
        for kind in self.token_kinds:
            self.held[kind] -= demand[kind]
        if charged != demand:
            for kind in KINDS:
                delta = charged[kind] - demand[kind]
                if delta > 0:  # an overrun counts as reserved after the fact, so that the balance adds up
                    self._overrun[kind] += delta
                elif delta:
                    self._refunded[kind] -= delta

    def add_up(self) -> None:
        """Add up the tallies, so that they stay short."""
        self.reserved.total()
        self.settled.total()

    def usage(self, now: float) -> dict[str, LimitUsage]:
        """The usage of each dimension that has a limit; ``in_flight`` calls are under way."""
        stated = self.limits.per_dimension
        usage = {
            name: LimitUsage(
                used=self.windows[name].used(now),
                limit=stated[name],
                full=self.limits.per_minute(name),
                left=max(0.0, bucket.capacity - bucket.used(now)),
                reset_in=bucket.full_in(now),
                balance=self._balance(name),
                reserved=self.held[DIMENSION_KINDS[name]],
            )
            for name, bucket in self.buckets.items()
        }
        for name, counter in self.days.items():
            left, reset_in = max(0.0, counter.limit - counter.used), counter.resets_at - now
            usage[name] = LimitUsage(counter.used, stated[name], counter.limit, left, reset_in, self._balance(name))
        if (most := self.concurrency) is not None:
            used, balance = self.in_flight, self._balance("concurrency")
            usage["concurrency"] = LimitUsage(used, most, most, max(0.0, most - used), 0.0, balance)
        return usage

    def _balance(self, dimension: str) -> Balance:
        kind = DIMENSION_KINDS[dimension]
        reserved = self.reserved.total()[kind] + self._overrun[kind]
        return Balance(reserved, self.settled.total()[kind], self._refunded[kind])


def _in_order(kept: Mapping[str, _Kept], dimensions: Sequence[str]) -> dict[str, _Kept]:
    return {name: kept[name] for name in dimensions if name in kept}
