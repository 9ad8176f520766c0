"""A limit that one worker sets at run time holds for all of them; what the vendor says is left counts once."""

from __future__ import annotations

import pytest
from fake_clock import FakeClock
from limiter_support import denied, granted, tokens, waiting

from wallie_litellm.core.circuit_breaker import BreakerRules
from wallie_litellm.core.demand import Demand
from wallie_litellm.core.lease_server import LeaseServer
from wallie_litellm.limiter.leased.leased_store import LeasedStore
from wallie_litellm.limiter.limits import AccountLimits, ScopeLimits

LIMITS = AccountLimits({"tpm": 600, "tpd": 5000}, models={"opus*": ScopeLimits({"tpm": 60, "concurrency": 4})})


class Fleet:
    """Workers of one lease server that exchange when a test says so."""

    def __init__(self, *limits: AccountLimits) -> None:
        self.clock = FakeClock()
        self.server = LeaseServer()
        self.workers = [
            LeasedStore("openai", own, BreakerRules(), self.clock.wall, worker=f"w{number}")
            for number, own in enumerate(limits)
        ]
        for worker in self.workers * 2:
            self.renew(worker)

    def renew(self, worker: LeasedStore, head: Demand | None = None, *, advance: float = 0.01) -> None:
        self.clock.advance(advance)
        now = self.clock.now()
        request = worker.build_renewal(now, waiting(head))
        while not worker.apply_grant(now, now, self.server.exchange(self.clock.wall(), request)):
            request = worker.build_renewal(now, waiting(head))

    def limit(self, worker: LeasedStore, scope: str, dimension: str) -> int:
        return worker.usage(self.clock.now(), scope)[dimension].limit


def test_the_newest_limit_that_a_worker_has_set_holds_for_all_of_them() -> None:
    fleet = Fleet(LIMITS, LIMITS)
    one, other = fleet.workers
    one.set_limit(fleet.clock.now(), "opus*", "tpm", 30)
    one.set_limit(fleet.clock.now(), "opus*", "concurrency", 2)
    one.set_limit(fleet.clock.now(), "", "tpd", 100)
    fleet.renew(one)
    fleet.renew(other)
    limits = [("opus*", "tpm"), ("opus*", "concurrency"), ("", "tpd"), ("", "tpm")]
    assert [fleet.limit(other, *each) for each in limits] == [30, 2, 100, 600]
    assert fleet.server.buckets["tpm@opus*"].capacity == 30
    fleet.clock.advance(1)
    other.set_limit(fleet.clock.now(), "opus*", "tpm", None)
    fleet.renew(one)  # which does not know it yet
    fleet.renew(other)
    fleet.renew(one)
    fleet.renew(one)
    assert [fleet.limit(worker, "opus*", "tpm") for worker in fleet.workers] == [60, 60]
    assert (fleet.server.buckets["tpm@opus*"].capacity, one._lease.limits.pending) == (60, {})


def test_a_worker_that_starts_later_has_the_limit_in_force_with_its_first_answer() -> None:
    fleet = Fleet(LIMITS, LIMITS)
    fleet.workers[0].set_limit(fleet.clock.now(), "", "tpm", 100)
    fleet.renew(fleet.workers[0])
    late = LeasedStore("openai", LIMITS, BreakerRules(), fleet.clock.wall, worker="late")
    fleet.renew(late)
    assert fleet.limit(late, "", "tpm") == 100


def test_a_scope_that_one_worker_adds_is_added_at_all_of_them_with_its_limit() -> None:
    fleet = Fleet(LIMITS, LIMITS)
    one, other = fleet.workers
    one.add_scope("haiku")
    one.set_limit(fleet.clock.now(), "haiku", "rpm", 7)
    fleet.renew(one)
    fleet.renew(other)
    assert other.scopes == ("opus*", "haiku")
    assert fleet.limit(other, "haiku", "rpm") == 7
    assert denied(other.reserve(fleet.clock.now(), Demand(8), "haiku")).limit == "rpm@haiku"


def test_workers_whose_files_differ_keep_to_their_own_limits() -> None:
    fleet = Fleet(LIMITS, AccountLimits({"rpm": 60}, models={"gpt*": ScopeLimits({"tpm": 50})}))
    one, other = fleet.workers
    for worker, scope in ((one, "opus*"), (other, "gpt*")):
        worker.consume(fleet.clock.now(), tokens(20), scope)
        fleet.renew(worker)
    for worker in fleet.workers:
        fleet.renew(worker)
    now = fleet.clock.now()
    assert [*one.usage(now), *one.usage(now, "opus*")] == ["tpm", "tpd", "tpm", "concurrency"]
    assert [*other.usage(now), *other.usage(now, "gpt*")] == ["rpm", "tpm"]
    left = [round(one.usage(now, "opus*")["tpm"].left), round(other.usage(now, "gpt*")["tpm"].left)]
    assert left == [pytest.approx(40, abs=1), pytest.approx(30, abs=1)]


def test_what_is_left_lowers_the_fleets_level_once_however_many_workers_are_told_of_it() -> None:
    fleet = Fleet(LIMITS, LIMITS, LIMITS)
    for worker in fleet.workers:
        worker.bound(fleet.clock.now(), "", "tpm", 100)
        assert round(worker.usage(fleet.clock.now())["tpm"].left) == 100
        fleet.renew(worker)
    assert fleet.server.buckets["tpm"].used(fleet.server._now) == pytest.approx(500, abs=1)
    for worker in fleet.workers:
        worker.bound(fleet.clock.now(), "", "tpm", 400)
        fleet.renew(worker)
    assert fleet.server.buckets["tpm"].used(fleet.server._now) == pytest.approx(500, abs=2)


def test_what_is_left_counts_what_was_leased_as_spent_by_others_and_as_left_here() -> None:
    fleet = Fleet(LIMITS, LIMITS)
    one, other = fleet.workers
    for worker in fleet.workers:
        fleet.renew(worker, tokens(100))
    leased = fleet.server.workers["w1"].leased["tpm"]
    spent = granted(one.reserve(fleet.clock.now(), tokens(100)))
    one.bound(fleet.clock.now(), "", "tpm", 200)
    fleet.renew(one)
    level = 600 - fleet.server.buckets["tpm"].used(fleet.server._now)
    assert level == pytest.approx(200 + leased, abs=1)
    assert other.reserve(fleet.clock.now(), tokens(100)) is not None
    one.settle(fleet.clock.now(), spent, tokens(100))
