"""Records that wait on disk until their receiver is back.

A spool is a directory of files, each belonging to one process by an ``flock``: what a dead process leaves behind, the
next one takes over. A file is a header, which says how far it has been read, and blocks: a line with the payload's
length, its number of records and its checksum, then the payload, a JSON array. A block that a crash cut short is not
read. What was handed out but not marked as done before a crash is handed out again.
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
from typing import Any, NamedTuple

logger = logging.getLogger(__name__)

Record = dict[str, Any]

_MAGIC = b"wallie-spool-1 "
_HEADER = len(_MAGIC) + 17
_BLOCK = 27  # three numbers of eight hexadecimal digits each, and what separates them
_MOST_RECORDS = 1000  # to a block, and so to a batch
_MOST_BYTES = 1 << 20  # of a block, unless a single record is larger
_SEGMENT = 16 << 20  # bytes after which a new file is begun, so that what has been read frees its space

_numbers = itertools.count()
_living: weakref.WeakSet[Spool] = weakref.WeakSet()


def _renew_in_child() -> None:
    for spool in list(_living):
        spool.begin_anew()


os.register_at_fork(after_in_child=_renew_in_child)


class Batch(NamedTuple):
    """Records that were appended together, to be marked as done once their receiver has them."""

    records: list[Record]
    file: _File
    end: int


class Spool:
    """Batches of JSON-able dicts on disk, named ``name``, in ``directory``, which is only made when one has to wait.

    Safe to use from several threads, by several processes at once, and after a fork. Only one thread at a time may
    go through :meth:`oldest` and :meth:`done`.
    """

    def __init__(self, directory: Path, name: str) -> None:
        self.directory = directory
        self.name = name
        self.dropped = 0  # records lost to damage: torn by a crash, or overwritten by somebody
        self._lock = threading.Lock()
        self._files: deque[_File] = deque()
        self._tail: _File | None = None
        self._closed = False
        _living.add(self)
        self.adopt()

    @property
    def pending(self) -> int:
        """Records that wait here; those in the files of other living processes do not count."""
        return sum(file.pending for file in list(self._files))

    def append(self, records: Sequence[Record]) -> None:
        """Put ``records`` on disk, all of them or none; they are there, whatever happens, once this returns.

        Raises:
            OSError: they could not be written; what was there before is untouched.
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
        """Forget ``batch``; its file goes when nothing is left in it."""
        with self._lock:
            if batch.file not in self._files:
                return
            batch.file.advance(batch.end, len(batch.records))
            if batch.file.pending == 0:
                self._retire(batch.file)

    def adopt(self) -> None:
        """Take over the files that processes which are no more have left behind."""
        with self._lock:
            if self._closed:  # whoever comes next is to have them
                return
            found = [_adopted(path) for path in sorted(self.directory.glob(f"{self.name}-*.spool"))]
            for file in reversed([file for file in found if file is not None]):
                self.dropped += file.take_damage()
                self._files.appendleft(file)

    def close(self) -> None:
        """Let go of the files; what waits in them stays on disk for whoever comes next."""
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

    def begin_anew(self) -> None:
        """Leave the files to the parent of this forked child: its locks hold as long as anybody has them open."""
        self._lock = threading.Lock()
        for file in self._files:
            file.close()
        self._files.clear()
        self._tail = None


@dataclass(eq=False, slots=True)
class _File:
    """One file, locked by this process. ``position`` is where reading goes on, ``size`` where writing does."""

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
        """The next block that is whole, and where it ends."""
        while self.position < self.size:
            block = self._block_at(self.position)
            if block is None:  # lengths can no longer be told: what follows is lost
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
        with suppress(OSError):  # the batch is at worst handed out again
            _write(self.descriptor, _header(end), 0)

    def scan(self) -> bool:
        """Count what a file of an earlier process holds, up to where a crash cut it short; ``False`` for no spool."""
        length = os.fstat(self.descriptor).st_size
        if length < _HEADER:  # cut short before anything was in it
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
