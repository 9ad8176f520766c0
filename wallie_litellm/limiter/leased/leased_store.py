"""The store of a fleet's worker: one provider's state, spent from a lease and settled with the lease server later."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf
from typing import Final, TypeAlias, TypeVar

from wallie_litellm.core.circuit_breaker import BreakerRules, BreakerState
from wallie_litellm.core.demand import NOTHING, Demand
from wallie_litellm.core.lease_exchange import LeaseAnswer, RenewalRequest, Uninitialised
from wallie_litellm.core.limit_keys import ACCOUNT, scope_in
from wallie_litellm.limiter.leased.lease_balance import LeaseBalance
from wallie_litellm.limiter.leased.lease_client import (
    NONE_WAITING,
    Head,
    LastDenial,
    Waiting,
)
from wallie_litellm.limiter.leased.leased_accounting import LeasedAccounting
from wallie_litellm.limiter.leased.leased_way import calls_of
from wallie_litellm.limiter.leased.local_lease_server import LocalLeaseServer
from wallie_litellm.limiter.leased.prefetch import PrefetchState
from wallie_litellm.limiter.limits import AccountLimits
from wallie_litellm.limiter.listener import LimiterListener
from wallie_litellm.limiter.store import Denial, DenialReason, Reservation, limit_denial, longest_denial

_Kept = TypeVar("_Kept")

# Looking up an enum's member costs more than the arithmetic around it (CPython 3.11).
_CLOSED = BreakerState.CLOSED
_IDLE = PrefetchState.IDLE
_CIRCUIT_OPEN = DenialReason.CIRCUIT_OPEN
_PAUSED = DenialReason.PAUSED
_LEASE_REQUESTED = DenialReason.LEASE_REQUESTED
_STORE_DOWN = DenialReason.STORE_DOWN
_ASKED_FOR: Final = Denial(_LEASE_REQUESTED, 0.0)

ASK_INSTEAD_OF_WAIT: Final = 0.05  # seconds; capacity that is expected sooner is asked for rather than waited for
ASK_FOR_ACCOUNT: Final = 1.0  # seconds that a call still waits for its model when the account's limits are asked for
STORE_DOWN_RETRY: Final = 1.0  # seconds, of denials where the store is away and `on_store_error` is `closed`
SLOT_RETRY: Final = 1e-3  # seconds, of denials for want of a slot: an event ends them, not time
SHORTEST_WAIT: Final = 1e-6  # seconds, of other denials

_Wait: TypeAlias = tuple[float, str]  # seconds, and the key of the limit
Exchange: TypeAlias = Callable[[float, RenewalRequest], LeaseAnswer | Uninitialised]


class LeasedStore(LeasedAccounting):
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
        super().__init__(name, limits, rules, wall, levels, listener, worker=worker, is_local=exchange is not None)
        # Called, under the limiter's lock, when a request to the lease server is due.
        self.on_renewal_due: Callable[[], None] = lambda: None
        self._exchange = exchange
        self._is_uncounted = False  # the store is away, and `on_store_error` is not `local`
        self._refuses_all = False  # the store is away, and `on_store_error` is `closed`
        self._polled: Head | None = None  # what was denied last, for the next request if no call waits
        self._uncounted: dict[str, int] = {}  # units used while nothing is counted, by limit

    # Admission

    def reserve(self, now: float, demand: Demand, scope: str = ACCOUNT) -> Reservation | Denial:
        """Take all of ``demand`` from the leases of the account's limits and of those of ``scope``, or nothing."""
        breaker, lease, way = self.breaker, self._lease, self._ways[scope]
        if now < self.paused_until or breaker.state is not _CLOSED or way.slots or self._refuses_all:
            denial = self._check(now, demand, scope)
            if denial is not None:
                return denial
        elif not self._is_uncounted:
            if now >= lease.expires_at:
                lease.release()
            for balance, kind in way.balances:
                amount = demand[kind]
                if balance.ready < amount and not balance.has(now, amount):
                    denial = self._check(now, demand, scope)
                    if denial is not None:
                        return denial
                    break
        if not self._is_uncounted:
            is_low = False
            for balance, kind in way.balances:
                amount = demand[kind]
                balance.ready -= amount
                balance.left -= amount
                balance.spent += amount
                if balance.left < balance.refill_below and now >= balance.not_before:
                    is_low = True
            if is_low and lease.prefetch.state is _IDLE:
                lease.prefetch.want()
                self.on_renewal_due()
        else:
            for key, balance in way.leases:
                self._uncounted[key] = self._uncounted.get(key, 0) + demand[balance.kind]
        for key in way.request_keys:
            self._minute.add(now, key, demand[0])
        way.spent_at = now
        way.admitted += demand[0]
        probe = 0 if breaker.state is _CLOSED else breaker.enter(now)
        reservation = self._enter_reservation(now, demand, scope, breaker.generation, probe)
        if self._exchange is not None:
            self._exchange_now(now, self._exchange)
        return reservation

    def _check(self, now: float, demand: Demand, scope: str) -> Denial | None:
        """What stands in the way of ``demand`` at once. What a lease may help against is asked for on the way."""
        # 1. Too large for a limit, the store is down, or the circuit is open: no lease helps.
        denial = self._check_without_lease(now, demand, scope)
        if denial is not None:
            return denial
        # 2. A pause, and then the longest wait of all.
        if now < self.paused_until:
            return self.check(now, demand, NOTHING, scope)
        # 3. A permit to probe, of a breaker that is half open.
        if self.breaker.needs_permit(now):
            return self._check(now, demand, scope) if self._request_lease(now, demand, scope) else _ASKED_FOR
        # 4. A slot for one more call in flight, of the account and of the model.
        for own in self._ways[scope].slots:
            if own.are_taken():
                is_answered = self._request_lease(now, demand, scope)
                if not is_answered or own.are_taken():
                    return limit_denial(own.key, SLOT_RETRY) if own.slots.are_short else _ASKED_FOR
        # 5. Leased capacity, of every limit.
        return None if self._is_uncounted else self._check_lease(now, demand, scope)

    def _check_without_lease(self, now: float, demand: Demand, scope: str) -> Denial | None:
        too_large = self._too_large(demand, scope)
        if too_large is not None:
            return too_large
        if self._refuses_all:
            return Denial(_STORE_DOWN, STORE_DOWN_RETRY)
        open_for = self.breaker.wait(now)
        return Denial(_CIRCUIT_OPEN, open_for) if open_for > 0 else None

    def _check_lease(self, now: float, demand: Demand, scope: str) -> Denial | None:
        lease, way = self._lease, self._ways[scope]
        if now >= lease.expires_at:
            lease.release()
        if way.has(now, demand):
            return None
        wait, limit = longest_denial(*self._waits(now, demand, demand, scope))
        is_models = scope_in(limit) != ACCOUNT and wait > ASK_FOR_ACCOUNT
        if way.is_leased(demand, of_model=is_models):  # but refills are outstanding
            return limit_denial(limit, max(wait, SHORTEST_WAIT))
        if self._request_lease(now, demand, scope) and way.has(now, demand):
            return None
        wait, limit = longest_denial(*self._waits(now, demand, demand, scope))
        retry_at = lease.retry_at(scope)
        if self._exchange is not None or now < retry_at:
            wait = max(wait, retry_at - now, SHORTEST_WAIT)
            return limit_denial(limit, wait) if limit else Denial(_LEASE_REQUESTED, wait)
        if wait > ASK_INSTEAD_OF_WAIT:
            return limit_denial(limit, wait)
        return Denial(_LEASE_REQUESTED, 0.0, way.lacks_for_model(now, demand))

    def check(
        self, now: float, demand: Demand, ahead: Demand, scope: str = ACCOUNT, ahead_in_scope: Demand = NOTHING
    ) -> Denial | None:
        """What keeps ``demand`` from being admitted now, once what is ``ahead`` has been served; the longest wait."""
        self._mirror.roll_day(now)
        denial = self._check_without_lease(now, demand, scope)
        if denial is not None:
            return denial
        account = model = (0.0, "")
        if not self._is_uncounted:
            account, model = self._waits(now, demand.plus(ahead), demand.plus(ahead_in_scope), scope)
        for own in self._ways[scope].slots:
            if own.scope.scope != ACCOUNT and own.are_used_up(ahead_in_scope.requests):
                model = (max(model[0], SLOT_RETRY), own.key)
            elif own.scope.scope == ACCOUNT and own.are_used_up(ahead.requests):
                account = max(account, (SLOT_RETRY, own.key))
        wait, limit = longest_denial(account, model)
        paused_for = self.paused_until - now
        if paused_for > wait:
            return Denial(_PAUSED, paused_for)
        return limit_denial(limit, wait) if wait > 0 else None

    def _waits(self, now: float, demand: Demand, of_model: Demand, scope: str) -> tuple[_Wait, _Wait]:
        """The limits of the account and of the model that are longest in the way, by the server's last answer.

        ``demand`` is asked of the account's, and ``of_model`` of the model's.
        """
        way, (by_account, by_model) = self._ways[scope], self._lease.denials_for(scope)
        account = self._longest_wait(now, demand, way.account, by_account)
        return account, self._longest_wait(now, of_model, way.model, by_model) if scope else (0.0, "")

    def _longest_wait(
        self, now: float, demand: Demand, leases: Mapping[str, LeaseBalance], denial: LastDenial
    ) -> _Wait:
        longest = (0.0, "")
        is_live = now < self._lease.expires_at
        for key, balance in leases.items():
            amount = demand[balance.kind]
            if is_live and balance.left >= amount:
                wait = balance.ready_in(now, amount)
            else:
                wait = self._mirror.wait_for_lease(now, key, amount - (balance.left if is_live else 0))
            if wait > longest[0]:
                longest = (wait, key)
        return (denial.until - now, denial.limit) if denial.until - now > longest[0] else longest

    # Settlement

    def settle(self, now: float, reservation: Reservation, charged: Demand) -> bool:
        """Replace the reservation by what was used; ``False`` when it had been settled before."""
        if not self._enter_settlement(reservation, charged):
            return False
        demand, way = reservation.demand, self._ways[reservation.scope]
        for key, kind in way.token_keys:
            self._minute.add(now, key, charged[kind])
        if charged != demand:
            self._mirror.roll_day(now)
            for key in way.request_keys:
                if charged[0] > demand[0]:
                    self._minute.add(now, key, charged[0] - demand[0])
                else:
                    self._minute.take_back(now, key, reservation.at, demand[0] - charged[0])
            for key, balance in way.leases:
                delta = charged[balance.kind] - demand[balance.kind]
                counter = self._days.get(key)
                if not delta or (counter is not None and reservation.at < counter.started_at):
                    continue
                if delta > 0:
                    self._charge(now, key, balance, delta)
                else:
                    self._refund(now, key, balance, -delta, reservation.at)
            if self._exchange is not None:
                self._exchange_now(now, self._exchange)
        if any(own.slots.are_short for own in way.slots):
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

    def consume(self, now: float, amount: Demand, scope: str = ACCOUNT) -> None:
        """Charge an amount that was used without a reservation."""
        for key, balance in self._ways[scope].leases:
            self._charge(now, key, balance, amount[balance.kind])
            self._minute.add(now, key, amount[balance.kind])
        self._enter_use(amount, scope)
        self._renew_soon(now)

    def pause(self, until: float) -> None:
        """Admit nothing before ``until``; an earlier, longer pause stands."""
        if until > self.paused_until:
            self.paused_until = until
            self._lease.pending.pause = True
            self.on_renewal_due()

    def reset(self, now: float, scope: str = ACCOUNT) -> None:
        """Forget what was used and any pause; with a ``scope``, what was used of its own limits alone."""
        pending = self._lease.pending
        pending.resets.append(scope)
        if scope == ACCOUNT:
            self.paused_until = -inf
            pending.pause = False
            self._lease.denials = {}
        self._lease.denials.pop(scope, None)
        gone = [key for key in self._balances if scope in (ACCOUNT, scope_in(key))]
        pending.charge = {key: units for key, units in pending.charge.items() if key not in gone}
        pending.refunds = [refund for refund in pending.refunds if refund[0] not in gone]
        self._mirror.reset(now, scope)
        for key in gone:  # no longer on lease, and not charged
            balance = self._balances[key]
            balance.returned += balance.spent
            balance.spent = 0
        self._renew_soon(now)

    # The exchange with the lease server

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

    def waits_for_model(self, now: float, demand: Demand, scope: str) -> bool:
        """Whether a call that waits does so for its model's limits, and needs the account's only later."""
        denial = self.check(now, demand, NOTHING, scope)
        return denial is not None and denial.scope != ACCOUNT and denial.retry_after > ASK_FOR_ACCOUNT

    def build_renewal(self, now: float, waiting: Waiting = NONE_WAITING) -> RenewalRequest:
        """The next request, for the calls that wait."""
        polled, self._polled = self._polled, None
        if polled is not None and not waiting.heads:
            waiting = Waiting.one(polled, 0.0)  # as much as there is at once, for a caller that asks again
        calls = calls_of(self._ways, now, waiting, max(0.0, self.paused_until - now))
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
        self._receive_limits(now, answer["limits"])
        if not lease.pending.pause:
            self.paused_until = now + answer["pause"] if answer["pause"] > 0 else -inf
        lease.apply_grant(now, sent_at, answer)
        if lease.can_return():
            self.on_renewal_due()
        return True

    def _request_lease(self, now: float, demand: Demand, scope: str) -> bool:
        """Ask for a lease that covers ``demand``; whether the answer has been applied."""
        lease = self._lease
        if now < lease.retry_at(scope) or lease.answer_due:
            return False
        for passed in self._passed[scope]:
            lease.prefetch.chunk(passed.scope).cover(demand)
        if self._exchange is None:
            self._polled = Head(scope, demand)
            lease.prefetch.want()
            self.on_renewal_due()
            return False
        # No future capacity is asked for (a wait of 0 seconds): another request costs nothing here.
        self._exchange_now(now, self._exchange, Waiting.one(Head(scope, demand), 0.0))
        return True

    def _renew_soon(self, now: float) -> None:
        """Have the lease server know, and its answer applied."""
        if self._exchange is not None:
            self._exchange_now(now, self._exchange)
        else:
            self.on_renewal_due()

    def _exchange_now(self, now: float, exchange: Exchange, waiting: Waiting = NONE_WAITING) -> None:
        if not self.apply_grant(now, now, exchange(now, self.build_renewal(now, waiting))):
            self.apply_grant(now, now, exchange(now, self.build_renewal(now, waiting)))

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
        self._lease.reconnect(now, outage, self._uncounted, refused=self._refuses_all)
        self._exchange = None
        self._refuses_all, self._is_uncounted, self._uncounted = False, False, {}
        self.on_renewal_due()

    def forked(self, worker: str) -> None:
        """Begin anew in a child process: what the parent has leased is the parent's."""
        self._lease.forked(worker)
        self._live.clear()
        for one in self._scopes.values():
            one.recount(())
        self._exchange = None
        self._refuses_all = self._is_uncounted = False
