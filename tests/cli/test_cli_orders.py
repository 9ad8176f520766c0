"""An operator's orders by command: to a running proxy, and through Redis to a fleet, on record."""

from __future__ import annotations

import getpass
import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cli_support import StandIn, json_answer, one_line_of, problem, run
from click.testing import Result
from ledger_support import rows
from ports import free_port
from redis_support import RedisServer
from sqlalchemy import select
from status_support import MODELS, PASSWORD, SECTIONS
from support import wait_until

from wallie_litellm.config import WallieConfig
from wallie_litellm.guard import Guard
from wallie_litellm.ledger.schema import actions, transitions
from wallie_litellm.limiter.redis.layout import WORKERS

CONFIG: dict[str, Any] = {**SECTIONS, "breaker": {"failures": 5, "open_for": 20}}

# To a running one


@pytest.mark.parametrize(
    ("command", "path"),
    [
        ("reset-quota", "quota/reset"),
        ("close-circuit", "circuit/close"),
        ("open-circuit", "circuit/open"),
        ("release-circuit", "circuit/release"),
    ],
)
def test_a_running_one_is_told_who_and_why(running_one: StandIn, command: str, path: str) -> None:
    where = f"/wallie/api/providers/openai/{path}"
    running_one.answers["POST", where] = json_answer({"message": "openai: done.", "actor": "maría (api, ::1)"})
    result = run(command, "openai", "--url", running_one.url, "--yes", "--actor", "50% maría", "--reason", "it is late")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "openai: done. Ordered by maría (api, ::1).\n"
    (asked,) = running_one.asked
    assert json.loads(asked.body) == {"reason": "it is late"}
    assert asked.headers["x-wallie-actor"] == "50%25 mar%C3%ADa"


def test_the_actor_is_the_user_of_this_machine_unless_given(running_one: StandIn) -> None:
    running_one.answers["POST", "/wallie/api/providers/a%2Fb/circuit/open"] = json_answer({"message": "x"})
    assert run("open-circuit", "a/b", "--url", running_one.url, "--yes").exit_code == 0
    who = f"{getpass.getuser()}@{socket.gethostname()}"
    assert running_one.asked[0].headers["x-wallie-actor"] == who
    assert json.loads(running_one.asked[0].body) == {}


def test_a_user_without_a_name_can_order_too(running_one: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setattr(getpass, "getuser", nobody)
    running_one.answers["POST", "/wallie/api/providers/openai/circuit/open"] = json_answer({"message": "x"})
    assert run("open-circuit", "openai", "--url", running_one.url, "--yes").exit_code == 0
    assert running_one.asked[0].headers["x-wallie-actor"] == f"cli@{socket.gethostname()}"


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (problem(404, "wallie_unknown_provider", "unknown provider 'x'; known: openai"), 2),
        (problem(409, "wallie_read_only", "the limits are elsewhere"), 1),
        (problem(403, "wallie_forbidden", "no"), 1),
        (json_answer({"detail": "Not Found"}, 404), 1),
    ],
)
def test_what_a_running_one_refuses_is_one_line(running_one: StandIn, answer: Any, code: int) -> None:
    running_one.answers["POST", "/wallie/api/providers/x/circuit/open"] = answer
    result = run("open-circuit", "x", "--url", running_one.url, "--yes")
    assert result.exit_code == code
    assert one_line_of(result)


def test_an_order_without_an_answer_may_have_been_carried_out(running_one: StandIn) -> None:
    running_one.answers["POST", "/wallie/api/providers/x/circuit/open"] = json_answer({}, cut=5)
    result = run("open-circuit", "x", "--url", running_one.url, "--yes")
    assert result.exit_code == 1
    assert "not known" in result.stderr


# Whether it is meant


def test_without_a_terminal_it_is_not_done_unless_said_to_be_meant(running_one: StandIn) -> None:
    result = run("open-circuit", "openai", "--url", running_one.url, input="y\n")
    assert result.exit_code == 2
    assert "--yes" in one_line_of(result)
    assert running_one.asked == []


