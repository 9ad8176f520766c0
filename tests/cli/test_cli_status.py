"""`wallie-litellm status` over real guards, for people and for programs, and while Redis is away."""

from __future__ import annotations

import json
import os
import time
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from ledger_query_fixtures import write_events
from ledger_support import ended, settled
from ports import free_port
from redis_support import RedisServer, SlowLink
from status_support import PASSWORD, SECTIONS, exchange, report_of
from support import until
from turns import Turns

from wallie_litellm.config import WallieConfig
from wallie_litellm.dashboard.formats import Formats
from wallie_litellm.events import BreakerChanged, Event, FellBack, HealthChanged, new_id
from wallie_litellm.guard import Guard
from wallie_litellm.ledger.engine import open_engine, writing
from wallie_litellm.ledger.migrations import migrate
from wallie_litellm.limiter.redis.layout import WORKERS


@pytest.fixture
async def join(server: RedisServer) -> AsyncIterator[Callable[[], Guard]]:
    guards: list[Guard] = []

    def start() -> Guard:
        guards.append(Guard(WallieConfig(**SECTIONS, store={"url": server.url})))
        return guards[-1]

    yield start
    for guard in guards:
        await guard.aclose()


async def test_two_workers_and_what_they_have_taken_are_seen(
    join: Callable[[], Guard], read: Callable[..., dict[str, Any]]
) -> None:
    guards = [join(), join()]
    leases = [await guard.wait_for_capacity("openai", tokens=100) for guard in guards]
    await until(lambda: len(read()["workers"]) == 2)
    report = read()

    assert report["store"] == {"scope": "redis", "state": "ok", "error": None}
    names = {guard.status()["store"]["worker"] for guard in guards}
    assert {worker["name"] for worker in report["workers"]} == names
    for worker in report["workers"]:
        assert worker["pid"] == os.getpid()
        assert worker["last_seen_ago"] < 5
        assert datetime.fromisoformat(worker["since"]) <= datetime.fromisoformat(worker["last_seen"])
    openai = report["providers"]["openai"]
    assert openai["breaker"] == {"state": "closed", "reason": None, "next_probe_in": None, "probe_held_by": []}
    for dimension, least in (("rpm", 0), ("tpm", 0), ("rpd", 2)):  # the others flow back
        found = openai["quota"][dimension]
        assert found["used"] + found["leased"] >= least, (dimension, found)
        assert found["leased"] == sum(lease.get(dimension, 0) for lease in openai["leases"].values())
        assert found["limit"] == SECTIONS["providers"]["openai"][dimension]
        assert datetime.fromisoformat(found["reset_at"]).timestamp() > time.time() - 60
    assert set(openai["leases"]) <= names
    assert set(openai["slots"]) == names
    leased = sum(openai["slots"].values())
    unknown = {"used": None, "utilization": None, "left": None, "reset_at": None}
    assert openai["quota"]["concurrency"] == {**unknown, "limit": 5, "leased": leased}
    assert set(report["features"]) == {"chat"}
    assert report["features"]["chat"]["quota"]["rpm"]["limit"] == 30
    for lease in leases:
        lease.settle()


async def test_a_circuit_that_an_operator_opened_is_shown(
    join: Callable[[], Guard], read: Callable[..., dict[str, Any]], status: Callable[..., Result], server: RedisServer
) -> None:
    join().open_circuit("openai")
    await until(lambda: read()["providers"]["openai"]["breaker"]["state"] == "forced_open")
    assert read()["providers"]["openai"]["breaker"]["reason"] == "forced open by the operator"
    assert "openai: forced_open: forced open by the operator" in status(server.url).stdout


async def test_a_worker_that_has_ended_is_not_listed(
    join: Callable[[], Guard], read: Callable[..., dict[str, Any]]
) -> None:
    leaving, staying = join(), join()
    await until(lambda: len(read()["workers"]) == 2)
    await leaving.aclose()
    assert [worker["name"] for worker in read()["workers"]] == [staying.status()["store"]["worker"]]
    leases = read()["providers"]["openai"]["leases"]
    assert leaving.status()["store"]["worker"] not in leases


def test_an_empty_redis_has_no_workers_and_no_states(server: RedisServer, status: Callable[..., Result]) -> None:
    result = status(server.url)
    assert result.exit_code == 0
    assert "no worker in the last minute" in result.stdout
    assert "nothing in Redis" in result.stdout
    report = json.loads(status(server.url, "--json").stdout)
    assert report["workers"] == []
    assert report["providers"]["openai"]["breaker"]["state"] is None
    assert report["providers"]["openai"]["quota"]["rpd"]["used"] == 0


def test_the_table_has_one_line_a_limit_and_no_password(server: RedisServer, status: Callable[..., Result]) -> None:
    now = time.time()
    with server.client() as client:
        client.hset(WORKERS, "w", json.dumps({"pid": 7, "host": "box", "since": now - 90, "seen": now}))
    exchange(server, "openai", now)
    slots = {"concurrency": [5, 2, 3]}
    used = report_of(charge={"rpm": 40}, recent=[["rpm", 40, now]])
    exchange(server, "openai", now, needs=[["", {"rpm": 4}]], reports=[used], slots=slots)
    shown = status(server.url).stdout
    assert PASSWORD not in shown
    lines = [line.split() for line in shown.splitlines()]
    assert ["#1", "w", "7", "box"] in [line[:4] for line in lines]
    rpm = next(line for line in lines if line[:3] == ["openai", "closed", "rpm"])
    assert [*rpm[3:7], rpm[8]] == ["40", "/", "60", "67", "4"]
    assert 20 <= int(rpm[7]) <= 60
    assert rpm[-2:] == ["#1", "4"]
    assert ["concurrency", "-", "/", "5", "-", "-", "3", "-", "#1", "3"] in lines
    assert ["feature:chat", "nothing", "in", "Redis", "rpm"] in [line[:5] for line in lines]


