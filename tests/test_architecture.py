"""Which part may import what, and how large a file may grow."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "wallie_litellm"
FILES = sorted(PACKAGE.rglob("*.py"))
CORE = sorted((PACKAGE / "core").glob("*.py"))
KNOW_LITELLM = {
    "guard/api.py",
    "guard/router.py",
    "guard/streaming_router.py",
    "litellm_adapter/errors.py",
    "litellm_adapter/patches.py",
    "litellm_adapter/pricing.py",
    "litellm_adapter/requests.py",
    "litellm_adapter/responses.py",
    "proxy/installation.py",
}
IMPURE = {"asyncio", "concurrent", "litellm", "os", "redis", "socket", "sqlalchemy", "subprocess", "threading", "time"}
LONGEST = 500


def imports(tree: ast.AST) -> Iterator[str]:
    """Every module that is imported anywhere in ``tree``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or "." * node.level


def on_import(node: ast.AST) -> Iterator[ast.AST]:
    """The statements that run when a module is imported: not those in functions, nor those for type checkers."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from on_import(child)


def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(), str(file))


def name(file: Path) -> str:
    return str(file.relative_to(PACKAGE))


def top(module: str) -> str:
    return module.partition(".")[0]


def test_there_is_something_to_check() -> None:
    assert {"token_bucket.py", "circuit_breaker.py", "wait_queue.py"} <= {file.name for file in CORE}
    assert {file.name for file in FILES} >= {"errors.py", "guard.py", "limiter.py"}


@pytest.mark.parametrize("file", CORE, ids=name)
def test_the_core_is_pure(file: Path) -> None:
    found = set(imports(parsed(file)))
    assert not {top(module) for module in found} & IMPURE
    assert "random" not in found or file.name == "backoff.py"
    ours = {module for module in found if top(module) == "wallie_litellm"}
    assert all(module.startswith("wallie_litellm.core.") for module in ours), ours


@pytest.mark.parametrize("file", CORE, ids=name)
def test_nothing_in_the_core_awaits_or_reads_a_clock(file: Path) -> None:
    for node in ast.walk(parsed(file)):
        assert not isinstance(node, ast.Await | ast.AsyncFunctionDef | ast.AsyncFor | ast.AsyncWith)
        if isinstance(node, ast.Attribute):
            assert node.attr not in {"utcnow", "today"}
            assert ast.unparse(node) != "datetime.now"


@pytest.mark.parametrize("file", FILES, ids=name)
def test_only_the_files_that_speak_to_litellm_import_it(file: Path) -> None:
    nodes = list(on_import(parsed(file)))
    modules = {
        top(module) for node in nodes if isinstance(node, ast.Import | ast.ImportFrom) for module in imports(node)
    }
    assert "litellm" not in modules or name(file) in KNOW_LITELLM


@pytest.mark.parametrize("file", FILES, ids=name)
def test_a_file_fits_on_a_few_screens(file: Path) -> None:
    assert len(file.read_text().splitlines()) <= LONGEST
