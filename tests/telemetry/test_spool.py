"""The spool: records are durable, read once, and survive crashes, forks and full disks."""

from __future__ import annotations

import os
import resource
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from wallie_litellm.telemetry import spool as spool_module
from wallie_litellm.telemetry.spool import Spool


def records(*numbers: int) -> list[dict[str, Any]]:
    return [{"number": number, "text": "ü \ud800 \0"} for number in numbers]


def numbers(spool: Spool) -> list[int]:
    """Read and mark every batch, in order."""
    found: list[int] = []
    while (batch := spool.oldest()) is not None:
        found += [record["number"] for record in batch.records]
        spool.done(batch)
    return found


def only_file(directory: Path) -> Path:
    (file,) = directory.iterdir()
    return file


def test_records_are_read_in_order_and_unchanged(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "ledger")
    spool.append(records(1, 2))
    spool.append(records(3))
    assert spool.pending == 3
    first = spool.oldest()
    assert first is not None
    assert first.records == records(1, 2)
    assert numbers(spool) == [1, 2, 3]
    assert spool.pending == 0


def test_files_exist_only_while_records_wait(tmp_path: Path) -> None:
    directory = tmp_path / "not" / "yet"
    spool = Spool(directory, "ledger")
    spool.append([])
    assert spool.oldest() is None
    assert not directory.exists()
    spool.append(records(1))
    assert stat.S_IMODE(only_file(directory).stat().st_mode) == 0o600
    numbers(spool)
    assert list(directory.iterdir()) == []


def test_a_batch_is_returned_until_it_is_done(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "ledger")
    spool.append(records(1))
    batch = spool.oldest()
    assert spool.oldest() == batch
    assert batch is not None
    spool.done(batch)
    spool.done(batch)
    assert (spool.oldest(), spool.pending) == (None, 0)


def test_many_records_are_read_in_batches_of_a_bounded_size(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "ledger")
    spool.append(records(*range(2_500)))
    batch = spool.oldest()
    assert batch is not None
    assert len(batch.records) == 1_000
    assert numbers(spool) == list(range(2_500))


def test_large_records_are_split_into_several_batches(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "ledger")
    spool.append([{"number": number, "text": "x" * 600_000} for number in range(3)])
    batch = spool.oldest()
    assert batch is not None
    assert len(batch.records) == 1
    assert numbers(spool) == [0, 1, 2]


def test_the_next_process_continues_after_the_last_batch_done(tmp_path: Path) -> None:
    first = Spool(tmp_path, "ledger")
    for number in range(3):
        first.append(records(number))
    batch = first.oldest()
    assert batch is not None
    first.done(batch)
    first.close()
    second = Spool(tmp_path, "ledger")
    assert second.pending == 2
    second.append(records(9))
    assert numbers(second) == [1, 2, 9]


def test_a_closed_spool_adopts_no_files(tmp_path: Path) -> None:
    first = Spool(tmp_path, "ledger")
    first.append(records(1))
    first.close()
    first.adopt()
    assert first.pending == 0
    assert numbers(Spool(tmp_path, "ledger")) == [1]


def test_spools_of_different_names_are_separate(tmp_path: Path) -> None:
    first = Spool(tmp_path, "ledger")
    first.append(records(1))
    first.close()
    assert numbers(Spool(tmp_path, "posthog")) == []
    assert numbers(Spool(tmp_path, "ledger")) == [1]


def test_the_file_of_a_running_process_is_not_adopted(tmp_path: Path) -> None:
    living = Spool(tmp_path, "ledger")
    living.append(records(1))
    other = Spool(tmp_path, "ledger")
    assert (other.pending, other.oldest()) == (0, None)
    assert numbers(living) == [1]


