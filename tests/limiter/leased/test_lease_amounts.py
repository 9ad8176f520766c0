"""How much is leased to a worker: what it needs for a moment, and nothing that it does not hold any more."""

from __future__ import annotations

from fake_clock import FakeClock
from limiter_support import waiting

from wallie_litellm.core.circuit_breaker import BreakerRules
from wallie_litellm.core.demand import NOTHING, Demand
from wallie_litellm.core.lease_server import LeaseServer
from wallie_litellm.limiter.leased.leased_store import LeasedStore
from wallie_litellm.limiter.limits import AccountLimits
from wallie_litellm.limiter.store import Reservation

ONE = Demand(1, 0, 0, 0)
SEVERAL = Demand(5, 0, 0, 0)


class Leases:
    """One worker and its lease server, with an exchange whenever a test makes one."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.server = LeaseServer()
        limits = AccountLimits({"rpm": 600, "rpd": 1_000_000})
        self.worker = LeasedStore("openai", limits, BreakerRules(), self.clock.wall, worker="a")

    def renew(self, *, head: Demand | None = None, queued: Demand = SEVERAL) -> None:
        now = self.clock.now()
        while True:
            answer = self.server.exchange(self.clock.wall(), self.worker.build_renewal(now, waiting(head, queued, 2.0)))
            if self.worker.apply_grant(now, now, answer):
                return

    def spend(self, most: int) -> int:
        """How many of ``most`` requests are admitted now."""
        for count in range(most):
            reservation = self.worker.reserve(self.clock.now(), ONE)
            if not isinstance(reservation, Reservation):
                return count
            self.worker.settle(self.clock.now(), reservation, ONE)
        return most

    @property
    def leased(self) -> dict[str, float]:
        return self.server.workers["a"].leased


def test_a_lease_in_hand_at_the_begin_of_an_outage_is_returned_and_its_spending_charged_afterwards() -> None:
    leases = Leases()
    leases.renew(head=ONE)
    spent = leases.spend(2)
    leases.renew(head=ONE)
    assert leases.leased
    spent += leases.spend(2)  # and this has not been reported
    assert spent == 4
    leases.worker.lease_server_lost(leases.clock.now(), "local")
    leases.worker.lease_server_found(leases.clock.now())
    leases.renew(queued=Demand(0, 0, 0, 0))
    assert leases.leased == {}
    assert leases.server.daily_usage["rpd"] == spent


def test_a_rate_that_is_used_up_does_not_make_the_leases_of_a_daily_limit_grow() -> None:
    leases = Leases()
    while leases.spend(50):
        leases.renew(head=ONE)
    for _ in range(200):
        leases.clock.advance(0.1)
        leases.renew(head=ONE)
        leases.spend(5)
    assert leases.leased["rpd"] <= 30  # 10 a second are admitted


def test_leases_of_the_local_server_do_not_change_the_size_of_later_leases() -> None:
    leases = Leases()
    leases.renew(head=ONE)
    leases.worker.lease_server_lost(leases.clock.now(), "local")
    for _ in range(100):
        leases.spend(1)
    leases.worker.lease_server_found(leases.clock.now())
    leases.spend(1)
    leases.renew(head=ONE)
    assert 0 < leases.leased["rpd"] <= 30


def test_a_request_that_arrives_after_a_later_one_of_its_worker_changes_nothing() -> None:
    leases = Leases()
    leases.renew(head=ONE)
    overtaken = leases.worker.build_renewal(leases.clock.now(), waiting(ONE, SEVERAL, 2.0))  # its answer is not read
    leases.renew(head=ONE)
    leased, used = dict(leases.leased), dict(leases.server.daily_usage)
    answer = leases.server.exchange(leases.clock.wall(), overtaken)
    assert answer["grants"] == {}
    assert (leases.leased, leases.server.daily_usage) == (leased, used)
    assert leases.spend(50) == leased["rpm"]


def test_leases_of_other_workers_are_missing_from_a_workers_part_during_an_outage() -> None:
    leases = Leases()
    leases.renew()
    other = LeasedStore("openai", leases.worker.limits, BreakerRules(), leases.clock.wall, worker="b")
    now = leases.clock.now()
    for queued in (Demand(600, 0, 0, 0), ONE):
        answer = leases.server.exchange(
            leases.clock.wall(), other.build_renewal(now, waiting(Demand(500, 0, 0, 0), queued, 2.0))
        )
        other.apply_grant(now, now, answer)
    leases.renew(queued=NOTHING)
    assert sum(worker.leased.get("rpm", 0) for worker in leases.server.workers.values()) >= 500
    leases.worker.lease_server_lost(now, "local")
    assert leases.spend(600) <= (600 - 500) / 2


def test_a_lease_in_hand_may_be_spent_during_an_outage() -> None:
    leases = Leases()
    forty = Demand(40, 0, 0, 0)
    leases.renew(head=forty, queued=forty)
    in_hand = leases.leased["rpm"] - leases.spend(1)
    other = LeasedStore("openai", leases.worker.limits, BreakerRules(), leases.clock.wall, worker="b")
    now, everything = leases.clock.now(), Demand(600 - int(leases.leased["rpm"]), 0, 0, 0)
    for _ in range(2):
        other.apply_grant(
            now,
            now,
            leases.server.exchange(leases.clock.wall(), other.build_renewal(now, waiting(everything, everything))),
        )
    leases.renew(queued=NOTHING)
    assert leases.worker.check(now, Demand(int(in_hand) + 1, 0, 0, 0), NOTHING) is not None
    leases.worker.lease_server_lost(now, "local")
    assert leases.spend(600) == in_hand


def test_an_unconfirmed_outage_withholds_what_others_may_have_leased_since() -> None:
    leases = Leases()
    leases.renew(queued=NOTHING)
    lost_at = leases.clock.now()
    leases.worker.lease_server_lost(lost_at, "local", confirmed=False)
    assert leases.spend(600) == 0
    leases.clock.advance(0.5)
    assert leases.spend(600) == 5  # refilled since, at ten a second
    leases.worker.confirm_outage(leases.clock.now())
    assert leases.spend(1000) == 595  # as if nothing had been withheld
    leases.worker.confirm_outage(leases.clock.now())  # which changes nothing the second time
    assert leases.spend(1000) == 0
    leases.worker.lease_server_found(leases.clock.now())
    leases.renew(queued=NOTHING)
    assert leases.server.daily_usage["rpd"] == 600


def test_an_unconfirmed_outage_leaves_the_lease_in_hand() -> None:
    leases = Leases()
    leases.renew(head=Demand(40, 0, 0, 0), queued=Demand(40, 0, 0, 0))
    in_hand = leases.leased["rpm"]
    leases.worker.lease_server_lost(leases.clock.now(), "local", confirmed=False)
    assert leases.spend(600) == in_hand
    leases.worker.lease_server_found(leases.clock.now())
    leases.renew(queued=NOTHING)
    assert leases.server.daily_usage["rpd"] == in_hand
    assert leases.leased == {}


def test_a_reset_leaves_nothing_on_lease_that_its_worker_does_not_hold() -> None:
    leases = Leases()
    leases.renew(head=SEVERAL)
    assert leases.spend(3) == 3
    leases.worker.reset(leases.clock.now())
    leases.clock.advance(2.0)  # idle: what is in hand goes back
    leases.renew(queued=NOTHING)
    assert leases.leased == {}


def test_a_refund_that_arrives_late_counts_from_the_reservation() -> None:
    leases = Leases()
    leases.renew(head=Demand(300, 0, 0, 0), queued=Demand(300, 0, 0, 0))
    unsent = leases.worker.reserve(leases.clock.now(), Demand(300, 0, 0, 0))
    assert isinstance(unsent, Reservation)
    leases.renew(queued=NOTHING)
    leases.clock.advance(60.0)  # until the bucket is full again
    other = LeasedStore("openai", leases.worker.limits, BreakerRules(), leases.clock.wall, worker="b")
    leases.worker.settle(leases.clock.now(), unsent, NOTHING)
    late = leases.worker.build_renewal(leases.clock.now())
    now, everything = leases.clock.now(), Demand(600, 0, 0, 0)
    while not other.apply_grant(now, now, leases.server.exchange(leases.clock.wall(), other.build_renewal(now))):
        pass
    other.apply_grant(
        now, now, leases.server.exchange(leases.clock.wall(), other.build_renewal(now, waiting(everything, everything)))
    )
    assert isinstance(other.reserve(now, everything), Reservation)
    other.apply_grant(now, now, leases.server.exchange(leases.clock.wall(), other.build_renewal(now)))
    leases.clock.advance(5.0)
    used = leases.server.buckets["rpm"].used(leases.server._now)
    leases.server.exchange(leases.clock.wall(), late)
    assert leases.server.buckets["rpm"].used(leases.server._now) >= used - 50  # five seconds have been refilled


def test_a_caller_that_asks_again_and_never_waits_is_admitted_what_there_is() -> None:
    leases = Leases()
    leases.worker = LeasedStore(
        "openai", AccountLimits({"rpm": 60}, {"rpm": 1}), BreakerRules(), leases.clock.wall, worker="a"
    )
    leases.renew()
    admitted = 0
    for _ in range(12):  # polls, of which each fourth comes when a request has been refilled
        admitted += leases.spend(1)
        leases.renew()
        leases.clock.advance(0.25)
    assert admitted == 3


def test_what_no_call_waits_for_is_not_claimed_from_other_workers() -> None:
    leases = Leases()
    leases.renew()
    other = LeasedStore("openai", leases.worker.limits, BreakerRules(), leases.clock.wall, worker="b")
    now, all_of_it = leases.clock.now(), Demand(600, 0, 0, 0)
    for _ in range(2):
        request = other.build_renewal(now, waiting(all_of_it, all_of_it, 2.0))
        other.apply_grant(now, now, leases.server.exchange(leases.clock.wall(), request))
    assert leases.spend(1) == 0
    leases.renew()
    assert not leases.server.workers["a"].claims


def test_of_workers_whose_files_differ_all_keep_to_the_smallest_number_while_its_worker_is_there() -> None:
    leases = Leases()
    large, small = (
        LeasedStore("openai", AccountLimits({"rpm": rpm, "rpd": rpm}), BreakerRules(), leases.clock.wall, worker=name)
        for name, rpm in (("large", 600), ("small", 60))
    )

    def admitted(worker: LeasedStore, most: int) -> int:
        count = 0
        for _ in range(most):
            now = leases.clock.now()
            request = worker.build_renewal(now, waiting(ONE, ONE, 0.1))
            worker.apply_grant(now, now, leases.server.exchange(leases.clock.wall(), request))
            if isinstance(reservation := worker.reserve(now, ONE), Reservation):
                worker.settle(now, reservation, ONE)
                count += 1
        return count

    counts = [admitted(large, 0), admitted(small, 1)]
    for _ in range(40):
        counts = [counts[0] + admitted(large, 1), counts[1] + admitted(small, 1)]
    assert sum(counts) == 60
    assert min(counts) >= 28
    leases.clock.advance(10)
    assert admitted(large, 300) == 300  # the small one is gone
