"""One way of explaining constants, one dialect of docstrings, and types in place of assertions."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from architecture.sources import Checkout, SourceFile, Violation

MARKDOWN: Final = re.compile(r"(?<![`:])`[^`\n]+`(?![`_])")  # `code`, where RST has ``code`` or :role:`code`


def constants(checkout: Checkout) -> Iterator[Violation]:
    """A constant is ``Final`` and explained at the end of its line, not above it by ``#:`` nor below it by a string."""
    for file in checkout.package:
        for comment in file.comments:
            if comment.string.startswith("#:"):
                yield file.violation(comment.start[0], "#: explains a constant: write it at the end of the line")
        for statement in file.tree.body:
            if isinstance(statement, ast.Assign) and _is_constant(statement.targets[0]):
                yield file.violation(statement.lineno, f"{ast.unparse(statement.targets[0])} is not Final")
        yield from _strings_below_assignments(file)


def dialect(checkout: Checkout) -> Iterator[Violation]:
    """Docstrings are in RST: code stands in double backticks."""
    for file in checkout.package:
        for prose in file.docstrings:
            for found in MARKDOWN.finditer(prose.text):
                line = prose.line + prose.text.count("\n", 0, found.start())
                yield file.violation(line, f"{found.group()} in single backticks")


def asserts(checkout: Checkout) -> Iterator[Violation]:
    """The package asserts nothing; a type says it."""
    for file in checkout.package:
        yield from (file.violation(node.lineno, "assert") for node in file.nodes if isinstance(node, ast.Assert))


def _is_constant(target: ast.expr) -> bool:
    return isinstance(target, ast.Name) and target.id.isupper() and not target.id.startswith("__")


def _strings_below_assignments(file: SourceFile) -> Iterator[Violation]:
    for above, below in pairwise(file.tree.body):
        is_text = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
        if is_text and isinstance(above, ast.Assign | ast.AnnAssign):
            yield file.violation(below.lineno, "a string explains a constant: write it at the end of the line")
