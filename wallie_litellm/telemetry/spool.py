"""Records that wait on disk until their receiver is back.

A spool is a directory of files. Each belongs to one process through an ``flock``; the files of a process that has
ended are adopted by the next one. A file is a header with the position of reading, followed by blocks: a line with the
payload's length, its number of records and its checksum, then the payload, a JSON array. A block that a crash cut short
is not read. A batch that was not marked as done before a crash is returned again.
"""

from __future__ import annotations

import fcntl
import itertools
import json
import logging
import os
import threading
import time
import weakref
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

logger = logging.getLogger(__name__)

Record = dict[str, Any]

_MAGIC: Final = b"wallie-spool-1 "
_HEADER: Final = len(_MAGIC) + 17  # bytes
_BLOCK: Final = 27  # bytes before a payload: three numbers of eight hexadecimal digits, and separators
_MOST_RECORDS: Final = 1000  # of a block, and so of a batch
_MOST_BYTES: Final = 1 << 20  # of a block, unless a single record is larger
_SEGMENT: Final = 16 << 20  # bytes after which a new file begins, so that files read to their end free disk space

_numbers = itertools.count()
_living: weakref.WeakSet[Spool] = weakref.WeakSet()


def _forget_files_in_child() -> None:
    for spool in list(_living):
        spool.forget_files()


os.register_at_fork(after_in_child=_forget_files_in_child)


class Batch(NamedTuple):
    """Records that were appended together, to be marked as done once they are delivered."""

    records: list[Record]
    file: _File
    end: int


class Spool:
    """Batches of JSON-able dicts in files called ``name-*`` in ``directory``, which is created by the first append.

    Safe to use from several threads, by several processes at once, and after a fork. Only one thread at a time may
    use :meth:`oldest` and :meth:`done`.
    """

    def __init__(self, directory: Path, name: str) -> None:
        self.directory = directory
        self.name = name
        self.dropped = 0  # records lost to damage: cut short by a crash, or overwritten
        self._lock = threading.Lock()
        self._files: deque[_File] = deque()
        self._tail: _File | None = None
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
        blocks = b"".join(_blocks(records))
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
            found = [_adopted(path) for path in sorted(self.directory.glob(f"{self.name}-*.spool"))]
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

    def _writable(self) -> _File:
        tail = self._tail
        if tail is None or tail.size >= _SEGMENT or not tail.is_at_its_path():
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            tail = self._tail = _created(self.directory, self.name)
            self._files.append(tail)
        return tail

    def _retire(self, file: _File) -> None:
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


@dataclass(eq=False, slots=True)
class _File:
    """One file, locked by this process. ``position`` is the offset of the next read, ``size`` of the next write."""

    path: Path
    descriptor: int
    position: int = _HEADER
    size: int = _HEADER
    pending: int = 0
    damaged: int = 0

    def append(self, blocks: bytes, count: int) -> None:
        try:
            _write(self.descriptor, blocks, self.size)
            os.fsync(self.descriptor)
        except OSError:
            with suppress(OSError):
                os.ftruncate(self.descriptor, self.size)
            raise
        self.size += len(blocks)
        self.pending += count

    def read(self) -> tuple[list[Record], int] | None:
        """The records of the next undamaged block, and the offset of its end."""
        while self.position < self.size:
            block = self._block_at(self.position)
            if block is None:  # the lengths of later blocks are unknown: their records are lost
                break
            length, count, checksum = block
            end = self.position + _BLOCK + length
            payload = os.pread(self.descriptor, length, self.position + _BLOCK)
            if zlib.crc32(payload) == checksum:
                return json.loads(payload), end
            logger.warning("%s: %d records are damaged and were left out", self.path, count)
            self.damaged += count
            self.advance(end, count)
        self.damaged += self.pending
        self.advance(self.size, self.pending)
        return None

    def take_damage(self) -> int:
        damaged, self.damaged = self.damaged, 0
        return damaged

    def advance(self, end: int, count: int) -> None:
        if end <= self.position:
            return
        self.position, self.pending = end, self.pending - count
        with suppress(OSError):  # at worst the batch is returned again
            _write(self.descriptor, _header(end), 0)

    def scan(self) -> bool:
        """Count the records of an adopted file, up to a block cut short by a crash; ``False`` for another kind."""
        length = os.fstat(self.descriptor).st_size
        if length < _HEADER:  # cut short before its first record
            return True
        position = _position(os.pread(self.descriptor, _HEADER, 0))
        if position is None:
            return False
        self.position = self.size = min(position, length)
        while (block := self._block_at(self.size)) is not None and self.size + _BLOCK + block[0] <= length:
            self.size += _BLOCK + block[0]
            self.pending += block[1]
        if self.size < length:
            self.damaged += 1 if block is None else block[1]
            logger.warning("%s: the last %d bytes were cut short and are left out", self.path, length - self.size)
            os.ftruncate(self.descriptor, self.size)
        return True

    def is_at_its_path(self) -> bool:
        try:
            return os.path.samestat(os.stat(self.path), os.fstat(self.descriptor))
        except OSError:
            return False

    def remove(self) -> None:
        with suppress(OSError):
            self.path.unlink()
        self.close()

    def close(self) -> None:
        with suppress(OSError):
            os.close(self.descriptor)

    def _block_at(self, position: int) -> tuple[int, int, int] | None:
        line = os.pread(self.descriptor, _BLOCK, position)
        with suppress(ValueError):
            if len(line) == _BLOCK and line[-1:] == b"\n":
                length, count, checksum = (int(number, 16) for number in line.split(b" "))
                return length, count, checksum
        return None


def _created(directory: Path, name: str) -> _File:
    while True:
        path = directory / f"{name}-{time.time_ns():020d}-{os.getpid()}-{next(_numbers)}.spool"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        file = _File(path, descriptor)
        # Another process may have found the empty file, and removed it, before it was locked.
        if _lock(descriptor) and file.is_at_its_path():
            break
        file.close()
    try:
        _write(descriptor, _header(_HEADER), 0)
        _sync_directory(directory)
    except OSError:
        file.remove()
        raise
    return file


def _adopted(path: Path) -> _File | None:
    try:
        file = _File(path, os.open(path, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        return None
    except OSError as error:
        logger.warning("%s cannot be read, so what waits in it stays there: %s", path, error.strerror)
        return None
    if not _lock(file.descriptor) or not file.is_at_its_path():
        file.close()
        return None
    if not file.scan():
        logger.warning("%s is not a spool of this version and stays as it is", path)
        file.close()
        return None
    if file.pending or file.damaged:
        return file
    file.remove()
    return None


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


def _header(position: int) -> bytes:
    return b"%s%016d\n" % (_MAGIC, position)


def _position(header: bytes) -> int | None:
    number = header[len(_MAGIC) : -1]
    return int(number) if header.startswith(_MAGIC) and number.isdigit() and header.endswith(b"\n") else None


def _blocks(records: Sequence[Record]) -> Iterator[bytes]:
    waiting: list[bytes] = []
    size = 0
    for record in records:
        text = json.dumps(record, separators=(",", ":"), default=str).encode()
        if waiting and (len(waiting) == _MOST_RECORDS or size + len(text) > _MOST_BYTES):
            yield _block(waiting)
            waiting, size = [], 0
        waiting.append(text)
        size += len(text)
    yield _block(waiting)


def _block(texts: list[bytes]) -> bytes:
    payload = b"[%s]" % b",".join(texts)
    return b"%08x %08x %08x\n%s" % (len(payload), len(texts), zlib.crc32(payload), payload)
