"""How much is on loan to a worker: what it needs for a moment, and nothing that it no longer has in hand."""

from __future__ import annotations

from fake_clock import FakeClock

from wallie_litellm.core.circuit_breaker import BreakerRules
from wallie_litellm.core.demand import NOTHING, Demand
from wallie_litellm.core.lease_server import LeaseServer
from wallie_litellm.limiter.leased.leased_store import LeasedStore
from wallie_litellm.limiter.limits import Limits
from wallie_litellm.limiter.store import Reservation

ONE = Demand(1, 0, 0, 0)
SEVERAL = Demand(5, 0, 0, 0)


class Loans:
    """One worker and its lender, who talk when a test says so."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.lender = LeaseServer()
        limits = Limits({"rpm": 600, "rpd": 1_000_000})
        self.worker = LeasedStore("openai", limits, BreakerRules(), self.clock.wall, worker="a")

    def talk(self, *, head: Demand | None = None, queued: Demand = SEVERAL) -> None:
        now = self.clock.now()
        while True:
            answer = self.lender.exchange(self.clock.wall(), self.worker.build_renewal(now, head, queued, 2.0))
            if self.worker.apply_grant(now, now, answer):
                return

    def spend(self, most: int) -> int:
        """How many of ``most`` requests are let in now."""
        for count in range(most):
            reservation = self.worker.reserve(self.clock.now(), ONE)
            if not isinstance(reservation, Reservation):
                return count
            self.worker.settle(self.clock.now(), reservation, ONE)
        return most

    @property
    def lent(self) -> dict[str, float]:
        return self.lender.workers["a"].leased


def test_what_was_in_hand_when_the_lender_left_is_neither_on_loan_nor_forgotten_afterwards() -> None:
    loans = Loans()
    loans.talk(head=ONE)
    spent = loans.spend(2)
    loans.talk(head=ONE)
    assert loans.lent
    spent += loans.spend(2)  # and this has not been reported
    assert spent == 4
    loans.worker.lease_server_lost(loans.clock.now(), "local")
    loans.worker.lease_server_found(loans.clock.now())
    loans.talk(queued=Demand(0, 0, 0, 0))
    assert loans.lent == {}
    assert loans.lender.daily_usage["rpd"] == spent


def test_a_rate_that_is_used_up_does_not_make_the_loans_of_a_days_limit_grow() -> None:
    loans = Loans()
    while loans.spend(50):
        loans.talk(head=ONE)
    for _ in range(200):
        loans.clock.advance(0.1)
        loans.talk(head=ONE)
        loans.spend(5)
    assert loans.lent["rpd"] <= 30  # 10 a second are let in


def test_what_is_borrowed_of_oneself_says_nothing_of_how_much_to_borrow_later() -> None:
    loans = Loans()
    loans.talk(head=ONE)
    loans.worker.lease_server_lost(loans.clock.now(), "local")
    for _ in range(100):
        loans.spend(1)
    loans.worker.lease_server_found(loans.clock.now())
    loans.spend(1)
    loans.talk(head=ONE)
    assert 0 < loans.lent["rpd"] <= 30


def test_a_request_that_arrives_after_a_later_one_of_its_worker_changes_nothing() -> None:
    loans = Loans()
    loans.talk(head=ONE)
    overtaken = loans.worker.build_renewal(loans.clock.now(), ONE, SEVERAL, 2.0)  # its answer is given up
    loans.talk(head=ONE)
    lent, used = dict(loans.lent), dict(loans.lender.daily_usage)
    answer = loans.lender.exchange(loans.clock.wall(), overtaken)
    assert answer["grants"] == {}
    assert (loans.lent, loans.lender.daily_usage) == (lent, used)
    assert loans.spend(50) == lent["rpm"]


def test_what_others_have_on_loan_is_no_part_of_what_a_worker_has_alone() -> None:
    loans = Loans()
    loans.talk()
    other = LeasedStore("openai", loans.worker.limits, BreakerRules(), loans.clock.wall, worker="b")
    now = loans.clock.now()
    for queued in (Demand(600, 0, 0, 0), ONE):
        answer = loans.lender.exchange(loans.clock.wall(), other.build_renewal(now, Demand(500, 0, 0, 0), queued, 2.0))
        other.apply_grant(now, now, answer)
    loans.talk(queued=NOTHING)
    assert sum(worker.leased.get("rpm", 0) for worker in loans.lender.workers.values()) >= 500
    loans.worker.lease_server_lost(now, "local")
    assert loans.spend(600) <= (600 - 500) / 2


def test_what_a_worker_has_in_hand_may_be_spent_after_the_lender_has_gone() -> None:
    loans = Loans()
    forty = Demand(40, 0, 0, 0)
    loans.talk(head=forty, queued=forty)
    in_hand = loans.lent["rpm"] - loans.spend(1)
    other = LeasedStore("openai", loans.worker.limits, BreakerRules(), loans.clock.wall, worker="b")
    now, everything = loans.clock.now(), Demand(600 - int(loans.lent["rpm"]), 0, 0, 0)
    for _ in range(2):
        other.apply_grant(
            now, now, loans.lender.exchange(loans.clock.wall(), other.build_renewal(now, everything, everything))
        )
    loans.talk(queued=NOTHING)
    assert loans.worker.check(now, Demand(int(in_hand) + 1, 0, 0, 0), NOTHING) is not None
    loans.worker.lease_server_lost(now, "local")
    assert loans.spend(600) == in_hand
