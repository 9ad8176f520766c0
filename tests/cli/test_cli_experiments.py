"""`wallie-litellm experiments`: of a ledger, and of a running proxy."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli_support import StandIn, json_answer, one_line_of, problem, run
from ledger_query_fixtures import FileWriter
from ledger_support import ended, rows, settled
from sqlalchemy import select

from wallie_litellm.config import ExperimentSettings
from wallie_litellm.events import Event, ExperimentChanged, new_id
from wallie_litellm.ledger.schema import actions, experiment_changes

NOW = 1_790_000_000.0
STATED = {"feature": "chat", "arms": {"mini": 0.5, "sonnet": 0.5}, "metric": "success"}
FILE = """
model_list:
  - {{model_name: mini, litellm_params: {{model: openai/gpt-4o-mini, api_key: fake}}}}
  - {{model_name: sonnet, litellm_params: {{model: openai/gpt-4o, api_key: fake}}}}
wallie:
  ledger: {{url: "{url}"}}
  features: {{chat: {{}}}}
  experiments: {experiments}
"""
ARM: dict[str, Any] = {
    "arm": "mini", "share": 0.5, "stopped": False, "units": 1200, "requests": 3000, "successes": 2700, "by_caller": 0,
    "fallbacks": 27, "unpriced": 0, "cost_usd": 0.00045, "p50_ms": 812.0, "p95_ms": 4100.0, "feedbacks": 0,
    "feedback": None, "measured": 3000, "mean": 0.9, "effect": None, "error_rate": 0.1, "fallback_rate": 0.01,
}  # fmt: skip
SONNET = {**ARM, "arm": "sonnet", "stopped": True, "effect": {"low": 0.0234, "estimate": 0.05, "high": 0.0766}}
ROW: dict[str, Any] = {
    "name": "m", "feature": "chat", "metric": "success", "unit": "user", "state": "running",
    "since": "2026-11-21T10:00:00Z", "leader": None, "winner": None, "concluded_at": None, "reason": None,
    "split": {"p": 0.4, "is_wrong": False}, "arms": [ARM, SONNET],
}  # fmt: skip
EXPERIMENTS = ("GET", "/wallie/api/experiments")
CONCLUDE = ("POST", "/wallie/api/experiments/m/conclude")
RESUME = ("POST", "/wallie/api/experiments/m/resume")


def traffic(better: float) -> list[Event]:
    definition = ExperimentSettings.model_validate(STATED).definition
    rng = random.Random(1)
    events: list[Event] = [
        ExperimentChanged(new_id(NOW), NOW, "m", definition, "started", "", "wallie", None),
    ]
    for number in range(400):
        arm, share = ("sonnet", better) if number % 2 else ("mini", 0.6)
        done = settled(at=NOW + number, success=rng.random() < share)
        events.append(ended(done, experiment="m", arm=arm))
    return events


@pytest.fixture
def file(tmp_path: Path, ledger_file: FileWriter) -> Callable[..., Path]:
    def make(events: list[Event], experiments: Any = STATED) -> Path:
        path = tmp_path / "router_config.yaml"
        stated = json.dumps({"m": experiments} if experiments else {})
        path.write_text(FILE.format(url=ledger_file(events), experiments=stated))
        return path

    return make


def test_arms_are_compared_by_the_ledger(file: Callable[..., Path]) -> None:
    config = file(traffic(0.9))
    result = run("experiments", "--config", config)
    assert result.exit_code == 0, result.output
    head, columns, mini, sonnet, verdict = result.stdout.splitlines()
    assert head == "m: chat, success by user, running since 2026-09-21 14:13:20 UTC"
    assert columns.split("  ")[-1].strip() == "success, from mini"
    assert mini.split()[:4] == ["mini", "50%", "200", "200"]
    assert sonnet.split()[0] == "sonnet"
    assert "points (+" in sonnet
    assert verdict.strip() == "sonnet is better than the others; `wallie-litellm experiments conclude m` ends it."
    as_json = json.loads(run("experiments", "m", "--config", config, "--json").stdout)
    assert (as_json["experiments"][0]["leader"], len(as_json["experiments"][0]["arms"])) == ("sonnet", 2)


def test_the_better_arm_wins_and_that_is_in_the_ledger(file: Callable[..., Path], tmp_path: Path) -> None:
    config = file(traffic(0.9))
    done = run(
        "experiments", "conclude", "m", "--config", config, "--reason", "fewer errors", "--actor", "maria", "--yes"
    )
    assert (done.exit_code, done.stdout) == (
        0, "m is concluded: sonnet has won. Done by maria; workers follow within seconds.\n"
    )  # fmt: skip
    url = f"sqlite:///{tmp_path}/wallie.db"
    last = rows(url, select(experiment_changes).order_by(experiment_changes.c.at.desc()))[0]
    assert (last.change, last.arm, last.actor, last.reason) == ("concluded", "sonnet", "maria", "fewer errors")
    (action,) = rows(url, select(actions))
    assert (action.actor, action.action, action.provider) == ("maria", "conclude_experiment", "m")
    assert "sonnet has won (fewer errors)" in run("experiments", "--config", config).stdout
    for winner, code in (([], 0), (["--winner", "sonnet"], 0), (["--winner", "mini"], 1)):
        again = run("experiments", "conclude", "m", "--config", config, "--yes", *winner)
        assert again.exit_code == code
        assert again.output.startswith("m was concluded before, at 20")
        assert again.output.endswith(" UTC: sonnet has won. Nothing has changed.\n")
    assert len(rows(url, select(experiment_changes))) == 2


def test_a_stopped_arm_goes_on_by_the_ledger(file: Callable[..., Path], tmp_path: Path) -> None:
    definition = ExperimentSettings.model_validate(STATED).definition
    at = NOW + 500
    stopped = ExperimentChanged(new_id(at), at, "m", definition, "stopped", "sonnet", "wallie", None)
    config = file([*traffic(0.9), stopped])
    assert "sonnet (stopped)" in run("experiments", "--config", config).stdout
    done = run("experiments", "resume", "m", "sonnet", "--config", config, "--actor", "maria", "--yes")
    assert (done.exit_code, done.stdout) == (
        0, "sonnet of m goes on. Done by maria; workers follow within seconds.\n"
    )  # fmt: skip
    (action,) = rows(f"sqlite:///{tmp_path}/wallie.db", select(actions))
    assert (action.action, action.detail) == ("resume_arm", "sonnet goes on")
    assert "(stopped)" not in run("experiments", "--config", config).stdout
    again = run("experiments", "resume", "m", "sonnet", "--config", config, "--yes")
    assert (again.exit_code, one_line_of(again)) == (2, "sonnet of m is not stopped\n")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["conclude", "m", "--yes"], 1, "no arm of m is better than the others yet; --winner says which has won"),
        (["conclude", "m", "--yes", "--winner", "opus"], 2, "unknown arm 'opus'; the arms of m: mini, sonnet"),
        (["conclude", "x", "--yes"], 2, "unknown experiment 'x'; known: m"),
        (["x"], 2, "unknown experiment 'x'; known: m"),
        (["conclude", "m"], 2, "standard input is no terminal"),
    ],
)
def test_what_cannot_be_done_is_one_line(file: Callable[..., Path], arguments: list[str], code: int, said: str) -> None:
    result = run("experiments", *arguments, "--config", file(traffic(0.6)))
    assert result.exit_code == code
    assert said in one_line_of(result)


def test_without_experiments_or_before_a_start_it_says_so(file: Callable[..., Path]) -> None:
    assert run("experiments", "--config", file([], None)).stdout == "No experiments: wallie.experiments is empty.\n"
    config = file([])
    assert "not started by any worker yet" in run("experiments", "m", "--config", config).stdout
    refused = run("experiments", "conclude", "m", "--config", config, "--yes", "--winner", "mini")
    assert (refused.exit_code, one_line_of(refused)) == (2, "m is not started: no worker has started it yet\n")


def test_the_experiments_of_a_running_proxy_are_shown(stand_in: StandIn) -> None:
    stand_in.answers[EXPERIMENTS] = json_answer({"experiments": [ROW]})
    result = run("experiments", "--url", stand_in.url)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "m: chat, success by user, running since 2026-11-21 10:00:00 UTC"
    assert lines[2].split() == [
        "mini", "50%", "1,200", "3,000", "90.0%", "1.0%", "0.81", "s", "4.10", "s", "$0.000450", "-", "-"
    ]  # fmt: skip
    assert "sonnet (stopped)" in lines[3]
    assert lines[3].endswith("+5.0 points (+2.3 points … +7.7 points)")
    assert lines[4] == "  No arm is better than the others yet."
    wrong = {**ROW, "split": {"p": 0.00004, "is_wrong": True}}
    stand_in.answers[EXPERIMENTS] = json_answer({"experiments": [wrong]})
    assert "The users are not divided as stated (p = 4e-05)" in run("experiments", "--url", stand_in.url).stdout


@pytest.mark.parametrize("found", [{"experiments": 3}, {"experiments": [{"name": "m"}]}, {"experiments": [{}]}])
def test_experiments_of_another_shape_are_one_line(stand_in: StandIn, found: dict[str, Any]) -> None:
    stand_in.answers[EXPERIMENTS] = json_answer(found)
    result = run("experiments", "--url", stand_in.url)
    assert (result.exit_code, "cannot read the answer" in one_line_of(result)) == (1, True)


def test_an_experiment_of_a_running_proxy_is_concluded(stand_in: StandIn) -> None:
    stand_in.answers[CONCLUDE] = json_answer({"experiment": "m", "winner": "sonnet", "actor": "maria", "at": "now"})
    done = run("experiments", "conclude", "m", "--url", stand_in.url, "--yes", "--actor", "maria")
    assert (done.exit_code, done.stdout) == (0, "m is concluded: sonnet has won. Done by maria.\n")
    assert (stand_in.asked[-1].headers["x-wallie-actor"], stand_in.asked[-1].body) == ("maria", b"{}")
    for status, code, expected in ((409, "wallie_no_leader", 1), (404, "wallie_unknown_experiment", 2)):
        stand_in.answers[CONCLUDE] = problem(status, code, "no arm")
        refused = run("experiments", "conclude", "m", "--url", stand_in.url, "--yes")
        assert (refused.exit_code, "no arm" in one_line_of(refused)) == (expected, True)


def test_on_a_running_proxy_a_stopped_arm_goes_on_and_a_second_end_says_when_the_first_was(stand_in: StandIn) -> None:
    before = {"experiment": "m", "winner": "sonnet", "actor": None, "at": "2026-11-21T10:00:00Z", "before": True}
    stand_in.answers[CONCLUDE] = json_answer(before)
    done = run("experiments", "conclude", "m", "--url", stand_in.url, "--yes")
    assert (done.exit_code, done.stdout) == (
        0, "m was concluded before, at 2026-11-21 10:00:00 UTC: sonnet has won. Nothing has changed.\n"
    )  # fmt: skip
    stand_in.answers[RESUME] = json_answer({"experiment": "m", "arm": "sonnet", "actor": "maria", "at": "now"})
    done = run("experiments", "resume", "m", "sonnet", "--url", stand_in.url, "--yes", "--reason", "repaired")
    assert (done.exit_code, done.stdout) == (0, "sonnet of m goes on. Done by maria.\n")
    assert json.loads(stand_in.asked[-1].body) == {"arm": "sonnet", "reason": "repaired"}
    for status, code, expected in ((409, "wallie_already_concluded", 1), (404, "wallie_unknown_experiment", 2)):
        stand_in.answers[RESUME] = problem(status, code, "not that one")
        refused = run("experiments", "resume", "m", "sonnet", "--url", stand_in.url, "--yes")
        assert (refused.exit_code, "not that one" in one_line_of(refused)) == (expected, True)
