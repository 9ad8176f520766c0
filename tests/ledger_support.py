"""What the ledger's tests share: a real PostgreSQL server, and events to write."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from wallie_litellm.core.demand import Demand
from wallie_litellm.events import Ended, Settled, new_id

# The wheel is wanted for its programs alone; importing it would start to manage servers.
_WHEEL = find_spec("pgserver")
assert _WHEEL is not None
assert _WHEEL.origin is not None
_BINARIES = Path(_WHEEL.origin).parent / "pginstall" / "bin"

_numbers = itertools.count()


class PostgresServer:
    """A server on 127.0.0.1 with a data directory of its own. What a test may do to it can be undone by ``start``."""

    def __init__(self) -> None:
        self._home = Path(tempfile.mkdtemp(prefix="wallie-postgres-"))
        self._data = self._home / "data"
        # PostgreSQL refuses to be run by root.
        self._user = "nobody" if os.geteuid() == 0 else None
        if self._user is not None:
            shutil.chown(self._home, self._user)
        self._run("initdb", "-D", self._data, "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--no-sync")
        self.port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.kill()
        shutil.rmtree(self._home)

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def new_database(self) -> str:
        """The URL of a new, empty database."""
        name = f"test_{next(_numbers)}"
        self.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def execute(self, sql: str, database: str = "postgres") -> str:
        """Run ``sql`` through psql; returns what it printed, rows alone."""
        return self._run("psql", self.url(database), "-v", "ON_ERROR_STOP=1", "-qAtc", sql)

    def start(self) -> None:
        """Start the server if it does not run, wake it if it is frozen, and wait until it answers."""
        if self._process is None or self._process.poll() is not None:
            self._process = self._launched()
        self._process.send_signal(signal.SIGCONT)
        self._wait_until_it_answers()

    def stop(self) -> None:
        """Stop at once and in order: clients are told."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """Stop as a crash would."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Accept connections, and answer nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def _launched(self) -> subprocess.Popen[bytes]:
        settings = ("fsync=off", "listen_addresses=127.0.0.1", f"unix_socket_directories={self._home}")
        command = [_BINARIES / "postgres", "-D", self._data, "-p", str(self.port)]
        command += [word for setting in settings for word in ("-c", setting)]
        return subprocess.Popen(
            command, user=self._user, cwd=self._home, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.send_signal(number)
            self._process.wait(30)

    def _wait_until_it_answers(self) -> None:
        end = time.monotonic() + 60
        while not self._answers():
            assert time.monotonic() < end, "the server does not come up"
            time.sleep(0.05)

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:  # children of one that was killed may still hold its shared memory
            self._process = self._launched()
        try:
            self.execute("SELECT 1")
        except subprocess.CalledProcessError:
            return False
        return True

    def _run(self, program: str, *arguments: object) -> str:
        command = [_BINARIES / program, *map(str, arguments)]
        done = subprocess.run(command, user=self._user, cwd="/", capture_output=True, text=True, check=True, timeout=60)
        return done.stdout.strip()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def settled(**changes: Any) -> Settled:
    """An attempt that succeeded just now, with ``changes``."""
    at = changes.setdefault("at", time.time())
    usual = Settled(
        id=new_id(at),
        at=at,
        request_id=new_id(at),
        number=1,
        provider="openai",
        model="gpt-4o-mini",
        deployment="openai/gpt-4o-mini",
        operation="chat",
        stream=False,
        outcome="success",
        success=True,
        error=None,
        status_code=200,
        latency_ms=812.5,
        waited_ms=0.25,
        prompt_tokens=120,
        completion_tokens=80,
        total_tokens=200,
        cached_tokens=20,
        reasoning_tokens=5,
        cost_usd=0.000066,
        unpriced=False,
        estimated=False,
        charged=Demand(1, 200, 120, 80),
        feature="wallie-chat",
        user_id="u1",
        metadata={"conversationId": "123", "hasRAG": True},
    )
    return usual._replace(**changes)


def ended(*attempts: Settled, **changes: Any) -> Ended:
    """The request that ``attempts`` were made for, with ``changes``."""
    last = attempts[-1] if attempts else settled()
    usual = Ended(
        id=new_id(last.at),
        at=last.at,
        request_id=last.request_id,
        model=last.model,
        operation=last.operation,
        stream=last.stream,
        success=last.success,
        error=last.error,
        status_code=last.status_code,
        by_caller=False,
        latency_ms=last.latency_ms + last.waited_ms,
        waited_ms=last.waited_ms,
        used_fallback=len({attempt.model for attempt in attempts}) > 1,
        provider=last.provider,
        feature=last.feature,
        user_id=last.user_id,
        metadata=last.metadata,
        settled=attempts,
    )
    return usual._replace(**changes)
