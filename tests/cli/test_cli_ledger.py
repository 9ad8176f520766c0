from __future__ import annotations

import json
import os
import resource
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_support import one_line_of, run
from click.testing import CliRunner, Result
from ledger_query_fixtures import FileWriter
from ledger_support import ended, settled

from wallie_litellm.cli.ledger import export_command, kpis_command
from wallie_litellm.events import Event

ConfigMaker = Callable[[str], Path]

RUN = "import sys; from wallie_litellm.cli.ledger import export_command as main; main(sys.argv[1:])"


def export(*arguments: object) -> Result:
    return CliRunner().invoke(export_command, [str(argument) for argument in arguments])


def kpis(*arguments: object) -> Result:
    return CliRunner().invoke(kpis_command, [str(argument) for argument in arguments])


def refused(result: Result, *parts: str) -> None:
    """One line on stderr that has ``parts``, nothing on stdout, exit code 2."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1, result.stderr
    assert all(part in result.stderr for part in parts), result.stderr


def good(number: int = 0) -> list[Event]:
    one = settled(at=time.time() - 60 - number)
    return [one, ended(one)]


@pytest.fixture
def ledger(ledger_file: FileWriter, config_file: ConfigMaker) -> Path:
    """A config whose ledger has two attempts and two requests."""
    return config_file(f'{{url: "{ledger_file([*good(), *good(3 * 86_400)])}"}}')


def test_everything_goes_to_standard_output_as_csv(ledger: Path) -> None:
    result = export("--config", ledger)
    assert result.exit_code == 0, result.output
    assert [line.split(",")[0] for line in result.stdout.splitlines()] == ["kind", *["attempt"] * 2, *["request"] * 2]


@pytest.mark.parametrize(
    ("options", "count"),
    [
        (["--since", "24h"], 2),
        (["--until", "1d"], 2),
        (["--since", "2020-01-01"], 4),
        (["--since", "2020-01-01T00:00+02:00", "--until", "2020-01-02T00:00"], 0),
        (["--kind", "attempt"], 2),
        (["--kind", "attempt", "--kind", "request", "--since", "7d"], 4),
    ],
)
def test_options_narrow_what_is_exported(ledger: Path, options: list[str], count: int) -> None:
    result = export("--config", ledger, "--format", "jsonl", *options)
    assert result.exit_code == 0, result.output
    assert len([json.loads(line) for line in result.stdout.splitlines()]) == count


def test_a_file_appears_when_it_is_complete(ledger: Path, tmp_path: Path) -> None:
    output = tmp_path / "out" / "records.csv"
    output.parent.mkdir()
    output.write_text("what was there before")
    result = export("--config", ledger, "--output", output)
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == f"4 records written to {output}\n"
    assert output.read_text().startswith("kind,")
    assert os.listdir(output.parent) == ["records.csv"]


def test_an_output_that_cannot_be_made_is_one_line(ledger: Path, tmp_path: Path) -> None:
    result = export("--config", ledger, "--output", tmp_path / "nowhere" / "records.csv")
    assert result.exit_code == 1
    assert result.stderr == f"Error: {tmp_path}/nowhere/records.csv cannot be written: No such file or directory\n"


def test_a_full_disk_leaves_no_half_file(ledger_file: FileWriter, config_file: ConfigMaker, tmp_path: Path) -> None:
    many = [settled(at=time.time() - number, metadata={"text": "x" * 500}) for number in range(2000)]
    config = config_file(f'{{url: "{ledger_file(many)}"}}')
    place = tmp_path / "out"
    place.mkdir()

    def little_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    done = subprocess.run(
        [sys.executable, "-c", RUN, "--config", config, "--output", place / "records.csv"],
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=little_room,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"Error: {place}/records.csv cannot be written: File too large\n"
    assert os.listdir(place) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has it")
@pytest.mark.parametrize("to_stdout", [True, False])
def test_a_full_device_is_one_line(ledger: Path, to_stdout: bool) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-c", RUN, "--config", ledger, *([] if to_stdout else ["--output", "/dev/full"])],
            stdout=full if to_stdout else subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    name = "standard output" if to_stdout else "/dev/full"
    assert (done.returncode, done.stderr) == (1, f"Error: {name} cannot be written: No space left on device\n")


def test_a_reader_that_closes_early_ends_the_export_quietly(ledger_file: FileWriter, config_file: ConfigMaker) -> None:
    many = [settled(at=time.time() - number, metadata={"text": "x" * 500}) for number in range(2000)]
    config = config_file(f'{{url: "{ledger_file(many)}"}}')
    with subprocess.Popen(
        [sys.executable, "-c", RUN, "--config", config], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as writer:
        assert writer.stdout is not None
        assert writer.stderr is not None
        assert writer.stdout.readline().startswith(b"kind,")
        writer.stdout.close()
        assert writer.wait(60) == 0
        assert writer.stderr.read() == b""


@pytest.mark.parametrize("command", [export, kpis])
def test_a_ledger_that_is_off_is_reported_as_off(command: Callable[..., Result], config_file: ConfigMaker) -> None:
    refused(command("--config", config_file("null")), "wallie.ledger is null")


@pytest.mark.parametrize("command", [export, kpis])
def test_a_missing_file_is_named_and_not_created(
    command: Callable[..., Result], config_file: ConfigMaker, tmp_path: Path
) -> None:
    missing = tmp_path / "away" / "wallie.db"
    config = config_file(f'{{url: "sqlite:///{missing}"}}')
    created = "it is created when an application or the proxy starts"
    refused(command("--config", config), f"there is no file {missing} yet; {created}")
    assert not missing.parent.exists()


@pytest.mark.parametrize("command", [export, kpis])
def test_a_folder_in_the_place_of_the_file_is_one_line(
    command: Callable[..., Result], config_file: ConfigMaker, tmp_path: Path
) -> None:
    folder = tmp_path / "wallie.db"
    folder.mkdir()
    refused(command("--config", config_file(f'{{url: "sqlite:///{folder}"}}')), f"{folder} is a folder")


def test_the_dashboard_does_not_start_on_a_folder_in_the_place_of_the_file(
    config_file: ConfigMaker, tmp_path: Path
) -> None:
    result = run("dashboard", "--port", 0, "--config", config_file(f'{{url: "sqlite:///{tmp_path}"}}'))
    assert result.exit_code == 1
    assert one_line_of(result) == f"wallie.ledger.url: {tmp_path} is a folder, expected a file, or none yet\n"


@pytest.mark.parametrize("command", [export, kpis])
def test_a_file_that_is_no_database_is_one_line(
    command: Callable[..., Result], config_file: ConfigMaker, tmp_path: Path
) -> None:
    (tmp_path / "wallie.db").write_text("something else altogether, and long enough to be looked at " * 20)
    config = config_file(f'{{url: "sqlite:///{tmp_path}/wallie.db"}}')
    refused(command("--config", config), "cannot be read: file is not a database")


@pytest.mark.parametrize("command", [export, kpis])
def test_a_database_without_a_ledger_is_one_line(
    command: Callable[..., Result], config_file: ConfigMaker, tmp_path: Path
) -> None:
    (tmp_path / "wallie.db").touch()
    refused(command("--config", config_file(f'{{url: "sqlite:///{tmp_path}/wallie.db"}}')), "has no ledger in it yet")


@pytest.mark.parametrize("command", [export, kpis])
def test_a_newer_ledger_asks_for_an_upgrade(command: Callable[..., Result], ledger: Path, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "wallie.db") as connection:
        connection.execute("UPDATE wallie_schema SET version = 99")
    refused(command("--config", ledger), "version 99", "upgrade wallie-litellm")


@pytest.mark.parametrize("command", [export, kpis])
def test_a_server_that_cannot_be_reached_is_one_line_without_its_password(
    command: Callable[..., Result], config_file: ConfigMaker
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))  # bound, and not listening
        port = probe.getsockname()[1]
        result = command("--config", config_file(f'{{url: "postgresql://me:hunter2@127.0.0.1:{port}/wallie"}}'))
    refused(result, "postgresql://*** cannot be read")
    assert "hunter2" not in result.output


@pytest.mark.parametrize("command", [export, kpis])
def test_a_bad_config_is_refused(command: Callable[..., Result], tmp_path: Path) -> None:
    refused(command("--config", tmp_path / "none.yaml"), "none.yaml")


@pytest.mark.parametrize(
    "options",
    [
        ["--since", "yesterday"],
        ["--since", "5"],
        ["--since", "2026-13-01"],
        ["--since", "1h", "--until", "2h"],
        ["--kind", "x"],
    ],
)
def test_wrong_options_are_a_usage_error(ledger: Path, options: list[str]) -> None:
    result = export("--config", ledger, *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Traceback" not in result.stderr


def test_kpis_are_a_table_and_pass(ledger: Path) -> None:
    result = kpis("--config", ledger, "--since", "7d")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith("Since 20")
    assert lines[1].split() == ["target", "actual"]
    assert [line.split()[0] for line in lines[2:]] == [
        *("uptime", "p95_latency", "error_rate", "monthly_cost", "fallback_rate", "critical_alerts"),
    ]
    assert lines[2].split() == ["uptime", ">", "99.5", "%", "100", "%", "pass"]
    assert "so far in" in lines[5]


def test_a_failing_kpi_is_exit_code_1(ledger_file: FileWriter, config_file: ConfigMaker) -> None:
    failed = settled(at=time.time() - 9, success=False, outcome="rejected", error="HTTP 500", status_code=500)
    config = config_file(f'{{url: "{ledger_file([failed, ended(failed)])}"}}')
    result = kpis("--config", config)
    assert result.exit_code == 1
    assert result.stdout.count("FAIL") == 2
    as_json = kpis("--config", config, "--json")
    assert as_json.exit_code == 1
    found = {kpi["name"]: kpi for kpi in json.loads(as_json.stdout)["kpis"]}
    assert (found["uptime"]["target"], found["uptime"]["actual"], found["uptime"]["passed"]) == (0.995, 0.0, False)
    assert found["p95_latency"]["passed"] is None


def test_an_empty_ledger_has_no_figures_and_fails_nothing(ledger_file: FileWriter, config_file: ConfigMaker) -> None:
    result = kpis("--config", config_file(f'{{url: "{ledger_file([])}"}}'))
    assert result.exit_code == 0
    assert result.stdout.count("no data") == 6
