"""The sink: every event is in the database once, with its sums, at the latest when the sink is closed."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ledger_support import assert_exactly, assert_sums_are_right, ended, rows, settled
from sqlalchemy import select
from support import wait_until

from wallie_litellm.core.demand import Demand
from wallie_litellm.errors import ConfigError
from wallie_litellm.events import (
    ArmStopped,
    BreakerChanged,
    BudgetCrossed,
    ErrorRateCrossed,
    Event,
    ExperimentChanged,
    FeedbackGiven,
    FellBack,
    HealthChanged,
    LimitOverstated,
    OperatorActed,
    OrderChanged,
    ProviderDown,
    QueueCrossed,
    QuotaCrossed,
    Unpriced,
    UsageReported,
    new_id,
)
from wallie_litellm.ledger.records import as_json, from_json, record_of
from wallie_litellm.ledger.schema import (
    actions,
    alerts,
    attempts,
    experiment_changes,
    feedback,
    outside_usage,
    requests,
    transitions,
)
from wallie_litellm.ledger.writer import LedgerSink
from wallie_litellm.telemetry.spool import Spool

SinkMaker = Callable[..., LedgerSink]


def traffic(count: int, **changes: Any) -> list[Event]:
    """``count`` requests of one attempt each."""
    made = [settled(user_id=f"u{number % 7}", model=f"m{number % 3}", **changes) for number in range(count)]
    return [event for attempt in made for event in (attempt, ended(attempt))]


def one_of_each() -> list[Event]:
    now = time.time()
    first = settled(outcome="rejected", success=False, error="provider error", status_code=500, cost_usd=None)
    second = settled(request_id=first.request_id, number=2, provider="anthropic", model="claude-sonnet-4")
    second = second._replace(first_token_ms=310.5, cache_write_tokens=30, scope="claude-*", estimated_input=130)
    cached = settled(outcome="cache_hit", charged=Demand(0, 0, 0, 0), cost_usd=0.0)
    hedge = settled(hedge=True)
    return [
        first,
        FellBack(
            new_id(), now + 1, first.request_id, "gpt-4o", "claude-sonnet-4", "openai", "status 500", "chat", "u1"
        ),
        second,
        ended(first, second),
        cached,
        ended(cached),
        settled(unpriced=True, cost_usd=None, estimated=True, feature=None, user_id=None, metadata={}),
        ended(success=False, error="cancelled", status_code=None, by_caller=True),
        BreakerChanged(new_id(), now + 2, "openai", "closed", "open", "5 failures", 30.0, "gpt-4o"),
        HealthChanged(new_id(), now + 3, "openai", "healthy", "down", None),
        ProviderDown(new_id(), now + 3, "openai", "server error", "gpt-4o"),
        QuotaCrossed(new_id(), now + 4, "openai", "rpm", "warning", 0.8, 400.0, 500, 12.0, "gpt-4o*"),
        LimitOverstated(new_id(), now + 5, "openai", "gpt-4o", "rpm", 500, 60),
        Unpriced(new_id(), now + 5, "openai", "new", "openai/new"),
        BudgetCrossed(new_id(), now + 6, "critical", 0.95, 475.0, 500.0, "2026-11"),
        OperatorActed(new_id(), now + 7, "admin", "reset_quota", "openai", "bad answers", "gpt-4o*"),
        UsageReported(new_id(), now + 8, "openai", Demand(3, 300, 200, 100), "update_usage"),
        hedge,
        ended(hedge, hedged=True, wasted_usd=0.004, order="claude-sonnet-4", why=("claude-sonnet-4 is slow",)),
        ended(cache_hit=True, saved_usd=0.02),
        FeedbackGiven(new_id(), now + 9, first.request_id, 0.75),
        ExperimentChanged(new_id(), now + 9, "chat-model", "f00d", "concluded", "gpt-4o", "cli:ops", "cheaper"),
        ArmStopped(new_id(), now + 9, "chat-model", "gpt-4o", 0.3, 0.1, 120),
        ErrorRateCrossed(new_id(), now + 9, "", "gpt-4o", 0.25, 0.2, 30, 120, 300.0),
        QueueCrossed(new_id(), now + 9, "openai", 2, 20, 60.0, True, 90.0),
        OrderChanged(new_id(), now + 9, ("gpt-4o", "sonnet"), True, ("gpt-4o", "sonnet"), ("sonnet", "gpt-4o"), "slow"),
    ]


def test_every_kind_of_event_is_recorded_once(database_url: str, open_sink: SinkMaker) -> None:
    events = one_of_each()
    sink = open_sink(database_url)
    sink.handle(events)
    assert sink.flush(30)
    assert_exactly(database_url, events)
    assert sink.stats() == {"delivered": len(events), "pending": 0, "spooled": 0, "dropped": 0, "failed": 0}


def test_a_record_has_the_values_of_its_event(database_url: str, open_sink: SinkMaker) -> None:
    sink = open_sink(database_url, worker="host:1")
    attempt = settled(
        stream=True, first_token_ms=310.5, cache_write_tokens=30, scope="o*", estimated_input=130, estimated_output=150
    )
    decided = {
        "requested": "chat", "tier": "flash", "experiment": "chat-model", "arm": "gpt-4o-mini", "unit": "0123abcd",
        "auto_tier": "premium", "auto_saved_usd": 0.01, "hedged": True, "wasted_usd": 0.02, "cache_hit": True,
        "saved_usd": 0.03,
    }  # fmt: skip
    end = ended(attempt, used_fallback=True, order="gpt-4o", why=("tier flash", "arm by user"), **decided)
    sink.handle([attempt, end, *one_of_each()[8:17], *one_of_each()[20:]])
    assert sink.flush(30)
    (found,) = rows(database_url, select(attempts))
    expected = {name: value for name, value in attempt._asdict().items() if name != "charged"}
    charged = {f"charged_{name}": value for name, value in attempt.charged._asdict().items()}
    assert dict(found._mapping) == {**expected, **charged, "worker": "host:1"}
    (request,) = rows(database_url, select(requests))
    assert (request.request_id, request.attempts, request.used_fallback) == (attempt.request_id, 1, True)
    assert {name: request._mapping[name] for name in decided} == decided
    assert request.proxy_key == "chat-app"
    assert (request.planned, request.why, request.cost_usd) == ("gpt-4o", "tier flash; arm by user", attempt.cost_usd)
    (given,) = rows(database_url, select(feedback))
    assert (given.value, bool(given.request_id)) == (0.75, True)
    (change,) = rows(database_url, select(experiment_changes))
    assert (change.experiment, change.definition, change.change) == ("chat-model", "f00d", "concluded")
    assert (change.arm, change.actor, change.reason) == ("gpt-4o", "cli:ops", "cheaper")
    breaker, health, order = rows(database_url, select(transitions).order_by("at"))
    assert (breaker.model, health.model, breaker.reason) == ("gpt-4o", "", "5 failures")
    assert (breaker.type, breaker.before, breaker.after) == ("breaker", "closed", "open")
    assert (health.type, health.before, health.after, health.reason) == ("health", "healthy", "down", None)
    assert (order.type, order.provider, order.model) == ("order", "", "gpt-4o")
    assert (order.before, order.after, order.reason) == ("gpt-4o, sonnet", "sonnet, gpt-4o", "slow (streams)")
    found_alerts = {row.type: row for row in rows(database_url, select(alerts))}
    stopped = found_alerts["arm_stopped"]
    assert (stopped.level, stopped.model, stopped.detail) == ("warning", "gpt-4o", "chat-model")
    assert (stopped.used, stopped.limit, stopped.dimension) == (0.3, 0.1, "error_rate")
    failing, queue = found_alerts["error_rate"], found_alerts["queue"]
    assert (failing.level, failing.provider, failing.model, failing.used) == ("critical", "", "gpt-4o", 0.25)
    assert failing.detail == "30 of 120 in 300 s"
    assert (queue.level, queue.provider, queue.used, queue.limit) == ("resolved", "openai", 2, 20)
    assert queue.detail == "after 90 s: 2 waiting"
    down, quota, overstated, unpriced, budget = (
        found_alerts[kind] for kind in ("provider_down", "quota", "limit_overstated", "unpriced", "budget")
    )
    assert (overstated.model, overstated.dimension, overstated.used, overstated.limit) == ("gpt-4o", "rpm", 500, 60)
    assert (down.type, down.level, down.provider, down.model) == ("provider_down", "critical", "openai", "gpt-4o")
    assert (down.detail, quota.model) == ("server error", "gpt-4o*")
    assert (quota.type, quota.dimension, quota.level, quota.used, quota.limit) == ("quota", "rpm", "warning", 400, 500)
    assert (unpriced.type, unpriced.model, unpriced.detail) == ("unpriced", "new", "openai/new")
    assert (budget.type, budget.used, budget.limit, budget.detail) == ("budget", 475.0, 500.0, "2026-11")
    (action,) = rows(database_url, select(actions))
    assert tuple(action)[3:] == ("admin", "reset_quota", "openai", "gpt-4o*", "bad answers")
    (outside,) = rows(database_url, select(outside_usage))
    assert (outside.source, outside.charged_requests, outside.charged_tokens) == ("update_usage", 3, 300)


def test_records_pass_through_json_unchanged() -> None:
    for event in one_of_each():
        record = record_of(event, "w")
        assert from_json(as_json(record)) == record


def test_a_record_of_another_version_is_read_with_defaults() -> None:
    written = as_json(record_of(settled(), "w"))
    del written["waited_ms"], written["metadata"]
    record = from_json({**written, "of_the_future": 1})
    assert record is not None
    assert as_json(record) == {**written, "waited_ms": 0.0, "metadata": "{}"}
    assert from_json({"kind": "of_the_future", "id": "1"}) is None
    assert from_json({"kind": "attempt"}) is None


def test_records_are_written_without_a_flush(database_url: str, open_sink: SinkMaker) -> None:
    sink = open_sink(database_url)
    events = traffic(5)
    sink.handle(events)
    wait_until(lambda: sink.stats()["delivered"] == len(events))
    assert_exactly(database_url, events)


def test_an_event_delivered_again_changes_nothing(database_url: str, open_sink: SinkMaker) -> None:
    sink = open_sink(database_url)
    events = one_of_each() + traffic(50)
    sink.handle([*events, *events[:10]])
    assert sink.flush(30)
    sink.handle(events)
    sink.handle([*events[5:30], *(more := traffic(5))])
    assert sink.flush(30)
    assert_exactly(database_url, events + more)


def test_records_of_several_processes_add_up(database_url: str, open_sink: SinkMaker) -> None:
    sinks = [open_sink(database_url, worker=f"w{number}", flush_interval=0.01) for number in range(4)]
    shares = [traffic(300) for _ in sinks]

    def feed(sink: LedgerSink, events: list[Event]) -> None:
        for first in range(0, len(events), 20):
            sink.handle(events[first : first + 20])
        sink.close(60)

    threads = [threading.Thread(target=feed, args=pair) for pair in zip(sinks, shares, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    heir = open_sink(database_url)  # writes what one of them had left on disk
    assert heir.flush(60)
    assert_exactly(database_url, [event for share in shares for event in share])


def test_characters_that_no_database_accepts_are_removed_and_text_is_cut(
    database_url: str, open_sink: SinkMaker
) -> None:
    sink = open_sink(database_url)
    odd = settled(feature="a\0b\ud800" + "x" * 1000, user_id="", error="e" * 5000, prompt_tokens=10**30)
    sink.handle([odd, OperatorActed(new_id(), time.time(), "a" * 300, "open_circuit", "openai", "d" * 5000 + "\0")])
    assert sink.flush(30)
    (action,) = rows(database_url, select(actions))
    assert (len(action.actor), len(action.detail)) == (200, 2000)
    (found,) = rows(database_url, select(attempts))
    assert (found.feature[:4], len(found.feature), found.user_id, len(found.error)) == ("ab?x", 199, "", 2000)
    assert found.prompt_tokens == 10**15


def test_values_of_metadata_that_json_lacks_are_recorded_as_text(database_url: str, open_sink: SinkMaker) -> None:
    circle: dict[str, Any] = {"n": float("nan"), "list": (1, {2}), "object": object(), 3: b"x", "text": "\ud800\0"}
    circle["self"] = circle
    sink = open_sink(database_url)
    sink.handle([settled(metadata=circle)])
    assert sink.flush(30)
    (found,) = rows(database_url, select(attempts))
    assert {name: found.metadata[name] for name in ("n", "list", "object", "3", "text")} == {
        "n": "nan",
        "list": [1, [2]],
        "object": "<object>",
        "3": "<bytes>",
        "text": "\ud800\0",
    }


def test_a_record_that_the_database_refuses_does_not_affect_others(database_url: str, open_sink: SinkMaker) -> None:
    sink = open_sink(database_url)
    events = traffic(20)
    sink.handle([*events[:7], settled(status_code=2**70), *events[7:], settled(status_code=2**70)])
    assert sink.flush(30)
    assert_exactly(database_url, events)
    assert sink.stats()["dropped"] == 2


def test_a_refused_record_that_comes_again_from_disk_is_dropped_once(
    database_url: str, open_sink: SinkMaker, spool_directory: Path
) -> None:
    refused, events = settled(status_code=2**70), traffic(3)
    earlier = Spool(spool_directory, "ledger")
    earlier.append([as_json(record_of(refused, "earlier"))])
    earlier.close()
    sink = open_sink(database_url)
    sink.handle([refused, *events])
    assert sink.flush(30)
    assert_exactly(database_url, events)
    assert sink.stats()["dropped"] == 1


def test_spooled_records_of_an_earlier_process_are_written_at_the_start(
    database_url: str, open_sink: SinkMaker, spool_directory: Path
) -> None:
    events = traffic(1_500)
    earlier = Spool(spool_directory, "ledger")
    earlier.append([as_json(record_of(event, "earlier")) for event in events])
    earlier.append([{"kind": "of_the_future", "id": "1"}])
    earlier.close()
    sink = open_sink(database_url)
    wait_until(lambda: sink.stats()["delivered"] == len(events) and sink.stats()["spooled"] == 0)
    assert_exactly(database_url, events)
    assert list(spool_directory.iterdir()) == []


def test_closing_writes_the_pending_records(database_url: str, open_sink: SinkMaker, spool_directory: Path) -> None:
    sink = open_sink(database_url, flush_interval=3600.0)
    events = traffic(200)
    sink.handle(events)
    sink.close(30)
    sink.close(30)
    assert_exactly(database_url, events)
    assert not spool_directory.exists()


SCRIPT = """
import atexit, sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from ledger_support import settled
from wallie_litellm.ledger.writer import LedgerSink
sink = LedgerSink({url!r}, Path({spool!r}), worker="script", retention=86400.0)
atexit.register(sink.close, 20.0)
sink.handle([settled(user_id=str(number)) for number in range(100)])
print("done")
"""


def test_no_event_is_lost_when_a_script_ends_at_once(database_url: str, open_sink: SinkMaker, tmp_path: Path) -> None:
    tests = str(Path(__file__).parent.parent)
    script = SCRIPT.format(tests=tests, url=database_url, spool=str(tmp_path / "spool"))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout, done.stderr) == ("done\n", "")
    # Later Pythons start no thread at exit: if there was no connection yet, the next process finds the records.
    assert open_sink(database_url).flush(30)
    assert len(rows(database_url, select(attempts.c.id))) == 100


FORKING = """
import os, sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from ledger_support import assert_exactly, settled
from wallie_litellm.ledger.writer import LedgerSink
def opened():
    return LedgerSink({url!r}, Path({spool!r}), worker=str(os.getpid()), retention=86400.0)
