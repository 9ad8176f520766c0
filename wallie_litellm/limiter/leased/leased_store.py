"""One provider's state where a fleet shares it: spent from a loan, settled with the lender now and then."""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil, inf

from wallie_litellm.core.circuit_breaker import BreakerState
from wallie_litellm.core.demand import NOTHING, Demand
from wallie_litellm.core.token_bucket import TOLERANCE
from wallie_litellm.limiter.leased.lease_balance import LeaseBalance
from wallie_litellm.limiter.leased.lease_client import WANTED, LeaseClient
from wallie_litellm.limiter.store import Denial, DenialReason, LimitUsage, Reservation, limit_denial

# Looking up an enum's member costs more than the arithmetic around it (CPython 3.11).
_CLOSED = BreakerState.CLOSED
_CIRCUIT_OPEN = DenialReason.CIRCUIT_OPEN
_PAUSED = DenialReason.PAUSED
_LEASE_REQUESTED = DenialReason.LEASE_REQUESTED
_STORE_DOWN = DenialReason.STORE_DOWN

SOON = 0.05  # seconds; capacity that is expected sooner is asked for rather than waited for
RETRY = 1.0  # seconds to say when the store is away and `on_store_error` is `closed`


class LeasedStore(LeaseClient):
    """See :class:`~wallie_litellm.limiter.store.ProviderStore`."""

    # Taking

    def reserve(self, now: float, demand: Demand) -> Reservation | Denial:
        """Take all of ``demand`` or nothing."""
        breaker = self.breaker
        if now < self.paused_until or breaker.state is not _CLOSED or self._concurrency is not None or self.closed:
            denial = self._check_unleased(now, demand)
            if denial is not None:
                return denial
        if not self._free:
            if now >= self._ends:
                self._run_out()
            for purse, kind in self._hot:
                amount = demand[kind]
                if purse.ready < amount and not purse.has(now, amount):
                    short = self._short(now, demand)
                    if short is not None:
                        return short
                    break
            low = False
            for purse, kind in self._hot:
                amount = demand[kind]
                purse.ready -= amount
                purse.left -= amount
                purse.spent += amount
                if purse.left < purse.low:
                    low = True
            if low and not self._low and now >= self._prefetch_at:
                self._low = WANTED
                self.on_renewal_due()
        else:
            for name, purse in self._balances.items():
                self._owed[name] = self._owed.get(name, 0) + demand[purse.kind]
        self._spent_at = now
        for kind in self._token_kinds:
            self._held[kind] += demand[kind]
        self._reserved.add(demand)
        probe = 0 if breaker.state is _CLOSED else breaker.enter(now)
        reservation = Reservation(demand, now, breaker.generation, probe)
        self._live[reservation] = None
        if self._exchange is not None:
            self.exchange_now(now)
        return reservation

    def _check_unleased(self, now: float, demand: Demand) -> Denial | None:
        """What stands in the way besides what can be lent."""
        hopeless = self._hopeless(now, demand)
        if hopeless is not None:
            return hopeless
        if now < self.paused_until:
            return self.check(now, demand, NOTHING)
        if self.breaker.needs_permit(now):
            if self._trade(now, demand):
                return self._check_unleased(now, demand)
            return Denial(_LEASE_REQUESTED, 0.0)
        if self._concurrency is not None and len(self._live) >= self._places:
            if self._trade(now, demand) and len(self._live) < self._places:
                return None
            return limit_denial("concurrency", 1e-3) if self._hungry else Denial(_LEASE_REQUESTED, 0.0)
        return None

    def _hopeless(self, now: float, demand: Demand) -> Denial | None:
        """What no capacity helps against."""
        worst = self._too_large(demand)
        if worst is not None:
            return worst
        if self.closed:
            return Denial(_STORE_DOWN, RETRY)
        blocked = self.breaker.wait(now)
        return Denial(_CIRCUIT_OPEN, blocked) if blocked > 0 else None

    def _short(self, now: float, demand: Demand) -> Denial | None:
        """The loan does not cover ``demand``: ask for more, or say how long it takes; ``None`` if it does now."""
        worst = self._too_large(demand)
        if worst is not None:
            return worst
        if any(purse.left < demand[kind] for purse, kind in self._hot):
            if self._trade(now, demand) and all(purse.has(now, demand[kind]) for purse, kind in self._hot):
                return None
            dimension, wait = self._forecast(now, demand)
            if self._exchange is not None or now < self._quiet_until:
                wait = max(wait, self._quiet_until - now, 1e-6)
                return limit_denial(dimension, wait) if dimension else Denial(_LEASE_REQUESTED, wait)
            return limit_denial(dimension, wait) if wait > SOON else Denial(_LEASE_REQUESTED, 0.0)
        dimension, wait = self._forecast(now, demand)
        return limit_denial(dimension, max(wait, 1e-6))

    def check(self, now: float, demand: Demand, ahead: Demand) -> Denial | None:
        """What keeps ``demand`` from being admitted now, once ``ahead`` has been served; the longest wait wins."""
        self._roll(now)
        hopeless = self._hopeless(now, demand)
        if hopeless is not None:
            return hopeless
        waits = [(0.0, "")]
        if not self._free:
            dimension, wait = self._forecast(now, demand.plus(ahead))
            waits.append((wait, dimension))
        if self._concurrency is not None:
            taken = len(self._live) + ahead.requests >= (self._places if self._hungry else self._concurrency)
            waits.append((1e-3 if taken else 0.0, "concurrency"))
        wait, dimension = max(waits)
        paused_for = self.paused_until - now
        if paused_for > wait:
            return Denial(_PAUSED, paused_for)
        return limit_denial(dimension, wait) if wait > 0 else None

    def _forecast(self, now: float, demand: Demand) -> tuple[str, float]:
        """The limit that is longest in the way of ``demand``, by what was last heard, and for how many seconds."""
        worst = ("", 0.0)
        lives = now < self._ends
        for name, purse in self._balances.items():
            amount = demand[purse.kind]
            if lives and purse.left >= amount:
                wait = purse.ready_in(now, amount)
            else:
                wait = self._wait_for_loan(now, name, amount - (purse.left if lives else 0))
            if wait > worst[1]:
                worst = (name, wait)
        name, until = self._blocked
        if until - now > worst[1]:
            return name, until - now
        return worst

    def _wait_for_loan(self, now: float, name: str, amount: float) -> float:
        bucket = self._buckets.get(name)
        if bucket is not None:
            short = max(0.0, bucket.full_at - now) + (self._lent[name] + amount) * bucket.cost - bucket.depth
            return short + TOLERANCE / 2 if short > 0 else 0.0
        counter = self._days[name]
        return 0.0 if counter.used + amount <= counter.limit else max(0.0, counter.resets_at - now)

    # Giving back

    def settle(self, now: float, reservation: Reservation, charged: Demand) -> bool:
        """Replace the reservation by what was used; ``False`` when it had been settled before."""
        if not self._enter_settlement(reservation, charged):
            return False
        demand = reservation.demand
        if charged != demand:
            self._roll(now)
            for name, purse in self._balances.items():
                delta = charged[purse.kind] - demand[purse.kind]
                counter = self._days.get(name)
                if not delta or (counter is not None and reservation.at < counter.started_at):
                    continue
                if delta > 0:
                    self._charge[name] = self._charge.get(name, 0) + delta - purse.spend(now, delta)
                else:
                    self._refund(now, name, purse, -delta, reservation.at)
            if self._exchange is not None:
                self.exchange_now(now)
        if self._concurrency is not None and self._hungry:
            self._settle_soon(now)
        return True

    def on_breaker_report(self, now: float) -> None:
        """The breaker has been told how a call ended, or what the operator wants."""
        if self.breaker.urgent:
            self._settle_soon(now)

    def _refund(self, now: float, name: str, purse: LeaseBalance, amount: int, at: float) -> None:
        if at >= self._lent_at and now < self._ends:  # spent from what is still in hand and not yet reported
            amount -= purse.unspend(amount)
        if amount:
            self._refunds.append((name, amount, at))

    def consume(self, now: float, amount: Demand) -> None:
        """Charge an amount that was used without a reservation."""
        for name, purse in self._balances.items():
            self._charge[name] = self._charge.get(name, 0) + amount[purse.kind] - purse.spend(now, amount[purse.kind])
        self._reserved.add(amount)
        self._settled.add(amount)
        self._settle_soon(now)

    def pause(self, until: float) -> None:
        """Admit nothing before ``until``; an earlier, longer pause stands."""
        if until > self.paused_until:
            self.paused_until = until
            self._new_pause = True
            self.on_renewal_due()

    def reset(self, now: float) -> None:
        """Forget what was used and any pause."""
        self.paused_until = -inf
        self._new_pause = False
        self._resets += 1
        self._charge.clear()
        self._refunds.clear()
        self._quiet_until, self._blocked = -inf, ("", -inf)
        for bucket in self._buckets.values():
            bucket.reset()
        for counter in self._days.values():
            counter.reset(now)
        for purse in self._balances.values():
            purse.spent = 0
        for meter in self._meters:
            meter.restart()
        self._settle_soon(now)

    def restore(self, now: float, day: Demand, recent: Iterable[tuple[float, Demand]]) -> None:
        """What was used before this process began: for a lender that knows nothing yet."""
        found: dict[str, float] = {}
        oldest_first = sorted(recent, key=lambda use: -use[0])
        for name, bucket in self._buckets.items():
            missing = bucket.capacity
            last = self.lookback
            for age, amount in oldest_first:
                missing = max(0.0, missing - (last - age) / bucket.cost) + amount.of(name)
                last = age
            found[name] = max(0.0, missing - last / bucket.cost)
        for name in self._days:
            found[name] = day.of(name)
        if self._founder:
            self._charge = {name: self._charge.get(name, 0) + ceil(amount) for name, amount in found.items()}
        else:
            self._seed = found
        self._settle_soon(now)

    def usage(self, now: float) -> dict[str, LimitUsage]:
        """How much of each configured dimension is used, by what was last heard and what was spent here since."""
        self._roll(now)
        usage = super().usage(now)
        for name, purse in self._balances.items():
            unreported = purse.spent + self._charge.get(name, 0)
            unreported -= sum(amount for refunded, amount, _ in self._refunds if refunded == name)
            if unreported:
                usage[name] = usage[name]._replace(used=max(0.0, usage[name].used + unreported))
        return usage
