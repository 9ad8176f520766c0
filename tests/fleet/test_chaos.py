"""A fleet that goes through random faults agrees afterwards, and no call is lost or hangs."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent.parent


def test_after_random_faults_all_workers_agree_with_redis_and_every_call_has_ended(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(REPOSITORY))
    chaos = importlib.import_module("benchmarks.fleet_chaos")
    assert chaos.main(["--seconds", "5", "--seed", "1", "--patience", "90"]) == 0, capsys.readouterr().out
