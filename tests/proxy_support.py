"""A real LiteLLM proxy as a process, and the little HTTP client that talks to it."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from forked import ForkedProcess, ForkServer
from ports import free_port
from support import SHIPPED, messages, wait_until

MASTER_KEY = "sk-test-master-key-1234567890"
_IMPORTED = (
    "litellm.litellm_core_utils.default_encoding",
    "litellm.proxy.proxy_cli",
    "litellm.proxy.proxy_server",
    "openai.resources",
    "wallie_litellm.dashboard.server",
    "wallie_litellm.proxy.installation",
)
_AUTHENTICATION = """
from litellm.proxy._types import UserAPIKeyAuth

KEYS = {keys!r}


async def check(request, api_key):
    if api_key == {master!r}:
        return UserAPIKeyAuth(api_key=api_key, user_role="proxy_admin")
    return UserAPIKeyAuth(api_key=api_key, **KEYS[api_key])
"""
START_SECONDS = 300  # until a proxy that says nothing is given up; it takes ten on a machine that is free


@dataclass(frozen=True)
class Answer:
    """An HTTP answer, its body as text and, where it is JSON, parsed."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


@dataclass
class Proxy:
    """One running proxy."""

    port: int
    process: subprocess.Popen[bytes] | ForkedProcess
    log: Path

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def send(
        self,
        connection: http.client.HTTPConnection,
        path: str,
        body: Mapping[str, Any],
        headers: Mapping[str, str] = {},
    ) -> None:
        sent = {"content-type": "application/json", "authorization": f"Bearer {MASTER_KEY}", **headers}
        connection.request("POST", path, json.dumps(body), sent)

    def post(self, path: str, body: Mapping[str, Any], headers: Mapping[str, str] = {}) -> Answer:
        connection = self.connect()
        try:
            self.send(connection, path, body, headers)
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, found, response.read().decode())
        finally:
            connection.close()

    def chat(self, model: str, headers: Mapping[str, str] = {}, **body: Any) -> Answer:
        asked = {"model": model, "messages": [{"role": "user", "content": "Hello there"}], **body}
        return self.post("/v1/chat/completions", asked, headers)

    def hang_up(self, connection: http.client.HTTPConnection) -> None:
        """Close ``connection`` at once, whatever is still to come."""
        if connection.sock is not None:
            connection.sock.shutdown(socket.SHUT_RDWR)
        connection.close()

    def warnings(self) -> list[str]:
        """This package's latest lines in the log."""
        return [line for line in self.log.read_text().splitlines() if "wallie_litellm" in line][-20:]

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
        return self.process.wait()


def lay_out(folder: Path, config: Mapping[str, Any]) -> Path:
    """A folder as a user has it: the YAML, and ``callbacks/`` beside it."""
    shutil.copytree(SHIPPED.parent / "callbacks", folder / "callbacks", ignore=shutil.ignore_patterns("__pycache__"))
    path = folder / "router_config.yaml"
    path.write_text(yaml.safe_dump(dict(config)))
    return path


