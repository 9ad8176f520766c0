"""An operator's actions by command: on a running proxy, and on a fleet through Redis, on record."""

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
from wallie_litellm.core.provider_names import key_digest
from wallie_litellm.guard import Guard
from wallie_litellm.ledger.schema import actions, transitions
from wallie_litellm.limiter.redis.layout import WORKERS

CONFIG: dict[str, Any] = {**SECTIONS, "breaker": {"failures": 5, "open_for": 20}}

# On a running proxy or dashboard


@pytest.mark.parametrize(
    ("command", "path"),
    [
        ("reset-quota", "quota/reset"),
        ("close-circuit", "circuit/close"),
        ("open-circuit", "circuit/open"),
        ("release-circuit", "circuit/release"),
    ],
)
def test_a_server_receives_the_actor_and_the_reason(stand_in: StandIn, command: str, path: str) -> None:
    where = f"/wallie/api/providers/openai/{path}"
    stand_in.answers["POST", where] = json_answer({"message": "openai: done.", "actor": "maría (api, ::1)"})
    result = run(command, "openai", "--url", stand_in.url, "--yes", "--actor", "50% maría", "--reason", "it is late")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "openai: done. Done by maría (api, ::1).\n"
    (asked,) = stand_in.asked
    assert json.loads(asked.body) == {"reason": "it is late"}
    assert asked.headers["x-wallie-actor"] == "50%25 mar%C3%ADa"


def test_a_server_is_told_the_model(stand_in: StandIn) -> None:
    stand_in.answers["POST", "/wallie/api/providers/openai/circuit/open"] = json_answer({})
    result = run("open-circuit", "openai", "--model", "gpt-4o", "--url", stand_in.url, "--yes", "--actor", "ann")
    assert result.stdout == "openai gpt-4o: open-circuit done. Done by ann.\n"
    assert json.loads(stand_in.asked[0].body) == {"model": "gpt-4o"}


def test_the_actor_is_the_user_of_this_machine_unless_given(stand_in: StandIn) -> None:
    stand_in.answers["POST", "/wallie/api/providers/a%2Fb/circuit/open"] = json_answer({"message": "x"})
    assert run("open-circuit", "a/b", "--url", stand_in.url, "--yes").exit_code == 0
    actor = f"{getpass.getuser()}@{socket.gethostname()}"
    assert stand_in.asked[0].headers["x-wallie-actor"] == actor
    assert json.loads(stand_in.asked[0].body) == {}


def test_a_user_id_without_a_name_acts_as_cli(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_name() -> str:
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setattr(getpass, "getuser", no_name)
    stand_in.answers["POST", "/wallie/api/providers/openai/circuit/open"] = json_answer({"message": "x"})
    assert run("open-circuit", "openai", "--url", stand_in.url, "--yes").exit_code == 0
    assert stand_in.asked[0].headers["x-wallie-actor"] == f"cli@{socket.gethostname()}"


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (problem(404, "wallie_unknown_provider", "unknown provider 'x'; known: openai"), 2),
        (problem(409, "wallie_read_only", "the limits are elsewhere"), 1),
        (problem(403, "wallie_forbidden", "no"), 1),
        (json_answer({"detail": "Not Found"}, 404), 1),
    ],
)
def test_the_refusal_of_a_server_is_one_line(stand_in: StandIn, answer: Any, code: int) -> None:
    stand_in.answers["POST", "/wallie/api/providers/x/circuit/open"] = answer
    result = run("open-circuit", "x", "--url", stand_in.url, "--yes")
    assert result.exit_code == code
    assert one_line_of(result)


def test_an_action_without_an_answer_may_have_been_carried_out(stand_in: StandIn) -> None:
    stand_in.answers["POST", "/wallie/api/providers/x/circuit/open"] = json_answer({}, cut=5)
    result = run("open-circuit", "x", "--url", stand_in.url, "--yes")
    assert result.exit_code == 1
    assert "not known" in result.stderr


# Confirmation


def test_without_a_terminal_nothing_is_done_unless_yes_is_given(stand_in: StandIn) -> None:
    result = run("open-circuit", "openai", "--url", stand_in.url, input="y\n")
    assert result.exit_code == 2
    assert "--yes" in one_line_of(result)
    assert stand_in.asked == []


@pytest.mark.parametrize(("said", "code"), [("y\n", 0), ("n\n", 1), ("\n", 1), ("", 1)])
def test_at_a_terminal_the_action_is_confirmed(
    stand_in: StandIn, monkeypatch: pytest.MonkeyPatch, said: str, code: int
) -> None:
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda _self: True, raising=False)
    stand_in.answers["POST", "/wallie/api/providers/openai/circuit/open"] = json_answer({"message": "x"})
    result = run("open-circuit", "openai", "--url", stand_in.url, input=said)
    assert result.exit_code == code
    assert "Stop traffic: let no request through to openai any more? [y/N]" in result.output
    assert len(stand_in.asked) == (code == 0)


