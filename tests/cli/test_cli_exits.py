"""How commands end that are interrupted, or whose output cannot be written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from wallie_litellm.cli import main
from wallie_litellm.cli.exits import Commands

RUN = "from wallie_litellm.cli import main; main()"


def test_an_interrupted_command_says_so_and_its_exit_code_is_not_that_of_a_failure() -> None:
    @click.group(cls=Commands)
    def group() -> None:
        pass

    @group.command()
    def waits() -> None:
        raise KeyboardInterrupt

    result = CliRunner().invoke(group, ["waits"])
    assert (result.exit_code, result.stdout, result.stderr) == (130, "", "interrupted\n")


@pytest.mark.parametrize("command", [["rehearse", "--streams"], ["status", "--watch"]])
@pytest.mark.parametrize("value", ["nan", "inf", "1e+308", "soon", ""])
def test_an_option_that_is_no_number_in_its_range_is_refused_by_its_name(command: list[str], value: str) -> None:
    result = CliRunner().invoke(main, [*command[:-1], f"{command[-1]}={value}"])
    assert result.exit_code == 2
    assert f"Error: Invalid value for '{command[1]}'" in result.stderr
    assert value in result.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has it")
def test_a_standard_output_that_is_full_is_one_line(tmp_path: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        command = [sys.executable, "-c", RUN, "init", tmp_path]
        process = subprocess.run(command, check=False, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert process.returncode == 1
    assert process.stderr == "Error: standard output cannot be written: No space left on device\n"
