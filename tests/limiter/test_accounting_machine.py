"""Balances that add up at every step of any sequence of operations."""

from __future__ import annotations

import pytest
from fake_clock import FakeClock
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from limiter_support import assert_balances, assert_never_over_admitted, new_store

from wallie_litellm.core.demand import NOTHING, Demand
from wallie_litellm.limiter.limits import AccountLimits, ScopeLimits
from wallie_litellm.limiter.memory_store import MemoryStore
from wallie_litellm.limiter.store import Reservation

LIMITS = {"rpm": 600, "tpm": 6000, "rpd": 50, "tpd": 9000, "concurrency": 9}
AMOUNTS = st.integers(0, 80)
DEMANDS = st.builds(Demand, st.integers(1, 2), AMOUNTS, AMOUNTS, AMOUNTS)
OF_A_MODEL = st.dictionaries(
    st.sampled_from(["rpm", "tpm", "itpm", "otpm", "rpd", "tpd"]), st.integers(40, 200)
) | st.fixed_dictionaries({"concurrency": st.integers(1, 3)})
CHARGES = st.builds(Demand, st.integers(0, 3), AMOUNTS, AMOUNTS, AMOUNTS)


class AccountingMachine(RuleBasedStateMachine):
    """In any sequence of operations, no amount is lost, invented, or admitted beyond the limits."""

    @initialize(
        stated=st.fixed_dictionaries(
            {"rpm": st.integers(2, 60)},
            optional={
                "tpm": st.integers(50, 300),
                "itpm": st.integers(50, 300),
                "otpm": st.integers(50, 300),
                "rpd": st.integers(5, 40),
                "tpd": st.integers(100, 900),
                "concurrency": st.integers(1, 6),
            },
        ),
        models=st.dictionaries(st.sampled_from(["a*", "b"]), OF_A_MODEL),
    )
    def setup(self, stated: dict[str, int], models: dict[str, dict[str, int]]) -> None:
        self.clock = FakeClock()
        self.limits = AccountLimits(stated, models={pattern: ScopeLimits(own) for pattern, own in models.items()})
        self.store: MemoryStore = new_store(self.clock, stated, models=self.limits.models)
        self.live: list[Reservation] = []
        self.ended: list[Reservation] = []
        # The amounts admitted, at the time of admission: the estimate counts until it is settled.
        self.charges: dict[Reservation, tuple[float, Demand]] = {}
        self.settled = dict.fromkeys(["", *models], NOTHING)

    def passed(self, reservation: Reservation) -> set[str]:
        return {"", reservation.scope}

    def left(self) -> dict[tuple[str, str], float]:
        now = self.clock.now()
        return {(scope, name): one.left for scope in self.settled for name, one in self.store.usage(now, scope).items()}

    @rule(demand=DEMANDS, data=st.data())
    def reserve(self, demand: Demand, data: st.DataObject) -> None:
        self.clock.advance(0.001)  # in one instant, the order of events would matter
        scope, before = data.draw(st.sampled_from([*self.settled])), self.left()
        result = self.store.reserve(self.clock.now(), demand, scope)
        if not isinstance(result, Reservation):
            assert self.left() == pytest.approx(before), "a refused admission took something"
        if isinstance(result, Reservation):
            self.live.append(result)
            self.charges[result] = (result.at, demand)

    @precondition(lambda self: self.live)
    @rule(data=st.data(), charged=CHARGES)
    def settle(self, data: st.DataObject, charged: Demand) -> None:
        self.clock.advance(0.001)
        reservation = data.draw(st.sampled_from(self.live))
        self.finish(reservation, charged)

    def finish(self, reservation: Reservation, charged: Demand) -> None:
        assert self.store.settle(self.clock.now(), reservation, charged)
        self.live.remove(reservation)
        self.ended.append(reservation)
        at, demand = self.charges[reservation]
        self.charges[reservation] = (at, Demand(*map(min, zip(demand, charged, strict=True))))
        for scope in self.passed(reservation):
            self.settled[scope] = self.settled[scope].plus(charged)

    @precondition(lambda self: self.ended)
    @rule(data=st.data(), charged=CHARGES)
    def settle_again(self, data: st.DataObject, charged: Demand) -> None:
        assert not self.store.settle(self.clock.now(), data.draw(st.sampled_from(self.ended)), charged)

    @rule(age=st.floats(0, 100))
    def expire(self, age: float) -> None:
        before = self.clock.now() - age
        late = list(self.store.expire(before))
        assert late == [reservation for reservation in self.live if reservation.at < before]
        for reservation in late:
            self.finish(reservation, reservation.demand)

    @rule(amount=CHARGES, data=st.data())
    def consume(self, amount: Demand, data: st.DataObject) -> None:
        scope = data.draw(st.sampled_from([*self.settled]))
        self.store.consume(self.clock.now(), amount, scope)
        for passed in {"", scope}:
            self.settled[passed] = self.settled[passed].plus(amount)

    @rule(seconds=st.floats(0, 90) | st.just(86_400.0))
    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @invariant()
    def balances_add_up(self) -> None:
        if not hasattr(self, "store"):
            return
        for scope, settled in self.settled.items():
            usage = self.store.usage(self.clock.now(), scope)
            in_flight = [reservation.demand for reservation in self.live if scope in self.passed(reservation)]
            assert_balances({name: each.balance for name, each in usage.items()}, in_flight)
            assert {name: each.balance.settled for name, each in usage.items()} == {
                name: settled.of(name) for name in usage
            }
            assert all(each.used >= 0 for each in usage.values())
            if "concurrency" in usage:
                assert usage["concurrency"].used == len(in_flight) <= usage["concurrency"].limit
        assert self.store.in_flight == len(self.live)

    def teardown(self) -> None:
        if not hasattr(self, "store"):
            return
        for scope, limits in {"": self.limits, **self.limits.models}.items():
            admitted = [charge for each, charge in self.charges.items() if scope in self.passed(each)]
            assert_never_over_admitted(admitted, limits)


TestAccountingMachine = AccountingMachine.TestCase
TestAccountingMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
