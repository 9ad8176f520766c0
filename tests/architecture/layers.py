"""Which package may import which, and which modules import LiteLLM. Typing and lazy imports count."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from architecture.imports import Graph, Import, Kind, cycles, graph_of, imports_of, imports_within, room, siblings, top
from architecture.sources import PACKAGE, Checkout, SourceFile, Violation

# From the top down: a module imports from its own package and from lower rows, not from the others of its row.
LAYERS: Final = (
    ("cli",),
    ("demo", "proxy", "rehearse"),
    ("dashboard",),
    ("bootstrap", "check"),
    ("ledger", "guard"),
    ("alerts", "budgets", "forecast"),
    ("telemetry", "limiter", "litellm_adapter", "routing"),
    ("config", "events", "simulator"),
    ("core", "clock", "errors"),
)
FLOOR: Final = {name: len(LAYERS) - row for row, names in enumerate(LAYERS) for name in names}  # from 1, the lowest

# Modules that import LiteLLM when they are imported.
IMPORTS_LITELLM: Final = (
    "guard.api",
    "litellm_adapter.answer_store",
    "litellm_adapter.calls",
    "litellm_adapter.complexity",
    "litellm_adapter.debug_info",
    "litellm_adapter.errors",
    "litellm_adapter.hit_log",
    "litellm_adapter.inner_router",
    "litellm_adapter.mock_faults",
    "litellm_adapter.kept_answers",
    "litellm_adapter.plain_prices",
    "litellm_adapter.pricing",
    "litellm_adapter.providers",
    "litellm_adapter.requests",
    "litellm_adapter.response_cache",
    "litellm_adapter.responses",
    "litellm_adapter.wires.generate_content",
    "litellm_adapter.wires.translated",
    "litellm_adapter.wires.usage",
    "litellm_adapter.selection",
    "litellm_adapter.usage_count",
    "proxy.errors",
    "proxy.installation",
    "proxy.tier_access",
)
# Packages that import it in functions only: it takes seconds, and their commands answer without it.
IMPORTS_LITELLM_LATE: Final = ("check", "demo", "rehearse")


def layers(checkout: Checkout) -> Iterator[Violation]:
    """Imports go down only."""
    for file in checkout.package:
        if room(file.module) not in {"", *FLOOR}:
            yield file.violation(1, f"{room(file.module)} has no layer: give it a row in {__name__}.LAYERS")
    for found in imports_within(checkout):
        if (where := _wrong_way(room(found.file.module), room(found.target))) is not None:
            yield found.file.violation(
                found.line, f"imports {found.target}, which is {where} {room(found.file.module)}"
            )


def no_cycles(checkout: Checkout) -> Iterator[Violation]:
    """No module, and no package of a package, imports itself through others."""
    graph = graph_of(imports_within(checkout))
    packages = [file.module for file in checkout.package if file.is_package]
    for cycle in cycles(graph):
        yield _cycle(checkout, cycle, graph)
    for package in packages:
        between = siblings(graph, package)
        for cycle in cycles(between):
            yield _cycle(checkout, cycle, between)


def litellm_seam(checkout: Checkout) -> Iterator[Violation]:
    """Only the listed modules import LiteLLM, at their import or late."""
    for found in litellm_imports(checkout):
        listed = IMPORTS_LITELLM if found.kind is Kind.RUNTIME else (*IMPORTS_LITELLM, *IMPORTS_LITELLM_LATE)
        if not any(is_within(found.file, name) for name in listed):
            yield found.file.violation(
                found.line, f"imports {found.target} {found.kind.value}: {__name__} does not list it"
            )


def litellm_imports(checkout: Checkout) -> Iterator[Import]:
    """Every import of LiteLLM in the package."""
    for file in checkout.package:
        yield from (found for found in imports_of(file, checkout.modules) if top(found.target) == "litellm")


def is_within(file: SourceFile, name: str) -> bool:
    """True for the module of this name, without the root package's, and for those below it."""
    return f"{file.module}.".startswith(f"{PACKAGE}.{name}.")


def _wrong_way(source: str, target: str) -> str | None:
    if source == target or source not in FLOOR:
        return None
    if target and FLOOR.get(target, 0) < FLOOR[source]:
        return None
    return "beside" if FLOOR.get(target) == FLOOR[source] else "above"


def _cycle(checkout: Checkout, nodes: list[str], graph: Graph) -> Violation:
    arrows = [f"{node} -> {target}" for node in nodes for target in sorted(graph[node] & {*nodes})]
    return checkout.modules[nodes[0]].violation(1, f"import cycle: {', '.join(arrows)}")
