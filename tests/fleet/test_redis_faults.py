"""In any fault of Redis, no request waits for it for long, `on_store_error` decides, and the fleet shares again."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import redis
from recording import RecordingBus
from redis_support import RedisCluster, RedisServer, SentinelSet, SlowLink
from turns import Turns

from wallie_litellm.config.models import StoreSettings
from wallie_litellm.core.attempt_result import AttemptResult
from wallie_litellm.core.circuit_breaker import BreakerState, Verdict
from wallie_litellm.core.demand import Demand, Outcome
from wallie_litellm.core.lease_exchange import VERSION
from wallie_litellm.errors import CircuitOpen, RateLimited, Refused
from wallie_litellm.events import QuotaCrossed
from wallie_litellm.guard import Guard
from wallie_litellm.guard.capacity_lease import CapacityLease
from wallie_litellm.guard.context import Attempt
from wallie_litellm.limiter.redis.fleet import CONFIRMED_AFTER, HEARTBEAT
from wallie_litellm.limiter.redis.layout import key_of

MakeGuard = Callable[..., Guard]
Fault = Callable[[RedisServer], None]

SLACK = 0.5  # seconds that a busy machine may add
LONGEST = 0.25 + SLACK  # seconds that a request may take: the store's timeout
# Seconds until an idle worker notices that Redis is away: a heartbeat is due after nine tenths of its time, which is
# seen a quarter of it later at most, and then the store has its timeout.
NOTICED = HEARTBEAT * 0.9 + HEARTBEAT / 4 + 0.25 + SLACK
RECOVERED = 2.0  # seconds until a worker notices that Redis is back
AT_ONCE = 0.25 + SLACK  # seconds until all workers have a trip or a pause
ONE = Demand(1, 0, 0, 0)
IMPATIENT: dict[str, Any] = {"admission": {"max_wait": 0}}
POLICIES = ("local", "open", "closed")
HASTY: dict[str, Any] = {"timeout": "250ms"}  # where a silent Redis is to be noticed

_clocks: list[Turns] = []


@pytest.fixture(autouse=True, scope="module")
def _clock() -> Iterator[None]:
    with Turns() as turns:
        _clocks.append(turns)
        yield


def now() -> float:
    """The clock that durations are judged by: what a busy machine adds does not count."""
    return _clocks[-1].now()


async def until(condition: Callable[[], bool], what: str, seconds: float) -> float:
    """Wait for ``condition``; the seconds that it took."""
    started = now()
    while not condition():
        assert now() - started < seconds, f"{what}: not within {seconds:g} s"
        await asyncio.sleep(0.005)
    return now() - started


def store(guard: Guard) -> dict[str, Any]:
    return guard.status()["store"]


async def until_state(state: str, guards: Sequence[Guard], seconds: float) -> None:
    await until(lambda: all(store(guard)["state"] == state for guard in guards), f"the store is {state}", seconds)


def renew(guards: Sequence[Guard]) -> None:
    """Have ``guards`` exchange with Redis soon, rather than with the next heartbeat."""
    for guard in guards:
        guard.update_usage("openai", requests=0)


async def registered(*guards: Guard) -> None:
    """Wait until each of ``guards`` counts all of them as workers."""
    await until_state("ok", guards, RECOVERED)
    renew(guards)
    await until(lambda: all(store(guard)["workers"] == len(guards) for guard in guards), "all are counted", 5)


async def timed(work: Awaitable[Any]) -> Any:
    """The result of ``work``, which must come soon."""
    started = now()
    try:
        return await work
    finally:
        took = now() - started
        assert took <= LONGEST, f"a request took {took:.3f} s"


async def ask(guard: Guard, provider: str = "openai") -> CapacityLease:
    lease: CapacityLease = await timed(guard.wait_for_capacity(provider, tokens=0))
    return lease


async def begin(guard: Guard, feature: str | None = None) -> Callable[[AttemptResult], bool]:
    """Begin a call; what is returned ends it."""
    scope, attempt = guard.open_context("o", chain=(), feature=feature), Attempt(group="o", provider="openai")
    await timed(guard.admit(scope, attempt, ONE))
    return lambda ending: guard.settle(scope, attempt, ending)


async def call(guard: Guard, verdict: Verdict = Verdict.SUCCESS, **ending: Any) -> None:
    end = await begin(guard)
    end(AttemptResult(Outcome.SUCCESS if verdict is Verdict.SUCCESS else Outcome.REJECTED, verdict, **ending))


async def admitted(guard: Guard, provider: str = "openai", most: int = 1000) -> int:
    """How many requests are admitted at once, until one is refused for want of capacity."""
    for count in range(most):
        try:
            (await ask(guard, provider)).settle()
        except RateLimited:
            return count
    return most


async def trip(guard: Guard) -> None:
    for _ in range(5):
        await call(guard, Verdict.FAILURE, reason="it is down")


def state_of(guard: Guard, provider: str = "openai") -> BreakerState:
    return guard.limiter(provider).state().breaker


def taken(guard: Guard, provider: str = "openai") -> int:
    """Requests that the bucket does not have."""
    quota = guard.status()["providers"][provider]["quota"]["rpm"]
    return int(quota["limit"] - quota["left"])


async def is_shared(one: Guard, other: Guard, provider: str = "openai") -> None:
    """Fail unless an operator's action at ``one`` holds for ``other``."""
    one.open_circuit(provider)
    await until(lambda: state_of(other, provider) is BreakerState.FORCED_OPEN, "the other has it", AT_ONCE)
    one.close_circuit(provider)
    await until(lambda: state_of(other, provider) is BreakerState.CLOSED, "the other has it", AT_ONCE)


