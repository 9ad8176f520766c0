"""Records a second into SQLite through the ledger's sink, beside a plain sqlite3 executemany of the same rows."""

from __future__ import annotations

import random
import sqlite3
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from benchmarks import harness
from benchmarks.harness import Report
from wallie_litellm.core.demand import Demand
from wallie_litellm.events import Ended, Event, Settled, new_id
from wallie_litellm.ledger.records import COLUMNS, Row, record_of
from wallie_litellm.ledger.schema import RECORD_TABLES
from wallie_litellm.ledger.writer import LARGEST_BATCH, LedgerSink

GOAL = 20_000  # records a second

_HANDED_IN = 1_000  # events at once: the bus's largest batch
_MODELS = {"gpt-4o-mini": "openai", "claude-sonnet-4": "anthropic", "gemini-2.0-flash": "gemini", "gpt-4o": "openai"}
_FEATURES = ("wallie-chat", "summary", "search", "import")
_USERS = 2_000
_PER_SECOND = 100  # requests, by the times that the events bear

SINK = "LedgerSink: records, indexes and roll-ups"
BUSY = "... beside a thread that never rests"
PLAIN = "sqlite3 executemany of the same rows, no roll-ups"


def run(quick: bool) -> Report:
    rounds, requests = (3, 20_000) if quick else (5, 100_000)
    events = list(_traffic(requests))
    seconds: dict[str, list[float]] = {SINK: [], BUSY: [], PLAIN: []}
    work = {SINK: _through_the_sink, BUSY: _beside_a_busy_thread, PLAIN: _plainly}
    for _ in range(rounds):
        order = list(work)
        random.shuffle(order)
        for name in order:
            with tempfile.TemporaryDirectory() as directory:
                seconds[name].append(work[name](events, Path(directory)))
    return _report(seconds, len(events))


def _report(seconds: dict[str, list[float]], records: int) -> Report:
    report = Report(
        f"{records:,} ledger records into SQLite",
        ("what", "records/s", "of plain sqlite3"),
        notes=[
            "From the first event handed in to the last commit, in WAL mode; half the records are attempts, half "
            f"requests. Medians with their 95 % interval. Goal: {GOAL:,} records/s."
        ],
    )
    for name, took in seconds.items():
        rate = harness.estimate([records / value for value in took])
        share = harness.estimate([plain / value for value, plain in zip(took, seconds[PLAIN], strict=True)])
        report.rows.append((name, f"{rate:,.0f}", f"{share:.2f}"))
        report.data[name] = {"records_per_s": rate.as_dict(), "of_plain": share.as_dict()}
    return report


def _traffic(requests: int) -> Iterator[Event]:
    chance = random.Random(0)
    began = time.time() - requests / _PER_SECOND
    for number in range(requests):
        attempt = _attempt(began + number / _PER_SECOND, chance)
        yield attempt
        yield _request(attempt)


def _attempt(at: float, chance: random.Random) -> Settled:
    model, provider = chance.choice(list(_MODELS.items()))
    prompt, completion = chance.randrange(50, 2000), chance.randrange(20, 800)
    return Settled(
        id=new_id(at),
        at=at,
        request_id=new_id(at),
        number=1,
        provider=provider,
        model=model,
        deployment=f"{provider}/{model}",
        operation="chat",
        stream=chance.random() < 0.5,
        outcome="success",
        success=True,
        error=None,
        status_code=200,
        latency_ms=chance.lognormvariate(6.7, 0.6),
        waited_ms=0.1,
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=prompt + completion,
        cached_tokens=0,
        reasoning_tokens=0,
        cost_usd=prompt * 1.5e-7 + completion * 6e-7,
        unpriced=False,
        estimated=False,
        charged=Demand(1, prompt + completion, prompt, completion),
        feature=chance.choice(_FEATURES),
        user_id=f"user-{chance.randrange(_USERS)}",
        metadata={"conversationId": f"{chance.randrange(10**6)}", "hasRAG": chance.random() < 0.5},
    )


def _request(attempt: Settled) -> Ended:
    return Ended(
        id=new_id(attempt.at),
        at=attempt.at,
        request_id=attempt.request_id,
        model=attempt.model,
        operation=attempt.operation,
        stream=attempt.stream,
        success=True,
        error=None,
        status_code=200,
        by_caller=False,
        latency_ms=attempt.latency_ms + attempt.waited_ms,
        waited_ms=attempt.waited_ms,
        used_fallback=False,
        provider=attempt.provider,
        feature=attempt.feature,
        user_id=attempt.user_id,
        metadata=attempt.metadata,
        settled=(attempt,),
    )


def _through_the_sink(events: Sequence[Event], directory: Path) -> float:
    sink = LedgerSink(f"sqlite:///{directory}/wallie.db", directory / "spool", worker="bench", retention=1e9)
    assert sink.flush(60)
    began = time.perf_counter()
    for first in range(0, len(events), _HANDED_IN):
        sink.handle(events[first : first + _HANDED_IN])
    assert sink.flush(600)
    took = time.perf_counter() - began
    assert sink.stats()["delivered"] == len(events)
    sink.close(60)
    return took


def _beside_a_busy_thread(events: Sequence[Event], directory: Path) -> float:
    with _busy():
        return _through_the_sink(events, directory)


@contextmanager
def _busy() -> Iterator[None]:
    """A thread that computes without a pause, as an event loop under load does."""
    over = threading.Event()

    def compute() -> None:
        while not over.is_set():
            sum(range(1000))

    thread = threading.Thread(target=compute)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _plainly(events: Sequence[Event], directory: Path) -> float:
    rows: dict[str, list[Row]] = {"attempt": [], "request": []}
    for event in events:
        kind, values = record_of(event, "bench")
        rows[kind].append(values)
    with closing(sqlite3.connect(directory / "plain.db")) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        statements = {kind: _make_table(connection, kind) for kind in rows}
        began = time.perf_counter()
        for first in range(0, len(events) // 2, LARGEST_BATCH // 2):
            with connection:
                for kind, statement in statements.items():
                    connection.executemany(statement, rows[kind][first : first + LARGEST_BATCH // 2])
        return time.perf_counter() - began


def _make_table(connection: sqlite3.Connection, kind: str) -> str:
    """Make the table of ``kind``, with the ledger's keys; returns how to insert into it."""
    name, columns = RECORD_TABLES[kind].name, COLUMNS[kind]
    connection.execute(f"CREATE TABLE {name} ({', '.join(columns)}, PRIMARY KEY (id))")
    connection.execute(f"CREATE INDEX {name}_at ON {name} (at)")
    return f"INSERT INTO {name} VALUES ({', '.join('?' * len(columns))})"  # noqa: S608 - our own names
