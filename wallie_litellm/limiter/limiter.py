"""One provider's door: who may pass now, who waits, and in which order."""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from wallie_litellm.clock import Clock
from wallie_litellm.core.circuit_breaker import BreakerState, Verdict
from wallie_litellm.core.demand import NOTHING, Demand
from wallie_litellm.core.dimensions import FEATURE
from wallie_litellm.core.wait_queue import WaitQueue
from wallie_litellm.limiter.listener import LimiterListener
from wallie_litellm.limiter.store import (
    Denial,
    DenialReason,
    LimitUsage,
    ProviderStore,
    Reservation,
)

# Looking up an enum's member costs more than the arithmetic around it (CPython 3.11).
_CLOSED = BreakerState.CLOSED
_SUCCESS = Verdict.SUCCESS
_QUEUED = DenialReason.QUEUED
_NOT_BY_WAITING = (DenialReason.CIRCUIT_OPEN, DenialReason.STORE_DOWN)


class Waiter:
    """A request in the queue. ``result`` is what became of it; ``wake`` is called once, from any thread."""

    __slots__ = ("demand", "give_up_at", "priority", "result", "wake")

    def __init__(self, demand: Demand, priority: int, give_up_at: float, wake: Callable[[], None]) -> None:
        self.demand = demand
        self.priority = priority
        self.give_up_at = give_up_at
        self.wake = wake
        self.result: Reservation | Denial | None = None


@dataclass(frozen=True, slots=True)
class LimiterState:
    """What one provider looks like at one moment. Times are seconds from now."""

    breaker: BreakerState
    breaker_reason: str | None
    consecutive_failures: int
    next_probe_in: float
    paused_for: float
    in_flight: int
    waiting: int
    usage: dict[str, LimitUsage]


LOWEST_PRIORITY = -(2**63)
EVENT_WAITS = (DenialReason.CONCURRENCY, DenialReason.LEASE_REQUESTED)  # waits that end with an event, not with time