async def mirrored(guards: Sequence[Guard], total: int, began: float) -> None:
    """Wait until each of ``guards`` has the usage of all, ``total`` since ``began``."""

    def all_have_it() -> bool:
        renew(guards)
        left = total - 5 - (time.monotonic() - began) * 10
        return all(taken(guard) >= left for guard in guards)

    await until(all_have_it, "all have the others' usage", 6)


async def returned(guards: Sequence[Guard]) -> None:
    """Wait until ``guards``, which are idle, have returned their leases."""

    def are_empty() -> bool:
        renew(guards)
        stores = [guard.limiter("openai")._store for guard in guards]
        return not any(balance.left for store in stores for balance in store._balances.values())  # type: ignore[attr-defined]

    await until(are_empty, "the leases are returned", 5)


class Traffic:
    """Requests to several guards, one after the other; each must be answered soon."""

    def __init__(self) -> None:
        self.admitted = 0
        self.refusals: list[Refused] = []
        self.longest = 0.0

    async def _to(self, guard: Guard) -> None:
        while True:
            started = now()
            try:
                (await guard.wait_for_capacity("openai", tokens=0)).settle()
                self.admitted += 1
            except Refused as refused:
                self.refusals.append(refused)
            self.longest = max(self.longest, now() - started)
            await asyncio.sleep(0.01)

    @classmethod
    @asynccontextmanager
    async def at(cls, *guards: Guard) -> AsyncIterator[Traffic]:
        traffic = cls()
        tasks = [asyncio.create_task(traffic._to(guard)) for guard in guards for _ in range(2)]
        try:
            yield traffic
            assert not any(task.done() for task in tasks), [task for task in tasks if task.done()]
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        assert traffic.longest <= LONGEST, f"a request took {traffic.longest:.3f} s"


BUSY: dict[str, Any] = {"providers": {"openai": {"rpm": 60_000}}}  # 1000 a second: traffic never uses it up


# Redis is not there


