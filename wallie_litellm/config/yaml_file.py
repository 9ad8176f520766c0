"""Reading one YAML file; every mistake in it is named by line and column."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import yaml

from wallie_litellm.config.problems import Problem

LARGEST_FILE: Final = 8 * 1024 * 1024  # bytes


class FileUnreadable(Exception):  # noqa: N818  # caught one level up, never seen outside
    """The file cannot be read as YAML; the message says why."""


class FileMissing(FileUnreadable):
    """There is no such file."""


class _Loader(yaml.SafeLoader):
    """A safe loader that notes repeated keys, of which YAML would silently keep the last."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.problems: list[Problem] = []

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: dict[str, yaml.Mark] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                continue
            if first := seen.setdefault(key.value, key.start_mark):
                self._note_repeated(key, first)
        return node

    def _note_repeated(self, key: yaml.ScalarNode, first: yaml.Mark) -> None:
        if key.start_mark is not first:
            text = f"the key '{key.value}' is there twice, first at line {first.line + 1}; remove one of them"
            self.problems.append(Problem(_at(key.start_mark), text))


def read_yaml(path: Path) -> tuple[Any, list[Problem]]:
    """The file's one document and its repeated keys.

    Raises:
        FileUnreadable: the file is missing, is no YAML, or holds a value that YAML does not allow.
    """
    loader: _Loader | None = None
    text = _text(path)
    try:
        loader = _Loader(text)
        return loader.get_single_data(), loader.problems
    except yaml.reader.ReaderError as error:
        raise FileUnreadable(_bad_character(text, error.position)) from None
    except yaml.MarkedYAMLError as error:
        raise FileUnreadable(_syntax_error(error)) from None
    except RecursionError:
        raise FileUnreadable("not usable YAML: it is nested too deeply") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # such as a date that does not exist
        raise FileUnreadable(f"not usable YAML: {type(error).__name__} in a value") from None
    finally:
        if loader is not None:
            loader.dispose()


def _text(path: Path) -> str:
    try:
        if path.is_dir():
            raise FileUnreadable("is a directory, expected a YAML file")
        with path.open("rb") as file:
            raw = file.read(LARGEST_FILE + 1)
    except FileNotFoundError:
        raise FileMissing("no such file") from None
    except (OSError, ValueError) as error:
        raise FileUnreadable(f"cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(raw) > LARGEST_FILE:
        raise FileUnreadable(f"is larger than {LARGEST_FILE // 1024**2} MiB, expected a YAML file")
    return _decoded(raw)


def _decoded(raw: bytes) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise FileUnreadable(f"line {line}: not UTF-8 text (byte 0x{raw[error.start]:02x})") from None


def _bad_character(text: str, position: int) -> str:
    before = text[:position]
    column = position - (before.rfind("\n") + 1) + 1
    return f"line {before.count(chr(10)) + 1}, column {column}: a character that YAML does not allow"


def _syntax_error(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    said = ", ".join(part for part in (error.context, error.problem) if part)  # never the snippet: it may hold a key
    return f"{_at(mark)}: not valid YAML: {' '.join(said.split())}" if mark else f"not valid YAML: {said}"


def _at(mark: yaml.Mark) -> str:
    return f"line {mark.line + 1}, column {mark.column + 1}"
