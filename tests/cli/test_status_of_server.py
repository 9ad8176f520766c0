"""`wallie-litellm status` of a running proxy, its figures of the last day, and `--watch`."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cli_support import STATUS, USAGE, Answer, StandIn, json_answer, problem, run
from click.testing import Result
from ledger_query_fixtures import ledger_file
from ledger_support import ended, settled
from redis_support import RedisServer
from status_support import SECTIONS, exchange, report_of

__all__ = ["ledger_file"]

MAIN = "from wallie_litellm.cli import main; main()"
USAGE_PATH = ("GET", "/wallie/api/usage")


def lines_of(result: Result) -> list[list[str]]:
    assert result.exit_code == 0, result.output
    return [line.split() for line in result.stdout.splitlines()]


def test_a_servers_status_is_shown_as_a_table(stand_in: StandIn) -> None:
    result = run("status", "--url", stand_in.url)
    lines = lines_of(result)
    assert result.stdout.startswith(f"{stand_in.url}/wallie: limits shared through Redis by 3 workers, ok\n")
    reset = ["-", "2026-11-26", "10:00:00"]
    assert ["openai", "down", "open", "2", "1", "rpm", "12", "/", "60", "20", "47", *reset] in lines
    assert ["concurrency", "2", "/", "5", "40", "3", "-", "-"] in lines
    assert ["spare", "healthy", "closed", "0", "0", "-"] in lines
    assert ["openai:", "open:", "timeout;", "next", "probe", "in", "7.2", "s;", "paused", "for", "3.0", "s"] in lines
    assert ["openai", "1,234", "56,789", "1.2500"] in lines
    assert ["spare", "2", "30", "-", "2", "unpriced"] in lines
    assert stand_in.asked[1].parameters == [("range", "24h"), ("by", "provider")]


def test_a_server_that_says_whether_callers_are_hurt_is_quoted_first(stand_in: StandIn) -> None:
    said = "openai down since 14:14 UTC; 30 requests in the last five minutes, none failed."
    stand_in.answers["GET", "/wallie/api/summary"] = json_answer({"sentence": said})
    result = run("status", "--url", stand_in.url)
    assert result.stdout.startswith(f"{said}\n{stand_in.url}/wallie: ")
    assert json.loads(run("status", "--json", "--url", stand_in.url).stdout)["summary"] == {"sentence": said}


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"changed": True, "refused": False}, "f.yaml has changed: `wallie-litellm reload` takes it up"),
        (
            {"changed": True, "refused": True},
            "f.yaml has changed, and cannot be used: what was loaded before is in force",
        ),
        ({"changed": False, "restart_needed": ["wallie.store.url"]}, "a restart is needed for wallie.store.url"),
    ],
)
def test_a_file_that_has_changed_is_remarked(stand_in: StandIn, config: dict[str, Any], said: str) -> None:
    stand_in.answers["GET", "/wallie/api/status"] = json_answer({**STATUS, "config": {"file": "f.yaml", **config}})
    assert said in run("status", "--url", stand_in.url).stdout.splitlines()


def test_budgets_are_a_table_of_their_own(stand_in: StandIn) -> None:
    row = {
        "feature": "chat", "user": None, "window": "day", "spent_usd": 20.3, "reserved_usd": 0.25, "limit_usd": 20.0,
        "over_usd": 0.3, "reset_at": "2026-11-29T00:00:00Z", "exhausts_at": None, "on_exhausted": "refuse",
        "state": "exhausted",
    }  # fmt: skip
    stand_in.answers["GET", "/wallie/api/status"] = json_answer({**STATUS, "budgets": [row]})
    lines = lines_of(run("status", "--url", stand_in.url))
    shown = "chat - day $20.30 / $20.00 $0.25 102 refuse (exhausted) 2026-11-29 00:00:00"
    assert shown in [" ".join(line) for line in lines]


def test_what_keeps_an_account_away_is_remarked_below_the_table_and_it_is_no_row_of_its_own(stand_in: StandIn) -> None:
    openai = STATUS["providers"]["openai"]
    breaker = {"state": "open", "reason": "HTTP 401", "consecutive_failures": 0, "next_probe_in": 7.2}
    away = {"health": "down", "breaker": breaker, "paused_for": 0.0, "in_flight": 0, "waiting": 0}
    away["models"] = {"gpt-4o": {"paused_for": 3.0, "waiting": 0}}
    providers = {**STATUS["providers"], "openai": {**openai, "accounts": {"1a2b3c4d": away}}}
    stand_in.answers["GET", "/wallie/api/status"] = json_answer({**STATUS, "providers": providers})
    lines = run("status", "--url", stand_in.url).stdout.splitlines()
    [line] = [line for line in lines if "1a2b3c4d" in line]
    assert line == "openai#1a2b3c4d: open: HTTP 401; next probe in 7.2 s; gpt-4o paused for 3.0 s"


def test_a_models_own_limits_are_rows_below_its_providers_and_its_trouble_a_remark(stand_in: StandIn) -> None:
    openai = STATUS["providers"]["openai"]
    quota = {"rpm": {**openai["quota"]["rpm"], "learned": 40}}
    down = {"state": "open", "reason": "timeout", "consecutive_failures": 0, "next_probe_in": 4.0}
    models = {
        "gpt-4o*": {"quota": quota, "paused_for": 0.0, "waiting": 3},
        "o3": {"health": "down", "breaker": down, "paused_for": 0.0, "waiting": 0},
    }
    own = {**openai, "models": models, "estimates": {"calls": 9, "ratio": 1.124, "mean_error": 0.3, "models": {}}}
    providers = {**STATUS["providers"], "openai": own}
    stand_in.answers["GET", "/wallie/api/status"] = json_answer({**STATUS, "providers": providers})
    result = run("status", "--url", stand_in.url)
    assert ["gpt-4o*", "3", "rpm", "12", "/", "60", "20", "47", "-", "2026-11-26", "10:00:00"] in lines_of(result)
    [line] = [line for line in result.stdout.splitlines() if line.startswith("openai: ")]
    assert line.endswith(
        "gpt-4o* rpm is 40 as the vendor says; o3 open: timeout, next probe in 4.0 s; "
        "calls reserve 1.12 times what they use"
    )


def test_estimates_far_above_what_is_used_are_said_as_what_is_reserved(stand_in: StandIn) -> None:
    estimates = {"calls": 9, "ratio": 19.08, "mean_error": 18.08, "p95_error": 30.0, "prompt": {"mean_error": 0.042}}
    own = {**STATUS["providers"]["openai"], "estimates": estimates}
    status = {**STATUS, "providers": {**STATUS["providers"], "openai": own}}
    stand_in.answers["GET", "/wallie/api/status"] = json_answer(status)
    [line] = [line for line in run("status", "--url", stand_in.url).stdout.splitlines() if line.startswith("openai: ")]
    assert "calls reserve 19 times what they use (max_tokens is far above their answers)" in line
    assert line.endswith("prompts off by 4 % on average")


def test_the_time_to_the_first_token_is_beside_the_cost(stand_in: StandIn) -> None:
    row = {**USAGE["totals"][0], "first_token_p50_ms": 280.0, "first_token_p95_ms": 1240.0}
    stand_in.answers[USAGE_PATH] = json_answer({**USAGE, "totals": [row]})
    lines = lines_of(run("status", "--url", stand_in.url))
    assert ["openai", "1,234", "56,789", "1.2500", "0.28", "s,", "1.24", "s"] in lines


def test_an_open_breaker_whose_time_is_over_says_that_the_next_request_is_a_probe(stand_in: StandIn) -> None:
    openai = STATUS["providers"]["openai"]
    due = {**openai, "breaker": {**openai["breaker"], "next_probe_in": 0.0}, "paused_for": 0.0}
    providers = {**STATUS["providers"], "openai": due}
    stand_in.answers["GET", "/wallie/api/status"] = json_answer({**STATUS, "providers": providers})
    lines = run("status", "--url", stand_in.url).stdout.splitlines()
    assert "openai: open: timeout; the next request is a probe" in lines


def test_json_is_the_servers_own_status(stand_in: StandIn) -> None:
    result = run("status", "--url", f"{stand_in.url}/wallie/", "--json")
    assert json.loads(result.stdout) == {**STATUS, "usage": USAGE}
    assert result.stderr == ""


def test_a_missing_ledger_is_reported_and_the_rest_is_shown(stand_in: StandIn) -> None:
    stand_in.answers[USAGE_PATH] = problem(503, "wallie_no_ledger", "there is no ledger")
    result = run("status", "--url", stand_in.url, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {**STATUS, "usage": None}
    assert "there is no ledger" in result.stderr
    assert "openai" in run("status", "--url", stand_in.url).stdout


@pytest.mark.parametrize(
    ("store", "said"),
    [
        ({"scope": "process", "state": "ok", "processes": 1}, "limits of this process"),
        ({"scope": "process", "state": "ok", "processes": 4}, "limits of one of 4 processes"),
        ({"scope": "redis", "state": "down", "error": "gone", "workers": 1}, "by 1 worker, down: gone"),
        ({"scope": "ledger", "state": "ok", "error": None}, "limits as the ledger's records add up, ok"),
    ],
)
def test_the_first_line_names_the_scope_of_the_limits(stand_in: StandIn, store: dict[str, Any], said: str) -> None:
    stand_in.answers["GET", "/wallie/api/status"] = json_answer({**STATUS, "store": store})
    assert run("status", "--url", stand_in.url).stdout.splitlines()[0].endswith(said)


def test_names_cannot_move_the_cursor(stand_in: StandIn) -> None:
    evil = {"a\x1b[2J\nb": {**STATUS["providers"]["spare"], "health": "\x07"}}
    stand_in.answers["GET", "/wallie/api/status"] = json_answer({**STATUS, "providers": evil})
    shown = run("status", "--url", stand_in.url).stdout
    assert all(line.isprintable() for line in shown.splitlines())
    assert len(shown.splitlines()) == 8


def test_the_environment_may_name_the_server_and_config_beats_it(
    stand_in: StandIn, monkeypatch: pytest.MonkeyPatch, status: Callable[..., Result]
) -> None:
    monkeypatch.setenv("WALLIE_URL", stand_in.url)
    assert "through Redis by 3 workers" in run("status").stdout
    assert "per process" in status("memory").stdout
    result = status("memory", "--url", stand_in.url)
    assert result.exit_code == 2
    assert "not both" in result.stderr


# From the ledger


@pytest.fixture
def used(ledger_file: Callable[..., str]) -> str:
    at = time.time() - 60
    attempts = [settled(at=at), settled(at=at), settled(at=at, provider="spare", cost_usd=None, unpriced=True)]
    return ledger_file([*attempts, *(ended(one) for one in attempts), settled(at=at - 3 * 86_400)])


def test_the_ledgers_figures_of_the_last_day_are_shown(status: Callable[..., Result], used: str) -> None:
    result = status("memory", ledger={"url": used})
    lines = lines_of(result)
    assert ["openai", "2", "400", "0.0001"] in lines
    assert ["spare", "1", "200", "-", "1", "unpriced"] in lines
    usage = json.loads(status("memory", "--json", ledger={"url": used}).stdout)["usage"]
    assert (usage["range"], usage["by"]) == ("24h", "provider")
    (openai,) = (one for one in usage["totals"] if one["name"] == "openai")
    assert (openai["attempts"], openai["requests"], openai["total_tokens"]) == (2, 2, 400)
    assert openai["cost_usd"] == pytest.approx(0.000132)


def test_redis_and_the_ledger_are_shown_together(server: RedisServer, status: Callable[..., Result], used: str) -> None:
    shown = status(server.url, ledger={"url": used}).stdout
    assert "nothing in Redis" in shown
    assert "last 24h" in shown
    assert "rpd ends" not in shown


def test_limits_per_day_in_redis_have_the_ledgers_forecasts(
    server: RedisServer, status: Callable[..., Result], used: str, tmp_path: Path
) -> None:
    now, rpd = time.time(), SECTIONS["providers"]["openai"]["rpd"]
    exchange(server, "openai", now)
    exchange(server, "openai", now, reports=[report_of(charge={"rpd": rpd})])
    result = status(server.url, "--json", ledger={"url": used})
    quota = json.loads(result.stdout)["providers"]["openai"]["quota"]
    assert quota["rpd"]["forecast"] == "linear"
    assert quota["rpd"]["exhausts_at"] < quota["rpd"]["reset_at"]
    assert "exhausts_at" not in quota["rpm"]
    assert "openai: rpd ends " in status(server.url, ledger={"url": used}).stdout
    assert "run out is known at --url alone" in status(server.url, ledger=None).stdout
    (tmp_path / "broken.db").write_bytes(b"not a database" * 100)
    shown = status(server.url, ledger={"url": f"sqlite:///{tmp_path / 'broken.db'}"}).stdout
    assert "when limits run out is not known, as the ledger cannot be read" in shown


def test_a_ledger_that_is_not_there_yet_is_no_news(status: Callable[..., Result], tmp_path: Path) -> None:
    ledger = {"url": f"sqlite:///{tmp_path}/away.db"}
    result = status("memory", "--json", ledger=ledger)
    assert json.loads(result.stdout)["usage"] is None
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "away.db").exists()


def test_a_ledger_that_cannot_be_read_does_not_hide_the_rest(
    server: RedisServer, status: Callable[..., Result], tmp_path: Path
) -> None:
    (tmp_path / "broken.db").write_text("no database at all, and long enough to be looked at " * 20)
    result = status(server.url, ledger={"url": f"sqlite:///{tmp_path}/broken.db"})
    assert result.exit_code == 0
    assert "nothing in Redis" in result.stdout
    assert result.stderr.startswith("no figures of the last 24 h: wallie.ledger.url:")


# Again and again


@pytest.fixture
def watch() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", MAIN, "status", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def interrupted(process: subprocess.Popen[str]) -> str:
    """What is on stderr at the end."""
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=20)[1]
    assert process.returncode == 130
    assert "Traceback" not in said
    return said


def test_each_look_is_a_line_of_json_and_a_failing_one_does_not_end_it(
    stand_in: StandIn, watch: Callable[..., subprocess.Popen[str]]
) -> None:
    looks = iter([json_answer(STATUS), Answer(500)])
    stand_in.answers["GET", "/wallie/api/status"] = lambda: next(looks, json_answer(STATUS))
    process = watch("--url", stand_in.url, "--json", "--watch", "0.1")
    assert process.stdout is not None
    found = [json.loads(process.stdout.readline()) for _ in range(3)]
    assert "providers" in found[0]
    assert list(found[1]) == ["error"]
    assert "HTTP 500" in found[1]["error"]
    assert "providers" in found[2]
    assert interrupted(process) == ""


def test_redirected_output_has_one_block_after_the_other(
    stand_in: StandIn, watch: Callable[..., subprocess.Popen[str]]
) -> None:
    looks = iter([json_answer(STATUS), Answer(500)])
    stand_in.answers["GET", "/wallie/api/status"] = lambda: next(looks, json_answer(STATUS))
    process = watch("--watch", "0.1", "--url", stand_in.url)
    assert process.stdout is not None
    heads = 0
    while heads < 3:
        line = process.stdout.readline()
        assert "\x1b" not in line
        heads += line.endswith("every 0.1 s; Ctrl-C ends\n")
    assert "HTTP 500" in interrupted(process)


def test_watch_repeats_every_two_seconds_by_default(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("wallie_litellm.cli.status.time", SimpleNamespace(sleep=sleep, strftime=time.strftime))
    result = run("status", "--watch", "--url", stand_in.url)
    assert result.exit_code == 130
    assert slept == [2.0, 2.0]
    assert run("status", "--watch", "0", "--url", stand_in.url).exit_code == 2


def test_a_terminal_is_cleared(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    def sleep(_seconds: float) -> None:
        raise KeyboardInterrupt

    cleared: list[bool] = []
    monkeypatch.setattr("wallie_litellm.cli.status.time", SimpleNamespace(sleep=sleep, strftime=time.strftime))
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda _self: True, raising=False)
    monkeypatch.setattr("click.clear", lambda: cleared.append(True))
    assert run("status", "--watch", "--url", stand_in.url).exit_code == 130
    assert cleared == [True]