def test_each_record_is_adopted_by_one_of_several_processes(tmp_path: Path) -> None:
    dead = [Spool(tmp_path, "ledger") for _ in range(20)]
    for number, spool in enumerate(dead):
        spool.append(records(number))
    for spool in dead:
        spool.close()
    heirs: list[Spool] = []
    begin = threading.Barrier(8)

    def inherit() -> None:
        begin.wait()
        heirs.append(Spool(tmp_path, "ledger"))

    threads = [threading.Thread(target=inherit) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(number for heir in heirs for number in numbers(heir)) == list(range(20))


def test_a_killed_process_leaves_its_records_to_the_next(tmp_path: Path) -> None:
    script = f"""
import os, signal
from pathlib import Path
from wallie_litellm.telemetry.spool import Spool
spool = Spool(Path({str(tmp_path)!r}), "ledger")
spool.append([{{"number": 7}}])
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False, timeout=60).returncode == -signal.SIGKILL
    assert numbers(Spool(tmp_path, "ledger")) == [7]


@pytest.mark.parametrize("cut", [1, 30, 60])
def test_a_tail_that_a_crash_cut_short_is_left_out_and_counted(tmp_path: Path, cut: int) -> None:
    spool = Spool(tmp_path, "ledger")
    spool.append(records(1, 2))
    whole = only_file(tmp_path).stat().st_size
    spool.append(records(3, 4))
    spool.close()
    file = only_file(tmp_path)
    length = file.stat().st_size
    assert whole < length - cut
    os.truncate(file, length - cut)
    heir = Spool(tmp_path, "ledger")
    assert numbers(heir) == [1, 2]
    assert heir.dropped == 2
    assert list(tmp_path.iterdir()) == []


def test_records_appended_after_a_torn_tail_are_kept(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "ledger")
    spool.append(records(1))
    spool.append(records(2))
    spool.close()
    file = only_file(tmp_path)
    os.truncate(file, file.stat().st_size - 1)
    heir = Spool(tmp_path, "ledger")
    heir.append(records(3))
    assert numbers(heir) == [1, 3]


def test_a_damaged_batch_does_not_affect_others(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "ledger")
    for number in range(3):
        spool.append(records(number))
    file = only_file(tmp_path)
    content = file.read_bytes()
    file.write_bytes(content.replace(b'{"number":1', b'{"number":8'))
    assert numbers(spool) == [0, 2]
    assert spool.dropped == 1


def test_a_file_that_is_no_spool_is_not_changed(tmp_path: Path) -> None:
    foreign = tmp_path / "ledger-0.spool"
    foreign.write_bytes(b"something else entirely, and long enough to have a header")
    spool = Spool(tmp_path, "ledger")
    spool.append(records(1))
    assert numbers(spool) == [1]
    assert only_file(tmp_path) == foreign


def test_a_file_without_a_record_is_removed(tmp_path: Path) -> None:
    (tmp_path / "ledger-0.spool").write_bytes(b"wallie-sp")
    assert Spool(tmp_path, "ledger").oldest() is None
    assert list(tmp_path.iterdir()) == []


def test_a_failed_append_does_not_change_earlier_records(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "ledger")
    spool.append(records(1))
    size = only_file(tmp_path).stat().st_size
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 2_000, limit[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            spool.append(records(*range(1_000)))
        assert only_file(tmp_path).stat().st_size == size
        spool.append(records(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    spool.append(records(3))
    assert (spool.pending, spool.dropped) == (3, 0)
    assert numbers(spool) == [1, 2, 3]


def test_only_the_append_fails_when_the_directory_cannot_be_created(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    spool = Spool(tmp_path / "file" / "spool", "ledger")
    with pytest.raises(OSError, match="Not a directory"):
        spool.append(records(1))
    assert spool.pending == 0


def test_space_is_freed_while_records_still_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "_SEGMENT", 500)
    spool = Spool(tmp_path, "ledger")
    for number in range(30):
        spool.append(records(number))
    files = len(list(tmp_path.iterdir()))
    assert files > 2
    for _ in range(15):
        batch = spool.oldest()
        assert batch is not None
        spool.done(batch)
    assert len(list(tmp_path.iterdir())) < files
    assert numbers(spool) == list(range(15, 30))


def test_later_records_go_to_a_new_file_after_one_was_removed(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "ledger")
    spool.append(records(1))
    only_file(tmp_path).unlink()
    spool.append(records(2))
    spool.close()
    assert numbers(Spool(tmp_path, "ledger")) == [2]


def test_a_forked_child_does_not_touch_its_parents_records(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "ledger")
    spool.append(records(1))
    child = os.fork()
    if child == 0:
        try:
            spool.append(records(2))
            os._exit(0 if numbers(spool) == [2] else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert numbers(spool) == [1]


def test_records_can_be_appended_while_others_are_read(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "ledger")
    found: list[int] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set() or spool.pending:
            found.extend(numbers(spool))

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(200):
        spool.append(records(number))
    done.set()
    reader.join(60)
    assert found == list(range(200))
