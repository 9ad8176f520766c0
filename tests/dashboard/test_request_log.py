"""The log of requests: found by what is known of them, each with its attempts in order, by programs and by people."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from cli_support import run
from dashboard_support import TOKEN, served
from ledger_support import ended, settled

from wallie_litellm.bootstrap import ledger_sink
from wallie_litellm.config import WallieConfig
from wallie_litellm.events import new_id
from wallie_litellm.guard import Guard
from wallie_litellm.telemetry.bus import Bus

_AGES = {"answered": 60, "rescued": 50, "failed": 40, "old": 90_000, "running": 5}  # seconds since they were opened


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the ledger is, and a configuration that names it."""
    folder = tmp_path_factory.mktemp("log")
    models = "model_list: [{model_name: gpt-4o, litellm_params: {model: openai/gpt-4o}}]"
    text = f'{models}\nwallie: {{ledger: {{url: "sqlite:///{folder}/wallie.db"}}}}\n'
    Path(folder, "router_config.yaml").write_text(text)
    return folder


@pytest.fixture(scope="module")
def log(folder: Path) -> Iterator[tuple[httpx.Client, dict[str, str]]]:
    config = WallieConfig.model_validate(
        {"ledger": {"url": f"sqlite:///{folder}/wallie.db"}, "telemetry": {"spool": str(Path(folder, "spool"))}}
    )
    bus = Bus()
    guard = Guard(config, bus=bus)
    sink = ledger_sink(config)
    assert sink is not None
    bus.add(sink)
    now = time.time()
    ids = {name: new_id(now - age) for name, age in _AGES.items()}

    def call(name: str, number: int, **more: Any) -> Any:
        at = more.pop("at", now - {"answered": 30, "rescued": 20, "failed": 10}.get(name, 0) + number)
        return settled(at=at, request_id=ids[name], number=number, metadata={"conversationId": "<b>7</b>"}, **more)

    broken = {"success": False, "outcome": "server_error", "error": "HTTP 503", "status_code": 503, "cost_usd": 0.0}
    rescue = call(
        "rescued", 2, provider="anthropic", model="claude-sonnet-4", feature="chat", user_id="jorge", proxy_key="batch"
    )
    for event in (
        answered := call("answered", 1, feature="chat", user_id="maria"),
        ended(answered),
        first := call("rescued", 1, feature="chat", user_id="jorge", **broken),
        rescue,
        ended(first, rescue),
        lost := call("failed", 1, feature="nightly", user_id="maria", **{**broken, "error": "HTTP 500: 100% <i>"}),
        ended(lost),
        old := call("old", 1, at=now - 90_000, feature="chat", user_id="maria"),
        ended(old),
        call("running", 1, feature="chat", **broken),
    ):
        bus.publish(event)
    assert bus.flush_blocking(20)
    with served(guard, (TOKEN,)) as address:
        headers = {"authorization": f"Bearer {TOKEN}"}
        with httpx.Client(base_url=address, headers=headers, timeout=30) as client:
            yield client, ids
    guard.close()


Log = tuple[httpx.Client, dict[str, str]]


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        ({}, ["failed", "rescued", "answered"]),
        ({"range": "7d"}, ["failed", "rescued", "answered", "old"]),
        ({"since": "30h", "until": "20h"}, ["old"]),
        ({"user": "maria"}, ["failed", "answered"]),
        ({"feature": "chat", "user": "jorge"}, ["rescued"]),
        ({"key": "batch"}, ["rescued"]),
        ({"provider": "anthropic"}, ["rescued"]),
        ({"failed": "true"}, ["failed"]),
        ({"error": "100% <I>"}, ["failed"]),
        ({"error": "10_%"}, []),
        ({"model": "nothing"}, []),
    ],
)
def test_requests_are_found_by_what_is_known_of_them(log: Log, asked: dict[str, str], names: list[str]) -> None:
    client, ids = log
    answer = client.get("api/requests", params=asked)
    assert answer.status_code == 200, answer.text
    known = {value: name for name, value in ids.items()}
    assert [known[row["request_id"]] for row in answer.json()["requests"]] == names


