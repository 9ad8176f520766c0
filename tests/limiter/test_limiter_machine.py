"""A limiter in any sequence of events: limits hold, balances add up, and every waiter gets a result."""

from __future__ import annotations

from fake_clock import FakeClock
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from limiter_support import RecordedQueue, assert_balances, assert_never_over_admitted, new_limiter

from wallie_litellm.core.circuit_breaker import BreakerRules, Verdict
from wallie_litellm.core.demand import NOTHING, Demand
from wallie_litellm.limiter.limits import AccountLimits
from wallie_litellm.limiter.store import Reservation
from wallie_litellm.limiter.waiter import Waiter

TTL = 100.0
DEMANDS = st.builds(lambda n: Demand(1, n, n // 2, n - n // 2), st.integers(0, 120))
VERDICTS = st.sampled_from(list(Verdict))


class LimiterMachine(RuleBasedStateMachine):
    @initialize(
        rpm=st.integers(2, 60),
        tpm=st.integers(40, 200),
        optional=st.fixed_dictionaries({}, optional={"concurrency": st.integers(1, 5), "rpd": st.integers(3, 30)}),
        failures=st.integers(1, 4),
        probes=st.integers(1, 2),
    )
    def setup(self, rpm: int, tpm: int, optional: dict[str, int], failures: int, probes: int) -> None:
        self.clock = FakeClock()
        self.limits = AccountLimits({"rpm": rpm, "tpm": tpm, **optional})
        rules = BreakerRules(failures=failures, open_for=20, max_open_for=60, probes=probes)
        self.limiter = new_limiter(self.clock, self.limits.per_dimension, rules, ttl=TTL)
        self.queue = RecordedQueue(self.clock, self.limiter)
        self.waiters: list[Waiter] = []
        self.left: set[Waiter] = set()
        self.live: list[Reservation] = []
        self.epochs: list[list[Reservation]] = [[]]  # admissions, anew after each reset
        self.charges: dict[Reservation, Demand] = {}
        self.seen = 0

    def collect(self) -> None:
        """Collect the reservations that waiters were granted since the last call."""
        for waiter in self.queue.answered[self.seen :]:
            if isinstance(waiter.result, Reservation):
                self.live.append(waiter.result)
                self.epochs[-1].append(waiter.result)
        self.seen = len(self.queue.answered)
        self.live = [reservation for reservation in self.live if not reservation.settled]

    @rule(demand=DEMANDS, priority=st.integers(0, 2))
    def come(self, demand: Demand, priority: int) -> None:
        ahead = [w for w in self.waiters if w.result is None and w.priority >= priority]
        result = self.limiter.reserve(demand, priority)
        if isinstance(result, Reservation):
            assert not ahead, "overtook the waiters ahead"
            self.live.append(result)
            self.epochs[-1].append(result)

    @rule(demand=DEMANDS, priority=st.integers(0, 2), patience=st.floats(0, 150))
    def wait(self, demand: Demand, priority: int, patience: float) -> None:
        self.waiters.append(self.queue.join(demand, priority, patience))
        self.collect()

    @precondition(lambda self: self.waiters)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        waiter = data.draw(st.sampled_from(self.waiters))
        self.waiters.remove(waiter)
        self.left.add(waiter)
        if waiter.result is None or not getattr(waiter.result, "settled", False):
            if isinstance(waiter.result, Reservation):
                self.charges[waiter.result] = NOTHING
            self.limiter.abandon(waiter)
        self.collect()

    @precondition(lambda self: self.live)
    @rule(data=st.data(), verdict=VERDICTS, share=st.sampled_from([0.0, 0.5, 1.0, 1.0, 1.5]), pause=st.floats(1, 90))
    def settle(self, data: st.DataObject, verdict: Verdict, share: float, pause: float) -> None:
        reservation = data.draw(st.sampled_from(self.live))
        charged = Demand(*(int(amount * share) for amount in reservation.demand))
        pauses = data.draw(st.sampled_from([False, False, False, True]))
        self.charges[reservation] = Demand(*map(min, zip(charged, reservation.demand, strict=True)))
        assert self.limiter.settle(reservation, charged, verdict, pause_for=pause if pauses else None)
        assert not self.limiter.settle(reservation, NOTHING, Verdict.FAILURE)
        self.collect()

    @rule(amount=DEMANDS)
    def consume(self, amount: Demand) -> None:
        self.limiter.consume(amount)

    @rule(seconds=st.sampled_from([0.001, 0.5, 1.0, 5.0, 20.0]) | st.floats(0, 150))
    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.collect()

    @rule()
    def reset(self) -> None:
        self.clock.advance(0.001)  # what happens in one instant has no order
        self.collect()
        self.epochs.append([])
        self.limiter.reset()
        self.collect()
        self.clock.advance(0.001)
        self.collect()

    @rule(action=st.sampled_from(["close", "close", "force_open", "disable", "release"]))
    def act(self, action: str) -> None:
        self.limiter.act(action)
        self.collect()

    @invariant()
    def holds(self) -> None:
        if not hasattr(self, "limiter"):
            return
        state = self.limiter.state()
        pending = [waiter for waiter in self.waiters if waiter.result is None]
        assert state.waiting == len(pending)
        assert state.in_flight == len(self.live)
        assert state.in_flight <= self.limits.per_dimension.get("concurrency", state.in_flight)
        in_flight = [reservation.demand for reservation in self.live]
        assert_balances({name: usage.balance for name, usage in state.usage.items()}, in_flight)
        assert all(usage.used >= 0 for usage in state.usage.values())
        assert self.clock.armed <= 1
        assert self.clock.armed or not (pending or self.live)
        assert all(waiter.give_up_at > self.clock.now() for waiter in pending)
        assert all(reservation.at > self.clock.now() - TTL - 1e-6 for reservation in self.live)

    def teardown(self) -> None:
        if not hasattr(self, "limiter"):
            return
        self.clock.advance(200)
        self.collect()
        self.clock.advance(2 * TTL)
        self.collect()
        state = self.limiter.state()
        assert (state.waiting, state.in_flight, self.clock.armed) == (0, 0, 0)
        assert all(waiter.result is not None for waiter in [*self.waiters, *self.left])
        for usage in state.usage.values():
            assert usage.balance.reserved == usage.balance.settled + usage.balance.refunded
        for admissions in self.epochs:
            # Judged by what each was charged in the end; an overrun is charged when it is found, not in advance.
            charged = [(each.at, self.charges.get(each, each.demand)) for each in admissions]
            assert_never_over_admitted(charged, self.limits)


TestLimiterMachine = LimiterMachine.TestCase
TestLimiterMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