@pytest.mark.parametrize("policy", POLICIES)
async def test_without_redis_from_the_start_the_policy_holds_and_the_fleet_shares_once_it_is_there(
    make_guard: MakeGuard, policy: str
) -> None:
    server = RedisServer()
    try:
        guards = [make_guard(server.url, policy, **IMPATIENT, **HASTY) for _ in range(2)]
        if policy == "closed":
            with pytest.raises(RateLimited, match=r"shared store does not answer.*wallie\.store\.on_store_error"):
                await ask(guards[0])
        else:
            assert await admitted(guards[0]) >= (600 if policy == "local" else 1000)
        await until_state("down", guards, NOTICED)
        assert "refused" in store(guards[0])["error"].lower()
        server.start()
        await until_state("ok", guards, RECOVERED)
        assert store(guards[0])["error"] is None
        await is_shared(*guards)
    finally:
        server.stop()


def kill(server: RedisServer) -> None:
    server.kill()


def hang(server: RedisServer) -> None:
    server.pause()


def end_of(fault: Fault) -> Fault:
    return RedisServer.start if fault is kill else RedisServer.resume


@pytest.mark.parametrize(
    ("fault", "policy"), [(kill, "local"), (kill, "open"), (kill, "closed"), (hang, "local"), (hang, "closed")]
)
async def test_requests_in_mid_flight_do_not_wait_for_a_redis_that_dies_or_hangs(
    make_guard: MakeGuard, server: RedisServer, fault: Fault, policy: str
) -> None:
    guards = [make_guard(server.url, policy, **BUSY, **HASTY) for _ in range(2)]
    await registered(*guards)
    async with Traffic.at(*guards) as traffic:
        await asyncio.sleep(0.2)
        assert not traffic.refusals
        fault(server)
        await until_state("down", guards, NOTICED)
        before, refused = traffic.admitted, len(traffic.refusals)
        await asyncio.sleep(0.3)
        if policy == "closed":
            assert traffic.admitted == before
            assert all(isinstance(refusal, RateLimited) and "store" in str(refusal) for refusal in traffic.refusals)
            assert len(traffic.refusals) > refused
        else:
            assert traffic.admitted > before
            assert not traffic.refusals
        assert all(store(guard)["error"] for guard in guards)
        end_of(fault)(server)
        await until_state("ok", guards, RECOVERED)
        refused, before = len(traffic.refusals), traffic.admitted
        await asyncio.sleep(0.3)
        assert traffic.admitted > before
        assert len(traffic.refusals) == refused
        await is_shared(*guards)


@pytest.mark.parametrize("fault", [kill, hang])
async def test_each_worker_keeps_to_its_part_while_redis_is_away_and_nothing_is_counted_twice_afterwards(
    make_guard: MakeGuard, server: RedisServer, fault: Fault
) -> None:
    guards = [make_guard(server.url, **IMPATIENT, **HASTY) for _ in range(2)]
    await registered(*guards)
    began = time.monotonic()
    for guard in guards:
        for _ in range(100):
            await call(guard)
    await mirrored(guards, 200, began)
    await returned(guards)  # a lease in hand would be charged in full if the outage outlives it
    fault(server)
    await until_state("down", guards, NOTICED)
    if fault is hang:  # a shorter silence may be the processes' own slowness
        await asyncio.sleep(CONFIRMED_AFTER * StoreSettings().timeout + 0.1)
    parts = [await admitted(guard) for guard in guards]
    left = 300 - 100 + (time.monotonic() - began) * 5
    assert all(left - 30 <= part <= left + 5 for part in parts), (parts, left)
    end_of(fault)(server)
    await until_state("ok", guards, RECOVERED)
    expected = 200 + sum(parts)

    def excess() -> float:
        return max(taken(guard) for guard in guards) + (time.monotonic() - began) * 10 - expected

    await until(lambda: abs(excess()) < 40, "the usage of both, once each", 5)


async def test_closing_does_not_wait_for_a_redis_that_hangs(make_guard: MakeGuard, server: RedisServer) -> None:
    guard = make_guard(server.url, **HASTY)
    await until_state("ok", [guard], RECOVERED)
    await call(guard)
    server.pause()
    started = now()
    await guard.aclose()
    assert now() - started < 1.0 + SLACK
    server.resume()


# Redis is far away


