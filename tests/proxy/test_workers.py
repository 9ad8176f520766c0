"""A proxy of several worker processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any

import pytest
from ports import free_port
from proxy_support import RecordedLedger, executable, launch, lay_out
from redis_support import RedisServer
from support import shipped_config

from wallie_litellm.config import WallieConfig
from wallie_litellm.proxy.launch import proxy_command
from wallie_litellm.proxy.workers import NOTED, divided, worker_count

PER_PROCESS = "limits are per process"


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


def test_a_worker_that_litellm_started_divides_the_limits_and_logs_the_note(tmp_path):
    path = lay_out(tmp_path, shipped_config())
    code = (
        f"from wallie_litellm.proxy import install; print(install({str(path)!r}).guard.status()['store']['processes'])"
    )
    environment = {name: value for name, value in os.environ.items() if name != "WALLIE_CONFIG"}
    worker = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        cwd=tmp_path,
        env={**environment, "NUM_WORKERS": "4"},
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert worker.stdout.split()[-1] == "4"
    assert worker.stderr.count(PER_PROCESS) == 1


@pytest.mark.parametrize("shared", [False, True], ids=["each its half", "through Redis"])
def test_two_workers_together_admit_no_more_than_the_limit(tmp_path, fleet, shared):
    with RedisServer() if shared else nullcontext() as server:
        two_workers_together_admit_no_more_than_the_limit(tmp_path, fleet, server)


def two_workers_together_admit_no_more_than_the_limit(tmp_path, fleet, server):
    config = shipped_config()
    config["model_list"] = fleet.point(config["model_list"])
    config["router_settings"]["fallbacks"] = []
    ledger = RecordedLedger(tmp_path / "wallie.db")
    config["wallie"] |= {
        "providers": {"openai": {"rpm": 2, "burst": {"rpm": 20}}},  # a minute brings each worker one more
        "admission": {"max_wait": "1ms"},
        "ledger": {"url": ledger.url},
        "store": {"url": server.url if server else "memory"},
    }
    path, port = lay_out(tmp_path, config), free_port()
    command = [executable("wallie-litellm"), "proxy", "--config", str(path), "--port", str(port), "--num_workers", "2"]
    proxy = launch(command, tmp_path, port)
    started = time.monotonic()
    try:
        with ThreadPoolExecutor(8) as clients:
            while len({row["worker"] for row in ledger.select("wallie_attempts")}) < 2:
                assert time.monotonic() - started < 40, "only one worker serves"
                list(clients.map(lambda _: proxy.chat("claude-sonnet-4"), range(8)))  # of another provider's limits
            answers = list(clients.map(lambda _: proxy.chat("gpt-4o-mini"), range(60)))
    finally:
        proxy.stop()
    refilled = 2 * int(1 + (time.monotonic() - started) / 60)
    assert {answer.status for answer in answers} <= {200, 429}
    assert 10 < fleet["openai"].counts().received <= 20 + refilled
    assert proxy.log.read_text().count(PER_PROCESS) == (0 if server else 1), "who starts the workers says it, once"
