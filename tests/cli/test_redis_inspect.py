"""What ``inspect`` reads in Redis, and that reading changes nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from click.testing import Result
from redis_support import RedisServer
from status_support import MODELS, exchange, report_of

from wallie_litellm.core.provider_names import key_digest
from wallie_litellm.limiter.redis.layout import PAUSED_MODELS, TROUBLED_MODELS, WORKERS, key_of


def test_a_worker_not_seen_for_a_minute_is_left_out(server: RedisServer, read: Callable[..., dict[str, Any]]) -> None:
    now = time.time()
    with server.client() as client:
        for name, age in (("old", 61), ("young", 50)):
            client.hset(WORKERS, name, json.dumps({"pid": 1, "host": "h", "since": now - 100, "seen": now - age}))
        client.hset(WORKERS, "broken", "no JSON")
    assert [worker["name"] for worker in read()["workers"]] == ["young"]


def test_a_worker_with_a_wrong_clock_is_dated_by_the_clock_of_redis(
    server: RedisServer, read: Callable[..., dict[str, Any]]
) -> None:
    now = time.time()
    with server.client() as client:
        client.hset(WORKERS, "w", json.dumps({"pid": 7, "host": "h", "since": now - 900, "seen": now - 900}))
    exchange(server, "openai", now - 2)
    (worker,) = read()["workers"]
    assert (worker["name"], worker["pid"]) == ("w", 7)
    assert 1.9 < worker["last_seen_ago"] < 10


def test_an_open_breaker_has_its_reason_and_its_next_probe(
    server: RedisServer, read: Callable[..., dict[str, Any]]
) -> None:
    now = time.time()
    exchange(server, "openai", now - 6)
    exchange(server, "openai", now - 5, reports=[report_of(outcomes=[[0, "failure", 0, "timeout", 1]], pause=30.0)])
    openai = read()["providers"]["openai"]
    assert (openai["breaker"]["state"], openai["breaker"]["reason"]) == ("open", "timeout")
    assert 5 < openai["breaker"]["next_probe_in"] < 15.1
    assert 15 < openai["paused_for"] < 25.1


def test_the_holder_of_the_probe_is_shown_until_it_releases_it(
    server: RedisServer, read: Callable[..., dict[str, Any]], status: Callable[..., Result]
) -> None:
    now = time.time()
    for name, opened in (("openai", now - 25), ("spare", now - 100)):
        exchange(server, name, opened - 1)
        exchange(server, name, opened, reports=[report_of(outcomes=[[0, "failure", 0, "timeout", 1]])])
        assert exchange(server, name, opened + 21, probe=True)["breaker"]["permit"] == 1
    providers = read()["providers"]
    held = {"state": "half_open", "reason": "timeout", "next_probe_in": None, "probe_held_by": ["w"]}
    assert providers["openai"]["breaker"] == held
    assert providers["spare"]["breaker"] == {**held, "probe_held_by": []}
    assert "openai: half_open: timeout; probe held by #1" in status(server.url).stdout


def test_what_is_left_refills_and_an_expired_lease_is_not_left(
    server: RedisServer, read: Callable[..., dict[str, Any]]
) -> None:
    now = time.time()
    exchange(server, "openai", now - 10)
    report = report_of(charge={"rpm": 40, "rpd": 40}, recent=[["rpm", 39, now - 15], ["rpm", 7, now - 61]])
    exchange(server, "openai", now - 10, needs=[["", {"rpm": 4, "rpd": 4}]], reports=[report])
    openai = read()["providers"]["openai"]
    assert openai["leases"] == {}
    assert (openai["quota"]["rpm"]["used"], openai["quota"]["rpm"]["utilization"]) == (39, 0.65)
    assert 26 <= openai["quota"]["rpm"]["left"] < 35  # 60 - 40, ten seconds' refill, and less the lease of 4
    assert openai["quota"]["rpd"]["used"] == 44
    assert openai["quota"]["tpm"]["used"] == 0

    exchange(server, "spare", now, needs=[["", {"rpm": 4}]])
    spare = read()["providers"]["spare"]
    assert spare["leases"] == {"w": {"rpm": 4}}
    assert (spare["quota"]["rpm"]["used"], spare["quota"]["rpm"]["leased"]) == (0, 4)
    assert spare["quota"]["rpm"]["left"] == 60


def test_models_with_limits_of_their_own_are_shown_with_the_limits_in_force(
    server: RedisServer, read: Callable[..., dict[str, Any]], status: Callable[..., Result]
) -> None:
    now = time.time()
    models = {"gpt-4o*": {"rpm": 30, "concurrency": 3}, "o3": {"tpd": 500}}
    sections = {"providers": {"openai": {"rpm": 60, "models": models}}}
    limits = {"rate_limits": {"rpm": [60, 60], "rpm@gpt-4o*": [30, 30]}, "daily_limits": {"tpd@o3": [500, now + 900]}}
    exchange(server, "openai", now, **limits)
    used = report_of(charge={"rpm@gpt-4o*": 8, "tpd@o3": 120}, recent=[["rpm@gpt-4o*", 8, now]])
    in_force = {"rpm@gpt-4o*": [now, 20, 20.0, 20.0]}
    slots = {"concurrency@gpt-4o*": [3, 1, 2]}
    needs = [["gpt-4o*", {"rpm": 1, "rpm@gpt-4o*": 2}]]
    exchange(server, "openai", now, **limits, reports=[used], limits=in_force, slots=slots, needs=needs)
    found = read(**sections)["providers"]["openai"]
    rpm, tpd = found["models"]["gpt-4o*"]["quota"]["rpm"], found["models"]["o3"]["quota"]["tpd"]
    assert (rpm["used"], rpm["limit"], rpm["utilization"], rpm["leased"]) == (8, 20, 0.4, 2)
    assert (tpd["used"], tpd["limit"], tpd["left"]) == (120, 500, 380)
    assert found["models"]["gpt-4o*"]["quota"]["concurrency"]["leased"] == 2
    assert found["quota"]["rpm"]["leased"] == 1
    lines = [line.split() for line in status(server.url, **sections).stdout.splitlines()]
    shown = next(line for line in lines if line[:2] == ["rpm", "gpt-4o*"])
    assert [*shown[2:6], shown[7], *shown[-2:]] == ["8", "/", "20", "40", "2", "#1", "2"]


def test_a_day_that_is_over_begins_anew(server: RedisServer, read: Callable[..., dict[str, Any]]) -> None:
    now = time.time()
    used = report_of(charge={"rpd": 40})
    exchange(server, "openai", now - 50, daily_limits={"rpd": [100, now - 5]})
    exchange(server, "openai", now - 50, daily_limits={"rpd": [100, now - 5]}, reports=[used])
    found = read()["providers"]["openai"]["quota"]["rpd"]
    assert found["used"] == 0
    assert 0 < datetime.fromisoformat(found["reset_at"]).timestamp() - now <= 86_400


def test_reading_changes_nothing(server: RedisServer, status: Callable[..., Result]) -> None:
    now = time.time()
    exchange(server, "openai", now - 10)
    exchange(server, "openai", now - 10, needs=[["", {"rpm": 4}]], reports=[report_of(charge={"rpm": 40})])
    with server.client() as client:
        keys, state, left = sorted(client.keys()), client.get(key_of("openai")), client.ttl(key_of("openai"))
        status(server.url)
        status(server.url, "--json")
        assert sorted(client.keys()) == keys
        assert client.get(key_of("openai")) == state
        assert client.ttl(key_of("openai")) <= left


def test_keys_that_are_kept_away_are_shown_by_their_accounts_and_removed_ones_are_not(
    server: RedisServer, read: Callable[..., dict[str, Any]], status: Callable[..., Result]
) -> None:
    keys = ["sk-refused-0123456789", "sk-paused-0123456789", "sk-well-0123456789"]
    models = [{"model_name": "gpt", "litellm_params": {"model": "openai/gpt-4o", "api_key": key}} for key in keys]
    refused, paused, well = (f"openai#{key_digest('openai', {'api_key': key}, {})}" for key in keys)
    now = time.time()
    for account in (refused, paused, well):
        exchange(server, account, now - 2, rate_limits={}, daily_limits={})
    failure = report_of(outcomes=[[0, "failure", 0, "HTTP 401", 1]])
    exchange(server, refused, now - 1, rate_limits={}, daily_limits={}, reports=[failure])
    exchange(server, paused, now - 1, rate_limits={}, daily_limits={}, reports=[report_of(pause=30.0)])
    with server.client() as client:
        for scope, until in ((f"{well}|gpt-4o", now + 30), (f"{well}|o3", now - 1), ("openai|o3", now + 30)):
            client.hset(PAUSED_MODELS, scope, until)
    openai = read(models=models)["providers"]["openai"]
    assert set(openai["models"]) == {"o3"}
    assert set(openai["accounts"][well.removeprefix("openai#")]["models"]) == {"gpt-4o"}
    found = {name: (own["breaker"]["state"], own["paused_for"] > 0) for name, own in openai["accounts"].items()}
    states = {refused: ("open", False), paused: ("closed", True), well: ("closed", False)}
    assert found == {name.removeprefix("openai#"): state for name, state in states.items()}
    shown = status(server.url, models=models).stdout
    assert f"{refused}: open: HTTP 401; next probe in" in shown
    assert f"{paused}: paused for" in shown
    assert f"{well}: gpt-4o paused for" in shown
    assert "openai: o3 paused for" in shown
    assert not any(key in shown for key in keys)
    assert refused not in status(server.url, models=models[1:]).stdout
    assert "accounts" not in read(models=models[2:])["providers"]["openai"]


def test_breakers_of_models_that_are_not_closed_are_shown_with_their_owners(
    server: RedisServer, read: Callable[..., dict[str, Any]], status: Callable[..., Result]
) -> None:
    keys = ["sk-first-0123456789", "sk-second-0123456789"]
    models = [{"model_name": "gpt", "litellm_params": {"model": "openai/gpt-4o", "api_key": key}} for key in keys]
    account = f"openai#{key_digest('openai', {'api_key': keys[0]}, {})}"
    now, none = time.time(), {"rate_limits": {}, "daily_limits": {}}
    failure = report_of(outcomes=[[0, "failure", 0, "HTTP 503", 1]])
    opened = {"openai|gpt-4o": now - 5, f"{account}|gpt-4o": now - 25, "openai|o3": now - 25}
    for scope, at in opened.items():
        exchange(server, scope, at - 1, **none)
        exchange(server, scope, at, **none, reports=[failure])
    assert exchange(server, f"{account}|gpt-4o", now - 4, **none, probe=True)["breaker"]["permit"] == 1
    exchange(server, "openai|o4", now - 5, **none)
    with server.client() as client:
        client.sadd(TROUBLED_MODELS, *opened, "openai|o4", "openai|gone", "elsewhere|gpt-4o")
    sections = {"providers": {"openai": {"rpm": 60, "models": {"o3": {"rpm": 5}}}}, "models": models}
    report = read(**sections)
    openai = report["providers"]["openai"]
    assert set(openai["models"]) == {"gpt-4o", "o3"}
    breaker = openai["models"]["gpt-4o"]["breaker"]
    assert (breaker["state"], breaker["reason"], 5 < breaker["next_probe_in"] < 15.1) == ("open", "HTTP 503", True)
    assert set(openai["models"]["o3"]) == {"quota", "paused_for", "breaker"}
    of_account = openai["accounts"][account.removeprefix("openai#")]["models"]["gpt-4o"]
    assert (of_account["breaker"]["state"], of_account["breaker"]["probe_held_by"]) == ("half_open", ["w"])
    assert [worker["name"] for worker in report["workers"]] == ["w"]
    lines = status(server.url, **sections).stdout.splitlines()
    [line] = [line for line in lines if line.startswith("openai: ")]
    assert "o3 open: HTTP 503, the next request is a probe; gpt-4o open: HTTP 503, next probe in" in line
    assert f"{account}: gpt-4o half_open: HTTP 503, probe held by #1" in lines


def test_a_provider_that_only_a_model_names_is_shown_and_one_that_nothing_names_once_redis_has_it(
    server: RedisServer, read: Callable[..., dict[str, Any]]
) -> None:
    models = [{**MODELS[0], "model_info": {"wallie_provider": "openai-eu"}}]
    before = read(models=models)["providers"]
    assert set(before) == {"openai", "openai-eu", "spare"}
    assert before["openai-eu"]["breaker"]["state"] is None
    exchange(server, "groq", time.time())
    assert set(read(models=models)["providers"]) == {"groq", *before}
    exchange(server, "openai-eu", time.time(), rate_limits={}, daily_limits={})
    found = read(models=models)["providers"]["openai-eu"]
    assert (found["breaker"]["state"], found["quota"]) == ("closed", {})
