"""The usage in the ledger reaches the lease server once: when it has no state, and from one worker only."""

from __future__ import annotations

from fake_clock import FakeClock

from wallie_litellm.core.circuit_breaker import BreakerRules
from wallie_litellm.core.demand import Demand
from wallie_litellm.core.lease_server import LeaseServer
from wallie_litellm.limiter.leased.leased_store import LeasedStore
from wallie_litellm.limiter.limits import AccountLimits

USED = Demand(40, 700, 700, 0)
RECENT = [(10.0, Demand(30, 300, 300, 0))]


class Fleet:
    """Workers of one lease server, with an exchange whenever a test makes one."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.server = LeaseServer()

    def worker(self, name: str) -> LeasedStore:
        limits = AccountLimits({"rpm": 60, "tpm": 600, "rpd": 100, "tpd": 1000})
        return LeasedStore("openai", limits, BreakerRules(), self.clock.wall, worker=name)

    def renew(self, worker: LeasedStore) -> None:
        now = self.clock.now()
        while not worker.apply_grant(now, now, self.server.exchange(self.clock.wall(), worker.build_renewal(now))):
            pass

    def used(self, worker: LeasedStore) -> dict[str, int]:
        """Units used: in the last minute, or today."""
        return {name: usage.units for name, usage in worker.usage(self.clock.now()).items()}

    def left(self, worker: LeasedStore) -> dict[str, int]:
        return {name: round(usage.left) for name, usage in worker.usage(self.clock.now()).items()}


USED_OF = {"rpm": 30, "tpm": 300, "rpd": 40, "tpd": 700}
LEFT = {"rpm": 40, "tpm": 400, "rpd": 60, "tpd": 300}  # a bucket has refilled for ten seconds


def test_a_server_without_a_state_begins_with_the_usage_in_the_ledger() -> None:
    fleet = Fleet()
    worker = fleet.worker("a")
    worker.restore(fleet.clock.now(), USED, RECENT)
    fleet.renew(worker)
    assert (fleet.used(worker), fleet.left(worker)) == (USED_OF, LEFT)


def test_the_ledger_may_be_read_after_the_first_exchange() -> None:
    fleet = Fleet()
    worker = fleet.worker("a")
    fleet.renew(worker)
    worker.restore(fleet.clock.now(), USED, RECENT)
    fleet.renew(worker)
    assert (fleet.used(worker), fleet.left(worker)) == (USED_OF, LEFT)


def test_only_the_first_workers_seed_counts() -> None:
    fleet = Fleet()
    first, second = fleet.worker("a"), fleet.worker("b")
    fleet.renew(first)
    fleet.renew(second)
    for worker in (second, first):
        worker.restore(fleet.clock.now(), USED, RECENT)
        fleet.renew(worker)
    fleet.renew(second)
    assert (fleet.used(second), fleet.left(second)) == (USED_OF, LEFT)
