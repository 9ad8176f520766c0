"""The check of the proxy's callbacks: what would end the proxy's start, or leave it without a guard."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from check_support import entry
from support import SHIPPED

from wallie_litellm.check import packages
from wallie_litellm.check.report import CheckReport

OURS = "callbacks.wallie.handler"
NOT_NAMED = f"does not name {OURS}, so the proxy would not be guarded; write callbacks: {OURS}"


@pytest.fixture
def found(check: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The problems of a file with these callbacks, beside ``callbacks/wallie.py`` with the text that is given."""

    def run(callbacks: Any, source: str | None = None) -> list[str]:
        monkeypatch.chdir(tmp_path)  # the proxy imports from the working directory too
        elsewhere = [place for place in sys.path if not Path(place, "callbacks").exists()]  # a checkout is importable
        monkeypatch.setattr(sys, "path", elsewhere)
        module = tmp_path / "callbacks" / "wallie.py"
        module.parent.mkdir()
        if source is not None:
            module.write_text(source)
        report: CheckReport = check(
            entry("openai/gpt-4o"), litellm_settings={"callbacks": callbacks}, library=False, wallie={"ledger": None}
        )
        begin = f"{tmp_path}/router_config.yaml: litellm_settings.callbacks: "
        assert all(problem.startswith(begin) for problem in report.problems)
        return [problem.removeprefix(begin).replace(str(tmp_path), "HERE") for problem in report.problems]

    return run


@pytest.mark.parametrize("callbacks", [OURS, [OURS], ["langfuse", OURS], ["s3://bucket/other.handler", OURS]])
def test_the_shipped_callback_can_be_loaded(check: Any, tmp_path: Path, callbacks: Any) -> None:
    shutil.copytree(SHIPPED.parent / "callbacks", tmp_path / "callbacks")
    assert check(entry("openai/gpt-4o"), litellm_settings={"callbacks": callbacks}, library=False).ok


@pytest.mark.parametrize("callbacks", [None, [], "langfuse", ["langfuse", "prometheus"]])
def test_callbacks_without_ours_are_a_problem(found: Any, callbacks: Any) -> None:
    assert found(callbacks) == [NOT_NAMED]


def test_the_modules_of_other_callbacks_are_looked_for_too(found: Any) -> None:
    text = "handler = 1"
    assert found([OURS, "json.dumps", "os.path.join", "wallie_litellm.proxy.nowhere.handler", "mine.at.all"], text) == [
        "wallie_litellm.proxy.nowhere.handler: there is no wallie_litellm/proxy/nowhere.py beside this file, and no "
        "module wallie_litellm.proxy.nowhere elsewhere",
        "mine.at.all: there is no mine/at.py beside this file, and no module mine.at elsewhere",
    ]


WRITE = "; `wallie-litellm init --force HERE` writes it anew"


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        (
            None,
            "there is no callbacks/wallie.py beside this file, and no module callbacks.wallie elsewhere; "
            "`wallie-litellm init HERE` writes it",
        ),
        ("handler = (\n", f"callbacks/wallie.py, line 1: not valid Python: '(' was never closed{WRITE}"),
        ("import os\n", f"callbacks/wallie.py defines no handler{WRITE}"),
        ("import os, nowhere.at_all\nhandler = 1", "callbacks/wallie.py imports nowhere, which is not installed"),
        ("from nowhere import handler", "callbacks/wallie.py imports nowhere, which is not installed"),
    ],
)
def test_a_callback_that_cannot_be_loaded_is_a_problem_that_says_what_to_do(
    found: Any, source: str | None, problem: str
) -> None:
    assert found(OURS, source) == [f"{OURS}: {problem}"]


@pytest.mark.parametrize(
    "source",
    [
        "raise SystemExit('a check runs no code')\nhandler = 1",
        "from json import *",
        "from json import dumps as handler",
        "def handler(): ...",
        "handler: object = 1",
        "try:\n    import nowhere\nexcept ImportError:\n    handler = None",
        "from . import other\nhandler = other",
    ],
)
def test_a_callback_that_may_load_is_taken(found: Any, source: str) -> None:
    assert found(OURS, source) == []


def test_a_name_without_a_module_is_a_problem(found: Any) -> None:
    assert found("wallie") == [f"wallie: expected a module and a name in it, such as {OURS}"]


def test_the_proxys_packages_are_missed_in_a_note(check: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "find_spec", lambda _name: None)
    notes = check(entry("openai/gpt-4o"), wallie={"ledger": None}, library=False).notes
    assert [note for note in notes if "packages" in note] == [
        f"{notes[0].partition(': ')[0]}: the proxy's packages are missing (uvicorn and 7 more): "
        "pip install 'wallie-litellm[proxy]'"
    ]
