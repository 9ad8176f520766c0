"""What the ledger remembers reaches the lender once: when it knows nothing, and from one worker only."""

from __future__ import annotations

from fake_clock import FakeClock

from wallie_litellm.core.circuit_breaker import BreakerRules
from wallie_litellm.core.demand import Demand
from wallie_litellm.core.lease_server import LeaseServer
from wallie_litellm.limiter.leased.leased_store import LeasedStore
from wallie_litellm.limiter.limits import Limits

USED = Demand(40, 700, 700, 0)
RECENT = [(10.0, Demand(30, 300, 300, 0))]


class Fleet:
    """Workers that ask one lender when a test says so, as those do that ask Redis."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.lender = LeaseServer()

    def worker(self, name: str) -> LeasedStore:
        limits = Limits({"rpm": 60, "tpm": 600, "rpd": 100, "tpd": 1000})
        return LeasedStore("openai", limits, BreakerRules(), self.clock.wall, worker=name)

    def talk(self, worker: LeasedStore) -> None:
        now = self.clock.now()
        while not worker.apply_grant(now, now, self.lender.exchange(self.clock.wall(), worker.build_renewal(now))):
            pass

    def used(self, worker: LeasedStore) -> dict[str, int]:
        return {name: usage.units for name, usage in worker.usage(self.clock.now()).items()}


EXPECTED = {"rpm": 20, "tpm": 200, "rpd": 40, "tpd": 700}


def test_a_lender_that_knows_nothing_begins_with_what_the_ledger_has() -> None:
    fleet = Fleet()
    worker = fleet.worker("a")
    worker.restore(fleet.clock.now(), USED, RECENT)
    fleet.talk(worker)
    assert fleet.used(worker) == EXPECTED


def test_the_ledger_may_be_read_after_the_first_word_to_the_lender() -> None:
    fleet = Fleet()
    worker = fleet.worker("a")
    fleet.talk(worker)
    worker.restore(fleet.clock.now(), USED, RECENT)
    fleet.talk(worker)
    assert fleet.used(worker) == EXPECTED


def test_only_the_first_worker_tells_what_the_ledger_has() -> None:
    fleet = Fleet()
    first, second = fleet.worker("a"), fleet.worker("b")
    fleet.talk(first)
    fleet.talk(second)
    for worker in (second, first):
        worker.restore(fleet.clock.now(), USED, RECENT)
        fleet.talk(worker)
    fleet.talk(second)
    assert fleet.used(second) == EXPECTED