def test_pages_follow_each_other(log: Log) -> None:
    client, _ = log
    seen, before = [], ""
    while before is not None:
        answer = client.get("api/requests", params={"limit": 1, "before": before}).json()
        seen += [row["id"] for row in answer["requests"]]
        before = answer["before"]
    assert len(seen) == 3
    assert seen == sorted(seen, reverse=True)


def test_a_request_has_its_attempts_in_order(log: Log) -> None:
    client, ids = log
    found = client.get(f"api/requests/{ids['rescued']}").json()
    assert found["request"]["used_fallback"] is True
    assert [(call["number"], call["provider"], call["error"]) for call in found["attempts"]] == [
        (1, "openai", "HTTP 503"),
        (2, "anthropic", None),
    ]


def test_of_a_request_under_way_its_attempts_so_far_are_shown(log: Log) -> None:
    client, ids = log
    found = client.get(f"api/requests/{ids['running']}").json()
    assert (found["request"], [call["error"] for call in found["attempts"]]) == (None, ["HTTP 503"])
    page = client.get(f"requests/{ids['running']}")
    assert (page.status_code, page.text.count("data-attempt=")) == (200, 1)
    assert "This request is under way" in page.text
    assert "This request is under way" not in client.get(f"requests/{ids['rescued']}").text


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("api/requests/nothing", 422, "wallie_bad_request"),
        ("api/requests/01a221619dc7-b2475064d0-ffffff", 404, "wallie_unknown_request"),
        ("api/requests?range=2d", 422, "wallie_bad_request"),
        ("api/requests?limit=0", 422, "wallie_bad_request"),
    ],
)
def test_a_question_that_makes_no_sense_is_told_so(log: Log, path: str, status: int, code: str) -> None:
    answer = log[0].get(path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


def test_people_see_the_same_with_everything_escaped(log: Log) -> None:
    client, ids = log
    page = client.get("requests?user=maria&error=%3Ci%3E").text
    assert f'data-request="{ids["failed"]}"' in page
    assert ids["answered"] not in page
    assert "100% &lt;i&gt;" in page
    assert 'value="&lt;i&gt;"' in page
    one = client.get(f"requests/{ids['rescued']}", headers={"accept-language": "es"}).text
    assert one.index('data-attempt="1"') < one.index('data-attempt="2"')
    assert "&lt;b&gt;7&lt;/b&gt;" in one
    assert "Intentos, en orden" in one
    assert "Hora (UTC)" in one
    assert re.search(r"Clave<.{1,40}>batch<", one, re.DOTALL)
    assert client.get("requests?key=batch").text.count("data-request=") == 1
    assert "{" not in page + one
    assert client.get("requests/nothing").status_code == 404


def test_a_providers_page_has_its_errors_models_and_failures_with_their_requests(log: Log) -> None:
    client, ids = log
    page = client.get("providers/openai").text
    failed = page.partition('id="panel-failures"')[2]
    assert [name for name in ids if ids[name] in failed] == ["rescued", "failed", "running"]
    assert f'href="/wallie/requests/{ids["rescued"]}"' in failed
    assert "HTTP 503" in page.partition('id="panel-kinds"')[2].partition("</section>")[0]
    assert "HTTP 500: 100% &lt;i&gt;" in page
    assert 'data-model="gpt-4o-mini"' in page
    assert 'data-field="attempts" data-value="4"' in page
    assert 'data-dimension="rpd"' in page
    assert "confirm?action=open_circuit&amp;provider=openai" in page
    assert client.get("providers/nothing").status_code == 404
    assert client.get("providers/no%2Fthing%23").status_code == 404


def test_a_providers_page_and_its_api_have_the_same_of_any_range(log: Log) -> None:
    client, ids = log
    for query, attempts, failed in (
        ("range=7d", 5, ["rescued", "failed", "running"]),
        ("since=26h&until=24h", 1, []),
        ("range=1h", 4, ["rescued", "failed", "running"]),
    ):
        page = client.get(f"providers/openai?{query}").text
        found = client.get(f"api/providers/openai?{query}").json()
        assert f'data-field="attempts" data-value="{attempts}"' in page
        assert found["total"]["attempts"] == sum(sum(one["attempts"].values()) for one in found["points"]) == attempts
        assert {one["request_id"] for one in found["failures"]} == {ids[name] for name in failed}
        assert [name for name in ids if f"requests/{ids[name]}" in page] == failed
    assert [(one["error"], one["count"]) for one in found["errors"]] == [("HTTP 503", 2), ("HTTP 500: 100% <i>", 1)]
    assert found["present"]["breaker"]["state"] == "closed"
    assert [one["name"] for one in found["models"]] == ["gpt-4o-mini"]
    assert 'aria-current="page">1 hour' in page
    panels = client.get("panels?range=1h&provider=openai&by=user")
    assert panels.text.partition("<p class=")[2].partition("</p>")[0] in page
    again = client.get(f"panels?range=1h&provider=openai&after={panels.headers['x-wallie-version']}")
    assert again.status_code in (200, 204)
    assert client.get("providers/anthropic?since=26h&until=24h").status_code == 200
    assert client.get("providers/openai?range=2026-11-21..2026-11-20").status_code == 422
    assert client.get("api/providers/openai?range=2h").status_code == 422


def test_the_command_tells_the_same_of_a_server_and_of_its_ledger(
    log: Log, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, ids = log
    monkeypatch.setenv("WALLIE_ADMIN_TOKEN", TOKEN)
    server, file = ("--url", str(client.base_url)), ("--config", folder / "router_config.yaml")
    for options in (
        ("--user", "maria", "--since", "7d"),
        ("--key", "batch"),
        ("--failed", "--error", "100% <I>", "--json"),
        ("--feature", "chat", "--provider", "anthropic", "--model", "gpt-4o-mini"),
        ("--limit", 1, "--since", "30h", "--until", "20h"),
        (ids["rescued"],),
        (ids["rescued"], "--json"),
        (ids["running"],),
        (ids["running"], "--json"),
    ):
        told, read = run("requests", *options, *server), run("requests", *options, *file)
        assert (told.exit_code, told.stderr) == (0, "")
        assert told.stdout == read.stdout
    listed = run("requests", *file).stdout.splitlines()
    assert [line.split()[2] for line in listed[1:]] == [ids["failed"], ids["rescued"], ids["answered"]]
    attempts = run("requests", ids["rescued"], *server).stdout.splitlines()[-2:]
    assert [(line.split()[0], "HTTP 503" in line, "anthropic" in line) for line in attempts] == [
        ("1", True, False),
        ("2", False, True),
    ]


@pytest.mark.parametrize("where", ["server", "ledger"])
def test_the_command_says_that_a_request_is_not_on_record(
    log: Log, folder: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.setenv("WALLIE_ADMIN_TOKEN", TOKEN)
    place = ("--url", str(log[0].base_url)) if where == "server" else ("--config", folder / "router_config.yaml")
    gone = run("requests", "01a221619dc7-b2475064d0-ffffff", *place)
    assert (gone.exit_code, gone.stdout) == (1, "")
    assert "is on record" in gone.stderr
    wrong = run("requests", "nothing", *place)
    assert wrong.exit_code in (1, 2)
    assert "x-wallie-request-id" in wrong.stderr


def test_the_log_is_for_operators_alone(log: Log) -> None:
    with httpx.Client(base_url=log[0].base_url) as stranger:
        assert stranger.get("api/requests").status_code == 401
        for path in ("providers/openai", "requests"):
            assert stranger.get(path).headers["location"].endswith(f"/wallie/login?next={quote(path, safe='')}")
