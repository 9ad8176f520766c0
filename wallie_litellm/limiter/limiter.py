"""The queue in front of one provider: which requests are admitted now, which wait, and in which order."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from math import inf
from typing import ClassVar, Final

from wallie_litellm.clock import Clock
from wallie_litellm.core.circuit_breaker import BreakerAction, BreakerState, Verdict, apply_action
from wallie_litellm.core.demand import NOTHING, Demand
from wallie_litellm.core.dimensions import FEATURE
from wallie_litellm.core.limit_keys import ACCOUNT, limit_key
from wallie_litellm.core.model_patterns import ModelPatterns
from wallie_litellm.core.wait_queue import WaitQueue
from wallie_litellm.limiter.configured import LimiterSettings
from wallie_litellm.limiter.demand_rate import with_exhaustion
from wallie_litellm.limiter.limiter_state import LimiterState, ScopeState
from wallie_litellm.limiter.listener import LimiterListener
from wallie_litellm.limiter.store import Denial, DenialReason, ProviderStore, Reservation
from wallie_litellm.limiter.timer import ResettableTimer
from wallie_litellm.limiter.waiter import GiveUps, Waiter, wake

# Looking up an enum's member costs more than the arithmetic around it (CPython 3.11).
_CLOSED: Final = BreakerState.CLOSED
_SUCCESS: Final = Verdict.SUCCESS
_QUEUED: Final = DenialReason.QUEUED
_NOT_BY_WAITING: Final = (DenialReason.CIRCUIT_OPEN, DenialReason.STORE_DOWN)
# Denials that end with an event, a call's end or the lease server's answer, and not at a time that is known now.
_EVENT_WAITS: Final = (DenialReason.CONCURRENCY, DenialReason.LEASE_REQUESTED)


class Limiter:
    """The queue in front of a :class:`ProviderStore`, safe to use from any thread and any event loop.

    There is one timer: it fires when the head of the queue can be served, or the first waiter gives up.
    """

    # The reason to deny a request that would fit, were it not for the requests in the queue.
    _queue_reason: ClassVar[DenialReason] = _QUEUED

    def __init__(
        self,
        name: str,
        store: ProviderStore,
        clock: Clock,
        reservation_ttl: float,
        listener: LimiterListener | None = None,
    ) -> None:
        self.name = name
        self.is_feature = name.startswith(FEATURE)
        self._store = store
        self._read_scopes()
        self._now = clock.now
        self._ttl = reservation_ttl
        self._lock = threading.Lock()
        # ``with`` takes twice the time of these two calls, which every reservation and settlement makes.
        self._acquire, self._release = self._lock.acquire, self._lock.release
        self._queue: WaitQueue[Waiter] = WaitQueue()
        self._waiting = 0
        self._give_ups = GiveUps()
        self._closed = False
        self._listener = listener
        self._seen = (store.breaker.state, store.breaker.failures)
        self._generation = store.breaker.generation
        self.changed_at = -inf  # when the breaker's state has changed last, in seconds of ``clock``
        self._timer = ResettableTimer(clock, self._on_timer)
        self._expiry_at = inf

    def reserve(self, demand: Demand, priority: int = 0, scope: str = ACCOUNT) -> Reservation | Denial:
        """Take ``demand`` now, or return why not and for how long, with the requests in the queue before it.

        It is taken from the account's limits, and from those of ``scope``, the pattern of its model's.
        """
        self._acquire()
        try:
            now = self._now()
            if not self._waiting:
                result = self._store.reserve(now, demand, scope)
                if now + self._ttl < self._expiry_at:
                    self._watch_expiry(now)
                if self._store.breaker.state is not self._seen[0]:  # it has become half open
                    self._note_change(now)
                return result
            denial = self._denial_in_line(now, demand, priority, scope)
            if denial is None:
                self._expiry_at = min(self._expiry_at, now + self._ttl)  # the timer is set for the queue already
                result = self._store.reserve(now, demand, scope)
                self._note_change(now)
                return result
            return denial if denial.reason is not _QUEUED else denial._replace(reason=self._queue_reason)
        finally:
            self._release()

    def check(self, demand: Demand, priority: int = 0, scope: str = ACCOUNT) -> Denial | None:
        """The denial that :meth:`reserve` would return now; ``None`` if it would admit. Takes nothing."""
        with self._lock:
            now = self._now()
            if not self._waiting:
                return self._store.check(now, demand, NOTHING, scope)
            return self._denial_in_line(now, demand, priority, scope)

    def _denial_in_line(self, now: float, demand: Demand, priority: int, scope: str) -> Denial | None:
        """The denial of a request behind those in the queue that it may not pass; ``None`` if it is the first."""
        if self._may_pass(now, priority, scope):
            return self._store.check(now, demand, NOTHING, scope)
        ahead = self._queue.ahead(priority)
        of_model = ahead.get(scope, NOTHING) if scope != ACCOUNT else NOTHING
        if len(ahead) > 1:  # of those that wait for other models, what these allow before the last of them gives up
            within = self._give_ups.last() - now
            ahead = {
                other: total if other == scope else self._store.served_within(now, total, other, within)
                for other, total in ahead.items()
            }
        total = Demand(*map(sum, zip(NOTHING, *ahead.values(), strict=True)))
        return self._store.check(now, demand, total, scope, of_model) or Denial(_QUEUED, 0.0)

    def _may_pass(self, now: float, priority: int, scope: str) -> bool:
        """Whether all requests ahead of a new one wait for limits of models that it does not need."""
        for head in self._queue.heads(priority):
            if head.scope in (ACCOUNT, scope):
                return False
            denial = self._store.check(now, head.demand, NOTHING, head.scope)
            if denial is None or not denial.scope:
                return False
        return True

    def is_paused(self) -> bool:
        """Whether the provider has asked for a pause that has not passed."""
        return self._store.paused_until > self._now()

    def is_idle(self) -> bool:
        """Whether there is no pause, no request in the queue, and no call under way."""
        return not (self._waiting or self._store.in_flight or self.is_paused())

    def is_quiet(self) -> bool:
        """Whether it lets every request pass: no pause, no queue, and a closed breaker without failures."""
        breaker = self._store.breaker
        return breaker.state is _CLOSED and not (breaker.failures or self._waiting or self.is_paused())

    @property
    def closed_at(self) -> float:
        """When the breaker closed, in seconds of ``clock``; ``-inf`` if it never opened, or is not closed."""
        return self.changed_at if self._store.breaker.state is _CLOSED else -inf

    def breaker_state(self) -> tuple[BreakerState, int]:
        """The breaker's state and its count of failures; takes no lock."""
        breaker = self._store.breaker
        return breaker.state, breaker.failures

    def has_closed_to(self, reservation: Reservation) -> bool:
        """Whether the breaker has changed since, and admits nothing now, or has given the probe up as lost."""
        with self._lock:
            breaker, now = self._store.breaker, self._now()
            if breaker.generation != reservation.generation:
                return breaker.wait(now) > 0
            return bool(reservation.probe) and now >= reservation.at + breaker.open_for

    def fit(self, demand: Demand, scope: str = ACCOUNT) -> Demand:
        """``demand`` with its output, a guess, cut to the capacity of the limits."""
        return self._store.fit(demand, scope)

    def capacity(self, dimension: str, scope: str = ACCOUNT) -> float:
        """The most units that one request may demand in ``dimension``; ``inf`` without a limit."""
        return self._store.capacity(dimension, scope)

    def scope_of(self, model: str, *groups: str) -> str:
        """The pattern whose limits a model of these ``groups`` has, besides the account's; empty if none has it."""
        return self._patterns.find(model, *groups)

    def add_scope(self, scope: str) -> None:
        """Give the models that a pattern matches a scope, without limits yet; patterns of the file go before it."""
        with self._lock:
            if scope not in self.scopes:
                self._store.add_scope(scope)
                self._read_scopes()

    def sent_since(self, at: float, scope: str) -> Demand:
        """What calls under way in ``scope`` have reserved that were admitted after ``at``."""
        with self._lock:
            return self._store.sent_since(at, scope)

    def configured(self) -> Mapping[tuple[str, str], int]:
        """The configured limits, by scope and dimension."""
        return self._store.configured()

    def configure(self, settings: LimiterSettings, pattern_of: Callable[[str], str]) -> None:
        """Go by other settings of the file from now on; what is used, waits and is under way stays.

        ``pattern_of`` is the pattern of a model's scope: requests in the queue keep their place, and pass the limits
        that their model has now.
        """

        def change(waiter: Waiter) -> None:
            waiter.scope = pattern_of(waiter.model) if self.scopes and waiter.model else ACCOUNT
            if waiter.guessed:
                waiter.demand = self._store.fit(waiter.demand, waiter.scope)

        with self._lock:
            now = self._now()
            self._store.configure(now, settings.limits, settings.rules, settings.levels)
            self._ttl = settings.reservation_ttl
            self._read_scopes()
            self._queue.change(change)
            self._set_expiry()
            woken = self._serve()
        wake(woken)

    def set_limit(self, scope: str, dimension: str, amount: int | None) -> None:
        """Have ``amount`` in force from now on, or with ``None`` the configured limit again, or none.

        What is missing stays missing, up to the whole limit.
        """
        with self._lock:
            self._store.set_limit(self._now(), scope, dimension, amount)
            woken = self._serve()
        wake(woken)

    def bound(self, scope: str, dimension: str, left: float) -> None:
        """Leave no more than ``left`` units of a limit: the vendor has said that so many are left."""
        with self._lock:
            self._store.bound(self._now(), scope, dimension, left)

    def charge(self, scope: str, dimension: str, units: float) -> None:
        """Take units of a limit per minute that others have used; they are no usage of this process."""
        with self._lock:
            self._store.charge(self._now(), scope, dimension, units)

    def evict(self, waiter: Waiter) -> None:
        """Deny ``waiter``, if it is still in the queue, as if its wait had become too long."""
        with self._lock:
            if waiter.result is not None:
                return
            denial = self._store.check(self._now(), waiter.demand, NOTHING, waiter.scope) or Denial(_QUEUED, 0.0)
            self._dequeue(waiter, denial)
            woken = [waiter, *self._serve()]
        wake(woken)

    def enqueue(self, waiter: Waiter) -> None:
        """Put ``waiter`` into the queue until ``give_up_at``; it is woken when its ``result`` is set."""
        with self._lock:
            if self._closed:
                waiter.result = Denial(DenialReason.GUARD_CLOSED, 0.0)
                woken = [waiter]
            else:
                self._queue.push(waiter)
                self._waiting += 1
                self._give_ups.add(waiter)
                woken = self._serve()
        wake(woken)

    def abandon(self, waiter: Waiter) -> None:
        """Remove ``waiter`` from the queue; capacity that it was granted already goes back."""
        with self._lock:
            if waiter.result is None:
                self._dequeue(waiter, Denial(DenialReason.ABANDONED, 0.0))
            elif isinstance(waiter.result, Reservation):
                self._finish(waiter.result, NOTHING, Verdict.IGNORED, None)
            woken = self._serve()
        wake(woken)

    def settle(
        self,
        reservation: Reservation,
        charged: Demand,
        verdict: Verdict = Verdict.IGNORED,
        *,
        reason: str | None = None,
        pause_for: float | None = None,
    ) -> bool:
        """End a reservation; ``False``, and without effect, the second time.

        The provider asked for a pause of ``pause_for`` seconds, if any: nothing is admitted for that long.
        """
        self._acquire()
        try:
            if pause_for:
                self._store.pause(self._now() + pause_for)
            settled = self._finish(reservation, charged, verdict, reason)
            if not self._waiting:
                return settled
            woken = self._serve()
        finally:
            self._release()
        wake(woken)
        return settled

    def count(self, verdict: Verdict, began_at: float, reason: str | None = None) -> None:
        """Count the result of a call that began at ``began_at`` and has no reservation here."""
        with self._lock:
            self._count(self._now(), verdict, began_at, reason)
            woken = self._serve()
        wake(woken)

    def pause(self, seconds: float) -> None:
        """Admit nothing for so long; an earlier, longer pause stands."""
        with self._lock:
            self._store.pause(self._now() + seconds)
            woken = self._serve()
        wake(woken)

    def consume(self, amount: Demand, scope: str = ACCOUNT) -> None:
        """Charge ``amount``, which was used without a reservation."""
        with self._lock:
            self._store.consume(self._now(), amount, scope)

    def reset(self, scope: str = ACCOUNT) -> None:
        """Forget what was used and any pause; with a ``scope``, what was used of its own limits alone."""
        with self._lock:
            self._store.reset(self._now(), scope)
            woken = self._serve()
        wake(woken)

    def act(self, action: BreakerAction) -> None:
        """Apply an operator's action to the breaker."""
        with self._lock:
            now = self._now()
            apply_action(self._store.breaker, action)
            self._note_change(now)
            self._store.on_breaker_report(now)
            woken = self._serve()
        wake(woken)

    def state(self) -> LimiterState:
        """The provider's limits, breaker and queue now."""
        with self._lock:
            now, breaker = self._now(), self._store.breaker
            return LimiterState(
                breaker=breaker.state,
                breaker_reason=breaker.reason,
                consecutive_failures=breaker.failures,
                next_probe_in=breaker.wait(now),
                paused_for=max(0.0, self._store.paused_until - now),
                in_flight=self._store.in_flight,
                waiting=self._waiting,
                usage=with_exhaustion(self._store, self._queue, now),
                models={
                    scope: ScopeState(self._queue.waiting(scope), with_exhaustion(self._store, self._queue, now, scope))
                    for scope in self.scopes
                },
            )

    @property
    def in_flight(self) -> int:
        """Reservations not yet settled."""
        return self._store.in_flight

    def utilization(self, scope: str = ACCOUNT) -> tuple[str, float]:
        """The limit of the account or of ``scope`` that is used most, by its key, and the share of it that is used.

        Tokens that calls in flight have reserved count as used; ``("", 0.0)`` without limits.
        """
        with self._lock:
            now = self._now()
            usage = self._store.usage(now)
            if scope != ACCOUNT:
                own = self._store.usage(now, scope)
                usage = {**usage, **{limit_key(name, scope): one for name, one in own.items()}}
        return max(((name, one.committed) for name, one in usage.items()), key=lambda one: one[1], default=("", 0.0))

    def lookback(self) -> float:
        """For how many seconds usage may still be missing from a bucket."""
        return self._store.lookback

    def restore(self, day: Demand, recent: Sequence[tuple[float, Demand]], scope: str = ACCOUNT) -> None:
        """Count in the limits of one scope what was used before this process began.

        That is since midnight, and recently as (seconds ago, amount).
        """
        with self._lock:
            self._store.restore(self._now(), day, recent, scope)

    def is_open(self) -> bool:
        """Whether the breaker admits nothing at the moment."""
        with self._lock:
            return self._store.breaker.wait(self._now()) > 0

    def close(self) -> None:
        """Deny every waiter, present and future, and stop the timer."""
        with self._lock:
            self._closed = True
            woken = []
            while (head := self._queue.head()) is not None:
                self._dequeue(head, Denial(DenialReason.GUARD_CLOSED, 0.0))
                woken.append(head)
            self._timer.set(inf)
        wake(woken)

    # What follows runs under the lock.

    def _read_scopes(self) -> None:
        #: The patterns of the models with limits of their own, in the order of the file.
        self.scopes = self._store.scopes
        self._patterns = ModelPatterns(self.scopes, self.name, self._store.limits.models)

    def _finish(self, reservation: Reservation, charged: Demand, verdict: Verdict, reason: str | None) -> bool:
        now = self._now()
        if not self._store.settle(now, reservation, charged):
            return False
        breaker = self._store.breaker
        if verdict is _SUCCESS and breaker.state is _CLOSED and not breaker.failures and not breaker.rules.counts_all:
            return True
        self._record(now, reservation, verdict, reason)
        return True

    def _record(self, now: float, reservation: Reservation, verdict: Verdict, reason: str | None) -> None:
        self._store.breaker.record(now, reservation.generation, verdict, probe=reservation.probe, reason=reason)
        self._store.on_breaker_report(now)
        self._note_change(now)

    def _count(self, now: float, verdict: Verdict, began_at: float, reason: str | None) -> None:
        breaker = self._store.breaker
        if began_at < self.changed_at:
            return
        breaker.record(now, breaker.generation, verdict, probe=0, reason=reason)
        self._store.on_breaker_report(now)
        self._note_change(now)

    def _note_change(self, now: float, *, ours: bool = True) -> None:
        """Report a change of the breaker; unless it is ``ours``, another process has caused it."""
        breaker = self._store.breaker
        before, self._seen = self._seen, (breaker.state, breaker.failures)
        if breaker.generation != self._generation:
            self._generation, self.changed_at = breaker.generation, now
        if self._listener is not None and before != self._seen:
            self._listener.on_breaker_change(self.name, before, self._seen, breaker, now, ours)

    def _dequeue(self, waiter: Waiter, result: Reservation | Denial) -> None:
        self._queue.remove(waiter)
        self._waiting -= 1
        waiter.result = result

    def _serve(self) -> list[Waiter]:
        """Admit the waiters that can be served, deny those that wait in vain, set the timer; returns both, to wake.

        A waiter for which its model's limits take longer than the account's is passed by those of other models, until
        the account is what it waits for: so it begins no later for them, and they do not wait for its model.
        """
        now = self._now()
        self._expire(now)
        woken: list[Waiter] = []
        next_at = inf
        passed: set[str] = set()
        while (head := self._queue.head(passed)) is not None:
            result = self._store.reserve(now, head.demand, head.scope)
            if isinstance(result, Denial) and self._worth_waiting(now, result, head):
                if result.reason not in _EVENT_WAITS:
                    next_at = min(next_at, now + result.retry_after)
                if not result.scope:
                    break
                passed.add(result.scope)
                continue
            if isinstance(result, Reservation):
                self._expiry_at = min(self._expiry_at, now + self._ttl)
                self._note_change(now)
            self._dequeue(head, result)
            woken.append(head)
        woken += self._evict(now)
        self._timer.set(min(next_at, self._give_ups.first(), self._expiry_at))
        return woken

    @staticmethod
    def _worth_waiting(now: float, denial: Denial, waiter: Waiter) -> bool:
        return denial.reason not in _NOT_BY_WAITING and denial.retry_after < inf and waiter.may_wait(now, denial)

    def _evict(self, now: float) -> list[Waiter]:
        evicted = []
        in_vain = max(now, self._store.paused_until)
        while (waiter := self._give_ups.pop_until(in_vain)) is not None:
            self._dequeue(waiter, Denial(_QUEUED, 0.0))
            # The denial is that of a request which comes now, behind those that are still in the queue.
            waiter.result = self._denial_in_line(now, waiter.demand, waiter.priority, waiter.scope) or waiter.result
            evicted.append(waiter)
        return evicted

    def _watch_expiry(self, now: float) -> None:
        self._expiry_at = now + self._ttl
        self._timer.set(min(self._timer.at, self._expiry_at))

    def _expire(self, now: float) -> None:
        if now < self._expiry_at:
            return
        for reservation in self._store.expire(now - self._ttl + 1e-6):
            self._finish(reservation, reservation.demand, Verdict.IGNORED, None)
        self._set_expiry()

    def _set_expiry(self) -> None:
        oldest = self._store.oldest()
        self._expiry_at = inf if oldest is None else oldest + self._ttl

    def _on_timer(self, number: int) -> None:
        with self._lock:
            if not self._timer.expired(number):
                return
            woken = self._serve()
        wake(woken)
