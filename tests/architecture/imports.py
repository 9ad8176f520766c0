"""The import graph of the package: runtime, lazy and typing imports, and its cycles."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from functools import cache
from typing import NamedTuple

from architecture.sources import PACKAGE, Checkout, SourceFile

Graph = Mapping[str, set[str]]


class Kind(Enum):
    """When an import runs."""

    RUNTIME = "when the module is imported"
    LAZY = "when a function is called"
    TYPING = "for type checkers only"


class Import(NamedTuple):
    """One imported module or name."""

    file: SourceFile
    line: int
    target: str  # dotted; a module of the package where there is one of that name, else as it is written
    kind: Kind


def imports_of(file: SourceFile, modules: Mapping[str, SourceFile]) -> Iterator[Import]:
    """Every import in a file, wherever it stands."""
    for line, target, kind in _written(file):
        yield Import(file, line, _module(target, modules), kind)


def imports_within(checkout: Checkout) -> tuple[Import, ...]:
    """Every import of a module of the package by another one."""
    return tuple(
        found
        for file in checkout.package
        for found in imports_of(file, checkout.modules)
        if found.target in checkout.modules and found.target != file.module
    )


def top(module: str) -> str:
    """The first part of a dotted name."""
    return module.partition(".")[0]


def room(module: str) -> str:
    """The package or module directly below the root that a module belongs to; empty for the root's ``__init__``."""
    return module.removeprefix(PACKAGE).lstrip(".").partition(".")[0]


def graph_of(imports: Iterable[Import]) -> Graph:
    """Which module imports which."""
    graph = defaultdict[str, set[str]](set)
    for found in imports:
        graph[found.file.module].add(found.target)
    return graph


def cycles(graph: Graph) -> list[list[str]]:
    """The groups of nodes that reach each other, each sorted, without those of a single node."""
    return sorted(sorted(group) for group in _components(graph) if len(group) > 1)


def siblings(graph: Graph, package: str) -> Graph:
    """The graph between the direct children of a package, each with everything below it."""
    collapsed = defaultdict[str, set[str]](set)
    for importer, targets in graph.items():
        source = _child(importer, package)
        found = {_child(target, package) for target in targets} - {source, ""}
        if source and found:
            collapsed[source] |= found
    return collapsed


def _child(module: str, package: str) -> str:
    if not module.startswith(f"{package}."):
        return ""
    return f"{package}.{module.removeprefix(f'{package}.').partition('.')[0]}"


@cache
def _written(file: SourceFile) -> tuple[tuple[int, str, Kind], ...]:
    return (
        *(
            (statement.lineno, target, kind)
            for statement, kind in _statements(file.tree, Kind.RUNTIME)
            for target in _targets(statement, file)
        ),
        *_by_name(file),
    )


def _by_name(file: SourceFile) -> Iterator[tuple[int, str, Kind]]:
    """Calls of ``import_module`` with a text; of a formatted one, what is in front of its first value."""
    for node in file.nodes:
        if isinstance(node, ast.Call) and node.args and ast.unparse(node.func).endswith("import_module"):
            name = node.args[0].values[0] if isinstance(node.args[0], ast.JoinedStr) else node.args[0]
            if isinstance(name, ast.Constant) and isinstance(name.value, str):
                yield node.lineno, name.value.rstrip("."), Kind.LAZY


def _statements(node: ast.AST, kind: Kind) -> Iterator[tuple[ast.Import | ast.ImportFrom, Kind]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child, kind
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from _statements(child, Kind.LAZY)
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            yield from _statements(ast.Module(child.body, []), Kind.TYPING)
            yield from _statements(ast.Module(child.orelse, []), kind)
        else:
            yield from _statements(child, kind)


def _targets(statement: ast.Import | ast.ImportFrom, file: SourceFile) -> Iterator[str]:
    if isinstance(statement, ast.Import):
        yield from (alias.name for alias in statement.names)
        return
    base = statement.module or ""
    if statement.level:
        above = file.module.split(".")[: None if file.is_package else -1]
        above = above[: len(above) - statement.level + 1]
        base = ".".join([*above, *filter(None, [base])])
    yield from (f"{base}.{alias.name}" for alias in statement.names)


def _module(target: str, modules: Mapping[str, SourceFile]) -> str:
    if target in modules:
        return target
    parent = target.rpartition(".")[0]
    return parent if parent in modules else target


def _components(graph: Graph) -> Iterator[list[str]]:
    """Strongly connected components, by Tarjan's algorithm."""
    index, low = dict[str, int](), dict[str, int]()
    stack = list[str]()

    def visit(node: str) -> Iterator[list[str]]:
        index[node] = low[node] = len(index)
        stack.append(node)
        for target in sorted(graph.get(node, ())):
            if target not in index:
                yield from visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], index[target])
        if low[node] == index[node]:
            position = stack.index(node)
            yield stack[position:]
            del stack[position:]

    for node in sorted(graph):
        if node not in index:
            yield from visit(node)
