"""A database that is locked, full, slow, hanging or unavailable delays no caller; each record is written once later."""

from __future__ import annotations

import logging
import re
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import pytest
from ledger_support import PostgresServer, assert_exactly, assert_sums_are_right, ended, rows, settled
from sqlalchemy import select
from support import wait_until

from wallie_litellm.events import Event
from wallie_litellm.ledger.records import as_json, record_of
from wallie_litellm.ledger.schema import attempts
from wallie_litellm.ledger.writer import LedgerSink
from wallie_litellm.telemetry.spool import Spool

SinkMaker = Callable[..., LedgerSink]
TESTS = str(Path(__file__).parent.parent)
PROMPT = 5.0  # seconds: far above the time of ``handle``, far below the length of an outage


def traffic(count: int) -> list[Event]:
    made = [settled(user_id=f"u{number % 7}", feature=f"f{number % 3}") for number in range(count)]
    return [event for attempt in made for event in (attempt, ended(attempt))]


def hand_in(sink: LedgerSink, events: list[Event]) -> None:
    """Hand in ``events`` a few at a time; each time must be prompt."""
    for first in range(0, len(events), 100):
        began = time.monotonic()
        sink.handle(events[first : first + 100])
        assert time.monotonic() - began < PROMPT


@contextmanager
def locked(url: str) -> Iterator[None]:
    """Hold a lock that no writer gets past."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as holder:
            holder.execute("PRAGMA journal_mode = WAL")
            holder.execute("BEGIN EXCLUSIVE")
            yield
    else:
        with holding(url, "BEGIN; LOCK TABLE wallie_attempts, wallie_usage IN ACCESS EXCLUSIVE MODE"):
            yield


@contextmanager
def holding(url: str, sql: str) -> Iterator[None]:
    psql = PostgresServer.program("psql")
    command = [psql, url, "-qAt", "-v", "ON_ERROR_STOP=1"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as session:
        assert session.stdin is not None
        assert session.stdout is not None
        session.stdin.write(f"{sql}; SELECT 'held';\n")
        session.stdin.flush()
        assert session.stdout.readline() == "held\n"
        yield
        session.stdin.close()


def test_a_locked_database_delays_nothing(database_url: str, open_sink: SinkMaker) -> None:
    sink = open_sink(database_url)
    before, during, after = traffic(50), traffic(300), traffic(50)
    sink.handle(before)
    assert sink.flush(30)
    with locked(database_url):
        hand_in(sink, during)
        wait_until(lambda: sink.stats()["spooled"] == len(during))
    hand_in(sink, after)
    assert sink.flush(60)
    assert_exactly(database_url, before + during + after)
    assert sink.stats()["dropped"] == 0


def test_records_wait_for_a_database_that_is_locked_from_the_start(tmp_path: Path, open_sink: SinkMaker) -> None:
    url = f"sqlite:///{tmp_path}/wallie.db"
    events = traffic(20)
    with locked(url):
        sink = open_sink(url)
        hand_in(sink, events)
        wait_until(lambda: sink.stats()["failed"] > 0)
    assert sink.flush(60)
    assert_exactly(url, events)


def test_closing_during_a_lock_leaves_the_records_to_the_next_process(database_url: str, open_sink: SinkMaker) -> None:
    first = open_sink(database_url)
    assert first.flush(30)
    first.handle(before := traffic(5))
    assert first.flush(30)
    with locked(database_url):
        first.handle(events := traffic(100))
        began = time.monotonic()
        first.close(1.0)
        assert time.monotonic() - began < 1.0 + PROMPT
    assert open_sink(database_url).flush(60)
    assert_exactly(database_url, before + events)


def test_a_flush_that_times_out_returns_false_and_keeps_everything(database_url: str, open_sink: SinkMaker) -> None:
    sink = open_sink(database_url)
    sink.handle(before := traffic(1))
    assert sink.flush(30)
    with locked(database_url):
        sink.handle(events := traffic(10))
        assert not sink.flush(0.3)
        assert sink.stats()["spooled"] == len(events)
    assert sink.flush(60)
    assert_exactly(database_url, before + events)


def test_no_record_is_lost_when_postgresql_is_killed_and_started(
    own_postgres: PostgresServer, open_sink: SinkMaker
) -> None:
    url = own_postgres.new_database()
    sink = open_sink(url, flush_interval=0.01)
    events = traffic(1_500)
    for first in range(0, len(events), 50):
        hand_in(sink, events[first : first + 50])
        if first in (500, 2_000):
            own_postgres.kill()
        if first in (1_500, 2_500):
            own_postgres.start()
    assert sink.flush(60)
    assert_exactly(url, events)
    assert sink.stats()["failed"] > 0


def test_no_record_is_lost_when_postgresql_is_stopped_and_started(
    own_postgres: PostgresServer, open_sink: SinkMaker
) -> None:
    url = own_postgres.new_database()
    sink = open_sink(url)
    sink.handle(before := traffic(10))
    assert sink.flush(30)
    own_postgres.stop()
    hand_in(sink, during := traffic(200))
    wait_until(lambda: sink.stats()["spooled"] == len(during))
    own_postgres.start()
    wait_until(lambda: sink.stats()["spooled"] == 0)
    assert_exactly(url, before + during)


def test_an_outage_is_logged_when_it_begins_and_when_it_ends(
    own_postgres: PostgresServer, open_sink: SinkMaker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "wallie_litellm.ledger")
    url = own_postgres.new_database().replace("postgres@", "postgres:secret@")
    sink = open_sink(url)
    sink.handle(traffic(1))
    assert sink.flush(30)
    own_postgres.stop()
    sink.handle(traffic(1))
    wait_until(lambda: sink.stats()["failed"] >= 3)
    own_postgres.start()
    assert sink.flush(60)
    began, ended_ = caplog.messages
    assert re.fullmatch(
        r"the ledger at postgresql://\*\*\* cannot be written to, its records wait: \w+(, [\w ]+)?", began
    )
    assert "secret" not in began
    assert ended_ == "the ledger at postgresql://*** can be written to again"


@pytest.mark.parametrize(
    ("begins", "ends", "said"),
    [
        (
            "REASSIGN OWNED BY {role} TO postgres",
            "GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}",
            "InsufficientPrivilegeError, permission denied for ",
        ),
        (
            "ALTER DATABASE {name} SET default_transaction_read_only = on",
            "ALTER DATABASE {name} RESET default_transaction_read_only",
            "ReadOnlySQLTransactionError, cannot execute ",
        ),
        (
            "ALTER ROLE {role} CONNECTION LIMIT 0",
            "ALTER ROLE {role} CONNECTION LIMIT -1",
            "TooManyConnectionsError, too many connections for role",
        ),
    ],
    ids=["rights", "read only", "connections"],
)
def test_what_postgresql_refuses_is_logged_in_its_words_and_written_afterwards(
    postgres: PostgresServer,
    open_sink: SinkMaker,
    caplog: pytest.LogCaptureFixture,
    begins: str,
    ends: str,
    said: str,
) -> None:
    url = postgres.new_database()
    name = url.rpartition("/")[2]
    role = f"writer_of_{name}"
    postgres.execute(f"CREATE ROLE {role} LOGIN; ALTER SCHEMA public OWNER TO {role}", name)
    first = open_sink(url.replace("postgres@", f"{role}@"))
    first.handle(before := traffic(3))
    first.close(30)
    where = name if "OWNED" in begins else "postgres"
    postgres.execute(begins.format(name=name, role=role), where)
    sink = open_sink(url.replace("postgres@", f"{role}@"))
    sink.handle(during := traffic(3))
    wait_until(lambda: sink.stats()["failed"] > 0)
    postgres.execute(ends.format(name=name, role=role), where)
    assert sink.flush(60)
    assert_exactly(url, before + during)
    assert f"cannot be written to, its records wait: {said}" in caplog.text


def test_a_database_that_hangs_delays_no_caller(
    silent_server: int, open_sink: SinkMaker, spool_directory: Path
) -> None:
    sink = open_sink(f"postgresql://u@127.0.0.1:{silent_server}/db")
    hand_in(sink, events := traffic(200))
    wait_until(lambda: sink.stats()["spooled"] == len(events))
    began = time.monotonic()
    sink.close(0.5)
    assert time.monotonic() - began < 0.5 + PROMPT
    assert Spool(spool_directory, "ledger").pending == len(events)


class LossyProxy:
    """Between a client and PostgreSQL: passes everything on, but cuts the line when it has passed on a COMMIT."""

    def __init__(self, port: int) -> None:
        self._upstream = port
        self.commits_to_lose = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client = self._listener.accept()[0]
                server = socket.create_connection(("127.0.0.1", self._upstream))
                threading.Thread(target=self._pass_on, args=(client, server), daemon=True).start()
                threading.Thread(target=self._pass_back, args=(server, client), daemon=True).start()

    def _pass_on(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError), client, server:
            while data := client.recv(65_536):
                if b"COMMIT;" in data and self.commits_to_lose:
                    self.commits_to_lose -= 1
                    client.shutdown(socket.SHUT_RDWR)  # the response is lost
                server.sendall(data)

    def _pass_back(self, server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(65_536):
                client.sendall(data)
            client.shutdown(socket.SHUT_RDWR)


def test_a_commit_whose_response_is_lost_counts_once(postgres: PostgresServer, open_sink: SinkMaker) -> None:
    direct = postgres.new_database()
    proxy = LossyProxy(postgres.port)
    sink = open_sink(direct.replace(f":{postgres.port}/", f":{proxy.port}/"))
    sink.handle(before := traffic(5))
    assert sink.flush(30)
    proxy.commits_to_lose = 3
    sink.handle(events := traffic(100))
    assert sink.flush(60)
    proxy.close()
    assert proxy.commits_to_lose == 0
    assert sink.stats()["failed"] >= 3
    assert_exactly(direct, before + events)


FULL_DISK = """
import resource, sys, threading, time
sys.path.insert(0, {tests!r})
from pathlib import Path
from ledger_support import assert_exactly
from support import wait_until
from test_outages import hand_in, traffic
from wallie_litellm.ledger.writer import LedgerSink
sink = LedgerSink({url!r}, Path({spool!r}), worker="script", retention=86400.0)
hand_in(sink, before := traffic(5))
assert sink.flush(30)
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (700_000, hard))
hand_in(sink, during := traffic(3_000))
wait_until(lambda: sink.stats()["failed"] >= 2 and sink.stats()["pending"] > 0)
assert sink.stats()["dropped"] == 0
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
hand_in(sink, after := traffic(5))
assert sink.flush(60), sink.stats()
sink.close(10)
assert_exactly({url!r}, before + during + after)
"""


def test_no_record_is_lost_on_a_full_disk_while_memory_has_room(tmp_path: Path) -> None:
    """Neither the database nor the spool can grow, for a file-size limit that the process sets itself."""
    url = f"sqlite:///{tmp_path}/wallie.db"
    script = FULL_DISK.format(tests=TESTS, url=url, spool=str(tmp_path / "spool"))
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n{script}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "cannot be written to" in done.stderr


def test_beyond_the_bound_of_memory_the_oldest_are_dropped_and_counted(tmp_path: Path, open_sink: SinkMaker) -> None:
    (tmp_path / "spool").write_text("no directory can be here")
    url = f"sqlite:///{tmp_path}/wallie.db"
    events = traffic(500)
    with locked(url):
        sink = open_sink(url, memory=100, most=400)
        hand_in(sink, events)
        stats = sink.stats()
        assert 0 < stats["pending"] <= 400
        assert stats["dropped"] == len(events) - stats["pending"]
    assert sink.flush(60)
    stats = sink.stats()
    assert stats["delivered"] == len(events) - stats["dropped"]
    kept = {row.id for row in rows(url, select(attempts.c.id))}
    assert {event.id for event in events[-100::2]} <= kept
    assert_sums_are_right(url)


KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from support import wait_until
from test_outages import traffic
from wallie_litellm.ledger.writer import LedgerSink
sink = LedgerSink({url!r}, Path({spool!r}), worker="script", retention=86400.0)
sink.handle(traffic(200))
{until}
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(
    ("until", "held"),
    [
        ("wait_until(lambda: sink.stats()['spooled'] == 400)", True),
        ("wait_until(lambda: sink.stats()['delivered'] == 400)", False),
    ],
    ids=["spooled", "delivered"],
)
def test_the_spooled_records_of_a_killed_process_are_written_once(
    database_url: str, open_sink: SinkMaker, tmp_path: Path, until: str, held: bool
) -> None:
    probe = open_sink(database_url)
    probe.handle(before := traffic(1))
    assert probe.flush(30)
    script = KILLED.format(tests=TESTS, url=database_url, spool=str(tmp_path / "spool"), until=until)
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n{script}"]
    with locked(database_url) if held else nullcontext():
        killed = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert killed.returncode == -9, killed.stderr
    assert open_sink(database_url).flush(60)
    assert len(rows(database_url, select(attempts.c.id))) == 200 + len(before) // 2
    assert_sums_are_right(database_url)


def test_records_both_written_and_on_disk_count_once(
    database_url: str, open_sink: SinkMaker, spool_directory: Path
) -> None:
    events: list[Any] = traffic(100)
    spool = Spool(spool_directory, "ledger")
    spool.append([as_json(record_of(event, "w")) for event in events[:120]])
    spool.close()
    sink = open_sink(database_url)
    sink.handle(events)
    assert sink.flush(30)
    assert_exactly(database_url, events)
