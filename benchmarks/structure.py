"""How the package is built, in numbers: ``python -m benchmarks.structure [--repository PATH ...]`` prints Markdown.

One column for each checkout, headed by its folder's name, and a table of its packages. Nothing of a checkout is
imported; its files are parsed, so that older ones can be measured too. docs/structure.md says what the rows mean.
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set, Sized
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

REPOSITORY: Final = Path(__file__).parent.parent
sys.path.insert(0, str(REPOSITORY / "tests"))

from architecture.imports import Graph, Import, Kind, cycles, graph_of, imports_within, room  # noqa: E402 - the line above
from architecture.shape import attributes, class_definitions, methods  # noqa: E402 - as above
from architecture.sources import PACKAGE, Checkout, SourceFile  # noqa: E402 - as above
from architecture.voice import PERSONS, uses  # noqa: E402 - as above

LARGEST: Final = 4  # classes that a row names
Function = ast.FunctionDef | ast.AsyncFunctionDef


class Spread(NamedTuple):
    """What is typical of some sizes, and the largest."""

    median: float
    p90: int
    largest: int

    def __str__(self) -> str:
        return f"{self.median:g} / {self.p90} / {self.largest}"


@dataclass(frozen=True)
class Rooms:
    """The graph between the modules and packages directly below the root."""

    names: frozenset[str]
    arrows: Graph
    floors: Mapping[str, int]  # from 1: one more than the highest of those below a room
    upwards: frozenset[tuple[str, str]]  # arrows that make a cycle


def spread(sizes: Iterable[int]) -> Spread:
    """The median, the 90th percentile and the maximum; zeros of nothing."""
    found = sorted(sizes) or [0]
    return Spread(median(found), found[min(len(found) - 1, len(found) * 9 // 10)], found[-1])


def functions(files: Iterable[SourceFile]) -> Iterator[Function]:
    """Every function and method, nested ones too."""
    for file in files:
        yield from (node for node in file.nodes if isinstance(node, Function))


def length(function: Function) -> int:
    """Lines from ``def`` to the end."""
    return (function.end_lineno or function.lineno) - function.lineno + 1


def public_names(file: SourceFile) -> list[str]:
    """The classes and functions at the top level of a module whose names have no leading underscore."""
    definitions = [node for node in file.tree.body if isinstance(node, ast.ClassDef | Function)]
    return [node.name for node in definitions if not node.name.startswith("_")]


def documented(found: Sequence[Function]) -> str:
    """The share of functions with a docstring, in per cent."""
    return f"{100 * sum(ast.get_docstring(function) is not None for function in found) / max(1, len(found)):.0f} %"


def _documented(found: Sequence[Function]) -> str:
    public = [function for function in found if not function.name.startswith("_")]
    return f"{documented(found)} / {documented(public)}"


def rooms(checkout: Checkout) -> Rooms:
    """The modules and packages directly below the root, and the imports between them.

    In a cycle, the typing and lazy imports are those that go upwards; of a cycle at run time, all are.
    """
    imports = imports_within(checkout)
    arrows = _between(imports)
    at_run_time = _between(found for found in imports if found.kind is Kind.RUNTIME)
    late = {(a, b) for a, b in _within_cycles(arrows) if b not in at_run_time.get(a, ())}
    upwards = late | _within_cycles(_without(arrows, late))
    names = frozenset(room(file.module) for file in checkout.package) - {""}
    return Rooms(names, arrows, _floors(names, _without(arrows, upwards)), frozenset(upwards))


def _within_cycles(graph: Graph) -> set[tuple[str, str]]:
    return {(a, b) for cycle in cycles(graph) for a in cycle for b in graph.get(a, set()) & {*cycle}}


def _without(graph: Graph, arrows: Set[tuple[str, str]]) -> Graph:
    return {a: {b for b in targets if (a, b) not in arrows} for a, targets in graph.items()}


def _between(imports: Iterable[Import]) -> Graph:
    graph = defaultdict[str, set[str]](set)
    for found in imports:
        source, target = room(found.file.module), room(found.target)
        if source and target and source != target:
            graph[source].add(target)
    return graph


def _floors(names: Iterable[str], graph: Graph) -> dict[str, int]:
    """The longest way down from each room of a graph without cycles, from 1."""
    known = dict[str, int]()

    def floor(name: str) -> int:
        if name not in known:
            known[name] = 1 + max(map(floor, graph.get(name, ())), default=0)
        return known[name]

    return {name: floor(name) for name in names}


def _classes(checkout: Checkout, size: Callable[[ast.ClassDef], Sized]) -> list[tuple[int, str]]:
    """Size and name of every class, the largest first."""
    definitions = [definition for file in checkout.package for definition in class_definitions(file)]
    return sorted(((len(size(definition)), definition.name) for definition in definitions), reverse=True)


def _named(sizes: Sequence[tuple[int, str]]) -> str:
    return ", ".join(f"{name} {count}" for count, name in sizes) or "-"


def _lines(files: Iterable[SourceFile]) -> list[int]:
    return [len(file.text.splitlines()) for file in files]


def _top_level(checkout: Checkout) -> str:
    packages = {room(file.module) for file in checkout.package if file.is_package} - {""}
    names = {room(file.module) for file in checkout.package} - {""}
    return f"{len(names - packages)} + {len(packages)}"


def _depth(checkout: Checkout) -> int:
    return max((file.name.count("/") - 1 for file in checkout.package), default=0)


def _cycles(checkout: Checkout) -> str:
    imports = imports_within(checkout)
    at_run_time = [found for found in imports if found.kind is Kind.RUNTIME]
    return f"{len(cycles(graph_of(at_run_time)))} / {len(cycles(graph_of(imports)))}"


def _comments(files: Sequence[SourceFile]) -> str:
    lines = sum(1 for file in files for line in file.text.splitlines() if line.strip())
    return f"{100 * sum(len(file.comments) for file in files) / max(1, lines):.1f}"


def _persons(files: Iterable[SourceFile]) -> int:
    return sum(1 for file in files for _ in uses(file, PERSONS))


ROWS: Final[dict[str, Callable[[Checkout], object]]] = {
    "files": lambda checkout: len(checkout.package),
    "lines": lambda checkout: f"{sum(_lines(checkout.package)):,}",
    "lines of a file: median / p90 / max": lambda checkout: spread(_lines(checkout.package)),
    "functions": lambda checkout: f"{len([*functions(checkout.package)]):,}",
    "lines of a function: median / p90 / max": lambda checkout: spread(map(length, functions(checkout.package))),
    "functions with a docstring: all / public": lambda checkout: _documented([*functions(checkout.package)]),
    "comments for 100 lines of code": lambda checkout: _comments(checkout.package),
    "top level: modules + packages": _top_level,
    "depth of folders": _depth,
    "largest classes by methods": lambda checkout: _named(_classes(checkout, methods)[:LARGEST]),
    "most attributes of one `__init__`": lambda checkout: _named(_classes(checkout, attributes)[:1]),
    "public classes and functions of modules": lambda checkout: sum(
        len(public_names(file)) for file in checkout.package
    ),
    "rooms": lambda checkout: len(rooms(checkout).names),
    "floors": lambda checkout: max(rooms(checkout).floors.values(), default=0),
    "arrows between rooms": lambda checkout: sum(map(len, rooms(checkout).arrows.values())),
    "arrows upwards": lambda checkout: len(rooms(checkout).upwards),
    "import cycles: at run time / all imports": _cycles,
    "persons in comments and docstrings": lambda checkout: _persons(checkout.package),
}


def table(checkouts: Mapping[str, Checkout]) -> Iterator[str]:
    """The rows of all checkouts side by side."""
    yield f"| | {' | '.join(checkouts)} |"
    yield f"| --- |{' ---: |' * len(checkouts)}"
    for title, row in ROWS.items():
        yield f"| {title} | {' | '.join(str(row(checkout)) for checkout in checkouts.values())} |"


def packages(checkout: Checkout) -> Iterator[str]:
    """Every package of a checkout, and what lies beside them."""
    yield "| package | files | lines | largest file | functions: p90 / max | public classes and functions |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: |"
    inside = defaultdict[str, list[SourceFile]](list)
    for file in checkout.package:
        parts = file.path.relative_to(checkout.root / PACKAGE).parts
        inside[f"`{parts[0]}/`" if len(parts) > 1 else "top level"].append(file)
    for name, files in sorted(inside.items()):
        lines, sizes = _lines(files), spread(map(length, functions(files)))
        names = sum(len(public_names(file)) for file in files)
        yield f"| {name} | {len(files)} | {sum(lines):,} | {max(lines)} | {sizes.p90} / {sizes.largest} | {names} |"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.structure", description="Measure the package's layout.")
    parser.add_argument("--repository", nargs="+", type=Path, default=[REPOSITORY], metavar="PATH", help="checkouts")
    checkouts = {path.resolve().name: Checkout(path.resolve()) for path in parser.parse_args().repository}
    print("\n".join(table(checkouts)))
    for name, checkout in checkouts.items():
        print("", f"### {name}", "", *packages(checkout), sep="\n")


if __name__ == "__main__":
    main()
