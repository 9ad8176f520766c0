"""How the package uses LiteLLM: by its public names, without a subclass of its Router, and without a write into it.

What a name stands for is read from the imports of its file, and from ``sys.modules`` and ``import_module`` with a text.
Of other objects the source does not show whose they are: a private attribute counts as LiteLLM's where no class of the
package defines one of that name. ``tests/litellm_adapter/test_overrides.py`` adds what only the installed LiteLLM can
show: that no class of the package overrides one of its private methods.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Set
from functools import cache
from typing import Final, NamedTuple

from architecture.imports import imports_of, top
from architecture.sources import PACKAGE, Checkout, SourceFile, Violation

ROUTERS: Final = ("litellm.Router", "litellm.router.Router")
# Packages that hold LiteLLM's objects, whether or not a module of theirs imports it.
HOLDERS: Final = ("litellm_adapter", "guard", "proxy", "check", "demo", "rehearse")
PRIVATE: Final = re.compile(r"_(?!wallie_)[a-z]\w*(?<!_)")  # not the own prefix's, nor an enum's `_value_`
NAMED_TUPLE: Final = {"_replace", "_asdict", "_fields", "_make"}  # public, whatever they look like
MUTATIONS: Final = {"append", "extend", "insert", "remove", "pop", "clear", "update", "setdefault", "add", "discard"}
CALLBACK_MUTATION: Final = re.compile(r"(add_litellm|remove_callback)\w*")  # methods of LiteLLM's callback manager

# Private names that LiteLLM's documentation names, or that have no public counterpart, each with its reason.
PRIVATE_NAMES: Final = {
    "_hidden_params": "documented: the deployment's id, the cost and the provider's headers of an answer",
    "litellm.proxy._types.ProxyException": "defined nowhere else; /v1/messages drops other exceptions' headers",
}
# Settings, callbacks and routes that the package writes: in which module, and why.
WRITES: Final = {
    ("litellm_adapter.debug_info", "litellm.suppress_debug_info"): (
        "documented setting: no hint is printed while the provider of an unknown model is looked up; restored at once"
    ),
    ("demo.demo", "litellm.suppress_debug_info"): "documented setting: the demo owns its process and its output",
    ("demo.demo", "litellm.disable_hf_tokenizer_download"): "documented setting: the demo runs without a network",
    ("litellm_adapter.response_cache", "litellm.cache"): (
        "documented setting: the response cache that the file turns on, where there is none; it serves Routers alone"
    ),
    ("litellm_adapter.selection", "litellm.callbacks"): "documented callbacks: the filter of each pick",
    ("litellm_adapter.usage_count", "litellm.logging_callback_manager"): (
        "its own manager of callbacks: of what a Router counts after each success, only what is read is counted"
    ),
    ("proxy.disconnects", "litellm.proxy.proxy_server.general_settings"): (
        "documented setting cancel_on_disconnect: on by default, since a client that has left holds no place"
    ),
    ("proxy.shutdown", "litellm.proxy.proxy_server.proxy_shutdown_event"): (
        "uvicorn ends the process right after it, and LiteLLM calls no callback there: the sinks are drained in it"
    ),
    ("proxy.installation", "litellm.disable_hf_tokenizer_download"): (
        "documented setting: the proxy's event loop does not stand still for a download"
    ),
    ("proxy.installation", "litellm.Router"): "the proxy builds its router by this name: it builds a guarded one",
    ("proxy.installation", "litellm.proxy.proxy_server.app.router.routes"): (
        "the dashboard's routes, in front of the one that takes any path"
    ),
}


class Use(NamedTuple):
    """One use of LiteLLM that a contract judges."""

    file: SourceFile
    line: int
    name: str

    @property
    def module(self) -> str:
        """The module, without the root package's name."""
        return self.file.module.removeprefix(f"{PACKAGE}.")


class _Defined(NamedTuple):
    """The names that the package's classes define.

    In a subclass of one of LiteLLM's classes a name may be LiteLLM's: it counts on the object itself only.
    """

    own: Set[str]
    all_names: Set[str]


def no_router_subclass(checkout: Checkout) -> Iterator[Violation]:
    """No class is a subclass of LiteLLM's Router: LiteLLM 1.109 and later refuse one."""
    for use in router_subclasses(checkout):
        yield use.file.violation(use.line, f"{use.name} is a subclass of litellm.Router")


def no_private_name(checkout: Checkout) -> Iterator[Violation]:
    """No private name of LiteLLM's is imported, read, called or named in a text."""
    for use in private_names(checkout):
        if use.name not in PRIVATE_NAMES:
            yield use.file.violation(use.line, f"uses {use.name}, a private name of LiteLLM's")


def no_write(checkout: Checkout) -> Iterator[Violation]:
    """No attribute of LiteLLM's modules is assigned but the listed ones, each in one module."""
    for use in writes(checkout):
        if (use.module, use.name) not in WRITES:
            yield use.file.violation(use.line, f"writes {use.name}: {__name__} does not list it for {use.module}")


