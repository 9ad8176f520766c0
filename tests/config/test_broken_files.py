"""Each file in `broken/` has one mistake, and its first line says what the command must answer."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from wallie_litellm.cli import main

BROKEN = sorted((Path(__file__).parent / "broken").glob("*.yaml"))
SCRIPT = Path(sys.executable).with_name("wallie-litellm")


def expectation(path: Path) -> str:
    first = path.read_bytes().split(b"\n", 1)[0].decode()
    return first.removeprefix("# expect: ")


def assert_one_problem(path: Path, code: int, stderr: str) -> None:
    lines = stderr.splitlines()
    assert code == 1
    assert len(lines) == 1, stderr
    assert lines[0].startswith(f"{path}: ")
    assert expectation(path) in lines[0]
    assert "Traceback" not in stderr


def test_there_are_at_least_thirty_broken_files() -> None:
    assert len(BROKEN) >= 30


@pytest.mark.parametrize("path", BROKEN, ids=lambda path: path.stem)
def test_one_mistake_is_one_line_that_names_file_place_and_remedy(path: Path, clean_env: pytest.MonkeyPatch) -> None:
    result = CliRunner().invoke(main, ["check", "--library", str(path)])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert_one_problem(path, result.exit_code, result.stderr)


@pytest.mark.parametrize("name", ["unknown_limit", "not_utf8", "unlisted_model"])
def test_the_installed_command_answers_the_same(name: str) -> None:
    path = next(path for path in BROKEN if path.stem == name)
    env = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    done = subprocess.run(
        [SCRIPT, "check", "--library", path], capture_output=True, text=True, env=env, timeout=60, check=False
    )
    assert_one_problem(path, done.returncode, done.stderr)


def test_five_mistakes_are_reported_at_once(tmp_path: Path, clean_env: pytest.MonkeyPatch) -> None:
    file = tmp_path / "router_config.yaml"
    file.write_text(
        """
model_list:
  - model_name: gpt-4o
    litellm_params: {model: openai/gpt-4o, rpm: 5 per minute}
router_settings:
  fallbacks: [{gpt-4o: [gpt-5]}]
wallie:
  providers: {openai: {rpmm: 1}}
  breaker: {open_for: 5x}
  quota: {warning: 0.97}
"""
    )
    result = CliRunner().invoke(main, ["check", str(file)])
    places = [line.removeprefix(f"{file}: ").split(": ")[0] for line in result.stderr.splitlines()]
    assert result.exit_code == 1
    assert sorted(places) == [
        "model_list[0].litellm_params.rpm",
        "router_settings.fallbacks[0].gpt-4o[0]",
        "wallie.breaker.open_for",
        "wallie.providers.openai.rpmm",
        "wallie.quota.warning",
    ]


@pytest.mark.parametrize(
    ("name", "said"),
    [("missing.yaml", "no such file"), ("", "is a directory"), ("a\0b.yaml", "cannot be read")],
)
def test_a_path_that_holds_no_file_is_one_line(tmp_path: Path, name: str, said: str) -> None:
    result = CliRunner().invoke(main, ["check", f"{tmp_path}/{name}"])
    assert result.exit_code == 1
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_file_that_may_not_be_read_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    result = CliRunner().invoke(main, ["check", str(tmp_path / "c.yaml")])
    assert result.stderr == f"{tmp_path}/c.yaml: cannot be read: Permission denied\n"


def test_an_interrupt_ends_without_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("wallie_litellm.check.report.check_file", interrupt)
    result = CliRunner().invoke(main, ["check"])
    assert result.exit_code == 130
    assert result.stderr == "interrupted\n"
    assert isinstance(result.exception, SystemExit)


def test_a_key_with_a_line_break_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text('model_list: [{model_name: a, litellm_params: {model: openai/a}}]\nwallie: {"x\\ny": 1}\n')
    result = CliRunner().invoke(main, ["check", str(file)])
    assert len(result.stderr.splitlines()) == 1


def test_binary_junk_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "router_config.yaml"
    file.write_bytes(bytes(range(256)) * 100)
    result = CliRunner().invoke(main, ["check", str(file)])
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1


def test_an_empty_file_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "router_config.yaml"
    file.touch()
    result = CliRunner().invoke(main, ["check", str(file)])
    assert result.stderr == f"{file}: the file is empty, expected at least model_list\n"
