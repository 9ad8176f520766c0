"""Each picture of the documentation is there, shows something, is shown by a page, and says in words what it shows."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import png
import pytest
from test_pages import FENCE, PAGES, ROOT

SHOWN = [
    ((page.parent / target).resolve(), page, words)
    for page in PAGES
    for words, target in re.findall(r"!\[([^\]]*)\]\(([^)\s]+)\)", FENCE.sub("", page.read_text()))
]
PICTURES = sorted(path for kind in ("png", "svg") for path in (ROOT / "docs").glob(f"[!_]*/**/*.{kind}"))
PICTURES += sorted((ROOT / "docs").glob("*.png"))
LEAST_ROWS = 100  # pixel rows that differ, in a picture that is not blank


def test_a_picture_is_described_where_it_is_shown() -> None:
    assert not [(page.name, path.name) for path, page, words in SHOWN if len(words.split()) < 2]


@pytest.mark.parametrize("picture", PICTURES, ids=lambda path: path.name)
def test_a_picture_shows_something_and_is_shown(picture: Path) -> None:
    assert picture in {path for path, _, _ in SHOWN}, "no page shows it"
    if picture.suffix == ".png":
        assert png.differing_rows(picture) > LEAST_ROWS
        return
    drawing = ElementTree.parse(picture).getroot()  # noqa: S314
    width, height = drawing.get("width"), drawing.get("height")
    assert drawing.get("viewBox") == f"0 0 {width} {height}"
    assert len(drawing.findall("{*}rect")) > 2
