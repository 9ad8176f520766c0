"""What every store keeps of one provider in its own process: its scopes, calls in flight, and alerts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import ceil, inf
from typing import Final, TypeVar

from wallie_litellm.core.demand import NOTHING, Demand
from wallie_litellm.core.dimensions import DIMENSION_KINDS
from wallie_litellm.core.limit_keys import ACCOUNT, dimension_in, limit_key, scope_in
from wallie_litellm.core.token_bucket import SECONDS_PER_MINUTE
from wallie_litellm.limiter.limits import AccountLimits, ScopeLimits
from wallie_litellm.limiter.listener import Crossing, LimiterListener
from wallie_litellm.limiter.quota_meter import QuotaMeter
from wallie_litellm.limiter.scope_accounting import KINDS, ScopeAccounting
from wallie_litellm.limiter.store import Denial, LimitUsage, Reservation

_Kept = TypeVar("_Kept")

ADD_UP_AFTER: Final = 1000  # settlements after which the tallies are added up


class StoreAccounting:
    """One provider's limits as buckets and counters, and what this process has reserved, settled and refunded.

    A call passes the account's limits, and those of its scope where that is not the account.
    """

    def __init__(
        self, name: str, limits: AccountLimits, levels: Mapping[str, float] | None, listener: LimiterListener | None
    ) -> None:
        self.name = name
        self.limits = limits
        self.paused_until = -inf
        self.epoch = 0  # resets of a quota that a fleet shares; stays 0 in a process of its own
        self._listener = listener
        self._levels = levels
        self._live: dict[Reservation, None] = {}
        self._pending = 0  # settlements since the tallies were added up
        self._account = ScopeAccounting(ACCOUNT, limits, levels)
        self._scopes: dict[str, ScopeAccounting] = {
            ACCOUNT: self._account,
            **{pattern: ScopeAccounting(pattern, own, levels) for pattern, own in limits.models.items()},
        }
        self._passed: dict[str, tuple[ScopeAccounting, ...]] = {
            scope: (self._account,) if scope == ACCOUNT else (self._account, own) for scope, own in self._scopes.items()
        }

    def _configure(self, now: float, limits: AccountLimits, levels: Mapping[str, float] | None) -> None:
        """Go by other limits of the file. Scopes that are learned stay; a call in one that is gone is the account's."""
        stated = {ACCOUNT: limits, **limits.models}
        learned = [scope for scope in self._scopes if scope not in stated and scope not in self.limits.models]
        before, self.limits, self._levels = self._scopes, limits, levels
        self._scopes = {
            scope: before.get(scope) or ScopeAccounting(scope, ScopeLimits(), levels) for scope in (*stated, *learned)
        }
        self._passed = {
            scope: (self._account,) if scope == ACCOUNT else (self._account, own) for scope, own in self._scopes.items()
        }
        for reservation in self._live:
            if reservation.scope not in self._scopes:
                reservation.scope = ACCOUNT
        for scope, own in self._scopes.items():
            own.configure(now, stated.get(scope, ScopeLimits()), levels)
            own.recount(live.demand for live in self._live if scope in (ACCOUNT, live.scope))

    def _add_scope(self, scope: str) -> None:
        self._scopes[scope] = own = ScopeAccounting(scope, ScopeLimits(), self._levels)
        self._passed[scope] = (self._account, own)

    def sent_since(self, at: float, scope: str) -> Demand:
        """What calls under way in ``scope`` have reserved that were admitted after ``at``."""
        sent = []
        for reservation in reversed(self._live):  # the last one first
            if reservation.at <= at:
                break
            if reservation.scope == scope:
                sent.append(reservation.demand)
        return Demand(*map(sum, zip(NOTHING, *sent, strict=True))) if sent else NOTHING

    def demanded(self, now: float, seconds: float, scope: str = ACCOUNT) -> dict[str, float]:
        """What was demanded of each limit per minute in so many seconds, by dimension, without what waits.

        Tokens count as used when their call is settled; until then what is under way shows how much is asked for.
        """
        since, sent = now - seconds, [0] * len(KINDS)
        for reservation in reversed(self._live):  # the last one first
            if reservation.at < since:
                break
            if scope in (ACCOUNT, reservation.scope):
                sent = [units + demand for units, demand in zip(sent, reservation.demand, strict=True)]
        return {
            dimension: max(sum(units for _, units in window.recent(now, since)), sent[DIMENSION_KINDS[dimension]])
            for dimension, window in self._scopes[scope].windows.items()
        }

    @property
    def scopes(self) -> tuple[str, ...]:
        """The patterns of the models with limits of their own, in the order in which they hold."""
        return tuple(scope for scope in self._scopes if scope != ACCOUNT)

    @property
    def lookback(self) -> float:
        """For how many seconds usage still counts: a minute, or twice a bucket's refill, in case of debt."""
        depths = (bucket.depth for scope in self._scopes.values() for bucket in scope.buckets.values())
        return max((SECONDS_PER_MINUTE, *(2 * depth for depth in depths)))

    @property
    def in_flight(self) -> int:
        """Reservations not yet settled."""
        return len(self._live)

    def capacity(self, dimension: str, scope: str = ACCOUNT) -> float:
        """The most units that one request in ``scope`` may demand in ``dimension``; ``inf`` without a limit."""
        return min(one.capacity(dimension) for one in self._passed[scope])

    def fit(self, demand: Demand, scope: str = ACCOUNT) -> Demand:
        """``demand`` with its output cut to the capacity of the limits."""
        tokens = min([demand.tokens, *(self.capacity(name, scope) for name in ("tpm", "tpd"))])
        output = min(demand.output, self.capacity("otpm", scope))
        return Demand(demand.requests, int(max(tokens, demand.input)), demand.input, int(output))

    def served_within(self, now: float, demand: Demand, scope: str, seconds: float) -> Demand:
        """The part of ``demand`` that the own limits of ``scope`` let through in that time."""
        if scope == ACCOUNT:
            return demand
        share = self._scopes[scope].share_within(now, demand, seconds)
        return demand if share >= 1.0 else Demand(*(ceil(amount * share) for amount in demand))

    def configured(self) -> dict[tuple[str, str], int]:
        """The configured limits, by scope and dimension."""
        return {
            (scope, dimension): amount
            for scope, one in self._scopes.items()
            for dimension, amount in one.configured.per_dimension.items()
        }

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

    def _too_large(self, demand: Demand, scope: str) -> Denial | None:
        for one in self._passed[scope]:
            if (denial := one.too_large(demand)) is not None:
                return denial
        return None

    def _enter_reservation(self, now: float, demand: Demand, scope: str, generation: int, probe: int) -> Reservation:
        """Count an admission."""
        self._account.enter_reservation(demand)
        if scope:
            self._scopes[scope].enter_reservation(demand)
        reservation = Reservation(demand, now, generation, probe, scope)
        self._live[reservation] = None
        return reservation

    def _enter_settlement(self, reservation: Reservation, charged: Demand) -> bool:
        """Count the end of a reservation; ``False`` if it had been counted before."""
        if reservation.settled:
            return False
        reservation.settled = True
        del self._live[reservation]
        self._account.enter_settlement(reservation.demand, charged)
        if reservation.scope:
            self._scopes[reservation.scope].enter_settlement(reservation.demand, charged)
        self._pending += 1
        if self._pending >= ADD_UP_AFTER:
            self._pending = 0
            for one in self._scopes.values():
                one.add_up()
        return True

    def _enter_use(self, amount: Demand, scope: str) -> None:
        """Count what was used without a reservation."""
        for one in self._passed[scope]:
            one.reserved.add(amount)
            one.settled.add(amount)

    def _set_limit(self, now: float, scope: str, dimension: str, amount: int | None) -> None:
        one = self._scopes[scope]
        one.set_limit(now, dimension, amount)
        one.recount(live.demand for live in self._live if scope in (ACCOUNT, live.scope))

    def _by_key(self, kept_by: Callable[[ScopeAccounting], Mapping[str, _Kept]]) -> dict[str, _Kept]:
        """What each scope keeps by dimension, of all scopes by the keys of the limits."""
        return {
            limit_key(dimension, scope): kept
            for scope, one in self._scopes.items()
            for dimension, kept in kept_by(one).items()
        }

    def _meters(self) -> tuple[QuotaMeter, ...]:
        return tuple(meter for scope in self._scopes.values() for meter in scope.meters.values())

    def _report(self, meter: QuotaMeter, now: float, before: float) -> None:
        """Announce the thresholds that are reached; ``before`` were used until a moment ago."""
        scope = scope_in(meter.key)
        reserved = self._scopes[scope].held[meter.kind]
        if meter.used(now, reserved) < meter.near and before >= meter.low:
            return
        dimension = dimension_in(meter.key)
        for level, used in meter.announce(now, before, reserved):
            if self._listener is not None:
                usage = self.usage(now, scope)[dimension]._replace(used=used)
                crossing = Crossing(dimension, level, usage.utilization, usage, self.epoch, scope)
                self._listener.on_threshold(self.name, crossing)

    def usage(self, now: float, scope: str = ACCOUNT) -> dict[str, LimitUsage]:
        """The usage of one scope's limits, by dimension."""
        return self._scopes[scope].usage(now)