# Through Redis

Act = Callable[..., Result]


@pytest.fixture
def ledger(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/wallie.db"


@pytest.fixture
def act(tmp_path: Path, ledger: str) -> Act:
    """Runs a command over a configuration, in a thread of its own."""

    def on_fleet(url: str, *arguments: str, **sections: Any) -> Result:
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

    return on_fleet


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
    server: RedisServer, worker: Guard, act: Act, ledger: str
) -> None:
    result = act(server.url, "open-circuit", "openai", "--reason", "their\tstatus page")
    assert result.exit_code == 0, result.output
    assert result.stdout == "openai: circuit forced open (was closed). On record as maria@host.\n"
    wait_until(lambda: state_of(worker) == "forced_open")

    result = act(server.url, "release-circuit", "openai")
    said = "openai: circuit half open (was forced open): the next request is a probe. On record as maria@host.\n"
    assert (result.exit_code, result.stdout, result.stderr) == (0, said, "")
    wait_until(lambda: state_of(worker) == "half_open")

    result = act(server.url, "close-circuit", "openai")
    assert result.stdout == "openai: circuit closed (was half open). On record as maria@host.\n"
    wait_until(lambda: state_of(worker) == "closed")

    result = act(server.url, "release-circuit", "openai")
    assert result.stdout == "openai: circuit closed; it was not forced open. On record as maria@host.\n"

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


def test_a_quota_that_is_being_used_is_reset(server: RedisServer, worker: Guard, act: Act) -> None:
    worker.update_usage("openai", requests=40, tokens=100)
    wait_until(lambda: worker.status()["providers"]["openai"]["quota"]["rpd"]["used"] == 40)
    ends = threading.Event()

    def go_on() -> None:
        while not ends.wait(0.01):
            worker.update_usage("openai", requests=1, tokens=1)

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        result = act(server.url, "reset-quota", "openai")
    finally:
        ends.set()
        thread.join()
    assert (result.exit_code, result.stdout) == (0, "openai: quota reset. On record as maria@host.\n"), result.output
    wait_until(lambda: worker.status()["store"]["exchanges"]["openai"] > 0)
    assert worker.status()["providers"]["openai"]["quota"]["rpd"]["used"] > 0

    assert act(server.url, "reset-quota", "openai").exit_code == 0
    wait_until(lambda: worker.status()["providers"]["openai"]["quota"]["rpd"]["used"] == 0)


def test_an_action_leaves_no_worker_behind(server: RedisServer, worker: Guard, act: Act) -> None:
    wait_until(lambda: _workers(server) == {worker.status()["store"]["worker"]})
    assert act(server.url, "open-circuit", "openai").exit_code == 0
    assert _workers(server) == {worker.status()["store"]["worker"]}


def _workers(server: RedisServer) -> set[str]:
    with server.client() as client:
        return {name.decode() for name in client.hkeys(WORKERS)}


def test_actions_reach_a_provider_that_only_a_model_names(server: RedisServer, act: Act) -> None:
    models = [{**MODELS[0], "model_info": {"wallie_provider": "openai-eu"}}]
    result = act(server.url, "open-circuit", "openai-eu", models=models)
    assert result.stdout == "openai-eu: circuit forced open (was closed). On record as maria@host.\n"
    assert "the ledger" not in result.stdout
    result = act(server.url, "open-circuit", "openai-eu", models=models)
    assert result.stdout == "openai-eu: circuit forced open (was forced open). On record as maria@host.\n"


def test_actions_reach_all_keys_of_a_provider_or_one(server: RedisServer, worker: Guard, act: Act) -> None:
    keys = ["sk-one-0123456789", "sk-two-0123456789"]
    models = [{"model_name": "gpt", "litellm_params": {"model": "openai/gpt-4o", "api_key": key}} for key in keys]
    accounts = [f"openai#{key_digest('openai', {'api_key': key}, {})}" for key in keys]
    for account in accounts:
        worker.meet("openai", account, at_own_address=True)

    def states() -> list[str]:
        found = worker.status()["providers"]["openai"]["accounts"]
        return [found[account.removeprefix("openai#")]["breaker"]["state"] for account in accounts]

    for account in accounts:
        result = act(server.url, "open-circuit", account, models=models)
        assert result.stdout == f"{account}: circuit forced open (was closed). On record as maria@host.\n"
    wait_until(lambda: states() == ["forced_open"] * 2)
    assert act(server.url, "close-circuit", accounts[0], models=models).exit_code == 0
    wait_until(lambda: states() == ["closed", "forced_open"])
    assert act(server.url, "reset-quota", "openai", models=models).exit_code == 0
    assert act(server.url, "close-circuit", "openai", models=models).exit_code == 0
    wait_until(lambda: states() == ["closed"] * 2)


