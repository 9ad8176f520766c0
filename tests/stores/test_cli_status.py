"""`wallie-litellm status` tells what Redis has, to people and to programs, and changes nothing."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from redis_support import RedisServer, SlowLink, free_port
from support import until

from wallie_litellm.cli import main
from wallie_litellm.config import WallieConfig
from wallie_litellm.guard import Guard
from wallie_litellm.stores.redis import NEWS, SCRIPT, WORKERS, key_of

PASSWORD = "hunter2"
SECTIONS: dict[str, Any] = {
    "providers": {"openai": {"rpm": 60, "tpm": 6000, "rpd": 100, "concurrency": 5}, "spare": {"rpm": 10}},
    "features": {"chat": {"limits": {"rpm": 30}}, "unlimited": {"priority": 1}},
    "breaker": {"failures": 1, "open_for": 20},
    "ledger": None,
}
MODELS = [{"model_name": "gpt", "litellm_params": {"model": "openai/gpt-4o", "api_key": "fake"}}]


@pytest.fixture(scope="module")
def running() -> Iterator[RedisServer]:
    with RedisServer(password=PASSWORD) as server:
        yield server


@pytest.fixture
def server(running: RedisServer) -> RedisServer:
    running.flush()
    return running


@pytest.fixture
async def join(server: RedisServer) -> AsyncIterator[Callable[[], Guard]]:
    guards: list[Guard] = []

    def start() -> Guard:
        guards.append(Guard(WallieConfig(**SECTIONS, store={"url": server.url})))
        return guards[-1]

    yield start
    for guard in guards:
        await guard.aclose()


@pytest.fixture
def status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    for name in ("WALLIE_CONFIG", "WALLIE_REDIS_URL", "WALLIE_DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    file = tmp_path / "router_config.yaml"

    def run(url: str, *options: str, **more: Any) -> Result:
        file.write_text(yaml.safe_dump({"model_list": MODELS, "wallie": {**SECTIONS, "store": {"url": url}, **more}}))
        # In a thread of its own: the command brings its own event loop, and a test has one too.
        results: list[Result] = []
        thread = threading.Thread(
            target=lambda: results.append(CliRunner().invoke(main, ["status", "--config", str(file), *options]))
        )
        thread.start()
        thread.join()
        return results[0]

    return run


@pytest.fixture
def read(server: RedisServer, status: Callable[..., Result]) -> Callable[[], dict[str, Any]]:
    def report() -> dict[str, Any]:
        result = status(server.url, "--json")
        assert result.exit_code == 0, result.output
        found: dict[str, Any] = json.loads(result.stdout)
        return found

    return report


def exchange(server: RedisServer, name: str, at: float, **more: Any) -> dict[str, Any]:
    """A word of worker ``w`` to Redis, as if it were ``at``."""
    request = {
        "worker": "w",
        "ack": 0,
        "ttl": 3.0,
        "buckets": {"rpm": [60.0, 60.0], "tpm": [6000.0, 6000.0]},
        "days": {"rpd": [100, at + 1000]},
        "rules": SECTIONS["breaker"]
        | {"error_rate": None, "window": 60.0, "min_calls": 20, "max_open_for": 300.0, "probes": 1},
        "reports": [],
        "patience": 30.0,
        "queued": {},
        "live": 0,
        "places": 0,
        "probe": False,
        "seed": {"used": {}, "pause": 0.0, "breaker": {"state": "closed", "reopens_in": 0.0, "open_for": 20.0}},
        **more,
    }
    with server.client() as client:
        reply = client.eval(SCRIPT, 1, key_of(name), json.dumps(request), NEWS, name, 1000, repr(at))
    answer: dict[str, Any] = json.loads(reply)
    return answer


def report_of(**more: Any) -> dict[str, Any]:
    nothing = {"seq": 1, "lease": 0, "spent": {}, "back": {}, "charge": {}, "refunds": [], "outcomes": [], "orders": []}
    return {**nothing, "pause": 0.0, "reset": False, **more}


async def test_two_workers_and_what_they_have_taken_are_seen(
    join: Callable[[], Guard], read: Callable[[], dict[str, Any]]
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
    for dimension, least in (("rpm", 2), ("tpm", 200), ("rpd", 2)):
        found = openai["quota"][dimension]
        assert found["used"] + found["lent"] >= least, (dimension, found)
        assert found["lent"] == sum(loan.get(dimension, 0) for loan in openai["loans"].values())
        assert found["limit"] == SECTIONS["providers"]["openai"][dimension]
        assert datetime.fromisoformat(found["reset_at"]).timestamp() > time.time() - 60
    assert set(openai["loans"]) <= names
    assert set(openai["places"]) == names
    lent = sum(openai["places"].values())
    assert openai["quota"]["concurrency"] == {"used": None, "limit": 5, "lent": lent, "reset_at": None}
    assert set(report["features"]) == {"chat"}
    assert report["features"]["chat"]["quota"]["rpm"]["limit"] == 30
    for lease in leases:
        lease.settle()


async def test_a_circuit_that_an_operator_opened_is_seen(
    join: Callable[[], Guard], read: Callable[[], dict[str, Any]], status: Callable[..., Result], server: RedisServer
) -> None:
    join().open_circuit("openai")
    await until(lambda: read()["providers"]["openai"]["breaker"]["state"] == "forced_open")
    assert read()["providers"]["openai"]["breaker"]["reason"] == "forced open by the operator"
    assert "openai: forced_open: forced open by the operator" in status(server.url).stdout


async def test_who_has_left_is_not_listed(join: Callable[[], Guard], read: Callable[[], dict[str, Any]]) -> None:
    leaving, staying = join(), join()
    await until(lambda: len(read()["workers"]) == 2)
    await leaving.aclose()
    names = [worker["name"] for worker in read()["workers"]]
    assert staying.status()["store"]["worker"] in names
    loans = read()["providers"]["openai"]["loans"]
    assert leaving.status()["store"]["worker"] not in loans


def test_a_worker_not_seen_for_a_minute_is_left_out(server: RedisServer, read: Callable[[], dict[str, Any]]) -> None:
    now = time.time()
    with server.client() as client:
        for name, age in (("old", 61), ("young", 50)):
            client.hset(WORKERS, name, json.dumps({"pid": 1, "host": "h", "since": now - 100, "seen": now - age}))
        client.hset(WORKERS, "broken", "no JSON")
    assert [worker["name"] for worker in read()["workers"]] == ["young"]


def test_a_worker_whose_clock_is_wrong_is_seen_by_the_clock_of_redis(
    server: RedisServer, read: Callable[[], dict[str, Any]]
) -> None:
    now = time.time()
    with server.client() as client:
        client.hset(WORKERS, "w", json.dumps({"pid": 7, "host": "h", "since": now - 900, "seen": now - 900}))
    exchange(server, "openai", now - 2)
    (worker,) = read()["workers"]
    assert (worker["name"], worker["pid"]) == ("w", 7)
    assert 1.9 < worker["last_seen_ago"] < 10


def test_an_open_breaker_says_why_and_until_when(server: RedisServer, read: Callable[[], dict[str, Any]]) -> None:
    now = time.time()
    exchange(server, "openai", now - 6)
    exchange(server, "openai", now - 5, reports=[report_of(outcomes=[[1, "failure", 0, "timeout", 1]], pause=30.0)])
    openai = read()["providers"]["openai"]
    assert (openai["breaker"]["state"], openai["breaker"]["reason"]) == ("open", "timeout")
    assert 5 < openai["breaker"]["next_probe_in"] < 15.1
    assert 15 < openai["paused_for"] < 25.1


def test_who_holds_the_probe_is_told_until_it_is_given_up(
    server: RedisServer, read: Callable[[], dict[str, Any]], status: Callable[..., Result]
) -> None:
    now = time.time()
    for name, opened in (("openai", now - 25), ("spare", now - 100)):
        exchange(server, name, opened - 1)
        exchange(server, name, opened, reports=[report_of(outcomes=[[1, "failure", 0, "timeout", 1]])])
        assert exchange(server, name, opened + 21, probe=True)["breaker"]["probe"] == 1
    providers = read()["providers"]
    held = {"state": "half_open", "reason": "timeout", "next_probe_in": None, "probe_held_by": ["w"]}
    assert providers["openai"]["breaker"] == held
    assert providers["spare"]["breaker"] == {**held, "probe_held_by": []}
    assert "openai: half_open: timeout; probe held by #1" in status(server.url).stdout


def test_what_is_used_flows_back_and_a_loan_whose_time_is_up_counts_as_used(
    server: RedisServer, read: Callable[[], dict[str, Any]]
) -> None:
    now = time.time()
    exchange(server, "openai", now - 10)
    exchange(server, "openai", now - 10, need={"rpm": 4, "rpd": 4}, reports=[report_of(charge={"rpm": 40, "rpd": 40})])
    openai = read()["providers"]["openai"]
    assert openai["loans"] == {}
    assert 25 < openai["quota"]["rpm"]["used"] <= 34  # 40 less ten seconds, and the loan of 4
    assert openai["quota"]["rpd"]["used"] == 44
    assert openai["quota"]["tpm"]["used"] == 0

    exchange(server, "spare", now, need={"rpm": 4})
    spare = read()["providers"]["spare"]
    assert spare["loans"] == {"w": {"rpm": 4}}
    assert (spare["quota"]["rpm"]["used"], spare["quota"]["rpm"]["lent"]) == (0, 4)


def test_a_day_that_is_over_begins_anew(server: RedisServer, read: Callable[[], dict[str, Any]]) -> None:
    now = time.time()
    used = report_of(charge={"rpd": 40})
    exchange(server, "openai", now - 50, days={"rpd": [100, now - 5]})
    exchange(server, "openai", now - 50, days={"rpd": [100, now - 5]}, reports=[used])
    found = read()["providers"]["openai"]["quota"]["rpd"]
    assert found["used"] == 0
    assert 0 < datetime.fromisoformat(found["reset_at"]).timestamp() - now <= 86_400


def test_reading_changes_nothing(server: RedisServer, status: Callable[..., Result]) -> None:
    now = time.time()
    exchange(server, "openai", now - 10)
    exchange(server, "openai", now - 10, need={"rpm": 4}, reports=[report_of(charge={"rpm": 40})])
    with server.client() as client:
        keys, state, left = sorted(client.keys()), client.get(key_of("openai")), client.ttl(key_of("openai"))
        status(server.url)
        status(server.url, "--json")
        assert sorted(client.keys()) == keys
        assert client.get(key_of("openai")) == state
        assert client.ttl(key_of("openai")) <= left


def test_an_empty_redis_has_no_workers_and_no_states(server: RedisServer, status: Callable[..., Result]) -> None:
    result = status(server.url)
    assert result.exit_code == 0
    assert "no worker in the last minute" in result.stdout
    assert "nothing in Redis" in result.stdout
    report = json.loads(status(server.url, "--json").stdout)
    assert report["workers"] == []
    assert report["providers"]["openai"]["breaker"]["state"] is None
    assert report["providers"]["openai"]["quota"]["rpd"]["used"] == 0


def test_people_are_shown_one_line_a_limit_and_no_password(server: RedisServer, status: Callable[..., Result]) -> None:
    now = time.time()
    with server.client() as client:
        client.hset(WORKERS, "w", json.dumps({"pid": 7, "host": "box", "since": now - 90, "seen": now}))
    exchange(server, "openai", now)
    exchange(server, "openai", now, need={"rpm": 4}, reports=[report_of(charge={"rpm": 40})], slots=5, live=2, places=3)
    shown = status(server.url).stdout
    assert PASSWORD not in shown
    lines = [line.split() for line in shown.splitlines()]
    assert ["#1", "w", "7", "box"] in [line[:4] for line in lines]
    rpm = next(line for line in lines if line[:3] == ["openai", "closed", "rpm"])
    assert rpm[4:7] == ["/", "60", "4"]
    assert rpm[-2:] == ["#1", "4"]
    assert ["concurrency", "-", "/", "5", "3", "-", "#1", "3"] in lines
    assert ["feature:chat", "nothing", "in", "Redis", "rpm"] in [line[:5] for line in lines]


def test_a_provider_that_only_a_model_names_is_shown_once_redis_knows_it(
    server: RedisServer, read: Callable[[], dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    named = {**MODELS[0], "model_info": {"wallie_provider": "openai-eu"}}
    monkeypatch.setattr(f"{__name__}.MODELS", [named])
    assert "openai-eu" not in read()["providers"]
    exchange(server, "openai-eu", time.time(), buckets={}, days={})
    assert read()["providers"]["openai-eu"]["breaker"]["state"] == "closed"
    assert read()["providers"]["openai-eu"]["quota"] == {}


def test_without_redis_one_line_says_that_limits_are_per_process(status: Callable[..., Result]) -> None:
    result = status("memory")
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == 1
    assert "per process" in result.stdout
    assert "WALLIE_REDIS_URL" in result.stdout
    result = status("memory", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["store"] == {"scope": "process", "state": "ok", "error": None}


@pytest.mark.parametrize(
    ("url", "why"),
    [
        (f"redis://:{PASSWORD}@127.0.0.1:{{port}}/0", "Connection refused"),
        (f"redis+sentinel://:{PASSWORD}@127.0.0.1:{{port}}/mymaster", "MasterNotFoundError"),
        (f"redis+cluster://:{PASSWORD}@127.0.0.1:{{port}}", ""),
        (f"redis://:{PASSWORD}/more@127.0.0.1:{{port}}/0", "the URL cannot be read"),
        (f"redis://{PASSWORD}:12/more@127.0.0.1:{{port}}/0", ""),
    ],
)
def test_redis_away_is_one_line_without_the_password(status: Callable[..., Result], url: str, why: str) -> None:
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


def test_a_wrong_password_is_told_and_not_shown(server: RedisServer, status: Callable[..., Result]) -> None:
    result = status(server.url.replace(PASSWORD, "letmein"))
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert "WRONGPASS" in line or "invalid username-password" in line.lower()
    assert "letmein" not in line


def test_a_redis_that_hangs_is_not_waited_for_longer_than_two_seconds(
    server: RedisServer, status: Callable[..., Result]
) -> None:
    with SlowLink(server, silent=True) as link:
        began = time.monotonic()
        result = status(link.url)
        assert time.monotonic() - began < 3.5
    assert result.exit_code == 1
    assert "no answer within 2 s" in result.stderr


def test_a_wrong_configuration_is_refused_as_elsewhere(status: Callable[..., Result]) -> None:
    result = status("memory", breaker={"failures": 0})
    assert result.exit_code == 2
    assert "wallie.breaker.failures" in result.stderr