def test_without_redis_one_line_says_that_limits_are_per_process(status: Callable[..., Result]) -> None:
    result = status("memory")
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == 1
    assert "per process" in result.stdout
    assert "WALLIE_REDIS_URL" in result.stdout
    result = status("memory", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["store"] == {"scope": "process", "state": "ok", "error": None}


def outage(now: float) -> list[Event]:
    """A provider goes down, and its requests go to another one."""
    failed = settled(at=now - 60, success=False, outcome="server_error", error="HTTP 503", cost_usd=0.0)
    rescue = settled(at=now - 59, provider="anthropic", model="claude-sonnet-4")
    return [
        HealthChanged(new_id(now), now - 7_200, "openai", "healthy", "down", "HTTP 503"),
        BreakerChanged(new_id(now), now - 7_200, "openai", "closed", "open", "HTTP 503", 30.0),
        FellBack(new_id(now), now - 59, "r", "gpt-4o", "claude-sonnet-4", "openai", "HTTP 503", None, None),
        *(failed, rescue, ended(failed, rescue), ended(failed)),
    ]


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo"])
def test_without_redis_the_sentence_is_what_is_on_record(
    status: Callable[..., Result], ledger_file: Callable[..., str], zone: str
) -> None:
    now = time.time()
    sections = {"ledger": {"url": ledger_file(outage(now))}, "dashboard": {"timezone": zone}}
    since = Formats("en", zone).minute(now - 7_200, now)
    expected = (
        f"As last recorded: openai down since {since}; "
        "in the last five minutes 1 request went to claude-sonnet-4, 1 failed."
    )
    assert status("memory", **sections).stdout.splitlines()[0] == expected
    assert json.loads(status("memory", "--json", **sections).stdout)["summary"] == {"sentence": expected}


async def test_with_redis_the_sentence_is_of_its_breakers_and_of_the_ledgers_records(
    join: Callable[[], Guard],
    read: Callable[..., dict[str, Any]],
    status: Callable[..., Result],
    server: RedisServer,
    tmp_path: Path,
) -> None:
    guard, now = join(), time.time()
    guard.open_circuit("openai")
    await until(lambda: read()["providers"]["openai"]["breaker"]["state"] == "forced_open")
    assert status(server.url).stdout.splitlines()[0] == (
        "openai stopped by an operator. What became of requests is not known: there is no ledger."
    )
    engine = open_engine(url := f"sqlite:///{tmp_path}/wallie.db")
    async with writing(engine) as connection:
        await connection.run_sync(migrate)
    await write_events(engine, [BreakerChanged(new_id(now), now - 60, "openai", "closed", "forced_open", "", None)])
    await engine.dispose()
    since = Formats("en").minute(now - 60, now)
    assert status(server.url, ledger={"url": url}).stdout.splitlines()[0] == (
        f"openai stopped by an operator since {since}; no requests in the last five minutes."
    )
    guard.release_circuit("openai")
    guard.close_circuit("openai")
    await until(lambda: read()["providers"]["openai"]["breaker"]["state"] == "closed")
    assert read()["summary"]["sentence"].startswith("All providers answer.")


@pytest.mark.parametrize(
    ("url", "why"),
    [
        (f"redis://:{PASSWORD}@127.0.0.1:{{port}}/0", "Connection refused"),
        (f"redis+sentinel://:{PASSWORD}@127.0.0.1:{{port}}/mymaster", ""),
        (f"redis+cluster://:{PASSWORD}@127.0.0.1:{{port}}", "Connection refused"),
        (f"redis://:{PASSWORD}/more@127.0.0.1:{{port}}/0", "the URL cannot be read"),
        (f"redis://{PASSWORD}:12/more@127.0.0.1:{{port}}/0", ""),
    ],
)
def test_an_unreachable_redis_is_one_line_without_the_password(
    status: Callable[..., Result], url: str, why: str
) -> None:
    url = url.format(port=free_port())
    result = status(url)
    assert (result.exit_code, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("wallie.store.url: redis")
    assert why in line
    assert PASSWORD not in line
    result = status(url, "--json")
    assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)
    report = json.loads(result.stdout)
    assert (report["store"]["scope"], report["store"]["state"]) == ("redis", "down")
    assert PASSWORD not in result.stdout


def test_a_wrong_password_is_reported_and_not_shown(server: RedisServer, status: Callable[..., Result]) -> None:
    result = status(server.url.replace(PASSWORD, "letmein"))
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert "WRONGPASS" in line or "invalid username-password" in line.lower()
    assert "letmein" not in line


def test_a_redis_that_hangs_is_not_waited_for_longer_than_two_seconds(
    server: RedisServer, status: Callable[..., Result], turns: Turns
) -> None:
    with SlowLink(server, silent=True) as link:
        began = turns.now()
        result = status(link.url)
        assert turns.now() - began < 3.5
    assert result.exit_code == 1
    assert "no answer within 2 s" in result.stderr


def test_a_wrong_configuration_is_refused_as_elsewhere(status: Callable[..., Result]) -> None:
    result = status("memory", breaker={"failures": 0})
    assert result.exit_code == 2
    assert "wallie.breaker.failures" in result.stderr
