"""A limiter in any sequence of events: limits hold, balances add up, and every waiter gets a result."""

from __future__ import annotations

from fake_clock import FakeClock
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from limiter_support import RecordedQueue, assert_balances, assert_scopes_hold, new_limiter

from wallie_litellm.core.circuit_breaker import BreakerRules, Verdict
from wallie_litellm.core.demand import NOTHING, Demand
from wallie_litellm.limiter.limits import AccountLimits, ScopeLimits
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
        models=st.dictionaries(
            st.sampled_from(["a*", "b"]),
            st.fixed_dictionaries(
                {"tpm": st.integers(40, 200)}, optional={"rpm": st.integers(1, 20), "concurrency": st.integers(1, 2)}
            ),
        ),
        failures=st.integers(1, 4),
        probes=st.integers(1, 2),
    )
    def setup(
        self,
        rpm: int,
        tpm: int,
        optional: dict[str, int],
        models: dict[str, dict[str, int]],
        failures: int,
        probes: int,
    ) -> None:
        self.clock = FakeClock()
        own = {pattern: ScopeLimits(limits) for pattern, limits in models.items()}
        self.limits = AccountLimits({"rpm": rpm, "tpm": tpm, **optional}, models=own)
        self.scopes = ["", *models]
        rules = BreakerRules(failures=failures, open_for=20, max_open_for=60, probes=probes)
        self.limiter = new_limiter(self.clock, self.limits.per_dimension, rules, ttl=TTL, models=own)
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

    @rule(demand=DEMANDS, priority=st.integers(0, 2), data=st.data())
    def come(self, demand: Demand, priority: int, data: st.DataObject) -> None:
        scope = data.draw(st.sampled_from(self.scopes))
        ahead = [w for w in self.waiters if w.result is None and w.priority >= priority]
        may_pass = all(waiter.scope not in ("", scope) and self.model_is_in_the_way(waiter) for waiter in ahead)
        result = self.limiter.reserve(demand, priority, scope)
        if isinstance(result, Reservation):
            assert may_pass, "overtook the waiters ahead"
            assert result.scope == scope
            self.live.append(result)
            self.epochs[-1].append(result)

    def model_is_in_the_way(self, waiter: Waiter) -> bool:
        """Whether a waiter, or the first one ahead of it in its lane, waits for its model's limits."""
        first = max(
            (one for one in self.waiters if one.result is None and one.scope == waiter.scope),
            key=lambda one: (one.priority, -self.waiters.index(one)),
        )
        denial = self.limiter._store.check(self.clock.now(), first.demand, NOTHING, first.scope)
        return denial is not None and denial.scope != ""

    @rule(demand=DEMANDS, priority=st.integers(0, 2), patience=st.floats(0, 150), data=st.data())
    def wait(self, demand: Demand, priority: int, patience: float, data: st.DataObject) -> None:
        scope = data.draw(st.sampled_from(self.scopes))
        self.waiters.append(self.queue.join(demand, priority, patience, scope))
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

    @rule(amount=DEMANDS, data=st.data())
    def consume(self, amount: Demand, data: st.DataObject) -> None:
        self.limiter.consume(amount, data.draw(st.sampled_from(self.scopes)))

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
        for scope, found in {"": state.usage, **{one: own.usage for one, own in state.models.items()}}.items():
            in_flight = [each.demand for each in self.live if scope in ("", each.scope)]
            assert_balances({name: usage.balance for name, usage in found.items()}, in_flight)
            assert all(usage.used >= 0 for usage in found.values())
            if "concurrency" in found:
                assert found["concurrency"].used == len(in_flight) <= found["concurrency"].limit
        for scope, own in state.models.items():
            assert own.waiting == sum(waiter.scope == scope for waiter in pending)
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
        for found in (state.usage, *(own.usage for own in state.models.values())):
            for usage in found.values():
                assert usage.balance.reserved == usage.balance.settled + usage.balance.refunded
        for admissions in self.epochs:
            # Judged by what each was charged in the end; an overrun is charged when it is found, not in advance.
            charged = [(each.at, self.charges.get(each, each.demand), each.scope) for each in admissions]
            assert_scopes_hold(charged, self.limiter)


TestLimiterMachine = LimiterMachine.TestCase
TestLimiterMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
