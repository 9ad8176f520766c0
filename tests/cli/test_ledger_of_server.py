"""`wallie-litellm kpis` and `export` of a running proxy."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from cli_support import Answer, StandIn, json_answer, one_line_of, problem, run

KPIS = ("GET", "/wallie/api/kpis")
EXPORT = ("GET", "/wallie/api/export.csv")
UPTIME = {"name": "uptime", "target": 0.995, "actual": 1.0, "passed": True, "note": ""}
COST = {"name": "monthly_cost", "target": 100.0, "actual": None, "passed": None, "note": "so far\x1b"}
CSV = "kind,id\r\nattempt,1\r\nattempt,ñ\x1b[2J\r\n"


@pytest.mark.parametrize(("passed", "code"), [(True, 0), (False, 1)])
def test_key_figures_are_shown_and_fail_the_command_when_one_fails(stand_in: StandIn, passed: bool, code: int) -> None:
    stand_in.answers[KPIS] = json_answer({"kpis": [{**UPTIME, "passed": passed}, COST]})
    result = run("kpis", "--url", stand_in.url, "--since", "7d")
    assert result.exit_code == code
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[2] == ["uptime", ">", "99.5", "%", "100", "%", "pass" if passed else "FAIL"]
    assert all(line.isprintable() for line in result.stdout.splitlines())
    ((name, value),) = stand_in.asked[0].parameters
    assert name == "since"
    assert float(value) == pytest.approx(time.time() - 7 * 86_400, abs=60)
    as_json = run("kpis", "--url", stand_in.url, "--json")
    assert as_json.exit_code == code
    assert json.loads(as_json.stdout)["kpis"] == [{**UPTIME, "passed": passed}, COST]


@pytest.mark.parametrize(
    "found", [{}, {"kpis": 3}, {"kpis": [{"name": "uptime"}]}, {"kpis": [{**UPTIME, "target": "high"}]}]
)
def test_key_figures_of_another_shape_are_one_line(stand_in: StandIn, found: dict[str, Any]) -> None:
    stand_in.answers[KPIS] = json_answer(found)
    result = run("kpis", "--url", stand_in.url)
    assert result.exit_code == 1
    assert "this version of Wallie cannot read the answer" in one_line_of(result)


@pytest.mark.parametrize("command", ["kpis", "export"])
def test_a_running_one_without_a_ledger_is_one_line(stand_in: StandIn, command: str) -> None:
    for path in (KPIS, EXPORT):
        stand_in.answers[path] = problem(503, "wallie_no_ledger", "there is no ledger")
    result = run(command, "--url", stand_in.url)
    assert result.exit_code == 1
    assert "there is no ledger" in one_line_of(result)


def test_records_go_to_standard_output_byte_by_byte(stand_in: StandIn) -> None:
    stand_in.answers[EXPORT] = Answer(200, CSV.encode(), "text/csv; charset=utf-8")
    result = run("export", "--url", stand_in.url)
    assert result.exit_code == 0
    assert result.stdout_bytes == CSV.encode()
    kinds = ("attempt", "request", "alert", "transition", "action", "outside_usage", "feedback", "experiment")
    assert stand_in.asked[0].parameters == [("since", "0.0"), *(("kind", kind) for kind in kinds)]


def test_a_terminal_receives_no_control_characters(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda _self: True, raising=False)
    stand_in.answers[EXPORT] = Answer(200, CSV.encode(), "text/csv")
    assert run("export", "--url", stand_in.url).stdout_bytes == CSV.replace("\x1b", "�").encode()


def test_options_are_passed_on(stand_in: StandIn) -> None:
    stand_in.answers[EXPORT] = Answer(200, CSV.encode(), "text/csv")
    options = ["--kind", "attempt", "--kind", "alert", "--since", "2026-11-01", "--until", "2026-11-02T12:00"]
    assert run("export", "--url", stand_in.url, *options).exit_code == 0
    assert stand_in.asked[0].parameters == [
        ("since", "1793491200.0"),
        ("kind", "attempt"),
        ("kind", "alert"),
        ("until", "1793620800.0"),
    ]


def test_only_csv_is_to_be_had(stand_in: StandIn) -> None:
    result = run("export", "--url", stand_in.url, "--format", "jsonl")
    assert result.exit_code == 2
    assert "csv" in result.stderr
    assert stand_in.asked == []


def test_a_file_appears_when_it_is_complete(stand_in: StandIn, tmp_path: Path) -> None:
    stand_in.answers[EXPORT] = Answer(200, CSV.encode(), "text/csv", cut=10)
    output = tmp_path / "out" / "records.csv"
    output.parent.mkdir()
    result = run("export", "--url", stand_in.url, "--output", output)
    assert result.exit_code == 1
    assert "the connection broke" in one_line_of(result)
    assert os.listdir(output.parent) == []
    stand_in.answers[EXPORT] = Answer(200, CSV.encode(), "text/csv")
    result = run("export", "--url", stand_in.url, "--output", output)
    assert (result.exit_code, result.stderr) == (0, f"records written to {output}\n")
    assert output.read_bytes() == CSV.encode()


def test_a_page_is_no_export(stand_in: StandIn) -> None:
    stand_in.answers[EXPORT] = Answer(200, b"<html>", "text/html")
    result = run("export", "--url", stand_in.url)
    assert result.exit_code == 1
    assert "no Wallie answers there" in one_line_of(result)
