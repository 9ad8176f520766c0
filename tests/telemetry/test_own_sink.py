"""The example in examples/own_sink.py, as a user's config names it."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from event_samples import PROMPT, ended, failed, settled

from wallie_litellm.telemetry.sink import Sink

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(EXAMPLES)
    return importlib.import_module("own_sink")


@pytest.fixture
def sink(example: ModuleType) -> Sink:
    """Made as from a config: by calling the class without arguments."""
    made: Sink = example.FailureLog()
    return made


@pytest.fixture(autouse=True)
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "failures.jsonl"
    monkeypatch.setenv("FAILURE_LOG", str(path))
    return path


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_each_failed_request_is_a_line(sink: Sink, log: Path) -> None:
    elsewhere = failed(number=2, provider="anthropic", deployment="anthropic/claude")
    sink.handle([failed(), ended(failed(), elsewhere, request_id="bad")])
    sink.handle([ended(settled()), ended(failed(), by_caller=True)])
    assert sink.flush(60)
    (line,) = lines(log)
    assert line.pop("id")
    assert line == {
        "at": "2026-09-21T14:13:20+00:00",
        "requestId": "bad",
        "model": "gpt-4o-mini",
        "feature": "wallie-chat",
        "error": "HTTP 503",
        "statusCode": 503,
        "latencyMs": 2000,
        "attempts": [
            {"provider": "openai", "deployment": "openai/gpt-4o-mini-2024-07-18", "error": "HTTP 503"},
            {"provider": "anthropic", "deployment": "anthropic/claude", "error": "HTTP 503"},
        ],
    }
    assert sink.stats() == {"delivered": 1, "pending": 0}


def test_no_user_and_no_metadata_is_written(sink: Sink, log: Path) -> None:
    sink.handle([ended(failed())])
    assert "user-7" not in log.read_text()
    assert PROMPT not in log.read_text()


def test_a_failed_write_is_repeated_later(example: ModuleType, tmp_path: Path) -> None:
    place = tmp_path / "not there yet"
    sink: Sink = example.FailureLog(place / "failures.jsonl")
    with pytest.raises(FileNotFoundError):
        sink.handle([ended(failed(), request_id="r1")])
    assert not sink.flush(1.0)
    assert sink.stats() == {"delivered": 0, "pending": 1}
    place.mkdir()
    sink.handle([ended(failed(), request_id="r2")])
    assert sink.flush(60)
    assert [line["requestId"] for line in lines(place / "failures.jsonl")] == ["r1", "r2"]
    assert sink.stats() == {"delivered": 2, "pending": 0}


def test_a_second_process_appends(example: ModuleType, log: Path) -> None:
    for request_id in ("r1", "r2"):
        sink = example.FailureLog()
        sink.handle([ended(failed(), request_id=request_id)])
        sink.close(1.0)
    assert [line["requestId"] for line in lines(log)] == ["r1", "r2"]