def router_subclasses(checkout: Checkout) -> Iterator[Use]:
    """Every class statement, and every call of ``type``, with LiteLLM's Router among its bases."""
    for file in checkout.package:
        for node in file.nodes:
            if isinstance(node, ast.ClassDef):
                name, bases = node.name, node.bases
            elif isinstance(node, ast.Call) and ast.unparse(node.func) == "type" and len(node.args) == 3:
                name, bases = ast.unparse(node.args[0]), getattr(node.args[1], "elts", [])
            else:
                continue
            if any(_origin(base, file) in ROUTERS for base in bases):
                yield Use(file, node.lineno, name)


def private_names(checkout: Checkout) -> Iterator[Use]:
    """Every private name of LiteLLM's: imported, an attribute, or a text where the package holds LiteLLM's objects."""
    defined = _defined_names(checkout)
    for file in checkout.package:
        for found in imports_of(file, checkout.modules):
            if top(found.target) == "litellm" and any(map(_is_private, found.target.split("."))):
                yield Use(file, found.line, found.target)
        if _holds_litellm(file):
            yield from _private_attributes(file, defined)
            yield from _private_texts(file, defined)


def writes(checkout: Checkout) -> Iterator[Use]:
    """Every assignment to, and mutation of, an attribute of LiteLLM's modules."""
    for file in checkout.package:
        for node in file.nodes:
            for written in _written(node):
                origin = _origin(written, file)
                if origin is not None and "." in origin:
                    yield Use(file, node.lineno, origin)  # type: ignore[attr-defined] # statements and calls have a line
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("setattr", "delattr") and node.args:
                origin = _origin(node.args[0], file)
                if origin is not None:
                    yield Use(file, node.lineno, f"{origin}.{_text(node.args[1]) or '*'}")


def _written(node: ast.AST) -> Iterator[ast.expr]:
    """The attributes that a statement assigns or deletes, or that a call mutates."""
    if isinstance(node, ast.Attribute | ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del):
        yield node.value if isinstance(node, ast.Subscript) else node
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and _mutates(node.func.attr):
        yield node.func.value


def _mutates(method: str) -> bool:
    return method in MUTATIONS or CALLBACK_MUTATION.fullmatch(method) is not None


def _private_attributes(file: SourceFile, defined: _Defined) -> Iterator[Use]:
    for node in file.nodes:
        if isinstance(node, ast.Attribute) and _is_private(node.attr):
            on_itself = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            if node.attr not in (defined.all_names if on_itself else defined.own):
                yield Use(file, node.lineno, node.attr)


def _private_texts(file: SourceFile, defined: _Defined) -> Iterator[Use]:
    """Texts that are nothing but a private name: ``getattr`` takes them, also from a list."""
    for node in file.nodes:
        if isinstance(node, ast.Constant) and (text := _text(node)) and _is_private(text) and text not in defined.own:
            yield Use(file, node.lineno, text)


def _text(node: ast.AST) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def _is_private(name: str) -> bool:
    return PRIVATE.fullmatch(name) is not None and name not in NAMED_TUPLE


def _holds_litellm(file: SourceFile) -> bool:
    return any(file.module.startswith(f"{PACKAGE}.{name}.") for name in HOLDERS)


def _defined_names(checkout: Checkout) -> _Defined:
    own, inherited = set[str](), set[str]()
    for file in checkout.package:
        for node in file.nodes:
            if isinstance(node, ast.ClassDef):
                is_litellms = any(_origin(base, file) for base in node.bases)
                (inherited if is_litellms else own).update(_definitions(node))
    return _Defined(own, own | inherited)


def _definitions(cls: ast.ClassDef) -> Iterator[str]:
    """The methods and fields of a class, and the attributes that it assigns to itself."""
    for node in ast.walk(cls):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self":
            yield node.attr


def _origin(node: ast.expr, file: SourceFile) -> str | None:
    """The dotted name in LiteLLM that an expression is, else ``None``."""
    if isinstance(node, ast.Attribute):
        base = _origin(node.value, file)
        return None if base is None else f"{base}.{node.attr}"
    return _bound(file).get(node.id) if isinstance(node, ast.Name) else None


@cache
def _bound(file: SourceFile) -> Mapping[str, str]:
    """The names that stand for something of LiteLLM's in this file, wherever they are bound."""
    bound = dict[str, str]()
    for node in file.nodes:
        if isinstance(node, ast.Import):
            bound |= {
                alias.asname or top(alias.name): alias.name if alias.asname else top(alias.name)
                for alias in node.names
                if top(alias.name) == "litellm"
            }
        elif isinstance(node, ast.ImportFrom) and not node.level and top(node.module or "") == "litellm":
            bound |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Assign) and (module := _module_by_name(node.value)) is not None:
            bound |= {target.id: module for target in node.targets if isinstance(target, ast.Name)}
    return bound


def _module_by_name(value: ast.expr) -> str | None:
    """The module of LiteLLM that ``sys.modules`` or ``import_module`` is asked for."""
    if isinstance(value, ast.Subscript) and ast.unparse(value.value) == "sys.modules":
        name = _text(value.slice)
    elif isinstance(value, ast.Call) and ast.unparse(value.func).endswith(("sys.modules.get", "import_module")):
        name = _text(value.args[0]) if value.args else None
    else:
        return None
    return name if name is not None and top(name) == "litellm" else None
