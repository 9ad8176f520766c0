"""What a file's own bytes say of its size: an image's pixels, a recording's seconds, a PDF's pages.

Only a window at the file's beginning and end is decoded: a request with megabytes of media costs microseconds.
"""

from __future__ import annotations

import binascii
import re
from typing import Any, Final

HEAD: Final = 4_096  # bytes that tell most formats' sizes
WINDOW: Final = 65_536  # bytes at the beginning, and at the end, in which the rest do; a multiple of 4
_BYTES_OF_BASE64: Final = 3 / 4  # bytes that a character of base64 holds

_JPEG_FRAMES: Final = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})  # markers of segments with the image's size
_LINEARIZED: Final = re.compile(rb"/Linearized\b[^>]{0,400}?/N\s+(\d{1,6})\b")  # says the pages of the whole file
_PAGE_TREE: Final = re.compile(rb"/Count\s+(\d{1,6})\b")
_WAV_FORMAT: Final = 12  # where the first chunk of a WAV file begins


def head_of(data: Any, size: int = HEAD) -> bytes:
    """The first ``size`` bytes of a file, given as bytes, base64 or a data URL; empty for what is none of these."""
    if isinstance(data, bytes | bytearray):
        return bytes(data[:size])
    if not isinstance(data, str):
        return b""
    begin = _begin_of_base64(data)
    return _decoded(data[begin : begin + size // 3 * 4])


def tail_of(data: Any, size: int = WINDOW) -> bytes:
    """The last bytes of a file, as :func:`head_of` reads them."""
    if isinstance(data, bytes | bytearray):
        return bytes(data[-size:])
    if not isinstance(data, str):
        return b""
    begin = _begin_of_base64(data)
    whole = (len(data) - begin) // 4 * 4
    return _decoded(data[max(begin, begin + whole - size) : begin + whole])


def text_bytes(data: Any) -> int:
    """The length of a text file in bytes, given as :func:`head_of` takes it."""
    if isinstance(data, bytes | bytearray):
        return len(data)
    if not isinstance(data, str):
        return 0
    begin = _begin_of_base64(data)
    return max(0, int((len(data) - begin) * _BYTES_OF_BASE64))


def image_size(data: Any) -> tuple[int, int] | None:
    """Width and height in pixels of a PNG, GIF, WebP or JPEG; ``None`` where they cannot be read."""
    head = head_of(data)
    if head.startswith(b"\xff\xd8"):
        return _jpeg_size(head) or _jpeg_size(head_of(data, WINDOW))
    if head.startswith(b"\x89PNG") and len(head) >= 24:
        found = int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")
    elif head[:4] == b"GIF8" and len(head) >= 10:
        found = int.from_bytes(head[6:8], "little"), int.from_bytes(head[8:10], "little")
    elif head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return _webp_size(head)
    else:
        return None
    return _plausible(found)


def audio_seconds(data: Any) -> float | None:
    """The length of a WAV file; ``None`` for other formats, whose header does not say it."""
    head = head_of(data)
    if head[:4] != b"RIFF" or head[8:12] != b"WAVE":
        return None
    at, rate = _WAV_FORMAT, 0
    while at + 8 <= len(head):
        name, size = head[at : at + 4], int.from_bytes(head[at + 4 : at + 8], "little")
        if name == b"fmt " and at + 20 <= len(head):
            rate = int.from_bytes(head[at + 16 : at + 20], "little")  # bytes per second
        if name == b"data":
            return size / rate if rate and size != 0xFFFFFFFF else None
        at += 8 + size + size % 2
    return None


def video_seconds(data: Any) -> float | None:
    """The length of an MP4 or MOV file, from the movie header at its beginning or end."""
    for part in (head_of(data, WINDOW), tail_of(data)):
        at = part.find(b"mvhd")
        if at < 0 or at + 36 > len(part):
            continue
        is_long = part[at + 4] == 1  # version 1 has times of 8 bytes
        scale_at, width = (at + 24, 8) if is_long else (at + 16, 4)
        scale = int.from_bytes(part[scale_at : scale_at + 4], "big")
        length = int.from_bytes(part[scale_at + 4 : scale_at + 4 + width], "big")
        if scale and length:
            return length / scale
    return None


def pdf_pages(data: Any) -> int | None:
    """The pages of a PDF, from its page tree or linearisation; ``None`` where these are compressed or elsewhere."""
    head = head_of(data, WINDOW)
    found = _LINEARIZED.findall(head) or _PAGE_TREE.findall(head) + _PAGE_TREE.findall(tail_of(data))
    pages = max(map(int, found), default=0)
    return pages if 0 < pages <= 100_000 else None


def _begin_of_base64(data: str) -> int:
    """Where the base64 begins: after the comma of a data URL, else at the beginning."""
    return data.find(",", 0, 256) + 1 if data.startswith("data:") else 0


def _decoded(text: str) -> bytes:
    try:
        return binascii.a2b_base64(text[: len(text) // 4 * 4])
    except (binascii.Error, ValueError):  # no base64, such as a URL
        return b""


def _jpeg_size(head: bytes) -> tuple[int, int] | None:
    at = 2
    while at + 9 <= len(head) and head[at] == 0xFF:
        marker, length = head[at + 1], int.from_bytes(head[at + 2 : at + 4], "big")
        if marker in _JPEG_FRAMES:
            height, width = (int.from_bytes(head[at + i : at + i + 2], "big") for i in (5, 7))
            return _plausible((width, height))
        at += 2 + max(2, length)
    return None


def _webp_size(head: bytes) -> tuple[int, int] | None:
    if len(head) < 30:
        return None
    form = head[12:16]
    if form == b"VP8 ":
        width, height = (int.from_bytes(head[i : i + 2], "little") & 0x3FFF for i in (26, 28))
    elif form == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    else:
        width, height = (int.from_bytes(head[i : i + 3], "little") + 1 for i in (24, 27))
    return _plausible((width, height))


def _plausible(size: tuple[int, int]) -> tuple[int, int] | None:
    return size if min(size) > 0 and max(size) <= 1_000_000 else None