class Limiter:
    """The queue in front of a :class:`ProviderStore`, safe to use from any thread and any event loop.

    There is one timer: it fires when the head of the queue can be served, or the first waiter gives up.
    """

    # The reason to deny a request that would fit, were it not for those in the queue.
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
        self._clock = clock
        self._now = clock.now
        self._ttl = reservation_ttl
        self._lock = threading.Lock()
        # The hot path calls these: ``with`` takes twice the time.
        self._acquire, self._release = self._lock.acquire, self._lock.release
        self._queue: WaitQueue[Waiter] = WaitQueue()
        self._waiting = 0
        self._give_ups: list[tuple[float, int, Waiter]] = []
        self._sequence = itertools.count()
        self._closed = False
        self._listener = listener
        self._seen = (store.breaker.state, store.breaker.failures)
        self._timer: Callable[[], None] | None = None
        self._timer_number = 0
        self._timer_at = float("inf")
        self._expiry_at = float("inf")

    def reserve(self, demand: Demand, priority: int = 0) -> Reservation | Denial:
        """Pass now, or learn what stands in the way and for how long, those waiting in front included."""
        self._acquire()
        try:
            now = self._now()
            if not self._waiting:
                result = self._store.reserve(now, demand)
                if now + self._ttl < self._expiry_at:
                    self._watch_expiry(now)
                if self._store.breaker.state is not self._seen[0]:  # half open
                    self._note_change(now)
                return result
            ahead = self._queue.ahead(priority)
            denial = self._store.check(now, demand, ahead)
            if denial is None and not ahead.requests:
                self._expiry_at = min(self._expiry_at, now + self._ttl)  # the queue's timer sees to it
                result = self._store.reserve(now, demand)
                self._note_change(now)
                return result
            return denial or Denial(self._queue_reason, 0.0)
        finally:
            self._release()

    def check(self, demand: Demand, priority: int = 0) -> Denial | None:
        """What :meth:`reserve` would run into now, without taking anything."""
        with self._lock:
            ahead = self._queue.ahead(priority) if self._waiting else NOTHING
            denial = self._store.check(self._now(), demand, ahead)
            return denial or (Denial(_QUEUED, 0.0) if ahead.requests else None)

    def fit(self, demand: Demand) -> Demand:
        """``demand`` with its guessed output cut down to what the limits can hold at all."""
        return self._store.fit(demand)

    def capacity(self, dimension: str) -> float:
        """The most that one request can ask for in ``dimension``."""
        return self._store.capacity(dimension)

    def evict(self, waiter: Waiter) -> None:
        """Have ``waiter`` leave the queue, if it is still there, as one whose wait has become too long."""
        with self._lock:
            if waiter.result is not None:
                return
            denial = self._store.check(self._now(), waiter.demand, NOTHING) or Denial(_QUEUED, 0.0)
            self._deny(waiter, denial)
            woken = [waiter, *self._serve()]
        wake(woken)

    def enqueue(self, waiter: Waiter) -> None:
        """Wait for one's turn until ``give_up_at``; ``waiter.wake`` is called when ``result`` is there."""
        with self._lock:
            if self._closed:
                waiter.result = Denial(DenialReason.GUARD_CLOSED, 0.0)
                woken = [waiter]
            else:
                self._queue.push(waiter)
                self._waiting += 1
                heapq.heappush(self._give_ups, (waiter.give_up_at, next(self._sequence), waiter))
                woken = self._serve()
        wake(woken)

    def abandon(self, waiter: Waiter) -> None:
        """Leave the queue; capacity that had just been granted goes back."""
        with self._lock:
            if waiter.result is None:
                self._deny(waiter, Denial(DenialReason.ABANDONED, 0.0))
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
        """End a reservation. Harmless the second time, when it says ``False``.

        ``pause_for`` seconds, nobody is admitted: the provider said to stay away.
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

    def consume(self, amount: Demand) -> None:
        """Charge an amount that was used without a reservation."""
        with self._lock:
            self._store.consume(self._now(), amount)

    def reset(self) -> None:
        """Forget what was used and any pause."""
        with self._lock:
            self._store.reset(self._now())
            woken = self._serve()
        wake(woken)

    def act(self, action: str) -> None:
        """The operator's order to the breaker: ``close``, ``force_open``, ``disable``, ``release``."""
        with self._lock:
            now = self._now()
            getattr(self._store.breaker, action)()
            self._note_change(now)
            self._store.on_breaker_report(now)
            woken = self._serve()
        wake(woken)

    def state(self) -> LimiterState:
        """What the provider looks like now."""
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
                usage=self._store.usage(now),
            )

    @property
    def in_flight(self) -> int:
        """Calls that are under way."""
        return self._store.in_flight

    def utilization(self) -> tuple[str, float]:
        """The limit that is used most, and the share of it that is."""
        with self._lock:
            usage = self._store.usage(self._now())
        return max(((name, one.utilization) for name, one in usage.items()), key=lambda one: one[1], default=("", 0.0))

    def lookback(self) -> float:
        """For how many seconds what is taken may still count against a rate."""
        return self._store.lookback

    def restore(self, day: Demand, recent: Sequence[tuple[float, Demand]]) -> None:
        """Go on with what was used before this process began: since midnight, and some seconds ago each."""
        with self._lock:
            self._store.restore(self._now(), day, recent)

    def is_open(self) -> bool:
        """Whether the breaker lets nothing pass at the moment."""
        with self._lock:
            return self._store.breaker.wait(self._now()) > 0

    def close(self) -> None:
        """Turn everybody away and stop the timer."""
        with self._lock:
            self._closed = True
            woken = []
            while (head := self._queue.head()) is not None:
                self._deny(head, Denial(DenialReason.GUARD_CLOSED, 0.0))
                woken.append(head)
            self._set_timer(float("inf"))
        wake(woken)

    # What follows runs under the lock.

    def _finish(self, reservation: Reservation, charged: Demand, verdict: Verdict, reason: str | None) -> bool:
        now = self._now()
        if not self._store.settle(now, reservation, charged):
            return False
        breaker = self._store.breaker
        if (
            verdict is _SUCCESS
            and breaker.state is _CLOSED
            and not breaker.failures
            and breaker.rules.error_rate is None
        ):
            return True
        breaker.record(now, reservation.generation, verdict, probe=reservation.probe, reason=reason)
        self._store.on_breaker_report(now)
        self._note_change(now)
        return True

    def _note_change(self, now: float, *, ours: bool = True) -> None:
        """Tell of a change in the breaker's state, unless another process has caused it and tells of it."""
        breaker = self._store.breaker
        before, self._seen = self._seen, (breaker.state, breaker.failures)
        if self._listener is not None and ours and before != self._seen:
            self._listener.on_breaker_change(self.name, before, self._seen, breaker, now)

    def _deny(self, waiter: Waiter, result: Reservation | Denial) -> None:
        self._queue.remove(waiter)
        self._waiting -= 1
        waiter.result = result

    def _serve(self) -> list[Waiter]:
        """Let in whoever can pass, turn away whoever waits in vain, set the timer; returns whom to wake."""
        now = self._now()
        self._expire(now)
        woken: list[Waiter] = []
        next_at = float("inf")
        while (head := self._queue.head()) is not None:
            result = self._store.reserve(now, head.demand)
            if isinstance(result, Denial) and self._worth_waiting(now, result, head):
                next_at = now + result.retry_after if result.reason not in EVENT_WAITS else float("inf")
                break
            if isinstance(result, Reservation):
                self._expiry_at = min(self._expiry_at, now + self._ttl)
                self._note_change(now)
            self._deny(head, result)
            woken.append(head)
        woken += self._evict(now)
        self._set_timer(min(next_at, self._next_give_up(), self._expiry_at))
        return woken

    @staticmethod
    def _worth_waiting(now: float, denial: Denial, waiter: Waiter) -> bool:
        return (
            denial.reason not in _NOT_BY_WAITING
            and denial.retry_after < float("inf")
            and now + denial.retry_after <= waiter.give_up_at
        )

    def _evict(self, now: float) -> list[Waiter]:
        gone = []
        in_vain = max(now, self._store.paused_until)
        while self._next_give_up() <= in_vain:
            waiter = heapq.heappop(self._give_ups)[2]
            self._deny(waiter, Denial(_QUEUED, 0.0))
            # What it would find if it came back at once: the others are still in line.
            ahead = self._queue.ahead(waiter.priority)
            waiter.result = self._store.check(now, waiter.demand, ahead) or waiter.result
            gone.append(waiter)
        return gone

    def _next_give_up(self) -> float:
        while self._give_ups and self._give_ups[0][2].result is not None:
            heapq.heappop(self._give_ups)
        return self._give_ups[0][0] if self._give_ups else float("inf")

    def _watch_expiry(self, now: float) -> None:
        self._expiry_at = now + self._ttl
        self._set_timer(min(self._timer_at, self._expiry_at))

    def _expire(self, now: float) -> None:
        if now < self._expiry_at:
            return
        for reservation in self._store.expire(now - self._ttl + 1e-6):
            self._finish(reservation, reservation.demand, Verdict.IGNORED, None)
        oldest = self._store.oldest()
        self._expiry_at = float("inf") if oldest is None else oldest + self._ttl

    def _set_timer(self, when: float) -> None:
        if when == self._timer_at and self._timer is not None:
            return
        if self._timer is not None:
            self._timer()
            self._timer = None
        self._timer_at = when
        if when < float("inf"):
            self._timer_number += 1
            self._timer = self._clock.call_at(when, partial(self._on_timer, self._timer_number))

    def _on_timer(self, number: int) -> None:
        with self._lock:
            if number != self._timer_number:  # called off just as it fired; another one is armed
                return
            self._timer = None
            self._timer_at = float("inf")
            woken = self._serve()
        wake(woken)


def wake(waiters: list[Waiter]) -> None:
    """Wake ``waiters``; called without the lock."""
    for waiter in waiters:
        waiter.wake()
