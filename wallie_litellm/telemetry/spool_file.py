"""A file of a spool: a header with the position of reading, followed by blocks.

A block is a line with the payload's length, its number of records and its checksum, then the payload, a JSON array. A
block that a crash cut short is not read.
"""

from __future__ import annotations

import fcntl
import itertools
import json
import logging
import os
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

logger = logging.getLogger(__name__)

Record = dict[str, Any]

_MAGIC: Final = b"wallie-spool-1 "
_HEADER: Final = len(_MAGIC) + 17  # bytes
_BLOCK: Final = 27  # bytes before a payload: three numbers of eight hexadecimal digits, and separators
MOST_RECORDS: Final = 1000  # of a block, and so of a batch
_MOST_BYTES: Final = 1 << 20  # of a block, unless a single record is larger

_numbers = itertools.count()


@dataclass(eq=False, slots=True)
class SpoolFile:
    """One file, locked by this process. ``position`` is the offset of the next read, ``size`` of the next write."""

    path: Path
    descriptor: int
    position: int = _HEADER
    size: int = _HEADER
    pending: int = 0
    damaged: int = 0

    def append(self, blocks: bytes, count: int) -> None:
        """Write ``blocks`` of ``count`` records durably, or leave the file unchanged and raise ``OSError``."""
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
        """The number of records found damaged since the last call."""
        damaged, self.damaged = self.damaged, 0
        return damaged

    def advance(self, end: int, count: int) -> None:
        """Continue reading at offset ``end``, after ``count`` more records."""
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
        """Whether the file was neither removed nor replaced."""
        try:
            return os.path.samestat(os.stat(self.path), os.fstat(self.descriptor))
        except OSError:
            return False

    def remove(self) -> None:
        """Remove and close the file."""
        with suppress(OSError):
            self.path.unlink()
        self.close()

    def close(self) -> None:
        """Close the file, which releases its lock."""
        with suppress(OSError):
            os.close(self.descriptor)

    def _block_at(self, position: int) -> tuple[int, int, int] | None:
        line = os.pread(self.descriptor, _BLOCK, position)
        with suppress(ValueError):
            if len(line) == _BLOCK and line[-1:] == b"\n":
                length, count, checksum = (int(number, 16) for number in line.split(b" "))
                return length, count, checksum
        return None


def create_file(directory: Path, name: str) -> SpoolFile:
    """A new, empty file of the spool ``name``, locked.

    Raises:
        OSError: it could not be created.
    """
    while True:
        path = directory / f"{name}-{time.time_ns():020d}-{os.getpid()}-{next(_numbers)}.spool"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        file = SpoolFile(path, descriptor)
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


def adopt_file(path: Path) -> SpoolFile | None:
    """The file at ``path``, locked; ``None`` if it belongs to a running process, holds nothing or cannot be read."""
    try:
        file = SpoolFile(path, os.open(path, os.O_RDWR | os.O_CLOEXEC))
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


def blocks_of(records: Sequence[Record], most: int = MOST_RECORDS) -> Iterator[bytes]:
    """``records`` as blocks of bounded size, of ``most`` records each."""
    waiting: list[bytes] = []
    size = 0
    for record in records:
        text = json.dumps(record, separators=(",", ":"), default=str).encode()
        if waiting and (len(waiting) == most or size + len(text) > _MOST_BYTES):
            yield _block(waiting)
            waiting, size = [], 0
        waiting.append(text)
        size += len(text)
    yield _block(waiting)


def _block(texts: list[bytes]) -> bytes:
    payload = b"[%s]" % b",".join(texts)
    return b"%08x %08x %08x\n%s" % (len(payload), len(texts), zlib.crc32(payload), payload)
