"""A proxy of several worker processes."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from ports import free_port
from proxy_support import RecordedLedger, environment, executable, fork_proxy, launch, lay_out
from redis_support import RedisServer
from support import shipped_config

from wallie_litellm.config import WallieConfig
from wallie_litellm.proxy.launch import proxy_command
from wallie_litellm.proxy.workers import NOTED, divided, worker_count

PER_PROCESS = "limits are per process"
SERVING = 120  # seconds that both workers may take, on a busy machine
TWO = ("--num_workers", "2")


@pytest.mark.parametrize(
    ("environment", "arguments", "count"),
    [
        ({}, [], 1),
        ({"NUM_WORKERS": "4"}, [], 4),
        ({"NUM_WORKERS": "1", "DEFAULT_NUM_WORKERS_LITELLM_PROXY": "3"}, [], 1),
        ({"DEFAULT_NUM_WORKERS_LITELLM_PROXY": "3"}, [], 3),
        ({"NUM_WORKERS": "4"}, ["--debug", "--num_workers", "2"], 2),
        ({}, ["--num_workers=2", "--debug"], 2),
        ({}, ["--num_workers", "2", "--num_workers", "3"], 3),
        ({}, ["--num_workers"], 1),
        *(({"NUM_WORKERS": bad}, [], 1) for bad in ("", "0", "-2", "many", "1.5")),
    ],
)
def test_the_number_of_workers_is_the_one_that_litellm_takes(environment, arguments, count):
    assert worker_count(environment, arguments) == count


def note_of(processes: int, **wallie: Any) -> str | None:
    return divided(WallieConfig.model_validate(wallie), processes)


def test_the_note_says_what_happens_to_limits_and_what_shares_them():
    note = note_of(4)
    assert note is not None
    assert all(part in note for part in (PER_PROCESS, "1/4", "WALLIE_REDIS_URL"))
    assert "too small" not in note.lower()


def test_the_note_names_limits_that_are_too_small_to_divide():
    limits = {"openai": {"rpm": 4, "concurrency": 3}}
    note = note_of(4, providers=limits, features={"chat": {"limits": {"rpd": 2}}})
    assert note is not None
    assert note.endswith(": openai's concurrency, feature chat's rpd")


def test_one_worker_and_a_store_that_is_shared_need_no_note():
    assert note_of(1) is None
    assert note_of(4, store={"url": "redis://localhost"}) is None


@pytest.mark.parametrize(("arguments", "noted"), [(["--num_workers", "2"], 1), ([], 0)])
def test_the_parent_of_workers_prints_the_note_in_their_place(tmp_path, arguments, noted):
    path = lay_out(tmp_path, shipped_config())
    _, environment, notes = proxy_command(str(path), "127.0.0.1", 4000, arguments, {"LITELLM_MASTER_KEY": "k"})
    assert sum(PER_PROCESS in note for note in notes) == noted
    assert (NOTED in environment) == bool(noted)


def test_a_worker_that_litellm_started_divides_the_limits_and_logs_the_note(forks, tmp_path):
    path = lay_out(tmp_path, shipped_config())
    code = (
        "from wallie_litellm.proxy import install\n"
        f"print('processes', install({str(path)!r}).guard.status()['store']['processes'])"
    )
    assert forks.start(code, tmp_path, environment={**environment(), "NUM_WORKERS": "4"}).wait(90) == 0
    said = (tmp_path / "output.log").read_text()
    assert "processes 4\n" in said
    assert said.count(PER_PROCESS) == 1


def test_two_workers_together_admit_no_more_than_the_limit_by_each_keeping_to_its_half(tmp_path, fleet):
    path, ledger = two_workers(tmp_path, fleet, "memory")
    port = free_port()
    command = [executable("wallie-litellm"), "proxy", "--config", str(path), "--port", str(port), *TWO]
    said = admit_no_more_than_the_limit(launch(command, tmp_path, port), ledger, fleet)
    assert said.count(PER_PROCESS) == 1, "who starts the workers says it, once"


def test_two_workers_together_admit_no_more_than_the_limit_through_redis(forks, tmp_path, fleet):
    with RedisServer() as server:
        path, ledger = two_workers(tmp_path, fleet, server.url)
        said = admit_no_more_than_the_limit(fork_proxy(forks, path, *TWO), ledger, fleet)
    assert PER_PROCESS not in said


def two_workers(folder, fleet, store):
    config = shipped_config()
    config["model_list"] = fleet.point(config["model_list"])
    config["router_settings"]["fallbacks"] = []
    ledger = RecordedLedger(folder / "wallie.db")
    config["wallie"] |= {
        "providers": {"openai": {"rpm": 2, "burst": {"rpm": 20}}},  # a minute brings each worker one more
        "admission": {"max_wait": "1ms"},
        "ledger": {"url": ledger.url},
        # A worker that goes on alone, as one may that gets no answer in time, has a share of its own.
        "store": {"url": store, "on_store_error": "closed", "timeout": "5s"},
    }
    return lay_out(folder, config), ledger


def admit_no_more_than_the_limit(proxy, ledger, fleet):
    """What the proxy has printed."""
    started = time.monotonic()
    try:
        with ThreadPoolExecutor(8) as clients:
            while len({row["worker"] for row in ledger.select("wallie_attempts")}) < 2:
                assert time.monotonic() - started < SERVING, "only one worker serves"
                list(clients.map(lambda _: proxy.chat("claude-sonnet-4"), range(8)))  # of another provider's limits
            answers = list(clients.map(lambda _: proxy.chat("gpt-4o-mini"), range(60)))
            while fleet["openai"].counts().received <= 10:  # Redis had no processor for a moment
                assert time.monotonic() - started < SERVING, "few are admitted"
                answers += clients.map(lambda _: proxy.chat("gpt-4o-mini"), range(60))
    finally:
        proxy.stop()
    refilled = 2 * int(1 + (time.monotonic() - started) / 60)
    assert {answer.status for answer in answers} <= {200, 429}
    assert fleet["openai"].counts().received <= 20 + refilled
    return proxy.log.read_text()
