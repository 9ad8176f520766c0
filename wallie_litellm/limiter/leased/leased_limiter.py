"""The limiter of a store that spends from a lease: how its lease server is asked, and what becomes of the answers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from math import inf
from typing import ClassVar, Final

from wallie_litellm.clock import Clock
from wallie_litellm.core.circuit_breaker import BreakerState, Verdict
from wallie_litellm.core.demand import NOTHING
from wallie_litellm.core.lease_exchange import LeaseAnswer, RenewalRequest, Uninitialised
from wallie_litellm.core.limit_keys import ACCOUNT
from wallie_litellm.limiter.leased.lease_client import NONE_WAITING, Head, Waiting
from wallie_litellm.limiter.leased.leased_store import LeasedStore
from wallie_litellm.limiter.limiter import Limiter
from wallie_litellm.limiter.listener import LimiterListener
from wallie_litellm.limiter.store import DenialReason, Reservation
from wallie_litellm.limiter.waiter import wake

LOWEST_PRIORITY: Final = -(2**63)  # of no request: the whole queue is ahead of it


class LeasedLimiter(Limiter):
    """A :class:`Limiter` over a :class:`LeasedStore`, driven by the exchanges with the lease server."""

    # Requests in the queue may only wait for the lease server's answer.
    _queue_reason: ClassVar[DenialReason] = DenialReason.LEASE_REQUESTED
    _store: LeasedStore

    def __init__(
        self,
        name: str,
        store: LeasedStore,
        clock: Clock,
        reservation_ttl: float,
        listener: LimiterListener | None = None,
    ) -> None:
        super().__init__(name, store, clock, reservation_ttl, listener)
        self._answered_at = inf  # the lease server's first answer, in seconds: before, the breaker's state is not known
        self.on_scope: Callable[[], object] = lambda: None  # called when another worker has given models a scope
        self._early: list[tuple[Verdict, float, str | None]] = []  # results that were counted before

    def is_quiet(self) -> bool:
        """As of any limiter; and the lease server has answered, and has all there is to report."""
        return self._answered_at < inf and not self._store.breaker.is_reporting and super().is_quiet()

    def keep_to(self, keeps_to: Callable[[str, str], bool]) -> None:
        """Give up limits that other workers have learned, by scope and dimension, that are not to be kept to here."""
        self._store.keep_to(keeps_to)

    def report_served(self, here: Callable[[float], Mapping[str, float]]) -> None:
        """Let the fleet know which models of this provider have served ``here`` since a time, and when."""
        self._store.serves.here = here

    @property
    def served_in_fleet(self) -> Mapping[str, float]:
        """When models of this provider have served last, at any worker, by the lease server's last answer."""
        return self._store.serves.at

    def on_lease_needed(self, callback: Callable[[], None]) -> None:
        """Have ``callback`` called, under the lock, when the lease server should be asked."""
        self._store.on_renewal_due = callback

    def build_renewal(self) -> RenewalRequest:
        """The request to the lease server: this process's report, and the capacity that the queue needs."""
        with self._lock:
            now = self._now()
            return self._store.build_renewal(now, self._waiting_now(now) if self._waiting else NONE_WAITING)

    def _waiting_now(self, now: float) -> Waiting:
        heads, queued = [], {ACCOUNT: NOTHING}
        for head in self._queue.heads(LOWEST_PRIORITY):
            scope, demand = head.scope, self._queue.demand(head.scope)
            waits_for_model = scope != ACCOUNT and self._store.waits_for_model(now, head.demand, scope)
            heads.append(Head(scope, head.demand, waits_for_model))
            if scope != ACCOUNT:
                queued[scope] = demand
            if not waits_for_model:
                queued[ACCOUNT] = queued[ACCOUNT].plus(demand)
        # Capacity that comes too late for one may be in time for requests behind it.
        return Waiting(heads, queued, self._give_ups.last() - now)

    def build_release(self) -> RenewalRequest:
        """The last request to the lease server: everything that is leased goes back."""
        with self._lock:
            return self._store.build_release(self._now())

    def apply_grant(self, answer: LeaseAnswer | Uninitialised, sent_at: float) -> bool:
        """Serve the queue from the lease server's answer; ``False`` if it has to be asked again."""
        with self._lock:
            now = self._now()
            understood = self._store.apply_grant(now, sent_at, answer)
            if len(self._store.scopes) > len(self.scopes):
                self._note_scopes()
            if understood and self._answered_at == inf:
                self._begin(now)
            self._note_change(now, ours=self._store.answer_is_ours)
            self._count_early(now)
            woken = self._serve()
            if self._store.breaker.permits and not self._waiting:
                self._store.on_renewal_due()  # the request that was to probe has left: the permit goes back
        wake(woken)
        return understood

    def lease_server_lost(self, policy: str, *, confirmed: bool = True) -> None:
        """Go on without the lease server: ``local``, ``open`` or ``closed``."""
        with self._lock:
            now = self._now()
            self._store.lease_server_lost(now, policy, confirmed=confirmed)
            self._answered_at = min(now, self._answered_at)
            self._count_early(now)
            woken = self._serve()
        wake(woken)

    def confirm_outage(self) -> None:
        """The lease server stays away."""
        with self._lock:
            self._store.confirm_outage(self._now())
            woken = self._serve()
        wake(woken)

    def lease_server_found(self) -> None:
        """Ask the lease server again."""
        with self._lock:
            self._store.lease_server_found(self._now())
            woken = self._serve()
        wake(woken)

    def forked(self, worker: str) -> None:
        """Begin anew in a child process, which holds no lease and has no queue."""
        self._lock = threading.Lock()
        self._acquire, self._release = self._lock.acquire, self._lock.release
        self._store.forked(worker)

    @property
    def reports(self) -> int:
        """The number of the last report to the lease server, which takes them in in their order."""
        return self._store.reports

    def continue_reports(self, number: int) -> None:
        """Number the reports on from here: an earlier limiter of this name has made as many."""
        with self._lock:
            self._store.reports = number

    def fleet_size(self) -> int:
        """The workers that share this provider's limits."""
        return self._store.workers

    # What follows runs under the lock.

    def _note_scopes(self) -> None:
        """Another worker has given models a scope."""
        self._read_scopes()
        self.on_scope()

    def _begin(self, now: float) -> None:
        """The first answer: a state that is closed has been so."""
        self._answered_at = now
        if self._store.breaker.state is BreakerState.CLOSED:
            self._generation = self._store.breaker.generation

    def _record(self, now: float, reservation: Reservation, verdict: Verdict, reason: str | None) -> None:
        if reservation.at < self._answered_at:  # the breaker's generation was not known then
            self._count(now, verdict, reservation.at, reason)
        else:
            super()._record(now, reservation, verdict, reason)

    def _count(self, now: float, verdict: Verdict, began_at: float, reason: str | None) -> None:
        if self._answered_at < inf:
            super()._count(now, verdict, began_at, reason)
        else:
            self._early.append((verdict, began_at, reason))

    def _count_early(self, now: float) -> None:
        if self._early and self._answered_at < inf:
            early, self._early = self._early, []
            for result in early:
                self._count(now, *result)