async def test_over_a_slow_link_the_fleet_still_shares(make_guard: MakeGuard, server: RedisServer) -> None:
    with SlowLink(server, delay=0.1) as link:
        guards = [make_guard(link.url, **IMPATIENT, **HASTY) for _ in range(2)]
        await registered(*guards)
        began = time.monotonic()
        asked = await asyncio.gather(*(ask(guard) for guard in guards for _ in range(400)), return_exceptions=True)
        assert all(store(guard)["state"] == "ok" for guard in guards)
        leases = [lease for lease in asked if isinstance(lease, CapacityLease)]
        assert all(isinstance(refused, RateLimited) for refused in asked if refused not in leases)
        assert 400 <= len(leases) <= 605 + (time.monotonic() - began) * 10
        for lease in leases:
            lease.settle()
        await asyncio.sleep(0.3)
        assert all(store(guard)["state"] == "ok" for guard in guards)
        guards[0].reset_quota("openai")
        await is_shared(*guards)


@pytest.mark.parametrize("policy", ["local", "closed"])
async def test_a_silent_link_is_as_good_as_none(make_guard: MakeGuard, server: RedisServer, policy: str) -> None:
    with SlowLink(server) as link:
        guards = [make_guard(link.url, policy, **BUSY, **HASTY) for _ in range(2)]
        await registered(*guards)
        async with Traffic.at(*guards) as traffic:
            link.silent = True
            await until_state("down", guards, NOTICED)
            before = traffic.admitted
            await asyncio.sleep(0.2)
            assert (traffic.admitted > before) == (policy != "closed")
            link.silent = False
            await until_state("ok", guards, RECOVERED)
            await is_shared(*guards)


