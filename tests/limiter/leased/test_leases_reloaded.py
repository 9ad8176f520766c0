"""What a worker has on lease when its file changes: it goes back, and what was spent of it is reported."""

from __future__ import annotations

import pytest
from fake_clock import FakeClock
from limiter_support import granted, tokens, waiting

from wallie_litellm.core.circuit_breaker import BreakerRules
from wallie_litellm.core.lease_server import LeaseServer
from wallie_litellm.limiter.leased.leased_store import LeasedStore
from wallie_litellm.limiter.limits import AccountLimits


class OneWorker:
    """A worker that has spent 60 of 600 tokens a minute, and has more on lease."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.server = LeaseServer()
        limits = AccountLimits({"tpm": 600, "rpm": 100})
        self.store = LeasedStore("openai", limits, BreakerRules(), self.clock.wall, worker="one")
        self.exchange(100)
        granted(self.store.reserve(self.clock.now(), tokens(60)))
        assert self.leased("tpm") > 60

    def exchange(self, units: int = 0) -> None:
        self.clock.advance(0.01)
        now = self.clock.now()
        head = tokens(units) if units else None
        request = self.store.build_renewal(now, waiting(head))
        while not self.store.apply_grant(now, now, self.server.exchange(self.clock.wall(), request)):
            request = self.store.build_renewal(now, waiting(head))

    def reload(self, **limits: int) -> None:
        self.store.configure(self.clock.now(), AccountLimits(limits), BreakerRules(), None)
        self.exchange()

    def leased(self, name: str) -> float:
        return self.server._leased(name)

    def used(self, name: str) -> float:
        return self.server.buckets[name].used(self.server._now)


def test_a_smaller_limit_takes_back_what_is_on_lease() -> None:
    worker = OneWorker()
    worker.reload(tpm=50, rpm=100)
    assert (worker.leased("tpm"), worker.used("tpm")) == (0, pytest.approx(60, abs=1))  # what it had spent
    assert worker.server.buckets["tpm"].capacity == 50


def test_of_a_limit_that_is_no_more_the_use_is_reported_and_the_rest_goes_back() -> None:
    worker = OneWorker()
    worker.reload(rpm=100)
    assert (worker.leased("tpm"), worker.used("tpm")) == (0, pytest.approx(60, abs=1))
    worker.reload(rpm=100, tpm=600)
    worker.exchange(60)
    granted(worker.store.reserve(worker.clock.now(), tokens(60)))
    worker.exchange()
    assert worker.used("tpm") == pytest.approx(120, abs=1)
