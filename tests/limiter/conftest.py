"""One suite of behaviour for every store: in memory, leased from the core, from a Redis, from a cluster of three."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from fake_clock import FakeClock
from limiter_support import in_memory, makers
from redis_support import RedisCluster, RedisServer

from wallie_litellm.core.circuit_breaker import BreakerRules
from wallie_litellm.core.lease_exchange import LeaseAnswer, RenewalRequest, Uninitialised
from wallie_litellm.core.lease_server import LeaseServer
from wallie_litellm.limiter.leased.leased_store import LeasedStore
from wallie_litellm.limiter.limits import AccountLimits
from wallie_litellm.limiter.redis.layout import CHANNEL, SCRIPT, key_of
from wallie_litellm.limiter.store import ProviderStore

Maker = Callable[[FakeClock, AccountLimits, BreakerRules], ProviderStore]


def at(clock: FakeClock, now: float) -> float:
    """The wall clock's time at ``now`` of the other clock: tests may be ahead of both."""
    return clock.wall() + now - clock.now()


def leased_by_the_core(clock: FakeClock, limits: AccountLimits, rules: BreakerRules) -> ProviderStore:
    server = LeaseServer()
    exchange = lambda now, request: server.exchange(at(clock, now), json.loads(json.dumps(request)))  # noqa: E731
    return LeasedStore("openai", limits, rules, clock.wall, exchange=exchange)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="session")
def redis_cluster() -> Iterator[RedisCluster]:
    with RedisCluster() as cluster:
        yield cluster


def leased_by(client: Any) -> Maker:
    def make(clock: FakeClock, limits: AccountLimits, rules: BreakerRules) -> ProviderStore:
        client.flushall()

        def exchange(now: float, request: RenewalRequest) -> LeaseAnswer | Uninitialised:
            arguments = [json.dumps(request), CHANNEL, "openai", 10**6, repr(at(clock, now))]
            answer: LeaseAnswer | Uninitialised = json.loads(client.eval(SCRIPT, 1, key_of("openai"), *arguments))
            return answer

        return LeasedStore("openai", limits, rules, clock.wall, exchange=exchange)

    return make


@pytest.fixture(params=["memory", "core", "redis", "cluster"])
def every_store(request: pytest.FixtureRequest) -> Iterator[None]:
    """Has ``new_store`` make each kind of store in turn."""
    if request.param == "memory":
        make: Maker = in_memory
    elif request.param == "core":
        make = leased_by_the_core
    elif request.param == "redis":
        make = leased_by(request.getfixturevalue("redis_server").client())
    else:
        server = request.getfixturevalue("redis_cluster").servers[0]
        make = leased_by(redis.RedisCluster("127.0.0.1", server.port))
    makers.append(make)
    yield
    makers.pop()
