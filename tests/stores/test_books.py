"""Settlements: debts, refunds, and books that balance at every step."""

from __future__ import annotations

import pytest
from doors import assert_books_balance, assert_never_over_admitted, granted, new_store, refused, tokens
from fake_clock import FakeClock
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from wallie_litellm.core.demand import NOTHING, Demand
from wallie_litellm.stores.base import Ledger, Reservation
from wallie_litellm.stores.limits import Limits
from wallie_litellm.stores.memory import MemoryProvider

pytestmark = pytest.mark.usefixtures("every_store")

LIMITS = {"rpm": 600, "tpm": 6000, "rpd": 50, "tpd": 9000, "concurrency": 9}


def test_settling_for_less_gives_back_the_rest() -> None:
    store = new_store(FakeClock(), LIMITS)
    reservation = granted(store.reserve(0.0, tokens(1000)))
    assert store.settle(0.0, reservation, tokens(400))
    use = store.use(0.0)
    assert use["tpm"].used == pytest.approx(400)
    assert use["tpm"].ledger == Ledger(reserved=1000, settled=400, refunded=600)
    assert (use["tpd"].used, use["rpd"].used, use["concurrency"].used) == (400, 1, 0)


def test_settling_for_more_leaves_a_debt() -> None:
    store = new_store(FakeClock(), LIMITS)
    reservation = granted(store.reserve(0.0, tokens(6000)))
    store.settle(0.0, reservation, tokens(6100))
    use = store.use(0.0)
    assert use["tpm"].used == pytest.approx(6100)
    assert use["tpm"].ledger == Ledger(reserved=6100, settled=6100, refunded=0)
    assert use["tpd"].used == 6100
    assert refused(store.reserve(0.0, tokens(100))) == ("tpm", pytest.approx(2.0))


def test_settling_for_nothing_gives_everything_back() -> None:
    store = new_store(FakeClock(), LIMITS)
    store.settle(3.0, granted(store.reserve(0.0, tokens(1000))), NOTHING)
    assert all(use.used == 0 for use in store.use(3.0).values())
    assert store.use(3.0)["rpm"].ledger == Ledger(1, 0, 1)


def test_more_of_one_kind_and_less_of_another_are_settled_each_for_itself() -> None:
    store = new_store(FakeClock(), {"itpm": 600, "otpm": 600})
    store.settle(0.0, granted(store.reserve(0.0, Demand(1, 200, 100, 100))), Demand(1, 200, 40, 160))
    assert {name: (round(use.used), use.ledger) for name, use in store.use(0.0).items()} == {
        "itpm": (40, Ledger(100, 40, 60)),
        "otpm": (160, Ledger(160, 160, 0)),
    }


def test_the_second_settlement_changes_nothing() -> None:
    store = new_store(FakeClock(), LIMITS)
    reservation = granted(store.reserve(0.0, tokens(1000)))
    assert store.settle(0.0, reservation, tokens(400))
    before = store.use(0.0)
    assert not store.settle(0.0, reservation, NOTHING)
    assert store.use(0.0) == before


def test_a_late_refund_does_not_add_to_a_bucket_that_has_been_full_since() -> None:
    store = new_store(FakeClock(), {"tpm": 6000})
    slow = granted(store.reserve(0.0, tokens(6000)))
    granted(store.reserve(100.0, tokens(6000)))
    store.settle(100.0, slow, NOTHING)
    refused(store.reserve(100.0, tokens(1)))


def test_what_was_reserved_before_a_reset_gives_nothing_back_after_it() -> None:
    store = new_store(FakeClock(), {"tpm": 6000, "tpd": 9000})
    before = granted(store.reserve(0.0, tokens(6000)))
    store.reset(1.0)
    granted(store.reserve(2.0, tokens(6000)))
    store.settle(3.0, before, NOTHING)
    assert store.use(3.0)["tpd"].used == 6000
    assert store.use(3.0)["tpm"].used == pytest.approx(5900)


def test_the_late_are_listed_in_the_order_of_admission_and_the_rest_is_not() -> None:
    store = new_store(FakeClock(), {})
    reservations = [granted(store.reserve(float(at), Demand())) for at in range(4)]
    store.settle(5.0, reservations[1], NOTHING)
    assert list(store.expire(3.0)) == [reservations[0], reservations[2]]
    assert store.oldest() == 0.0
    for reservation in reservations:
        store.settle(5.0, reservation, NOTHING)
    assert (store.oldest(), list(store.expire(9.0))) == (None, [])


AMOUNTS = st.integers(0, 80)
DEMANDS = st.builds(Demand, st.integers(1, 2), AMOUNTS, AMOUNTS, AMOUNTS)
CHARGES = st.builds(Demand, st.integers(0, 3), AMOUNTS, AMOUNTS, AMOUNTS)


class BooksMachine(RuleBasedStateMachine):
    """Whatever happens in whatever order, nothing is lost, made up, or admitted beyond the limits."""

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
        )
    )
    def setup(self, stated: dict[str, int]) -> None:
        self.clock = FakeClock()
        self.limits = Limits(stated)
        self.store: MemoryProvider = new_store(self.clock, stated)
        self.live: list[Reservation] = []
        self.ended: list[Reservation] = []
        # What really passed, at the time at which it was admitted: the estimate counts until it is settled.
        self.charges: dict[object, tuple[float, Demand]] = {}
        self.settled = NOTHING

    @rule(demand=DEMANDS)
    def reserve(self, demand: Demand) -> None:
        self.clock.advance(0.001)  # in one instant, the order of events would matter
        result = self.store.reserve(self.clock.now(), demand)
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
        self.settled = self.settled.plus(charged)

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

    @rule(amount=CHARGES)
    def consume(self, amount: Demand) -> None:
        self.store.consume(self.clock.now(), amount)
        self.settled = self.settled.plus(amount)

    @rule(seconds=st.floats(0, 90) | st.just(86_400.0))
    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @invariant()
    def books_balance(self) -> None:
        if hasattr(self, "store"):
            use = self.store.use(self.clock.now())
            in_flight = [reservation.demand for reservation in self.live]
            assert_books_balance({name: each.ledger for name, each in use.items()}, in_flight)
            assert {name: each.ledger.settled for name, each in use.items()} == {
                name: self.settled.of(name) for name in use
            }
            assert self.store.in_flight == len(self.live)
            assert all(each.used >= 0 for each in use.values())

    def teardown(self) -> None:
        if hasattr(self, "store"):
            assert_never_over_admitted(list(self.charges.values()), self.limits)


TestBooksMachine = BooksMachine.TestCase
TestBooksMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
