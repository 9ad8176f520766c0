"""The files that ``include`` names, put together with the file that names them as LiteLLM's proxy does."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping
from os.path import abspath
from pathlib import Path
from typing import Any, Final, NamedTuple

from wallie_litellm.config.problems import Problem, show, wrong
from wallie_litellm.config.yaml_file import FileUnreadable, read_yaml

_INCLUDE: Final = "include"
_MODELS: Final = "model_list"
_MODEL: Final = re.compile(r"model_list\[(\d+)\]")


class Included(NamedTuple):
    """A file's content with all that it includes, what is wrong with that, and where the models come from.

    ``models`` has each included file with the index in ``model_list`` at which its models begin; ``files`` are all.
    """

    data: dict[Any, Any]
    problems: list[Problem]
    models: list[tuple[int, Path]]
    files: list[Path]

    def locate(self, place: str) -> str:
        """A key path, with the included file in front of it and the index in that, if it leads to a model of one."""
        match = _MODEL.match(place)
        if match is None:
            return place
        index = int(match[1])
        begin, file = max(((at, file) for at, file in self.models if at <= index), default=(0, None))
        return place if file is None else f"{file}: model_list[{index - begin}]{place[match.end() :]}"


def with_includes(data: Mapping[Any, Any], path: Path) -> Included:
    """``data``, the content of ``path``, with everything that it includes.

    Lists are joined; any other value of an included file replaces the one before it. A file is read once. Its path is
    relative to the file that names it, else to the first one.
    """
    merged, models, files = dict(data), [], []
    found, problems = _entries(merged.pop(_INCLUDE, None), path, "")
    pending, read = deque(found), {_location(path)}
    while pending:
        file = pending.popleft()
        if (location := _location(file)) in read:
            continue
        read.add(location)
        files.append(file)
        included, wrongs = _read(file)
        more, refused = _entries(included.pop(_INCLUDE, None), path, f"{file}: ", beside=file)
        pending += more
        problems += [*wrongs, *refused]
        if _length(included.get(_MODELS)):
            models.append((_length(merged.get(_MODELS)), file))
        merged.update({key: _joined(merged.get(key), value) for key, value in included.items()})
    return Included(merged, problems, models, files)


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


def _length(value: object) -> int:
    return len(value) if isinstance(value, list) else 0


def _joined(before: object, value: object) -> object:
    return [*before, *value] if isinstance(before, list) and isinstance(value, list) else value
