"""``core/`` stays pure: the standard library and itself, no I/O, no clock, nothing awaited."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from typing import Final

from architecture.imports import imports_of, top
from architecture.sources import PACKAGE, Checkout, SourceFile, Violation

CORE: Final = f"{PACKAGE}.core"
IMPURE: Final = {
    "asyncio",
    "concurrent",
    "os",
    "random",
    "socket",
    "subprocess",
    "threading",
    "time",
}  # standard library
# What a module may import besides, each with its reason.
BESIDES: Final = {
    f"{CORE}.backoff": {
        "random": "draws the jitter",
        "tenacity": "the backoff is one of its wait strategies, which compute and do not sleep",
    },
}
CLOCKS: Final = {"utcnow", "today"}  # attributes that read the machine's clock


def core_imports(checkout: Checkout) -> Iterator[Violation]:
    """``core/`` imports pure modules of the standard library, and ``core``."""
    for file in checkout.within("core"):
        for found in imports_of(file, checkout.modules):
            if not _is_pure(file, found.target):
                yield file.violation(found.line, f"imports {found.target}: core is pure")


def core_computes(checkout: Checkout) -> Iterator[Violation]:
    """Nothing in ``core/`` awaits or reads a clock."""
    for file in checkout.within("core"):
        for node in file.nodes:
            if isinstance(node, ast.Await | ast.AsyncFunctionDef | ast.AsyncFor | ast.AsyncWith):
                yield file.violation(node.lineno, "awaits: core is pure")
            elif isinstance(node, ast.Attribute) and _reads_a_clock(node):
                yield file.violation(node.lineno, f"{ast.unparse(node)} reads a clock: core is pure")


def _is_pure(file: SourceFile, target: str) -> bool:
    module = top(target)
    if module == PACKAGE:
        return f"{target}.".startswith(f"{CORE}.")
    return module in BESIDES.get(file.module, ()) or module in sys.stdlib_module_names - IMPURE


def _reads_a_clock(node: ast.Attribute) -> bool:
    return node.attr in CLOCKS or ast.unparse(node) == "datetime.now"
