"""`wallie-litellm switch`: a decision of a running proxy is switched off, or on again."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from cli_support import StandIn, json_answer, one_line_of, problem, run

PATH = ("POST", "/wallie/api/routing/hedge")
DONE = {"name": "hedge", "on": False, "turned_on": True, "actor": "ops", "at": "2026-11-28T07:00:00Z"}


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn() as stand_in:
        yield stand_in


def test_the_switch_is_set_with_its_reason_and_said(server: StandIn) -> None:
    server.answers[PATH] = json_answer(DONE)
    result = run("switch", "hedge", "off", "--reason", "too dear", "--actor", "ops", "--url", server.url)
    assert (result.exit_code, result.output) == (0, "hedge is switched off. Done by ops.\n")
    assert json.loads(server.asked[-1].body) == {"on": False, "reason": "too dear"}


def test_a_decision_that_the_file_does_not_make_is_noted(server: StandIn) -> None:
    server.answers[PATH] = json_answer({**DONE, "on": True, "turned_on": False})
    result = run("switch", "hedge", "on", "--url", server.url)
    assert result.exit_code == 0
    assert "the file does not turn hedge on" in result.stderr


def test_a_server_that_refuses_is_one_line(server: StandIn) -> None:
    server.answers[PATH] = problem(409, "wallie_read_only", "this page shows the ledger alone")
    assert "this page shows the ledger alone" in one_line_of(run("switch", "hedge", "off", "--url", server.url))


def test_without_a_running_proxy_it_says_what_to_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WALLIE_URL", raising=False)
    result = run("switch", "hedge", "off")
    assert result.exit_code == 2
    assert "--url or WALLIE_URL" in one_line_of(result)


def test_an_unknown_name_is_refused() -> None:
    assert run("switch", "hedging", "off").exit_code == 2