def environment() -> dict[str, str]:
    """What a proxy starts with."""
    mine = {name: value for name, value in os.environ.items() if name != "WALLIE_CONFIG"}
    return {**mine, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MASTER_KEY": MASTER_KEY}


def launch(command: list[str], folder: Path, port: int) -> Proxy:
    """The proxy that ``command`` starts, once it serves."""
    log = folder / "proxy.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=folder, env=environment(), stdout=output, stderr=output)
    return _once_it_serves(Proxy(port, process, log))


def litellm_command(config: Path, port: int) -> list[str]:
    return [executable("litellm"), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]


def proxy_forks() -> ForkServer:
    """Has imported what ``litellm`` imports at its start and at its first requests, which takes it ten seconds."""
    return ForkServer(*_IMPORTED, environment=environment())


# A program that becomes ``python -c CODE`` goes on as that within its process, with what has been imported; worker
# processes are forked from their parent. Otherwise each of them would import LiteLLM again.
_STAY_IMPORTED = """
import multiprocessing, os, sys, uvicorn._subprocess

def execve(path, command, environment):
    os.environ.clear()
    os.environ.update(environment)
    sys.argv[:] = command[1:2] + command[3:]
    exec(command[2], {"__name__": "__main__"})
    sys.exit()

os.execve = execve
uvicorn._subprocess.spawn = multiprocessing.get_context("fork")
"""


def fork(forks: ForkServer, command: list[str], folder: Path, log: Path) -> ForkedProcess:
    """A process that runs ``command``, which is a Python program; what it prints goes to ``log``."""
    program = _STAY_IMPORTED + Path(command[0]).read_text()
    return forks.start(program, folder, arguments=command, output=str(log), environment=environment())


def fork_proxy(forks: ForkServer, config: Path, *options: str) -> Proxy:
    """The proxy of ``litellm --config``, once it serves."""
    port = free_port()
    return fork_command(forks, [*litellm_command(config, port), *options], config.parent, port)


def fork_command(forks: ForkServer, command: list[str], folder: Path, port: int) -> Proxy:
    """The proxy that ``command`` starts, once it serves."""
    log = folder / "proxy.log"
    log.unlink(missing_ok=True)
    return _once_it_serves(Proxy(port, fork(forks, command, folder, log), log))


def fork_proxy_with_keys(
    forks: ForkServer, folder: Path, config: Mapping[str, Any], keys: Mapping[str, Mapping[str, Any]]
) -> Proxy:
    """The proxy of a ``config`` in ``folder`` with virtual ``keys``, each with what LiteLLM knows of it.

    LiteLLM keeps keys in a database; a custom authentication returns the same description of one without it.
    """
    general = {**config.get("general_settings", {}), "custom_auth": "auth.check"}
    path = lay_out(folder, {**config, "general_settings": general})
    (folder / "auth.py").write_text(_AUTHENTICATION.format(keys=dict(keys), master=MASTER_KEY))
    return fork_proxy(forks, path)


def _once_it_serves(proxy: Proxy) -> Proxy:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        if proxy.process.poll() is not None:
            break
        connection = proxy.connect()
        try:
            connection.request("GET", "/health/liveliness")
            if connection.getresponse().status == 200:
                return proxy
        except OSError:
            time.sleep(0.2)
        finally:
            connection.close()
    proxy.stop()
    raise AssertionError(f"the proxy did not start:\n{proxy.log.read_text()[-3000:]}")


def executable(name: str) -> str:
    return str(Path(sys.executable).parent / name)


Row = dict[str, Any]


class RecordedLedger:
    """What is in a proxy's SQLite ledger, by the user that its requests named."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def url(self) -> str:
        return f"sqlite:///{self.path}"

    def select(self, table: str, where: str = "1", *arguments: object) -> list[Row]:
        if not self.path.exists():
            return []
        with closing(sqlite3.connect(self.path)) as connection:
            connection.row_factory = sqlite3.Row
            found = connection.execute(f"SELECT * FROM {table} WHERE {where} ORDER BY id", arguments)  # noqa: S608
            return [_plain(row) for row in found]

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Other connections cannot write meanwhile."""
        with closing(sqlite3.connect(self.path, isolation_level=None, timeout=30)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield
            connection.execute("ROLLBACK")

    def integrity(self) -> str:
        """What SQLite finds wrong with the file: ``ok`` for nothing."""
        with closing(sqlite3.connect(self.path)) as connection:
            found: str = connection.execute("PRAGMA integrity_check").fetchone()[0]
            return found

    def attempts(self, user: str) -> list[Row]:
        return self.select("wallie_attempts", "user_id = ?", user)

    def requests(self, user: str) -> list[Row]:
        return self.select("wallie_requests", "user_id = ?", user)

    def of(self, user: str) -> tuple[list[Row], Row]:
        """The attempts and the request of ``user``, once they are written: the request's record is the last."""
        wait_until(lambda: bool(self.requests(user)))
        (request,) = self.requests(user)
        return self.attempts(user), request


def _plain(row: sqlite3.Row) -> Row:
    found = dict(row)
    return {**found, "metadata": json.loads(found["metadata"])} if "metadata" in found else found


class Crowd:
    """Clients that ask one question after another, half of them for streams, until their proxy is gone."""

    def __init__(self, proxy: Proxy, name: str, clients: int = 20, clock: Callable[[], float] = time.monotonic) -> None:
        self.answered: dict[str, float] = {}  # by user: when the whole answer was there
        self._clock = clock
        self._proxy = proxy
        self._threads = [
            threading.Thread(target=self._ask, args=(f"{name}-{number}", number % 2 == 0), daemon=True)
            for number in range(clients)
        ]
        for thread in self._threads:
            thread.start()

    def leave(self) -> None:
        """Wait until every client has noticed that the proxy does not answer."""
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()

    def _ask(self, name: str, stream: bool) -> None:
        for number in range(10_000):
            user = f"{name}-{number}"
            body = {"model": "gpt-4o-mini", "messages": messages(), "user": user, "stream": stream}
            try:
                answer = self._proxy.post("/v1/chat/completions", body)
            except (OSError, http.client.HTTPException):
                return
            if answer.status != 200 or (stream and "[DONE]" not in answer.text):
                return
            self.answered[user] = self._clock()