def test_actions_reach_one_model_and_those_on_a_provider_reach_its_models(
    server: RedisServer, worker: Guard, act: Act
) -> None:
    models = [{"model_name": "gpt", "litellm_params": {"model": "openai/gpt-4o", "api_key": "sk-1"}}]
    worker.meet("openai", "openai", at_own_address=True, scope="openai|gpt-4o")

    def states() -> tuple[bool, bool]:
        return worker.is_open("openai|gpt-4o"), worker.is_open("openai|other")

    result = act(server.url, "open-circuit", "openai", "--model", "gpt", models=models)
    said = "openai gpt: circuit forced open (was closed). On record as maria@host.\n"
    assert (result.exit_code, result.stdout) == (0, said), result.output
    wait_until(lambda: states() == (True, False))
    result = act(server.url, "release-circuit", "openai", "--model", "openai/gpt-4o", models=models)
    assert "circuit half open (was forced open)" in result.stdout, result.output
    wait_until(lambda: states() == (False, False))
    worker.open_circuit("openai", model="gpt-4o")
    wait_until(lambda: states() == (True, False))
    result = act(server.url, "close-circuit", "openai", models=models)
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    wait_until(lambda: states() == (False, False))
    result = act(server.url, "open-circuit", "openai", "--model", "gpt-5", models=models)
    assert result.exit_code == 2
    assert one_line_of(result) == "unknown model 'gpt-5' of openai; known: gpt-4o\n"


def test_a_new_ledger_is_pointed_out_once(server: RedisServer, act: Act, tmp_path: Path) -> None:
    assert str(tmp_path / "wallie.db") in act(server.url, "open-circuit", "openai").stderr
    assert act(server.url, "open-circuit", "openai").stderr == ""


def test_an_action_that_is_not_on_record_says_so(server: RedisServer, act: Act, tmp_path: Path) -> None:
    result = act(server.url, "open-circuit", "openai", ledger=None)
    assert (result.exit_code, result.stdout) == (0, "openai: circuit forced open (was closed).\n")
    assert result.stderr == "note: not on record, as no ledger is kept\n"
    away = {"url": f"postgresql://me:{PASSWORD}@127.0.0.1:{free_port()}/wallie"}
    result = act(server.url, "close-circuit", "openai", ledger=away)
    assert (result.exit_code, result.stdout) == (0, "openai: circuit closed (was forced open).\n")
    assert "not on record yet" in result.stderr
    assert PASSWORD not in result.output
    assert list((tmp_path / "spool").iterdir())


def test_an_unknown_provider_is_wrong_use(server: RedisServer, act: Act) -> None:
    result = act(server.url, "open-circuit", "opnai\x1b")
    assert result.exit_code == 2
    line = one_line_of(result)
    assert line.startswith("unknown provider 'opnai\\x1b'; known: ")
    assert line.endswith("openai, spare\n")
    assert _workers(server) == set()


def test_limits_of_one_process_are_out_of_reach_of_another(act: Act) -> None:
    result = act("memory", "open-circuit", "openai")
    assert result.exit_code == 2
    assert "limits are per process; name a running one with --url or WALLIE_URL" in one_line_of(result)


def test_a_wrong_configuration_is_refused(act: Act) -> None:
    result = act("memory", "open-circuit", "openai", breaker={"failures": 0})
    assert result.exit_code == 2
    assert "wallie.breaker.failures" in one_line_of(result)


def test_an_unreachable_redis_is_one_line_without_the_password(act: Act, ledger: str) -> None:
    result = act(f"redis://:{PASSWORD}@127.0.0.1:{free_port()}/0", "open-circuit", "openai")
    assert result.exit_code == 1
    line = one_line_of(result)
    assert "Connection refused" in line
    assert PASSWORD not in line


def test_an_action_that_redis_refuses_is_not_reported_as_done(server: RedisServer, act: Act) -> None:
    def open_circuit() -> None:
        results.append(act(server.url, "open-circuit", "openai"))

    results: list[Result] = []
    with server.client() as client:
        client.config_set("maxmemory", "1")
        try:
            open_circuit()
        finally:
            client.config_set("maxmemory", "0")
    assert results[0].exit_code == 1
    assert "On record" not in results[0].output
