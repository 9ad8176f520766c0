"""What a fleet's worker keeps of one provider: limits as the lease server last answered, leases, reports to make."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from math import ceil
from typing import TypeVar

from wallie_litellm.core.circuit_breaker import BreakerRules
from wallie_litellm.core.daily_quota import DailyQuota
from wallie_litellm.core.demand import Demand
from wallie_litellm.core.dimensions import DIMENSION_KINDS
from wallie_litellm.core.lease_exchange import LimitInForce
from wallie_litellm.core.limit_keys import ACCOUNT, dimension_in, limit_key, scope_in
from wallie_litellm.core.sliding_window import SlidingWindow
from wallie_litellm.core.token_bucket import SECONDS_PER_MINUTE, TokenBucket
from wallie_litellm.limiter.accounting import StoreAccounting
from wallie_litellm.limiter.leased.breaker_replica import BreakerReplica
from wallie_litellm.limiter.leased.fleet_serves import FleetServes
from wallie_litellm.limiter.leased.lease_balance import LeaseBalance
from wallie_litellm.limiter.leased.lease_client import LeaseClient, Slots
from wallie_litellm.limiter.leased.leased_way import LeasedWay
from wallie_litellm.limiter.leased.usage_mirror import UsageMirror
from wallie_litellm.limiter.limits import AccountLimits
from wallie_litellm.limiter.listener import LimiterListener
from wallie_litellm.limiter.store import LimitUsage

_Kept = TypeVar("_Kept")


class LeasedAccounting(StoreAccounting):
    """The part of a :class:`~wallie_litellm.limiter.leased.leased_store.LeasedStore` that admits nothing."""

    def __init__(
        self,
        name: str,
        limits: AccountLimits,
        rules: BreakerRules,
        wall: Callable[[], float],
        levels: Mapping[str, float] | None,
        listener: LimiterListener | None,
        *,
        worker: str,
        is_local: bool,
    ) -> None:
        super().__init__(name, limits, levels, listener)
        self.breaker = BreakerReplica(rules)
        # By the keys of limits; filled by `_index`.
        self._buckets: dict[str, TokenBucket] = {}
        self._days: dict[str, DailyQuota] = {}
        self._windows: dict[str, SlidingWindow] = {}
        self._balances: dict[str, LeaseBalance] = {}
        self._mirror = UsageMirror(
            self._buckets, self._windows, self._days, self._meters, self._report, limits.reset_timezone, wall
        )
        self._minute = self._mirror.minute
        self._lease = LeaseClient(worker, self._balances, self._mirror, self.breaker, is_local=is_local)
        self._ways: dict[str, LeasedWay] = {}
        self._index()

    @abstractmethod
    def _renew_soon(self, now: float) -> None:
        """Have the lease server know, and its answer applied."""

    @property
    def serves(self) -> FleetServes:
        """Which models have served lately, at any worker."""
        return self._mirror.serves

    @property
    def workers(self) -> int:
        """The workers that share the limits."""
        return self._mirror.workers

    def _index(self) -> None:
        """Look up buckets, counters, leases and slots by the keys of their limits, and what each scope passes."""
        _replace(self._buckets, self._by_key(lambda scope: scope.buckets))
        _replace(self._windows, self._by_key(lambda scope: scope.windows))
        _replace(self._days, self._by_key(lambda scope: scope.days))
        kinds = {key: int(DIMENSION_KINDS[dimension_in(key)]) for key in (*self._buckets, *self._days)}
        for key in self._balances.keys() - kinds.keys():
            self._lease.retire(key, self._balances[key])
        found = {key: self._balances.get(key) or self._lease.revive(key) for key in kinds}
        _replace(self._balances, {key: one or LeaseBalance(kinds[key]) for key, one in found.items()})
        scopes = [one for one in self._scopes.values() if one.concurrency is not None]
        limits = {limit_key("concurrency", one.scope): one.concurrency or 0 for one in scopes}
        slots = self._lease.slots
        for key, limit in limits.items():
            slots.setdefault(key, Slots(limit)).limit = limit
        _replace(slots, {key: slots[key] for key in limits})
        self._ways = {
            scope: LeasedWay(passed, self._balances, slots, self._ways.get(scope))
            for scope, passed in self._passed.items()
        }

    def set_limit(self, now: float, scope: str, dimension: str, amount: int | None) -> None:
        """Have ``amount`` in force in the whole fleet from now on, or with ``None`` the configured limit again."""
        self._set_limit(now, scope, dimension, amount)
        self._index()
        in_force = (0, 0, 0) if amount is None else self._scopes[scope].in_force(dimension)
        set_at = round(self._mirror.server_time_at(now), 3)
        self._lease.limits.set(limit_key(dimension, scope), [set_at, *in_force])
        self._renew_soon(now)

    def configure(
        self, now: float, limits: AccountLimits, rules: BreakerRules, levels: Mapping[str, float] | None
    ) -> None:
        """Go by other limits of the file, other rules of the breaker and other thresholds from now on.

        What is on lease goes back: under a smaller limit it may be more than there is.
        """
        self._configure(now, limits, levels)
        self._mirror.move_to(limits.reset_timezone)
        self._lease.use(rules)
        self._index()
        self._lease.release()
        self._renew_soon(now)

    def keep_to(self, keeps_to: Callable[[str, str], bool]) -> None:
        """Give up what other workers have set of limits, by scope and dimension, that are not to be kept to here."""
        self._lease.limits.keeps_to = lambda key: keeps_to(scope_in(key), dimension_in(key))

    def add_scope(self, scope: str) -> None:
        """Add a scope without limits."""
        self._add_scope(scope)
        self._index()

    def charge(self, now: float, scope: str, dimension: str, units: float) -> None:
        """Take units of a limit per minute that others have used: each worker takes its part."""
        if (key := limit_key(dimension, scope)) in self._buckets:
            charge = self._lease.pending.charge
            charge[key] = charge.get(key, 0) + units / self.workers

    def bound(self, now: float, scope: str, dimension: str, left: float) -> None:
        """Leave no more than ``left`` units of a limit: other programs have used the rest."""
        own, key = self.usage(now, scope).get(dimension), limit_key(dimension, scope)
        if own is None or key not in self._balances or own.left <= left:
            return
        self._scopes[scope].bound(now, dimension, left)
        self._balances[key].release(int(max(0.0, left)))
        self._lease.limits.bounds[key] = [key, max(0.0, left), self._mirror.server_time_at(now)]

    def _receive_limits(self, now: float, answered: Mapping[str, LimitInForce]) -> None:
        """Have in force what other workers have set; a scope that one of them has added is added here."""
        for key, amount in self._lease.limits.receive(answered, round(self._mirror.server_time_at(now), 3)):
            scope = scope_in(key)
            if scope not in self._scopes and amount is not None:
                self._add_scope(scope)
            if scope in self._scopes:
                self._set_limit(now, scope, dimension_in(key), amount)
                self._index()

    def restore(self, now: float, day: Demand, recent: Iterable[tuple[float, Demand]], scope: str = ACCOUNT) -> None:
        """What was used before this process began: the seed of a lease server that has no state."""
        own = self._scopes[scope]
        oldest_first = sorted(recent, key=lambda use: -use[0])
        used = own.used_before(day, oldest_first, self.lookback)
        found = {limit_key(name, scope): units for name, units in used.items()}
        in_a_minute = [(age, amount) for age, amount in oldest_first if age < SECONDS_PER_MINUTE]
        seeding = self._lease.seeding
        if seeding.is_done:
            charge = self._lease.pending.charge
            charge.update({key: charge.get(key, 0) + ceil(units) for key, units in found.items()})
            for age, amount in in_a_minute:
                self._minute.note(now - age, amount, scope)
        else:
            seeding.usage.update(found)
            for name in own.windows:
                seeding.last_minute[limit_key(name, scope)] = sum(amount.of(name) for _, amount in in_a_minute)
        self._renew_soon(now)

    def usage(self, now: float, scope: str = ACCOUNT) -> dict[str, LimitUsage]:
        """How much of each limit of one scope is used and left: by the server's last answer, and here since."""
        self._mirror.roll_day(now)
        usage = super().usage(now, scope)
        way = self._ways[scope]
        for key in way.account if scope == ACCOUNT else way.model:
            if unreported := self._lease.unreported(key):
                own = usage[dimension_in(key)]
                used = own.used if key in self._buckets else max(0.0, own.used + unreported)
                usage[dimension_in(key)] = own._replace(used=used, left=max(0.0, own.left - unreported))
        return usage


def _replace(kept: dict[str, _Kept], found: dict[str, _Kept]) -> None:
    """Have ``kept``, which others hold on to, be as ``found``."""
    kept.clear()
    kept.update(found)
