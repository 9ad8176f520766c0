"""What ``wallie-litellm proxy`` refuses before LiteLLM's start: each is one line, and ``check`` says the same."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from proxy_support import lay_out
from support import shipped_config

from wallie_litellm.check import packages
from wallie_litellm.check.report import check_file
from wallie_litellm.cli import main

TODAY = date(2026, 11, 22)  # none of the shipped models has ended

Refusals = Callable[..., list[str]]


@pytest.fixture
def refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Refusals:
    """The lines with which the command refuses a file, in which sections are replaced."""

    def run(
        module: str | None = None, *, port: int = 4000, found_by_check: bool = True, **sections: Mapping[str, Any]
    ) -> list[str]:
        config = shipped_config()
        for name, section in sections.items():
            config[name] |= section
        path = lay_out(tmp_path, config)
        if module is not None:
            (tmp_path / "callbacks" / "wallie.py").write_text(module)
        monkeypatch.setattr("os.execve", lambda *_: pytest.fail("it started"))
        result = CliRunner().invoke(main, ["proxy", "--config", str(path), "--port", str(port)])
        assert (result.exit_code, result.stdout) == (1, "")
        said = result.stderr.splitlines()
        if found_by_check:
            report = check_file(path, today=TODAY, ignore_keys=True)
            assert set(said) <= {*report.problems, *(note.removeprefix(f"{path}: ") for note in report.notes)}
        return [line.removeprefix(f"{path}: ") for line in said]

    return run


def test_callbacks_without_ours(refusals: Refusals) -> None:
    [line] = refusals(litellm_settings={"callbacks": ["langfuse"]})
    assert line.startswith("litellm_settings.callbacks: does not name callbacks.wallie.handler, so the proxy would not")


def test_a_callback_whose_module_cannot_be_loaded(refusals: Refusals) -> None:
    [line] = refusals("import nowhere\nhandler = 1")
    assert line.endswith("callbacks/wallie.py imports nowhere, which is not installed")


def test_a_folder_where_the_ledgers_file_should_be(refusals: Refusals, tmp_path: Path) -> None:
    [line] = refusals(wallie={"ledger": {"url": f"sqlite:///{tmp_path}"}})
    assert line == f"wallie.ledger.url: {tmp_path} is a folder, expected a file, or none yet"


def test_packages_that_are_missing(refusals: Refusals, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = packages.find_spec
    missing = {"mcp": None, "sentry_sdk": None}
    monkeypatch.setattr(packages, "find_spec", lambda name: missing.get(name, name) and installed(name))
    assert refusals(wallie={"telemetry": {"sentry": {"dsn": "https://key@host/1"}}}) == [
        "wallie.telemetry.sentry: its package is missing; install wallie-litellm[sentry]",
        "the proxy's packages are missing (mcp): pip install 'wallie-litellm[proxy]'",
    ]


def test_an_address_that_is_taken(refusals: Refusals) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        [line] = refusals(port=port, found_by_check=False)
    assert line == f"cannot listen on 127.0.0.1:{port}: Address already in use; see --host and --port"


def test_several_at_once(refusals: Refusals) -> None:
    assert len(refusals("import nowhere", wallie={"store": {"url": "redis://host:port"}})) == 3
