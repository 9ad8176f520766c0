"""PNG files as far as the pictures of the documentation need them: their size, their text, whether they show anything.

The format is that of the W3C's "Portable Network Graphics (PNG) Specification", third edition.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
KEYWORD: Final = b"Description"  # of those that the specification names, section 11.3.3.1
PLAIN: Final = b"\0\0\0\0\0"  # after the keyword: not compressed, neither language nor translated keyword


def chunks(path: Path) -> Iterator[tuple[bytes, bytes]]:
    """Each chunk's type and data."""
    content = path.read_bytes()
    assert content.startswith(SIGNATURE), f"{path} is no PNG"
    at = len(SIGNATURE)
    while at < len(content):
        length, kind = struct.unpack_from(">I4s", content, at)
        yield kind, content[at + 8 : at + 8 + length]
        at += length + 12


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def describe(path: Path, text: str) -> None:
    """Write ``text`` into the file, in place of any it has."""
    kept = [_chunk(kind, data) for kind, data in chunks(path) if kind != b"iTXt"]
    described = _chunk(b"iTXt", KEYWORD + PLAIN + text.encode())
    path.write_bytes(SIGNATURE + b"".join([*kept[:-1], described, kept[-1]]))


def description(path: Path) -> str:
    """The text that :func:`describe` wrote; empty where it wrote none."""
    found = [data for kind, data in chunks(path) if kind == b"iTXt" and data.startswith(KEYWORD + PLAIN)]
    return found[0].removeprefix(KEYWORD + PLAIN).decode() if found else ""


def size(path: Path) -> tuple[int, int]:
    """Width and height in pixels."""
    width, height = struct.unpack(">II", next(chunks(path))[1][:8])
    return width, height


def differing_rows(path: Path) -> int:
    """How many rows of pixels are unlike each other, as they are filtered; of a blank picture one or two."""
    pixels = zlib.decompress(b"".join(data for kind, data in chunks(path) if kind == b"IDAT"))
    height = size(path)[1]
    length = len(pixels) // height
    return len({pixels[at : at + length] for at in range(0, len(pixels), length)})
