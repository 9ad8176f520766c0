"""Settlements: debts, refunds, and balances that add up at every step."""

from __future__ import annotations

import pytest
from fake_clock import FakeClock
from limiter_support import denied, granted, new_store, tokens

from wallie_litellm.core.demand import NOTHING, Demand
from wallie_litellm.limiter.store import Balance, DenialReason

pytestmark = pytest.mark.usefixtures("every_store")

LIMITS = {"rpm": 600, "tpm": 6000, "rpd": 50, "tpd": 9000, "concurrency": 9}


def test_settling_for_less_refunds_the_rest() -> None:
    store = new_store(FakeClock(), LIMITS)
    reservation = granted(store.reserve(0.0, tokens(1000)))
    assert store.settle(0.0, reservation, tokens(400))
    usage = store.usage(0.0)
    assert (usage["tpm"].used, usage["tpm"].left) == (400, pytest.approx(5600))
    assert usage["tpm"].balance == Balance(reserved=1000, settled=400, refunded=600)
    assert (usage["tpd"].used, usage["rpd"].used, usage["concurrency"].used) == (400, 1, 0)


def test_settling_for_more_leaves_a_debt() -> None:
    store = new_store(FakeClock(), LIMITS)
    reservation = granted(store.reserve(0.0, tokens(6000)))
    store.settle(0.0, reservation, tokens(6100))
    usage = store.usage(0.0)
    assert (usage["tpm"].used, usage["tpm"].left) == (6100, 0)
    assert usage["tpm"].balance == Balance(reserved=6100, settled=6100, refunded=0)
    assert usage["tpd"].used == 6100
    assert denied(store.reserve(0.0, tokens(100))) == (DenialReason.LIMIT, pytest.approx(2.0), "tpm")


def test_settling_for_nothing_refunds_everything() -> None:
    store = new_store(FakeClock(), LIMITS)
    store.settle(3.0, granted(store.reserve(0.0, tokens(1000))), NOTHING)
    assert all(usage.used == 0 for usage in store.usage(3.0).values())
    assert store.usage(3.0)["rpm"].balance == Balance(1, 0, 1)


def test_each_kind_is_settled_by_itself() -> None:
    store = new_store(FakeClock(), {"itpm": 600, "otpm": 600})
    store.settle(0.0, granted(store.reserve(0.0, Demand(1, 200, 100, 100))), Demand(1, 200, 40, 160))
    assert {name: (round(usage.used), usage.balance) for name, usage in store.usage(0.0).items()} == {
        "itpm": (40, Balance(100, 40, 60)),
        "otpm": (160, Balance(160, 160, 0)),
    }


def test_the_second_settlement_changes_nothing() -> None:
    store = new_store(FakeClock(), LIMITS)
    reservation = granted(store.reserve(0.0, tokens(1000)))
    assert store.settle(0.0, reservation, tokens(400))
    before = store.usage(0.0)
    assert not store.settle(0.0, reservation, NOTHING)
    assert store.usage(0.0) == before


def test_a_late_refund_does_not_add_to_a_bucket_that_has_been_full_since() -> None:
    store = new_store(FakeClock(), {"tpm": 6000})
    slow = granted(store.reserve(0.0, tokens(6000)))
    granted(store.reserve(100.0, tokens(6000)))
    store.settle(100.0, slow, NOTHING)
    denied(store.reserve(100.0, tokens(1)))


def test_reservations_from_before_a_reset_refund_nothing_after_it() -> None:
    store = new_store(FakeClock(), {"tpm": 6000, "tpd": 9000})
    before = granted(store.reserve(0.0, tokens(6000)))
    store.reset(1.0)
    granted(store.reserve(2.0, tokens(6000)))
    store.settle(3.0, before, NOTHING)
    assert store.usage(3.0)["tpd"].used == 6000
    assert store.usage(3.0)["tpm"].left == pytest.approx(100)


def test_expired_reservations_are_listed_in_the_order_of_admission() -> None:
    store = new_store(FakeClock(), {})
    reservations = [granted(store.reserve(float(at), Demand())) for at in range(4)]
    store.settle(5.0, reservations[1], NOTHING)
    assert list(store.expire(3.0)) == [reservations[0], reservations[2]]
    assert store.oldest() == 0.0
    for reservation in reservations:
        store.settle(5.0, reservation, NOTHING)
    assert (store.oldest(), list(store.expire(9.0))) == (None, [])