parent = opened()
parent.handle(before := [settled()])
assert parent.flush(30)
child = os.fork()
if child == 0:
    parent = own = opened()
    own.handle([settled(user_id="child") for _ in range(10)])
    assert own.flush(30)
    own.close(10)
    os._exit(0)
parent.handle(during := [settled() for _ in range(10)])
assert os.waitpid(child, 0)[1] == 0
parent.handle(after := [settled()])
assert parent.flush(30)
parent.close(10)
"""


def test_a_forked_child_opens_a_sink_of_its_own(database_url: str, tmp_path: Path) -> None:
    script = FORKING.format(tests=str(Path(__file__).parent.parent), url=database_url, spool=str(tmp_path / "spool"))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert len(rows(database_url, select(attempts.c.id))) == 22
    assert_sums_are_right(database_url)


def test_a_batch_larger_than_memory_is_accepted(database_url: str, open_sink: SinkMaker) -> None:
    sink = open_sink(database_url, memory=50)
    events = traffic(500)
    for first in range(0, len(events), 100):
        sink.handle(events[first : first + 100])
    assert sink.flush(60)
    assert_exactly(database_url, events)


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://u:secret@host/db", "nonsense"])
def test_an_invalid_url_is_refused_without_its_password(url: str, open_sink: SinkMaker) -> None:
    with pytest.raises(ConfigError, match=r"wallie\.ledger\.url: ") as refused:
        open_sink(url)
    assert "secret" not in str(refused.value)


def test_a_file_that_is_removed_while_in_use_is_created_again(
    tmp_path: Path, open_sink: SinkMaker, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"sqlite:///{tmp_path}/removed.db"
    sink = open_sink(url)
    sink.handle(traffic(10))
    assert sink.flush(30)
    for file in tmp_path.glob("removed.db*"):
        file.unlink()
    sink.handle(later := traffic(20))
    assert sink.flush(30)
    assert_exactly(url, later)
    assert any("removed or replaced" in message for message in caplog.messages)
