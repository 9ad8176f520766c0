"""Sizes and class names."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from typing import Final

from architecture.sources import Checkout, SourceFile, Violation

LONGEST: Final = 500  # lines of a file
MOST_ATTRIBUTES: Final = 20  # set in one ``__init__``
MOST_ALIKE: Final = 8  # modules of a folder whose names begin with the same word
# Class names that may be defined twice, each with its reason.
TWICE: Final[dict[str, str]] = {}


def file_length(checkout: Checkout) -> Iterator[Violation]:
    """A file of the package fits on a few screens."""
    for file in checkout.package:
        lines = len(file.text.splitlines())
        if lines > LONGEST:
            yield file.violation(lines, f"{lines} lines: at most {LONGEST}")


def attribute_count(checkout: Checkout) -> Iterator[Violation]:
    """An ``__init__``, written or a dataclass's, sets few attributes."""
    for file in checkout.package:
        for definition in class_definitions(file):
            count = len(attributes(definition))
            if count > MOST_ATTRIBUTES:
                yield file.violation(
                    definition.lineno, f"{definition.name} sets {count} attributes: at most {MOST_ATTRIBUTES}"
                )


def class_names(checkout: Checkout) -> Iterator[Violation]:
    """No class name is defined twice in the package."""
    first = dict[str, Violation]()
    for file in checkout.package:
        for definition in class_definitions(file):
            place = file.violation(definition.lineno, definition.name)
            other = first.setdefault(definition.name, place)
            if other is not place and definition.name not in TWICE:
                yield place._replace(message=f"class {definition.name} is defined in {other.path}:{other.line} too")


def prefixes(checkout: Checkout) -> Iterator[Violation]:
    """Modules whose names begin with the same word get a folder before they are many."""
    alike = Counter((file.path.parent, file.path.stem.partition("_")[0]) for file in checkout.package)
    for file in checkout.package:
        prefix = file.path.stem.partition("_")[0]
        count = alike.pop((file.path.parent, prefix), 0)
        if count > MOST_ALIKE:
            yield file.violation(1, f"{count} modules here begin with {prefix}: at most {MOST_ALIKE}")


def class_definitions(file: SourceFile) -> list[ast.ClassDef]:
    """Every class of a file."""
    return [node for node in file.nodes if isinstance(node, ast.ClassDef)]


def attributes(definition: ast.ClassDef) -> set[str]:
    """The attributes that ``__init__`` sets, or the fields of a dataclass with methods; values have none."""
    found = set[str]()
    for method in methods(definition):
        if method.name in {"__init__", "__post_init__"}:
            found |= _assigned(method)
    if _is_dataclass(definition) and any(_is_behaviour(method) for method in methods(definition)):
        found |= _fields(definition)
    return found


def methods(definition: ast.ClassDef) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    """The functions in a class's body."""
    return [node for node in definition.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def _assigned(method: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    receiver = method.args.args[0].arg if method.args.args else "self"
    return {
        node.attr
        for node in ast.walk(method)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and isinstance(node.value, ast.Name)
        and node.value.id == receiver
    }


def _fields(definition: ast.ClassDef) -> set[str]:
    return {
        node.target.id
        for node in definition.body
        if isinstance(node, ast.AnnAssign)
        and isinstance(node.target, ast.Name)
        and "ClassVar" not in ast.unparse(node.annotation)
    }


def _is_dataclass(definition: ast.ClassDef) -> bool:
    return any("dataclass" in ast.unparse(decorator) for decorator in definition.decorator_list)


def _is_behaviour(method: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """True for methods other than ``__dunder__`` ones, properties and constructors."""
    decorators = {ast.unparse(decorator).rpartition(".")[2] for decorator in method.decorator_list}
    is_special = method.name.startswith("__") and method.name.endswith("__")
    return not is_special and not decorators & {"property", "cached_property", "classmethod", "staticmethod"}