async def test_a_process_without_a_processor_for_a_while_does_not_report_an_outage(
    make_guard: MakeGuard, server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    guard = make_guard(server.url, **BUSY, **HASTY)
    await registered(guard)
    fleet = guard._fleet
    assert fleet is not None
    assert fleet._loop is not None
    caplog.set_level(logging.WARNING)
    for _ in range(5):
        before = store(guard)["exchanges"].get("openai", 0)
        renew([guard])
        fleet._loop.call_soon_threadsafe(time.sleep, 0.6)  # before the answer is read
        await until(lambda: store(guard)["exchanges"].get("openai", 0) > before + 1 or renew([guard]), "an answer", 5)  # type: ignore[func-returns-value]  # noqa: B023
    assert store(guard)["state"] == "ok"
    assert not caplog.records


async def test_a_connection_that_breaks_is_no_outage(
    make_guard: MakeGuard, server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    guard = make_guard(server.url, **BUSY)
    await registered(guard)
    caplog.set_level(logging.WARNING)
    with server.client() as client:
        own = client.client_id()
        for _ in range(20):
            for one in client.client_list():
                if int(one["id"]) != own and one["sub"] == "0":
                    with suppress(redis.ResponseError):  # it has gone by itself
                        client.client_kill_filter(_id=one["id"])
            before = sum(store(guard)["exchanges"].values())
            (await ask(guard)).settle()
            renew([guard])
            await until(lambda before=before: sum(store(guard)["exchanges"].values()) > before, "an answer", 5)
    assert store(guard)["state"] == "ok"
    assert not caplog.records


# Redis answers, but not as it should


async def test_a_flush_in_mid_flight_is_no_outage_and_the_usage_is_kept(
    make_guard: MakeGuard, server: RedisServer
) -> None:
    guards = [make_guard(server.url, **IMPATIENT) for _ in range(2)]
    began = time.monotonic()
    await registered(*guards)
    counts = [await admitted(guard, most=200) for guard in guards]
    guards[0].open_circuit("openai")
    await until(lambda: state_of(guards[1]) is BreakerState.FORCED_OPEN, "both are open", AT_ONCE)
    server.flush()
    await until(
        lambda: bool(server.client().exists(f"wallie:v{VERSION}:{{openai}}:state")), "they seeded Redis again", 4
    )
    assert all(store(guard)["state"] == "ok" and state_of(guard) is BreakerState.FORCED_OPEN for guard in guards)
    guards[1].close_circuit("openai")
    await until(lambda: state_of(guards[0]) is BreakerState.CLOSED, "both are closed", AT_ONCE)
    counts += [await admitted(guard) for guard in guards]
    # Redis is seeded with the usage that each worker had an answer of, or reports.
    assert sum(counts) <= 600 + 10 * max(8.0, time.monotonic() - began)


async def test_a_flush_in_mid_flight_lets_no_more_pass_than_the_days_limit(
    make_guard: MakeGuard, server: RedisServer
) -> None:
    patient: dict[str, Any] = {"admission": {"max_wait": "5s"}}
    guards = [make_guard(server.url, providers={"openai": {"rpm": 6000, "rpd": 40}}, **patient) for _ in range(2)]
    await registered(*guards)
    counts = [0, 0]

    async def use(number: int, most: int) -> None:
        for _ in range(most):
            with suppress(RateLimited):
                (await ask(guards[number])).settle()
                counts[number] += 1

    for _ in range(3):
        await asyncio.gather(use(0, 3), use(1, 7))
        server.flush()
    await asyncio.gather(use(0, 60), use(1, 60))
    assert 28 <= sum(counts) <= 40  # a lease may have been charged of which not all was spent


def fill_up(server: RedisServer) -> None:
    """Leave no room for even the smallest key, and keep it so."""
    with server.client() as client:
        for size in (10_000, 1_000, 100, 10, 1, 1, 1):
            with suppress(redis.exceptions.OutOfMemoryError):
                for number in range(100_000):
                    client.set(f"filler:{size}:{number}:{time.monotonic()}", "x" * size)
        client.config_set("maxmemory", "1mb")


@pytest.mark.parametrize("policy", POLICIES)
async def test_a_redis_without_memory_is_down_and_stays_so_until_there_is_some(
    make_guard: MakeGuard, caplog: pytest.LogCaptureFixture, policy: str
) -> None:
    with RedisServer(extra=("--maxmemory", "3mb", "--maxmemory-policy", "noeviction")) as server:
        guards = [make_guard(server.url, policy, **IMPATIENT, **HASTY) for _ in range(2)]
        await registered(*guards)
        began = time.monotonic()
        for guard in guards:
            for _ in range(100):
                await call(guard)
        if policy == "local":
            await mirrored(guards, 200, began)
        began = time.monotonic()
        fill_up(server)
        await until(lambda: all("memory" in str(store(guard)["error"]) for guard in guards), "no memory", NOTICED)
        caplog.clear()  # of a moment in which Redis had no processor
        caplog.set_level(logging.WARNING)
        seen = set()
        count = 0 if policy == "closed" else await admitted(guards[0])
        if policy == "closed":
            with pytest.raises(RateLimited, match="store"):
                await ask(guards[0])
        watched = time.monotonic()
        while time.monotonic() < watched + 1.0:
            seen |= {store(guard)["state"] for guard in guards}
            await asyncio.sleep(0.002)
        if policy == "local":  # attempts to reconnect do not give it its part again
            count += await admitted(guards[0])
            assert count <= 250 + (time.monotonic() - began) * 5 + 20
        assert seen == {"down"}
        assert not [record for record in caplog.records if "serves again" in record.message]
        with server.client() as client:
            client.config_set("maxmemory", "0")
        await until_state("ok", guards, RECOVERED)
        await is_shared(*guards)


async def test_a_state_of_another_version_is_reported_once_and_the_policy_holds(
    make_guard: MakeGuard, server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    with server.client() as client:
        later = client.register_script("redis.call('SET', KEYS[1], cmsgpack.pack({version = 99}))")
        later([key_of("openai")])
        stored = client.get(key_of("openai"))
        guard = make_guard(server.url, "closed")
        await until_state("down", [guard], NOTICED)
        for part in ("different versions", "the state is of version 99", "upgrade all workers"):
            assert part in store(guard)["error"]
        with pytest.raises(RateLimited, match="store"):
            await ask(guard)
        await asyncio.sleep(1.0)  # in which it reconnects more than once
        assert store(guard)["state"] == "down"
        assert len([record for record in caplog.records if "different versions" in record.getMessage()]) == 1
        assert client.get(key_of("openai")) == stored
        client.delete(key_of("openai"))
    await until_state("ok", [guard], RECOVERED)
    assert store(guard)["error"] is None


async def test_a_wrong_password_is_shown_nowhere(make_guard: MakeGuard, caplog: pytest.LogCaptureFixture) -> None:
    with RedisServer(password="the-right-secret") as server:
        url = server.url.replace("the-right-secret", "a-wrong-secret")
        guard = make_guard(url, "closed")
        await until_state("down", [guard], NOTICED)
        with pytest.raises(RateLimited, match="store") as refused:
            await ask(guard)
        assert store(guard)["error"]
        for shown in (str(store(guard)), str(refused.value), caplog.text):
            assert "secret" not in shown
        right = make_guard(server.url)
        await until_state("ok", [right], RECOVERED)


@pytest.mark.parametrize("scheme", ["redis", "redis+sentinel", "redis+cluster"])
async def test_a_password_that_breaks_the_url_is_shown_nowhere(
    make_guard: MakeGuard, caplog: pytest.LogCaptureFixture, scheme: str
) -> None:
    guard = make_guard(f"{scheme}://user:secr/et@127.0.0.1:1/0", "closed")
    await until_state("down", [guard], NOTICED)
    assert store(guard)["error"]
    for shown in (str(store(guard)), caplog.text):
        assert "secr" not in shown


# Several servers


async def test_after_a_failover_the_fleet_goes_on_with_the_new_master(make_guard: MakeGuard) -> None:
    with SentinelSet() as group:
        guards = [make_guard(group.url, **BUSY, **HASTY) for _ in range(2)]
        await registered(*guards)
        await is_shared(*guards)
        async with Traffic.at(*guards) as traffic:
            group.master.kill()
            await until_state("down", guards, NOTICED)
            await until(lambda: group.master_port() == group.replica.port, "a failover", 20)
            await until_state("ok", guards, RECOVERED + 1)
            await is_shared(*guards)
            assert not [refused for refused in traffic.refusals if not isinstance(refused, CircuitOpen)]


async def test_a_cluster_of_three_masters_serves_all_providers(make_guard: MakeGuard) -> None:
    names = ("openai", "anthropic", "gemini", "groq", "deepseek", "mistral")
    with RedisCluster(3) as cluster:
        wallie: dict[str, Any] = {"providers": {name: {"rpm": 60} for name in names}, **IMPATIENT}
        guards = [make_guard(cluster.url, **HASTY, **wallie) for _ in range(2)]
        await registered(*guards)
        for name in names:
            began = time.monotonic()
            count = await admitted(guards[0], name) + await admitted(guards[1], name)
            assert 55 <= count <= 61 + time.monotonic() - began
            guards[0].reset_quota(name)
            await is_shared(*guards, provider=name)
        assert all(store(guard)["state"] == "ok" and store(guard)["error"] is None for guard in guards)
        homes = [server.client().dbsize() for server in cluster.servers]
        assert all(homes), homes
        cluster.servers[0].kill()
        await until_state("down", guards, NOTICED)
        for name in names:
            (await ask(guards[0], name)).settle()


# What the fleet agrees on


async def test_five_failures_seen_by_two_workers_open_the_breaker_for_both(
    make_guard: MakeGuard, server: RedisServer
) -> None:
    guards = [make_guard(server.url) for _ in range(2)]
    await registered(*guards)
    for number in range(5):
        await call(guards[number % 2], Verdict.FAILURE, reason="it is down")
    for guard in guards:
        await until(lambda: state_of(guard) is BreakerState.OPEN, "open", AT_ONCE)  # noqa: B023 - is called at once
        with pytest.raises(CircuitOpen, match="it is down"):
            await ask(guard)


async def test_a_trip_and_a_pause_reach_a_worker_that_does_nothing(make_guard: MakeGuard, server: RedisServer) -> None:
    busy, idle = (make_guard(server.url, **IMPATIENT) for _ in range(2))
    await registered(busy, idle)
    await call(busy, Verdict.IGNORED, pause_for=20.0)
    await until(lambda: idle.limiter("openai").state().paused_for > 15, "a pause", AT_ONCE)
    with pytest.raises(RateLimited, match="left alone"):
        await ask(idle)
    busy.reset_quota("openai")
    await until(lambda: idle.limiter("openai").state().paused_for == 0, "no pause", AT_ONCE)
    await trip(busy)
    await until(lambda: state_of(idle) is BreakerState.OPEN, "open", AT_ONCE)


async def test_a_breaker_that_opened_without_redis_is_open_for_all_when_it_is_back(
    make_guard: MakeGuard, server: RedisServer
) -> None:
    guards = [make_guard(server.url, **HASTY) for _ in range(2)]
    await registered(*guards)
    server.pause()
    await until_state("down", guards, NOTICED)
    await trip(guards[0])
    assert state_of(guards[0]) is BreakerState.OPEN
    assert state_of(guards[1]) is BreakerState.CLOSED
    server.resume()
    await until_state("ok", guards, RECOVERED)
    await until(lambda: all(state_of(guard) is BreakerState.OPEN for guard in guards), "open", AT_ONCE)


QUICK: dict[str, Any] = {"breaker": {"open_for": 1.0}, **IMPATIENT}


async def test_one_worker_probes_and_its_success_closes_for_both(make_guard: MakeGuard, server: RedisServer) -> None:
    guards = [make_guard(server.url, **QUICK) for _ in range(2)]
    await registered(*guards)
    await trip(guards[0])
    await until(lambda: all(state_of(guard) is BreakerState.OPEN for guard in guards), "open", AT_ONCE)
    await until(lambda: not any(guard.limiter("openai").is_open() for guard in guards), "time to probe", 2)
    calls = await asyncio.gather(*(begin(guard) for guard in guards * 3), return_exceptions=True)
    probes = [end for end in calls if not isinstance(end, BaseException)]
    assert len(probes) == 1, calls
    assert all(isinstance(end, CircuitOpen) for end in calls if isinstance(end, BaseException)), calls
    probes[0](AttemptResult(Outcome.SUCCESS, Verdict.SUCCESS))
    await until(lambda: all(state_of(guard) is BreakerState.CLOSED for guard in guards), "closed", AT_ONCE)
    for guard in guards:
        await call(guard)


PROBE = """
import asyncio, sys
from wallie_litellm.config import WallieConfig
from wallie_litellm.errors import Refused
from wallie_litellm.guard import Guard

async def main():
    guard = Guard(WallieConfig.model_validate({"providers": {"openai": {"rpm": 600}}, "ledger": None,
        "store": {"url": sys.argv[1]}, "breaker": {"open_for": 1.0}, "admission": {"max_wait": 0}}))
    while guard.limiter("openai").state().breaker.value == "closed":
        await asyncio.sleep(0.01)
        if guard.status()["store"]["state"] == "ok":
            print("ready", flush=True)
    while True:
        try:
            await guard.wait_for_capacity("openai")
        except Refused:
            await asyncio.sleep(0.01)
        else:
            print("probing", flush=True)
            await asyncio.sleep(60)

asyncio.run(main())
"""


async def test_a_process_that_dies_while_it_probes_is_replaced(make_guard: MakeGuard, server: RedisServer) -> None:
    guard = make_guard(server.url, **QUICK)
    process = subprocess.Popen(  # noqa: ASYNC220 - which takes a moment
        [sys.executable, "-c", PROBE, server.url],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
        text=True,
    )
    try:
        assert process.stdout is not None
        assert await asyncio.wait_for(asyncio.to_thread(process.stdout.readline), 15) == "ready\n"
        await until_state("ok", [guard], RECOVERED)
        await trip(guard)
        output = ""
        while output != "probing\n":
            output = await asyncio.wait_for(asyncio.to_thread(process.stdout.readline), 5)
    finally:
        died = time.monotonic()
        process.kill()
        process.wait()
        process.stdout.close()
    await until(lambda: state_of(guard) is BreakerState.HALF_OPEN, "being probed", AT_ONCE)
    began = now()
    with pytest.raises(CircuitOpen):
        await ask(guard)
    end = None
    while end is None:
        assert now() - began < 1.0 + LONGEST
        with suppress(CircuitOpen):
            end = await begin(guard)
        await asyncio.sleep(0.01)
    assert time.monotonic() - died > 0.5
    end(AttemptResult(Outcome.SUCCESS, Verdict.SUCCESS))
    await until(lambda: state_of(guard) is BreakerState.CLOSED, "closed", AT_ONCE)


@pytest.mark.parametrize("dimension", ["rpm", "rpd"])
async def test_each_quota_alert_is_raised_once_among_three_workers(
    make_guard: MakeGuard, server: RedisServer, dimension: str
) -> None:
    guards = [make_guard(server.url, providers={"openai": {dimension: 300}}) for _ in range(3)]
    await registered(*guards)

    def alerts() -> list[str]:
        buses = [guard.bus for guard in guards]
        assert all(isinstance(bus, RecordingBus) for bus in buses)
        return sorted(event.level for bus in buses for event in bus.of(QuotaCrossed))

    for number in range(260):
        await call(guards[number % 3])
    await until(lambda: alerts() == ["warning"], "a warning", 3)
    for number in range(38):
        await call(guards[number % 3])
    await until(lambda: alerts() == ["critical", "warning"], "both", 3)
    for _ in range(2):  # every worker reports, then receives it
        renew(guards)
        await asyncio.sleep(0.3)
    assert alerts() == ["critical", "warning"]


async def test_requests_that_may_not_wait_pass_together_where_there_is_room(
    make_guard: MakeGuard, server: RedisServer
) -> None:
    guard = make_guard(server.url, **IMPATIENT)
    await until_state("ok", [guard], RECOVERED)
    for lease in await asyncio.gather(*(ask(guard) for _ in range(50))):
        lease.settle()


async def test_a_features_limit_is_shared(make_guard: MakeGuard, server: RedisServer) -> None:
    features = {"chat": {"limits": {"rpm": 60}, "max_wait": 0}}
    guards = [make_guard(server.url, features=features, **IMPATIENT) for _ in range(2)]
    await registered(*guards)
    count, began = 0, time.monotonic()
    for guard in guards:
        with pytest.raises(RateLimited, match="feature chat"):  # noqa: PT012 - which of them, is not known
            while True:
                (await begin(guard, "chat"))(AttemptResult(Outcome.SUCCESS, Verdict.SUCCESS))
                count += 1
    assert 55 <= count <= 61 + time.monotonic() - began
    (await begin(guards[0]))(AttemptResult(Outcome.SUCCESS, Verdict.SUCCESS))


@pytest.mark.parametrize("fault", [hang, None])
async def test_closing_leaves_no_task_behind(make_guard: MakeGuard, server: RedisServer, fault: Fault | None) -> None:
    guard = make_guard(server.url, **HASTY)
    await until_state("ok", [guard], RECOVERED)
    if fault is not None:
        fault(server)
    assert guard._fleet is not None
    loop = guard._fleet._loop
    assert loop is not None
    renew([guard])
    await asyncio.sleep(0.05)
    tasks = asyncio.all_tasks(loop)
    await guard.aclose()
    await until(loop.is_closed, "the loop is closed", 3)
    assert tasks
    assert all(task.done() for task in tasks)
    server.resume()


async def test_a_request_that_may_not_wait_waits_for_an_answer_as_long_as_the_store_may_take(
    make_guard: MakeGuard, server: RedisServer
) -> None:
    guard = make_guard(server.url, on_store_error="closed", **IMPATIENT)
    await until_state("ok", [guard], SLACK + RECOVERED)
    server.pause()
    asking = asyncio.ensure_future(guard.wait_for_capacity("openai"))
    await asyncio.sleep(0.7)
    assert not asking.done()
    server.resume()
    (await asking).settle()
