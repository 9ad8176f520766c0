"""The check of the proxy's callbacks: this package's is named, and each can be loaded. Nothing is imported."""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Iterator
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Final

from wallie_litellm.config import RouterConfig

HANDLER: Final = "callbacks.wallie.handler"  # the name of this package's callback, as the starting file has it
_OURS: Final = "wallie"  # in the name of this package's callback, wherever its module is
_REMOTE: Final = ("s3://", "gcs://")  # LiteLLM downloads these
_WHERE: Final = "litellm_settings.callbacks"


def is_ours(callback: object) -> bool:
    """Whether this is the name of this package's callback."""
    return _OURS in str(callback)


def callback_problems(config: RouterConfig) -> Iterator[str]:
    """What keeps the proxy from being guarded, or would end its start."""
    stated = config.litellm_settings.get("callbacks") or []
    named = stated if isinstance(stated, list) else [stated]
    if not any(map(is_ours, named)):
        yield f"{_WHERE}: does not name {HANDLER}, so the proxy would not be guarded; write callbacks: {HANDLER}"
    for name in named:
        # LiteLLM's own callbacks have names without a dot.
        if isinstance(name, str) and (is_ours(name) or "." in name) and not name.startswith(_REMOTE):
            yield from (f"{_WHERE}: {name}: {problem}" for problem in _load_problems(name, config.path.parent))


def _load_problems(name: str, folder: Path) -> Iterator[str]:
    module, _, attribute = name.rpartition(".")
    if not module or not attribute:
        yield f"expected a module and a name in it, such as {HANDLER}"
        return
    file = folder.joinpath(*module.split(".")).with_suffix(".py")
    shown = file.relative_to(folder).as_posix()
    if file.is_file():
        yield from _source_problems(file, shown, attribute, is_written_by_init=name == HANDLER)
    elif not _exists(module):
        remedy = f"; `wallie-litellm init {folder}` writes it" if name == HANDLER else ""
        yield f"there is no {shown} beside this file, and no module {module} elsewhere{remedy}"


def _source_problems(file: Path, shown: str, attribute: str, *, is_written_by_init: bool) -> Iterator[str]:
    """What is wrong with a callback's module, as far as its text shows."""
    remedy = f"; `wallie-litellm init --force {file.parent.parent}` writes it anew" if is_written_by_init else ""
    try:
        tree = ast.parse(file.read_bytes())
    except SyntaxError as error:
        yield f"{shown}, line {error.lineno}: not valid Python: {error.msg}{remedy}"
        return
    except (OSError, ValueError, RecursionError) as error:
        yield f"{shown} cannot be read: {getattr(error, 'strerror', None) or type(error).__name__}"
        return
    for module in dict.fromkeys(_imported(tree)):
        if not _exists(module):
            yield f"{shown} imports {module}, which is not installed"
    names = set(_defined(tree))
    if attribute not in names and "*" not in names:
        yield f"{shown} defines no {attribute}{remedy}"


def _imported(tree: ast.Module) -> Iterator[str]:
    """The packages that the module itself imports, unless it is prepared for their absence."""
    for node in tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def _defined(tree: ast.Module) -> Iterator[str]:
    """The names that the module may have."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from (alias.asname or alias.name.partition(".")[0] for alias in node.names)


def _exists(module: str) -> bool:
    """Whether ``module`` is where the proxy's process looks: the working directory, and what is installed."""
    top, *inner = module.split(".")
    if top in sys.stdlib_module_names:
        return True
    found = PathFinder.find_spec(top, [os.getcwd(), *sys.path])
    if found is None:
        return False
    if not inner:
        return True
    places = [Path(place).joinpath(*inner) for place in found.submodule_search_locations or ()]
    return any(place.with_suffix(".py").is_file() or place.is_dir() for place in places)
