"""What the last minute used of a fleet's limits is known to every worker, also after an outage."""

from __future__ import annotations

import pytest
from fake_clock import FakeClock
from limiter_support import granted, tokens, waiting

from wallie_litellm.core.circuit_breaker import BreakerRules
from wallie_litellm.core.demand import NOTHING, Demand
from wallie_litellm.core.lease_server import LeaseServer
from wallie_litellm.limiter.leased.leased_store import LeasedStore
from wallie_litellm.limiter.limits import AccountLimits
from wallie_litellm.limiter.listener import Crossing

LEVELS = {"warning": 0.8, "critical": 0.95}


class Thresholds:
    """A listener that keeps the thresholds that are announced, with the units used."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, int]] = []

    def on_breaker_change(self, *_change: object) -> None:
        """Ignored: no breaker opens here."""

    def on_threshold(self, _provider: str, crossing: Crossing) -> None:
        self.seen.append((crossing.dimension, crossing.level, crossing.usage.units))


class Fleet:
    """Workers of one lease server that exchange at every call."""

    def __init__(self, *names: str) -> None:
        self.clock = FakeClock()
        self.server = LeaseServer()
        self.listeners = [Thresholds() for _ in names]
        limits = AccountLimits({"rpm": 300, "tpm": 30_000})
        self.workers = [
            LeasedStore("openai", limits, BreakerRules(), self.clock.wall, LEVELS, listener, worker=name)
            for name, listener in zip(names, self.listeners, strict=True)
        ]

    def renew(self, worker: LeasedStore, head: Demand | None = None) -> None:
        now = self.clock.now()
        while not worker.apply_grant(
            now, now, self.server.exchange(self.clock.wall(), worker.build_renewal(now, waiting(head)))
        ):
            pass

    def call(self, worker: LeasedStore, used: Demand, reserved: Demand | None = None) -> None:
        now, demand = self.clock.now(), reserved or used
        self.renew(worker, demand)
        worker.settle(now, granted(worker.reserve(now, demand)), used)

    def used(self) -> list[tuple[int, int]]:
        """Requests and tokens of the last minute, as each worker has them."""
        return [
            (usage["rpm"].units, usage["tpm"].units)
            for usage in (worker.usage(self.clock.now()) for worker in self.workers)
        ]


def test_a_steady_load_over_two_workers_is_known_to_both_and_announced_once_by_each() -> None:
    fleet = Fleet("a", "b")
    for number in range(292 * 2):
        fleet.call(fleet.workers[number % 2], tokens(10), reserved=tokens(100))
        fleet.clock.advance(60 / 292)
    for worker in fleet.workers:
        fleet.renew(worker)
    for rpm, tpm in fleet.used():
        assert rpm == pytest.approx(292, abs=2)
        assert tpm == pytest.approx(2920, abs=20)
    for listener in fleet.listeners:  # of which OncePerFleet passes one on
        assert [(dimension, level) for dimension, level, _ in listener.seen] == [
            ("rpm", "warning"),
            ("rpm", "critical"),
        ]
        assert [units for *_, units in listener.seen] == pytest.approx([240, 285], abs=2)


def test_use_of_a_worker_that_has_gone_counts_for_its_minute() -> None:
    fleet = Fleet("a", "b")
    for worker in fleet.workers:
        fleet.renew(worker)
    fleet.call(fleet.workers[0], tokens(50))
    fleet.renew(fleet.workers[0])
    fleet.clock.advance(59)
    fleet.renew(fleet.workers[1])
    assert fleet.used()[1] == (1, 50)
    fleet.clock.advance(1)
    fleet.renew(fleet.workers[1])
    assert fleet.used()[1] == (0, 0)


def test_what_was_not_sent_is_taken_back_everywhere_after_it_was_reported() -> None:
    fleet = Fleet("a", "b")
    worker = fleet.workers[0]
    fleet.renew(worker, tokens(5))
    reservation = granted(worker.reserve(fleet.clock.now(), tokens(5)))
    for each in fleet.workers:
        fleet.renew(each)
    assert fleet.used() == [(1, 0), (1, 0)]
    fleet.clock.advance(2.1)
    worker.settle(fleet.clock.now(), reservation, NOTHING)
    for each in fleet.workers:
        fleet.renew(each)
    assert fleet.used() == [(0, 0), (0, 0)]


def test_a_server_that_has_lost_its_state_begins_with_what_its_first_worker_knows() -> None:
    fleet = Fleet("a", "b")
    for worker in fleet.workers:
        fleet.call(worker, tokens(50))
        fleet.renew(worker)
    fleet.renew(fleet.workers[0])
    fleet.server = LeaseServer()
    for worker in fleet.workers:
        fleet.renew(worker)
    assert fleet.used() == [(2, 100), (2, 100)]


def test_use_in_an_outage_is_reported_when_the_server_is_back_as_far_as_it_still_counts() -> None:
    fleet = Fleet("a", "b")
    for worker in fleet.workers:
        fleet.renew(worker)
    fleet.workers[0].lease_server_lost(fleet.clock.now(), "local")
    fleet.workers[0].consume(fleet.clock.now(), tokens(40))
    fleet.clock.advance(61)
    fleet.workers[0].consume(fleet.clock.now(), tokens(20))
    assert fleet.used()[0] == (1, 20)
    fleet.clock.advance(10)
    fleet.workers[0].lease_server_found(fleet.clock.now())
    for worker in fleet.workers:
        fleet.renew(worker)
    assert fleet.used() == [(1, 20), (1, 20)]
    fleet.clock.advance(50)
    for worker in fleet.workers:
        fleet.renew(worker)
    assert fleet.used() == [(0, 0), (0, 0)]


def test_a_reset_by_one_worker_is_seen_by_the_other() -> None:
    fleet = Fleet("a", "b")
    for worker in fleet.workers:
        fleet.call(worker, tokens(50))
        fleet.renew(worker)
    fleet.workers[1].reset(fleet.clock.now())
    for worker in (fleet.workers[1], fleet.workers[0]):
        fleet.renew(worker)
    assert fleet.used() == [(0, 0), (0, 0)]
