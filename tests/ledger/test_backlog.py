"""The backlog: records wait in memory, then on disk, and are dropped when neither has room."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from fake_clock import FakeClock
from ledger_support import settled

from wallie_litellm.ledger.backlog import Backlog
from wallie_litellm.ledger.records import Record, record_of
from wallie_litellm.telemetry.spool import Spool


def some(count: int) -> list[Record]:
    return [record_of(settled(user_id=str(number)), "w") for number in range(count)]


def users(records: Iterable[Record]) -> list[str]:
    return [record.values[-3] for record in records]


def test_taken_records_are_pending_until_they_are_written(tmp_path: Path) -> None:
    backlog = Backlog(Spool(tmp_path, "ledger"), 10, 100)
    backlog.add(some(5))
    assert users(backlog.take(3)) == ["0", "1", "2"]
    assert backlog.pending == 5
    backlog.put_back()
    assert users(backlog.take(10)) == ["0", "1", "2", "3", "4"]
    backlog.written()
    assert backlog.pending == 0


def test_spilling_includes_the_records_being_written(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "ledger")
    backlog = Backlog(spool, 10, 100)
    backlog.add(some(5))
    backlog.take(3)
    assert backlog.spill()
    assert (backlog.pending, spool.pending) == (0, 5)
    backlog.put_back()
    assert backlog.pending == 0


def test_a_disk_that_failed_is_not_tried_again_for_a_while(tmp_path: Path) -> None:
    blocked = tmp_path / "spool"
    blocked.write_text("no directory can be here")
    clock = FakeClock()
    backlog = Backlog(Spool(blocked, "ledger"), 10, 100, clock.now)
    backlog.add(some(3))
    assert not backlog.spill()
    blocked.unlink()
    assert not backlog.spill()
    assert users(backlog.take(10)) == ["0", "1", "2"]
    backlog.put_back()
    clock.advance(2.0)
    assert backlog.spill()
    assert backlog.pending == 0


def test_beyond_the_bound_the_oldest_are_dropped_and_counted(tmp_path: Path) -> None:
    backlog = Backlog(Spool(tmp_path, "ledger"), 2, 5)
    backlog.add(some(4))
    backlog.take(2)
    backlog.add(some(3))
    assert (backlog.pending, backlog.dropped) == (5, 2)
    backlog.put_back()
    assert users(backlog.take(10)) == ["0", "1", "0", "1", "2"]
