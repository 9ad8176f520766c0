"""One limiter, many threads: the same invariants, without an event loop."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable

from fake_clock import FakeClock
from limiter_support import assert_never_over_admitted, new_limiter, tokens

from wallie_litellm.core.circuit_breaker import Verdict
from wallie_litellm.core.demand import NOTHING, Demand
from wallie_litellm.limiter.limiter import Limiter
from wallie_litellm.limiter.limits import AccountLimits
from wallie_litellm.limiter.store import Denial, DenialReason, Reservation
from wallie_litellm.limiter.waiter import Waiter

LIMITS = {"rpm": 6000, "tpm": 60_000, "concurrency": 5}
THREADS, ROUNDS = 8, 60


def in_threads(work: Callable[[int], None]) -> None:
    """Run ``work`` in all threads at once; fail on its errors, and rather than hang."""
    errors: list[BaseException] = []
    start = threading.Barrier(THREADS)

    def run(number: int) -> None:
        try:
            start.wait(10)
            work(number)
        except BaseException as error:  # noqa: BLE001 - reported below
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(15)
        assert not thread.is_alive(), "stuck"
    assert not errors, errors


class Requests:
    """Requests that the threads make of one limiter, and what they observed."""

    def __init__(self, clock: FakeClock, limiter: Limiter) -> None:
        self.clock = clock
        self.limiter = limiter
        self.admissions: list[tuple[float, Demand]] = []
        self.most_in_flight = 0
        self.denied = 0

    def make(self, dice: random.Random) -> None:
        result = self.limiter.reserve(demand := tokens(dice.randint(1, 900)))
        if isinstance(result, Denial):
            result = self.wait(demand, dice)
        if isinstance(result, Denial):
            self.denied += 1
            return
        self.admissions.append((result.at, demand))
        self.most_in_flight = max(self.most_in_flight, self.limiter.state().in_flight)
        # Charged in full, so that the admissions show exactly what the bucket let through.
        self.limiter.settle(result, demand, Verdict.SUCCESS)
        self.limiter.settle(result, NOTHING, Verdict.FAILURE)

    def wait(self, demand: Demand, dice: random.Random) -> Reservation | Denial:
        woken = threading.Event()
        waiter = Waiter(demand, dice.randint(0, 1), self.clock.now() + dice.uniform(0, 2), lambda _: woken.set())
        self.limiter.enqueue(waiter)
        if dice.random() < 0.1:
            self.limiter.abandon(waiter)
            return Denial(DenialReason.ABANDONED, 0.0)
        assert woken.wait(10), "never woken"
        assert waiter.result is not None
        return waiter.result


def test_eight_threads_keep_one_limiters_limits_and_every_request_ends() -> None:
    clock = FakeClock()
    limiter = new_limiter(clock, LIMITS)
    requests = Requests(clock, limiter)
    done = threading.Event()

    def pass_time() -> None:
        while not done.wait(0.0005):
            clock.advance(0.05)

    timekeeper = threading.Thread(target=pass_time, daemon=True)
    timekeeper.start()
    try:
        in_threads(lambda number: [requests.make(random.Random(f"{number} {each}")) for each in range(ROUNDS)] and None)
    finally:
        done.set()
        timekeeper.join(60)
    state = limiter.state()
    assert (state.waiting, state.in_flight) == (0, 0)
    assert requests.most_in_flight <= LIMITS["concurrency"]
    assert len(requests.admissions) > THREADS
    assert_never_over_admitted(sorted(requests.admissions), AccountLimits(LIMITS))
    for usage in state.usage.values():
        assert usage.balance.reserved == usage.balance.settled + usage.balance.refunded


def test_one_of_several_concurrent_settlements_counts() -> None:
    limiter = new_limiter(FakeClock(), {"tpm": 60_000})
    for _ in range(20):
        reservation = limiter.reserve(tokens(100))
        assert isinstance(reservation, Reservation)
        won: list[bool] = []
        in_threads(lambda _, each=reservation, won=won: won.append(limiter.settle(each, tokens(40))))
        assert sorted(won) == [False] * (THREADS - 1) + [True]
    assert limiter.state().usage["tpm"].balance == (2000, 800, 1200)
