"""The reference of the configuration is made from its models, and the page of the configuration agrees with them."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Annotated, Any

import pytest
import yaml
from pydantic import SecretStr, TypeAdapter

ROOT = Path(__file__).parents[2]
_spec = importlib.util.spec_from_file_location("make_reference", ROOT / "docs" / "make_reference.py")
assert _spec is not None
reference: Any = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(reference)  # type: ignore[union-attr]

KEYS = list(reference.all_keys())
SHOWN = reference.shown()


def kind_of(key: Any) -> TypeAdapter[Any]:
    annotation, metadata = key.field.annotation, key.field.metadata
    return TypeAdapter(Annotated[(annotation, *metadata)] if metadata else annotation)


def test_the_page_is_what_the_models_say() -> None:
    assert reference.PAGE.read_text() == reference.page(), "run make site"


def test_every_key_has_its_meaning_and_its_row_in_its_section() -> None:
    page, missing = reference.PAGE.read_text(), []
    for key in KEYS:
        *section, name = key.path
        part = page.split(f"\n## {'.'.join(section) or 'wallie'}\n")[1].split("\n## ")[0]
        (row,) = (line for line in part.splitlines() if line.startswith(f"| `{name}` | "))
        told = key.field.description
        if not told or not told.endswith(".") or f"| {told} |" not in row:
            missing.append(".".join(key.path))
    assert not missing


@pytest.mark.parametrize("key", list(filter(reference.is_plain, KEYS)), ids=lambda key: ".".join(key.path))
def test_an_example_is_accepted(key: Any) -> None:
    value = yaml.safe_load(reference.written(reference.example(key, SHOWN)))
    if not (isinstance(value, str) and value.startswith("os.environ/")):  # what a variable holds is another value
        kind_of(key).validate_python(value)


def test_the_page_of_the_configuration_has_every_key() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text() + (ROOT / "docs" / "routing.md").read_text()
    missing = {".".join(key.path) for key in KEYS if not re.search(rf"\b{key.path[-1]}\b", text)}
    assert not missing


def shown_lines() -> dict[str, str]:
    """The lines of the page's file by path, for keys that have a line of their own."""
    lines: dict[str, str] = {}
    path: list[str] = []
    text = (ROOT / "docs" / "configuration.md").read_text()
    for line in text.split("```yaml\nwallie:\n")[1].split("```")[0].splitlines():
        if found := re.match(r'( +)"?([\w*.-]+)"?:', line):
            depth = len(found[1]) // 2 - 1
            path = [*path[:depth], found[2]]
            lines[".".join(path)] = line
    return lines


def test_what_the_page_of_the_configuration_shows_is_the_default_or_it_says_what_that_is() -> None:
    lines, compared = shown_lines(), 0
    for key in filter(reference.is_plain, KEYS):
        default = None if key.field.is_required() else key.field.get_default(call_default_factory=True)
        for path, line in lines.items():
            pattern = "".join(r"\.[\w*.-]+" if part.isupper() else rf"\.{part}" for part in key.path)
            if default is None or isinstance(default, SecretStr) or not re.fullmatch(pattern, f".{path}"):
                continue
            given = yaml.safe_load(line.strip()).popitem()[1]
            shown = None if given is None else kind_of(key).validate_python(given)
            compared += 1
            assert shown in (None, default) or "unless set" in line, line
    assert compared > 30