@pytest.mark.parametrize(("said", "code"), [("y\n", 0), ("n\n", 1), ("\n", 1), ("", 1)])
def test_at_a_terminal_it_is_asked(running_one: StandIn, monkeypatch: pytest.MonkeyPatch, said: str, code: int) -> None:
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda _self: True, raising=False)
    running_one.answers["POST", "/wallie/api/providers/openai/circuit/open"] = json_answer({"message": "x"})
    result = run("open-circuit", "openai", "--url", running_one.url, input=said)
    assert result.exit_code == code
    assert "Let no request through to openai any more? [y/N]" in result.output
    assert len(running_one.asked) == (code == 0)


# Through Redis

Order = Callable[..., Result]


@pytest.fixture
def ledger(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/wallie.db"


@pytest.fixture
def order(tmp_path: Path, ledger: str) -> Order:
    """Runs a command over a configuration, in a thread of its own."""

    def give(url: str, *arguments: str, **sections: Any) -> Result:
        wallie = {**CONFIG, "store": {"url": url}, "telemetry": {"spool": str(tmp_path / "spool")}}
        wallie |= {"ledger": {"url": ledger}, **sections}
        models = wallie.pop("models", MODELS)
        file = tmp_path / "router_config.yaml"
        file.write_text(yaml.safe_dump({"model_list": models, "wallie": wallie}))
        results: list[Result] = []
        options = ("--config", str(file), "--yes", "--actor", "maria@host")
        thread = threading.Thread(target=lambda: results.append(run(*arguments, *options)))
        thread.start()
        thread.join()
        return results[0]

    return give


@pytest.fixture
def worker(server: RedisServer) -> Iterator[Guard]:
    guard = Guard(WallieConfig(**CONFIG, store={"url": server.url}))
    wait_until(lambda: guard.status()["store"]["state"] == "ok")
    yield guard
    guard.close()


def state_of(guard: Guard, provider: str = "openai") -> str:
    found: str = guard.status()["providers"][provider]["breaker"]["state"]
    return found


def test_a_circuit_is_opened_released_and_closed_for_the_whole_fleet(
    server: RedisServer, worker: Guard, order: Order, ledger: str
) -> None:
    result = order(server.url, "open-circuit", "openai", "--reason", "their\tstatus page")
    assert result.exit_code == 0, result.output
    assert result.stdout == "openai: circuit forced open (was closed). On record as maria@host.\n"
    wait_until(lambda: state_of(worker) == "forced_open")

    result = order(server.url, "release-circuit", "openai")
    said = "openai: circuit half open (was forced open): the next request is a probe. On record as maria@host.\n"
    assert (result.exit_code, result.stdout, result.stderr) == (0, said, "")
    wait_until(lambda: state_of(worker) == "half_open")

    result = order(server.url, "close-circuit", "openai")
    assert result.stdout == "openai: circuit closed (was half open). On record as maria@host.\n"
    wait_until(lambda: state_of(worker) == "closed")

    result = order(server.url, "release-circuit", "openai")
    assert result.stdout == "openai: circuit closed; no order held it. On record as maria@host.\n"

    found = rows(ledger, select(actions.c.actor, actions.c.action, actions.c.provider, actions.c.detail))
    assert sorted(map(tuple, found), key=str) == [
        ("maria@host", "close_circuit", "openai", None),
        ("maria@host", "open_circuit", "openai", "theirstatus page"),
        ("maria@host", "release_circuit", "openai", None),
        ("maria@host", "release_circuit", "openai", None),
    ]
    columns = transitions.c.before, transitions.c.after
    changes = rows(ledger, select(*columns).where(transitions.c.type == "breaker").order_by(transitions.c.id))
    assert list(map(tuple, changes)) == [
        ("closed", "forced_open"),
        ("forced_open", "half_open"),
        ("half_open", "closed"),
    ]


def test_a_quota_that_is_being_used_is_reset(server: RedisServer, worker: Guard, order: Order) -> None:
    worker.update_usage("openai", requests=40, tokens=100)
    wait_until(lambda: worker.status()["providers"]["openai"]["quota"]["rpd"]["used"] == 40)
    ends = threading.Event()

    def go_on() -> None:
        while not ends.wait(0.01):
            worker.update_usage("openai", requests=1, tokens=1)

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        result = order(server.url, "reset-quota", "openai")
    finally:
        ends.set()
        thread.join()
    assert (result.exit_code, result.stdout) == (0, "openai: quota reset. On record as maria@host.\n"), result.output
    wait_until(lambda: worker.status()["store"]["exchanges"]["openai"] > 0)
    assert worker.status()["providers"]["openai"]["quota"]["rpd"]["used"] > 0

    assert order(server.url, "reset-quota", "openai").exit_code == 0
    wait_until(lambda: worker.status()["providers"]["openai"]["quota"]["rpd"]["used"] == 0)


def test_who_gave_the_order_leaves_nothing_behind(server: RedisServer, worker: Guard, order: Order) -> None:
    wait_until(lambda: _workers(server) == {worker.status()["store"]["worker"]})
    assert order(server.url, "open-circuit", "openai").exit_code == 0
    assert _workers(server) == {worker.status()["store"]["worker"]}


def _workers(server: RedisServer) -> set[str]:
    with server.client() as client:
        return {name.decode() for name in client.hkeys(WORKERS)}


def test_a_provider_that_only_a_model_names_takes_orders_too(server: RedisServer, order: Order) -> None:
    models = [{**MODELS[0], "model_info": {"wallie_provider": "openai-eu"}}]
    result = order(server.url, "open-circuit", "openai-eu", models=models)
    assert result.stdout == "openai-eu: circuit forced open (was closed). On record as maria@host.\n"
    assert "the ledger" not in result.stdout
    result = order(server.url, "open-circuit", "openai-eu", models=models)
    assert result.stdout == "openai-eu: circuit forced open (was forced open). On record as maria@host.\n"


def test_a_new_ledger_is_pointed_out_once(server: RedisServer, order: Order, tmp_path: Path) -> None:
    assert str(tmp_path / "wallie.db") in order(server.url, "open-circuit", "openai").stderr
    assert order(server.url, "open-circuit", "openai").stderr == ""


def test_an_order_that_is_not_on_record_says_so(server: RedisServer, order: Order, tmp_path: Path) -> None:
    result = order(server.url, "open-circuit", "openai", ledger=None)
    assert (result.exit_code, result.stdout) == (0, "openai: circuit forced open (was closed).\n")
    assert result.stderr == "note: not on record, as no ledger is kept\n"
    away = {"url": f"postgresql://me:{PASSWORD}@127.0.0.1:{free_port()}/wallie"}
    result = order(server.url, "close-circuit", "openai", ledger=away)
    assert (result.exit_code, result.stdout) == (0, "openai: circuit closed (was forced open).\n")
    assert "not on record yet" in result.stderr
    assert PASSWORD not in result.output
    assert list((tmp_path / "spool").iterdir())


def test_an_unknown_provider_is_wrong_use(server: RedisServer, order: Order) -> None:
    result = order(server.url, "open-circuit", "opnai\x1b")
    assert result.exit_code == 2
    line = one_line_of(result)
    assert line.startswith("unknown provider 'opnai\\x1b'; known: ")
    assert line.endswith("openai, spare\n")
    assert _workers(server) == set()


def test_limits_of_one_process_take_no_orders_from_here(order: Order) -> None:
    result = order("memory", "open-circuit", "openai")
    assert result.exit_code == 2
    assert "limits are per process; name a running one with --url or WALLIE_URL" in one_line_of(result)


def test_a_wrong_configuration_is_refused(order: Order) -> None:
    result = order("memory", "open-circuit", "openai", breaker={"failures": 0})
    assert result.exit_code == 2
    assert "wallie.breaker.failures" in one_line_of(result)


def test_redis_away_is_one_line_without_the_password(order: Order, ledger: str) -> None:
    result = order(f"redis://:{PASSWORD}@127.0.0.1:{free_port()}/0", "open-circuit", "openai")
    assert result.exit_code == 1
    line = one_line_of(result)
    assert "Connection refused" in line
    assert PASSWORD not in line


def test_a_redis_that_refuses_the_order_is_not_said_to_have_it(server: RedisServer, order: Order) -> None:
    def give() -> None:
        results.append(order(server.url, "open-circuit", "openai"))

    results: list[Result] = []
    with server.client() as client:
        client.config_set("maxmemory", "1")
        try:
            give()
        finally:
            client.config_set("maxmemory", "0")
    assert results[0].exit_code == 1
    assert "On record" not in results[0].output
