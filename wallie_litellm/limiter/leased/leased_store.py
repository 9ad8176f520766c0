"""The store of a fleet's worker: one provider's state, spent from a lease and settled with the lease server later."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from math import ceil, inf
from typing import Final, TypeAlias

from wallie_litellm.core.circuit_breaker import BreakerRules, BreakerState
from wallie_litellm.core.demand import NOTHING, Demand
from wallie_litellm.core.dimensions import DIMENSION_KINDS
from wallie_litellm.core.lease_exchange import LeaseAnswer, RenewalRequest, Uninitialised
from wallie_litellm.core.token_bucket import SECONDS_PER_MINUTE
from wallie_litellm.limiter.accounting import StoreAccounting
from wallie_litellm.limiter.leased.breaker_replica import BreakerReplica
from wallie_litellm.limiter.leased.lease_balance import LeaseBalance
from wallie_litellm.limiter.leased.lease_client import Calls, LastDenial, LeaseClient
from wallie_litellm.limiter.leased.local_lease_server import LocalLeaseServer
from wallie_litellm.limiter.leased.prefetch import PrefetchState
from wallie_litellm.limiter.leased.usage_mirror import UsageMirror
from wallie_litellm.limiter.limits import AccountLimits
from wallie_litellm.limiter.listener import LimiterListener
from wallie_litellm.limiter.store import Denial, DenialReason, LimitUsage, Reservation, limit_denial

# Looking up an enum's member costs more than the arithmetic around it (CPython 3.11).
_CLOSED = BreakerState.CLOSED
_IDLE = PrefetchState.IDLE
_CIRCUIT_OPEN = DenialReason.CIRCUIT_OPEN
_PAUSED = DenialReason.PAUSED
_LEASE_REQUESTED = DenialReason.LEASE_REQUESTED
_STORE_DOWN = DenialReason.STORE_DOWN

ASK_INSTEAD_OF_WAIT: Final = 0.05  # seconds; capacity that is expected sooner is asked for rather than waited for
STORE_DOWN_RETRY: Final = 1.0  # seconds, of denials where the store is away and `on_store_error` is `closed`
SLOT_RETRY: Final = 1e-3  # seconds, of denials for want of a slot: an event ends them, not time
SHORTEST_WAIT: Final = 1e-6  # seconds, of other denials

Exchange: TypeAlias = Callable[[float, RenewalRequest], LeaseAnswer | Uninitialised]


class LeasedStore(StoreAccounting):
    """Implements :class:`~wallie_litellm.limiter.store.ProviderStore` over a :class:`LeaseClient`.

    ``exchange`` is a lease server that answers at once; without it, the requests that :meth:`build_renewal` returns
    are sent by the caller, and their answers come through :meth:`apply_grant`.
    """

    def __init__(
        self,
        name: str,
        limits: AccountLimits,
        rules: BreakerRules,
        wall: Callable[[], float],
        levels: Mapping[str, float] | None = None,
        listener: LimiterListener | None = None,
        *,
        worker: str = "worker",
        exchange: Exchange | None = None,
    ) -> None:
        super().__init__(name, limits, levels, listener)
        self.breaker = BreakerReplica(rules)
        account = self._account
        self._buckets, self._windows, self._days = account.buckets, account.windows, account.days
        self._concurrency = account.concurrency
        # Called, under the limiter's lock, when a request to the lease server is due.
        self.on_renewal_due: Callable[[], None] = lambda: None
        self._mirror = UsageMirror(
            self._buckets, self._windows, self._days, self._meters(), self._report, limits.reset_timezone, wall
        )
        self._minute = self._mirror.minute
        self._token_rates = tuple((name, int(DIMENSION_KINDS[name])) for name in self._windows if name != "rpm")
        self._balances = {name: LeaseBalance(int(DIMENSION_KINDS[name])) for name in (*self._buckets, *self._days)}
        self._balance_kinds = tuple((balance, balance.kind) for balance in self._balances.values())
        self._lease = LeaseClient(
            worker,
            self._balances,
            self._mirror,
            self.breaker,
            self._concurrency,
            is_local=exchange is not None,
        )
        self._exchange = exchange
        self._spent_at = -inf  # seconds of the guard's clock
        self._is_uncounted = False  # the store is away, and `on_store_error` is not `local`
        self._refuses_all = False  # the store is away, and `on_store_error` is `closed`
        self._uncounted: dict[str, int] = {}  # units used while nothing is counted, by dimension

    # Admission

    def reserve(self, now: float, demand: Demand, scope: str = "") -> Reservation | Denial:
        """Take all of ``demand`` or nothing."""
        breaker, lease = self.breaker, self._lease
        if (
            now < self.paused_until
            or breaker.state is not _CLOSED
            or self._concurrency is not None
            or self._refuses_all
        ):
            denial = self._check(now, demand)
            if denial is not None:
                return denial
        elif not self._is_uncounted:
            if now >= lease.expires_at:
                lease.release()
            for balance, kind in self._balance_kinds:
                amount = demand[kind]
                if balance.ready < amount and not balance.has(now, amount):
                    denial = self._check(now, demand)
                    if denial is not None:
                        return denial
                    break
        if not self._is_uncounted:
            is_low = False
            for balance, kind in self._balance_kinds:
                amount = demand[kind]
                balance.ready -= amount
                balance.left -= amount
                balance.spent += amount
                if balance.left < balance.refill_below:
                    is_low = True
            if is_low and lease.prefetch.state is _IDLE and now >= lease.prefetch.not_before:
                lease.prefetch.want()
                self.on_renewal_due()
        else:
            for name, balance in self._balances.items():
                self._uncounted[name] = self._uncounted.get(name, 0) + demand[balance.kind]
        self._minute.add(now, "rpm", demand[0])
        self._spent_at = now
        probe = 0 if breaker.state is _CLOSED else breaker.enter(now)
        reservation = self._enter_reservation(now, demand, scope, breaker.generation, probe)
        if self._exchange is not None:
            self._exchange_now(now, self._exchange)
        return reservation

    def _check(self, now: float, demand: Demand) -> Denial | None:
        """What stands in the way of ``demand`` at once. What a lease may help against is asked for on the way."""
        # 1. Too large for a limit, the store is down, or the circuit is open: no lease helps.
        denial = self._check_without_lease(now, demand)
        if denial is not None:
            return denial
        # 2. A pause, and then the longest wait of all.
        if now < self.paused_until:
            return self.check(now, demand, NOTHING)
        # 3. A permit to probe, of a breaker that is half open.
        if self.breaker.needs_permit(now):
            return self._check(now, demand) if self._request_lease(now, demand) else Denial(_LEASE_REQUESTED, 0.0)
        # 4. A slot for one more call in flight.
        slots = self._lease.slots
        if self._concurrency is not None and len(self._live) >= slots.granted:
            is_answered = self._request_lease(now, demand)
            if not is_answered or len(self._live) >= slots.granted:
                return limit_denial("concurrency", SLOT_RETRY) if slots.are_short else Denial(_LEASE_REQUESTED, 0.0)
        # 5. Leased capacity, in every dimension.
        return None if self._is_uncounted else self._check_lease(now, demand)

    def _check_without_lease(self, now: float, demand: Demand) -> Denial | None:
        too_large = self._too_large(demand, "")
        if too_large is not None:
            return too_large
        if self._refuses_all:
            return Denial(_STORE_DOWN, STORE_DOWN_RETRY)
        open_for = self.breaker.wait(now)
        return Denial(_CIRCUIT_OPEN, open_for) if open_for > 0 else None

    def _check_lease(self, now: float, demand: Demand) -> Denial | None:
        lease = self._lease
        if now >= lease.expires_at:
            lease.release()
        if self._has(now, demand):
            return None
        if all(balance.left >= demand[kind] for balance, kind in self._balance_kinds):  # but refills are outstanding
            dimension, wait = self._forecast(now, demand)
            return limit_denial(dimension, max(wait, SHORTEST_WAIT))
        if self._request_lease(now, demand) and self._has(now, demand):
            return None
        dimension, wait = self._forecast(now, demand)
        retry_at = lease.denial.retry_at
        if self._exchange is not None or now < retry_at:
            wait = max(wait, retry_at - now, SHORTEST_WAIT)
            return limit_denial(dimension, wait) if dimension else Denial(_LEASE_REQUESTED, wait)
        return limit_denial(dimension, wait) if wait > ASK_INSTEAD_OF_WAIT else Denial(_LEASE_REQUESTED, 0.0)

    def _has(self, now: float, demand: Demand) -> bool:
        return all(balance.has(now, demand[kind]) for balance, kind in self._balance_kinds)

    def check(
        self, now: float, demand: Demand, ahead: Demand, scope: str = "", ahead_in_scope: Demand = NOTHING
    ) -> Denial | None:
        """What keeps ``demand`` from being admitted now, once ``ahead`` has been served; the longest wait wins."""
        self._mirror.roll_day(now)
        denial = self._check_without_lease(now, demand)
        if denial is not None:
            return denial
        waits = [(0.0, "")]
        if not self._is_uncounted:
            dimension, wait = self._forecast(now, demand.plus(ahead))
            waits.append((wait, dimension))
        if self._concurrency is not None:
            slots = self._lease.slots
            is_full = len(self._live) + ahead.requests >= (slots.granted if slots.are_short else self._concurrency)
            waits.append((SLOT_RETRY if is_full else 0.0, "concurrency"))
        wait, dimension = max(waits)
        paused_for = self.paused_until - now
        if paused_for > wait:
            return Denial(_PAUSED, paused_for)
        return limit_denial(dimension, wait) if wait > 0 else None

    def _forecast(self, now: float, demand: Demand) -> tuple[str, float]:
        """The limit that is longest in the way of ``demand``, by the server's last answer, and for how many seconds."""
        longest = ("", 0.0)
        is_live = now < self._lease.expires_at
        for name, balance in self._balances.items():
            amount = demand[balance.kind]
            if is_live and balance.left >= amount:
                wait = balance.ready_in(now, amount)
            else:
                wait = self._mirror.wait_for_lease(now, name, amount - (balance.left if is_live else 0))
            if wait > longest[1]:
                longest = (name, wait)
        denial = self._lease.denial
        if denial.until - now > longest[1]:
            return denial.dimension, denial.until - now
        return longest

    # Settlement

    def settle(self, now: float, reservation: Reservation, charged: Demand) -> bool:
        """Replace the reservation by what was used; ``False`` when it had been settled before."""
        if not self._enter_settlement(reservation, charged):
            return False
        demand = reservation.demand
        for name, kind in self._token_rates:
            self._minute.add(now, name, charged[kind])
        if charged != demand:
            self._mirror.roll_day(now)
            if charged[0] > demand[0]:
                self._minute.add(now, "rpm", charged[0] - demand[0])
            else:
                self._minute.take_back(now, "rpm", reservation.at, demand[0] - charged[0])
            for name, balance in self._balances.items():
                delta = charged[balance.kind] - demand[balance.kind]
                counter = self._days.get(name)
                if not delta or (counter is not None and reservation.at < counter.started_at):
                    continue
                if delta > 0:
                    self._charge(now, name, balance, delta)
                else:
                    self._refund(now, name, balance, -delta, reservation.at)
            if self._exchange is not None:
                self._exchange_now(now, self._exchange)
        if self._concurrency is not None and self._lease.slots.are_short:
            self._renew_soon(now)
        return True

    def _charge(self, now: float, name: str, balance: LeaseBalance, amount: int) -> None:
        """Take ``amount`` from the lease, and have the server charge what is not there."""
        charge = self._lease.pending.charge
        charge[name] = charge.get(name, 0) + amount - balance.spend(now, amount)

    def _refund(self, now: float, name: str, balance: LeaseBalance, amount: int, at: float) -> None:
        if at >= self._lease.reported_at and now < self._lease.expires_at:  # spent from this lease, and not reported
            amount -= balance.unspend(amount)
        if amount:
            self._lease.pending.refunds.append((name, amount, at))

    def on_breaker_report(self, now: float) -> None:
        """The breaker has recorded an outcome, or an operator's action."""
        if self.breaker.urgent:
            self._renew_soon(now)

    def consume(self, now: float, amount: Demand, scope: str = "") -> None:
        """Charge an amount that was used without a reservation."""
        for name, balance in self._balances.items():
            self._charge(now, name, balance, amount[balance.kind])
            self._minute.add(now, name, amount[balance.kind])
        self._account.reserved.add(amount)
        self._account.settled.add(amount)
        self._renew_soon(now)

    def pause(self, until: float) -> None:
        """Admit nothing before ``until``; an earlier, longer pause stands."""
        if until > self.paused_until:
            self.paused_until = until
            self._lease.pending.pause = True
            self.on_renewal_due()

    def reset(self, now: float, scope: str = "") -> None:
        """Forget what was used and any pause."""
        self.paused_until = -inf
        pending = self._lease.pending
        pending.pause = False
        pending.resets += 1
        pending.charge.clear()
        pending.refunds.clear()
        self._lease.denial = LastDenial()
        self._mirror.reset(now)
        for balance in self._balances.values():  # no longer on lease, and not charged
            balance.returned += balance.spent
            balance.spent = 0
        self._renew_soon(now)

    def restore(self, now: float, day: Demand, recent: Iterable[tuple[float, Demand]], scope: str = "") -> None:
        """What was used before this process began: the seed of a lease server that has no state."""
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
        in_a_minute = [(age, amount) for age, amount in oldest_first if age < SECONDS_PER_MINUTE]
        if self._lease.seeding.is_done:
            charge = self._lease.pending.charge
            self._lease.pending.charge = {name: charge.get(name, 0) + ceil(units) for name, units in found.items()}
            for age, amount in in_a_minute:
                self._minute.note(now - age, amount)
        else:
            self._lease.seeding.usage = found
            self._lease.seeding.last_minute = {
                name: sum(amount.of(name) for _, amount in in_a_minute) for name in self._windows
            }
        self._renew_soon(now)

    def usage(self, now: float, scope: str = "") -> dict[str, LimitUsage]:
        """How much of each configured dimension is used and left: by the server's last answer, and here since."""
        self._mirror.roll_day(now)
        usage = super().usage(now)
        pending = self._lease.pending
        for name, balance in self._balances.items():
            unreported: float = balance.spent + pending.charge.get(name, 0)
            unreported -= sum(amount for refunded, amount, _ in pending.refunds if refunded == name)
            if unreported:
                own = usage[name]
                used = own.used if name in self._buckets else max(0.0, own.used + unreported)
                usage[name] = own._replace(used=used, left=max(0.0, own.left - unreported))
        return usage

    # The exchange with the lease server

    @property
    def workers(self) -> int:
        """The workers that share the limits."""
        return self._mirror.workers

    @property
    def reports(self) -> int:
        """The number of the last report."""
        return self._lease.seq

    @reports.setter
    def reports(self, number: int) -> None:
        self._lease.seq = number

    @property
    def answer_is_ours(self) -> bool:
        """Whether the changes in the last answer were brought about by this process."""
        return self._lease.answer_is_ours

    def build_renewal(
        self, now: float, head: Demand | None = None, queued: Demand = NOTHING, max_wait: float = inf
    ) -> RenewalRequest:
        """The next request: for ``head`` at once, and for all that are ``queued``, for at most ``max_wait`` seconds."""
        paused_for = max(0.0, self.paused_until - now)
        calls = Calls(len(self._live), head, queued, max_wait, now - self._spent_at, paused_for)
        return self._lease.build_renewal(now, calls)

    def build_release(self, now: float) -> RenewalRequest:
        """The last request: everything that is left is returned."""
        self._lease.release()
        return self.build_renewal(now)

    def apply_grant(self, now: float, sent_at: float, answer: LeaseAnswer | Uninitialised) -> bool:
        """Apply the answer to a request that was built at ``sent_at``; ``False`` if another request is due at once."""
        lease = self._lease
        if not answer["initialised"]:
            lease.request_seed()
            return False
        self.epoch = answer["quota_resets"]
        if not lease.pending.pause:
            self.paused_until = now + answer["pause"] if answer["pause"] > 0 else -inf
        lease.apply_grant(now, sent_at, answer)
        if lease.reclaim and any(balance.left for balance in self._balances.values()):
            self.on_renewal_due()
        return True

    def set_limit(self, now: float, scope: str, dimension: str, amount: int | None) -> None:
        """Have ``amount`` in force from now on, or with ``None`` the configured limit again."""
        raise NotImplementedError

    def bound(self, now: float, scope: str, dimension: str, left: float) -> None:
        """Leave no more than ``left`` units of a limit."""
        raise NotImplementedError

    def _request_lease(self, now: float, demand: Demand) -> bool:
        """Ask for a lease that covers ``demand``; whether the answer has been applied."""
        lease = self._lease
        if now < lease.denial.retry_at or lease.answer_due:
            return False
        lease.prefetch.cover(demand)
        if self._exchange is None:
            lease.prefetch.want()
            self.on_renewal_due()
            return False
        self._exchange_now(now, self._exchange, demand)
        return True

    def _renew_soon(self, now: float) -> None:
        if self._exchange is not None:
            self._exchange_now(now, self._exchange)
        else:
            self.on_renewal_due()

    def _exchange_now(self, now: float, exchange: Exchange, head: Demand | None = None) -> None:
        # No future capacity is asked for (a wait of 0 seconds): another request costs nothing here.
        if not self.apply_grant(now, now, exchange(now, self.build_renewal(now, head, NOTHING, 0.0))):
            self.apply_grant(now, now, exchange(now, self.build_renewal(now, head, NOTHING, 0.0)))

    def lease_server_lost(self, now: float, policy: str, *, confirmed: bool = True) -> None:
        """Go on alone: with this worker's part of the limits, with none (``open``), or not at all (``closed``).

        Unless the outage is ``confirmed``, its part is what it has in hand and what is refilled.
        """
        self._lease.disconnect(now, max(0.0, self.paused_until - now), confirmed=confirmed)
        self._refuses_all, self._is_uncounted, self._uncounted = policy == "closed", policy != "local", {}
        server = LocalLeaseServer(self._mirror.workers, self.breaker.generation, counting=policy == "local")
        exchange: Exchange = lambda now, request: server.exchange(now, request, self._mirror.server_time_at(now))  # noqa: E731
        self._exchange = exchange
        self._exchange_now(now, exchange)

    def confirm_outage(self, now: float) -> None:
        """The lease server stays away: this worker has all of its part of the limits."""
        self._lease.confirm_outage()
        if self._exchange is not None:
            self._exchange_now(now, self._exchange)

    def lease_server_found(self, now: float) -> None:
        """Charge the server that all workers share with what was used without it, and lease from it again."""
        outage = self._lease.outage
        if outage is None or self._exchange is None:
            return
        self._lease.release()
        self._lease.prefetch.state = _IDLE
        self._exchange_now(now, self._exchange)
        self._lease.reconnect(now, outage, self._uncounted)
        self._exchange = None
        self._refuses_all, self._is_uncounted, self._uncounted = False, False, {}
        self.on_renewal_due()

    def forked(self, worker: str) -> None:
        """Begin anew in a child process: what the parent has leased is the parent's."""
        self._lease.forked(worker)
        self._live.clear()
        self._exchange = None
        self._refuses_all = self._is_uncounted = False
