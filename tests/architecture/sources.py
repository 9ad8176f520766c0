"""The files of a checkout, parsed once, and what a contract reports about them."""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final, NamedTuple

PACKAGE: Final = "wallie_litellm"
BESIDES: Final = (
    "tests",
    "benchmarks",
    "callbacks",
    "examples",
    "docs",
)  # folders with Python files beside the package


class Violation(NamedTuple):
    """One place where a contract is broken."""

    path: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.message}"


class Prose(NamedTuple):
    """A docstring, or comments on consecutive lines."""

    line: int  # of the first one, from 1
    text: str


@dataclass(frozen=True)
class SourceFile:
    """A Python file of a checkout."""

    root: Path
    path: Path

    @cached_property
    def name(self) -> str:
        """The path from the checkout's root, with slashes."""
        return self.path.relative_to(self.root).as_posix()

    @cached_property
    def module(self) -> str:
        """The dotted name; a package's is that of its ``__init__``."""
        parts = self.path.relative_to(self.root).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    @property
    def is_package(self) -> bool:
        """True for an ``__init__.py``."""
        return self.path.stem == "__init__"

    @cached_property
    def text(self) -> str:
        """The source."""
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def tree(self) -> ast.Module:
        """The parsed source."""
        return ast.parse(self.text, self.name)

    @cached_property
    def nodes(self) -> tuple[ast.AST, ...]:
        """Every node of the tree."""
        return tuple(ast.walk(self.tree))

    @cached_property
    def comments(self) -> tuple[tokenize.TokenInfo, ...]:
        """Every comment."""
        tokens = tokenize.generate_tokens(io.StringIO(self.text).readline)
        return tuple(token for token in tokens if token.type == tokenize.COMMENT)

    @cached_property
    def docstrings(self) -> tuple[Prose, ...]:
        """Every string that stands as a statement of its own."""
        return tuple(
            Prose(node.lineno, node.value.value)
            for node in self.nodes
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        )

    @cached_property
    def prose(self) -> tuple[Prose, ...]:
        """Docstrings and comments; comments on consecutive lines are one text."""
        return (*self.docstrings, *_joined(self.comments))

    def violation(self, line: int, message: str) -> Violation:
        """A violation in this file."""
        return Violation(self.name, line, message)


def _joined(comments: tuple[tokenize.TokenInfo, ...]) -> Iterator[Prose]:
    first, texts = 0, list[str]()
    for comment in comments:
        line = comment.start[0]
        if texts and line != first + len(texts):
            yield Prose(first, "\n".join(texts))
            texts = []
        if not texts:
            first = line
        texts.append(comment.string.lstrip("#:").strip())
    if texts:
        yield Prose(first, "\n".join(texts))


class Checkout:
    """The Python files of a checkout: the package's, and those beside it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.package = _files(root, PACKAGE)
        self.besides = tuple(file for folder in BESIDES for file in _files(root, folder))

    @property
    def files(self) -> tuple[SourceFile, ...]:
        """All files."""
        return (*self.package, *self.besides)

    @cached_property
    def modules(self) -> dict[str, SourceFile]:
        """The package's files by their dotted names."""
        return {file.module: file for file in self.package}

    def within(self, *parts: str) -> tuple[SourceFile, ...]:
        """The package's files in one of its folders, without ``__init__`` files."""
        prefix = "/".join((PACKAGE, *parts)) + "/"
        return tuple(file for file in self.package if file.name.startswith(prefix) and not file.is_package)


def _files(root: Path, folder: str) -> tuple[SourceFile, ...]:
    return tuple(SourceFile(root, path) for path in sorted((root / folder).rglob("*.py")))
