"""Whom the commands ask, with which token, and what is said when there is no good answer."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from cli_support import STATUS, Answer, StandIn, json_answer, one_line_of, problem, run
from ports import free_port

from wallie_litellm.cli import http_client as client_module
from wallie_litellm.cli.http_client import Client, WrongAddress

STATUS_PATH = ("GET", "/wallie/api/status")


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("http://127.0.0.1:4000", "http://127.0.0.1:4000/wallie"),
        ("http://127.0.0.1:4000/", "http://127.0.0.1:4000/wallie"),
        ("http://127.0.0.1:4000/wallie", "http://127.0.0.1:4000/wallie"),
        ("http://127.0.0.1:4000/wallie/?range=7d#top", "http://127.0.0.1:4000/wallie"),
        ("https://host/llm", "https://host/llm/wallie"),
        ("https://host/llm/wallie/", "https://host/llm/wallie"),
        ("http://[::1]:4000", "http://[::1]:4000/wallie"),
    ],
)
def test_the_url_is_the_servers_or_its_pages(url: str, base: str) -> None:
    assert Client(url).base == base


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:4000",
        "ftp://host/",
        "http://",
        "http://host:port",
        "http://me:hunter2@host",
        "http://[x",
        "http://h\n",
    ],
)
def test_a_malformed_url_is_wrong_use_and_not_shown(url: str) -> None:
    result = run("status", "--url", url)
    assert result.exit_code == 2
    assert one_line_of(result).startswith("--url: ")
    assert "hunter2" not in result.output


def test_a_token_goes_to_another_machine_only_over_tls_or_with_insecure() -> None:
    for url in ("http://127.0.0.1:4000", "http://localhost", "http://[::1]", "https://example.com"):
        assert Client(url, "secret").base
    with pytest.raises(WrongAddress, match="--insecure"):
        Client("http://10.0.0.5:4000", "secret")
    assert Client("http://10.0.0.5:4000").base
    assert Client("http://10.0.0.5:4000", "secret", insecure=True).base


def test_the_command_sends_no_token_in_the_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WALLIE_ADMIN_TOKEN", "tops3cret")
    result = run("status", "--url", "http://wallie.example:4000")
    assert result.exit_code == 2
    assert "tops3cret" not in one_line_of(result)


@pytest.mark.parametrize(
    ("variables", "sent"),
    [
        ({}, None),
        ({"LITELLM_MASTER_KEY": "sk-1"}, "Bearer sk-1"),
        ({"LITELLM_MASTER_KEY": "sk-1", "WALLIE_ADMIN_TOKEN": "mine"}, "Bearer mine"),
        ({"WALLIE_ADMIN_TOKEN": "señal"}, "Bearer señal"),
    ],
)
def test_the_token_is_the_environments(
    stand_in: StandIn, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], sent: str | None
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert run("status", "--url", stand_in.url).exit_code == 0
    found = stand_in.asked[0].headers.get("authorization")
    assert (found and found.encode("latin-1").decode()) == sent


def test_a_token_that_fits_in_no_header_is_wrong_use(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WALLIE_ADMIN_TOKEN", "one\ntwo")
    result = run("status", "--url", stand_in.url)
    assert result.exit_code == 2
    assert "token" in one_line_of(result)
    assert stand_in.asked == []


def test_a_proxy_of_the_environment_does_not_see_what_is_for_this_machine(
    stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    assert run("status", "--url", stand_in.url).exit_code == 0


@pytest.mark.parametrize("token", [None, "tops3cret"])
@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            problem(401, "wallie_unauthorized", "x"),
            {None: "a token is needed", "tops3cret": "the token is not accepted"},
        ),
        (problem(403, "wallie_no_token", "only this machine"), "only this machine"),
        (problem(429, "wallie_throttled", "try again in 60 s"), "try again in 60 s"),
        (problem(503, "wallie_no_ledger", "with tops3cret\x1b[2J\nin it"), "in it"),
        (json_answer({"error": {"message": "not ours", "code": "500"}}, 500), "HTTP 500"),
        (json_answer({"detail": "Not Found"}, 404), "no Wallie answers there"),
        (Answer(200, b"<html>"), "no Wallie answers there"),
        (Answer(200, b"[1]"), "no Wallie answers there"),
        (Answer(200, b"[" * 100_000), "no Wallie answers there"),
        (Answer(200, b"\xff\xfe"), "no Wallie answers there"),
        (Answer(307, headers=(("location", "http://elsewhere/"),)), "redirects to http://elsewhere/"),
        (Answer(200, b'{"a": 1', cut=5), "the connection broke"),
        (json_answer({"providers": 3, "store": {}}), "cannot read the answer"),
        (
            json_answer({**STATUS, "providers": {"a": {"health": "down"}}}),
            "cannot read the answer",
        ),
    ],
)
def test_a_bad_answer_is_one_harmless_line(
    stand_in: StandIn,
    monkeypatch: pytest.MonkeyPatch,
    answer: Answer,
    said: str | dict[str | None, str],
    token: str | None,
) -> None:
    if token:
        monkeypatch.setenv("WALLIE_ADMIN_TOKEN", token)
    stand_in.answers[STATUS_PATH] = answer
    result = run("status", "--url", stand_in.url)
    assert result.exit_code == 1
    line = one_line_of(result)
    assert (said if isinstance(said, str) else said[token]) in line
    assert line.startswith(stand_in.url)
    assert line.rstrip("\n").isprintable()
    assert token is None or token not in line
    assert all(asked.path.startswith("/wallie/") for asked in stand_in.asked)


def test_a_refused_connection_is_one_line() -> None:
    result = run("status", "--url", f"http://127.0.0.1:{free_port()}")
    assert result.exit_code == 1
    assert "cannot connect: Connection refused" in one_line_of(result)


@pytest.fixture
def silent() -> Iterator[str]:
    """Takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def test_a_silent_server_is_waited_for_only_until_the_timeout(silent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "ANSWER", 0.2)
    result = run("status", "--url", silent)
    assert result.exit_code == 1
    assert "no answer within 0.2 s" in one_line_of(result)


def test_an_answer_without_end_is_not_read_to_it(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "LARGEST", 1000)
    stand_in.answers[STATUS_PATH] = Answer(200, b'"' + b"x" * 5000 + b'"')
    result = run("status", "--url", stand_in.url)
    assert result.exit_code == 1
    assert "no Wallie answers there" in one_line_of(result)
