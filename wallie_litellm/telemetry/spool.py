"""Records that wait on disk until their receiver is back.

A spool is a directory of files. Each belongs to one process through an ``flock``; the files of a process that has
ended are adopted by the next one. A batch that was not marked as done before a crash is returned again.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from wallie_litellm.telemetry.spool_file import MOST_RECORDS, Record, SpoolFile, adopt_file, blocks_of, create_file

_SEGMENT: Final = 16 << 20  # bytes after which a new file begins, so that files read to their end free disk space

_living: weakref.WeakSet[Spool] = weakref.WeakSet()


def _forget_files_in_child() -> None:
    for spool in list(_living):
        spool.forget_files()


os.register_at_fork(after_in_child=_forget_files_in_child)


class Batch(NamedTuple):
    """Records that were appended together, to be marked as done once they are delivered."""

    records: list[Record]
    file: SpoolFile
    end: int


class Spool:
    """Batches of JSON-able dicts in files called ``name-*`` in ``directory``, which is created by the first append.

    Safe to use from several threads, by several processes at once, and after a fork. Only one thread at a time may
    use :meth:`oldest` and :meth:`done`. A batch has at most ``batch`` records.
    """

    def __init__(self, directory: Path, name: str, batch: int = MOST_RECORDS) -> None:
        self.directory = directory
        self.name = name
        self._batch = batch
        self.dropped = 0  # records lost to damage: cut short by a crash, or overwritten
        self._lock = threading.Lock()
        self._files: deque[SpoolFile] = deque()
        self._tail: SpoolFile | None = None
        self._closed = False
        _living.add(self)
        self.adopt()

    @property
    def pending(self) -> int:
        """Records in this process's files."""
        return sum(file.pending for file in list(self._files))

    def append(self, records: Sequence[Record]) -> None:
        """Write ``records`` to disk, all of them or none; they survive a crash once this returns.

        Raises:
            OSError: they could not be written; earlier records are unchanged.
        """
        if not records:
            return
        blocks = b"".join(blocks_of(records, self._batch))
        with self._lock:
            self._writable().append(blocks, len(records))

    def oldest(self) -> Batch | None:
        """The batch that has waited longest, or ``None``; it stays until :meth:`done`.

        Raises:
            OSError: the disk cannot be read.
        """
        with self._lock:
            while self._files:
                file = self._files[0]
                found = file.read()
                self.dropped += file.take_damage()
                if found is not None:
                    return Batch(found[0], file, found[1])
                self._retire(file)
            return None

    def done(self, batch: Batch) -> None:
        """Mark ``batch`` as delivered; a file without other records is removed."""
        with self._lock:
            if batch.file not in self._files:
                return
            batch.file.advance(batch.end, len(batch.records))
            if batch.file.pending == 0:
                self._retire(batch.file)

    def adopt(self) -> None:
        """Take over the files of processes that have ended."""
        with self._lock:
            if self._closed:  # the files are left to the next process
                return
            found = [adopt_file(path) for path in sorted(self.directory.glob(f"{self.name}-*.spool"))]
            for file in reversed([file for file in found if file is not None]):
                self.dropped += file.take_damage()
                self._files.appendleft(file)

    def close(self) -> None:
        """Close the files; their records stay on disk for the next process."""
        with self._lock:
            self._closed = True
            for file in self._files:
                file.close()
            self._files.clear()
            self._tail = None

    def _writable(self) -> SpoolFile:
        tail = self._tail
        if tail is None or tail.size >= _SEGMENT or not tail.is_at_its_path():
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            tail = self._tail = create_file(self.directory, self.name)
            self._files.append(tail)
        return tail

    def _retire(self, file: SpoolFile) -> None:
        file.remove()
        self._files.remove(file)
        if file is self._tail:
            self._tail = None

    def forget_files(self) -> None:
        """Leave the files to the parent of this forked child, whose locks hold while any process has them open."""
        self._lock = threading.Lock()
        for file in self._files:
            file.close()
        self._files.clear()
        self._tail = None
