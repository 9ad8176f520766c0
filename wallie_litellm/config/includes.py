"""The files that ``include`` names, put together with the file that names them as LiteLLM's proxy does."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from os.path import abspath
from pathlib import Path
from typing import Any, Final

from wallie_litellm.config.problems import Problem, show, wrong
from wallie_litellm.config.yaml_file import FileUnreadable, read_yaml

_INCLUDE: Final = "include"


def with_includes(data: Mapping[Any, Any], path: Path) -> tuple[dict[Any, Any], list[Problem]]:
    """``data``, the content of ``path``, with everything that it includes, and what is wrong with that.

    Lists are joined; any other value of an included file replaces the one before it. A file is read once. Its path is
    relative to the file that names it, else to the first one.
    """
    merged = dict(data)
    found, problems = _entries(merged.pop(_INCLUDE, None), path, "")
    pending, read = deque(found), {_location(path)}
    while pending:
        file = pending.popleft()
        if (location := _location(file)) in read:
            continue
        read.add(location)
        included, wrongs = _read(file)
        more, refused = _entries(included.pop(_INCLUDE, None), path, f"{file}: ", beside=file)
        pending += more
        problems += [*wrongs, *refused]
        merged.update({key: _joined(merged.get(key), value) for key, value in included.items()})
    return merged, problems


def _entries(value: object, root: Path, prefix: str, beside: Path | None = None) -> tuple[list[Path], list[Problem]]:
    if value is None:
        return [], []
    if not isinstance(value, list) or not all(isinstance(entry, str) and entry.strip() for entry in value):
        return [], [wrong(f"{prefix}{_INCLUDE}", value, "a list of paths, such as [models.yaml]")]
    return [_beside(entry, root, beside or root) for entry in value], []


def _beside(entry: str, root: Path, declared_in: Path) -> Path:
    near, at_root = declared_in.parent / entry, root.parent / entry
    return at_root if not near.exists() and at_root.exists() else near


def _read(file: Path) -> tuple[dict[Any, Any], list[Problem]]:
    try:
        data, repeated = read_yaml(file)
    except FileUnreadable as error:
        return {}, [Problem(f"include: {file}", str(error))]
    problems = [Problem(f"{file}: {problem.where}", problem.text) for problem in repeated]
    if data is not None and not isinstance(data, Mapping):
        return {}, [*problems, Problem(f"include: {file}", f"found {show(data)}, expected a mapping")]
    return dict(data or {}), problems


def _location(file: Path) -> str:
    return abspath(file)  # as LiteLLM tells files apart


def _joined(before: object, value: object) -> object:
    return [*before, *value] if isinstance(before, list) and isinstance(value, list) else value
