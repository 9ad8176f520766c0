"""`wallie-litellm reload`: a running proxy takes up its changed file."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from cli_support import StandIn, json_answer, one_line_of, problem, run

PATH = ("POST", "/wallie/api/config/reload")
DONE = {
    "changed": ["model_list", "wallie.quota.warning"],
    "restart_needed": ["wallie.store.url"],
    "actor": "ops",
    "at": "2026-11-28T07:00:00Z",
}


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn() as stand_in:
        yield stand_in


def test_what_is_taken_up_and_what_is_not_is_said(server: StandIn) -> None:
    server.answers[PATH] = json_answer(DONE)
    result = run("reload", "--reason", "more", "--actor", "ops", "--url", server.url)
    assert (result.exit_code, result.output) == (
        0,
        "changed: model_list\nchanged: wallie.quota.warning\nneeds a restart: wallie.store.url\nDone by ops.\n",
    )
    assert json.loads(server.asked[-1].body) == {"reason": "more"}


def test_workers_that_do_not_hear_of_it_are_counted(server: StandIn) -> None:
    server.answers[PATH] = json_answer({**DONE, "unreached": 3})
    result = run("reload", "--url", server.url)
    assert result.exit_code == 0
    assert "The 3 other workers of it did not hear of this. Set reload: watch" in result.output


@pytest.mark.parametrize(
    ("status", "code", "exit_code"),
    [(422, "wallie_config_refused", 2), (409, "wallie_read_only", 1), (503, "wallie_away", 1)],
)
def test_a_refusal_is_one_line(server: StandIn, status: int, code: str, exit_code: int) -> None:
    server.answers[PATH] = problem(status, code, "wallie.quota.warning: found 2, expected a share")
    result = run("reload", "--url", server.url)
    assert result.exit_code == exit_code
    assert "found 2, expected a share" in one_line_of(result)


def test_without_a_running_proxy_it_says_what_to_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WALLIE_URL", raising=False)
    result = run("reload")
    assert result.exit_code == 2
    assert "--url or WALLIE_URL" in one_line_of(result)
