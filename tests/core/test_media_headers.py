"""The size of a file, read from its first and last bytes."""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wallie_litellm.core.media_headers import audio_seconds, image_size, pdf_pages, text_bytes, video_seconds

MANY = b"\x00" * 4_000_000  # bytes of a file behind its header


def png(width: int, height: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + struct.pack(">II", width, height) + b"\x08\x02\x00\x00\x00"


def jpeg(width: int, height: int, before: int = 0) -> bytes:
    comment = b"\xff\xfe" + struct.pack(">H", before + 2) + b"c" * before if before else b""
    return b"\xff\xd8" + comment + b"\xff\xc0\x00\x11\x08" + struct.pack(">HH", height, width) + b"\x03" * 12


def gif(width: int, height: int) -> bytes:
    return b"GIF89a" + struct.pack("<HH", width, height) + b"\x00" * 3


def webp(form: bytes, body: bytes) -> bytes:
    return b"RIFF\x00\x00\x00\x00WEBP" + form + b"\x00\x00\x00\x00" + body.ljust(20, b"\x00")


def wav(seconds: float) -> bytes:
    head = b"RIFF\x00\x00\x00\x00WAVEfmt \x10\x00\x00\x00" + struct.pack("<HHIIHH", 1, 1, 16_000, 32_000, 2, 16)
    return head + b"LIST\x04\x00\x00\x00abcddata" + struct.pack("<I", int(seconds * 32_000))


def movie_header(seconds: int, version: int = 0) -> bytes:
    times = (
        struct.pack(">QQIQ", 0, 0, 1000, seconds * 1000) if version else struct.pack(">IIII", 0, 0, 600, seconds * 600)
    )
    return b"\x00\x00\x00\x6cmvhd" + bytes([version, 0, 0, 0]) + times + b"\x00" * 80


IMAGES = {
    "png": png(800, 600),
    "jpeg": jpeg(800, 600),
    "jpeg with a long comment": jpeg(800, 600, 20_000),
    "gif": gif(800, 600),
    "webp lossy": webp(b"VP8 ", b"\x00" * 6 + struct.pack("<HH", 800, 600)),
    "webp lossless": webp(b"VP8L", b"\x2f" + struct.pack("<I", 799 | 599 << 14)),
    "webp extended": webp(b"VP8X", b"\x00" * 4 + (799).to_bytes(3, "little") + (599).to_bytes(3, "little")),
}


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.parametrize(
    "given_as",
    [
        bytes,
        lambda file: base64.b64encode(file).decode(),
        lambda file: "data:image/any;base64," + base64.b64encode(file).decode(),
    ],
    ids=["bytes", "base64", "data URL"],
)
def test_an_images_size_is_in_its_header(name: str, given_as: Callable[[bytes], Any]) -> None:
    assert image_size(given_as(IMAGES[name] + MANY[:1000])) == (800, 600)


def test_a_recordings_length_is_in_its_header() -> None:
    assert audio_seconds(base64.b64encode(wav(12.5)).decode()) == 12.5
    assert audio_seconds(b"ID3" + MANY[:100]) is None


@pytest.mark.parametrize("file", [movie_header(90) + MANY, MANY + movie_header(90), MANY + movie_header(90, 1)])
def test_a_films_length_is_at_its_beginning_or_end(file: bytes) -> None:
    assert video_seconds(b"\x00\x00\x00\x18ftypmp42" + file) == 90


@pytest.mark.parametrize(
    ("file", "pages"),
    [
        (b"%PDF-1.7\n1 0 obj<</Linearized 1/L 9/N 12>>" + MANY, 12),
        (b"%PDF-1.7" + MANY + b"<</Type/Pages/Count 34/Kids[]>>\n%%EOF", 34),
        (b"%PDF-1.7 <</Type /ObjStm /N 3>>" + MANY, None),
    ],
)
def test_a_pdfs_pages_are_counted_where_it_says_them(file: bytes, pages: int | None) -> None:
    assert pdf_pages(base64.b64encode(file).decode()) == pages


def test_a_text_file_is_as_long_as_what_its_base64_holds() -> None:
    assert text_bytes("data:text/plain;base64," + base64.b64encode(b"x" * 3000).decode()) == 3000


@given(st.one_of(st.binary(max_size=60), st.text(max_size=60), st.none(), st.integers()), st.sampled_from(list(IMAGES)))
def test_nothing_that_is_read_raises(data: Any, name: str) -> None:
    for file in (data, IMAGES[name] + data if isinstance(data, bytes) else data, b"RIFF....WAVEfmt " + bytes(20)):
        size = image_size(file)
        assert size is None or min(size) > 0
        for read in (audio_seconds, video_seconds, pdf_pages):
            found = read(file)
            assert found is None or found >= 0
