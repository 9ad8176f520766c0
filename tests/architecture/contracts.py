"""All contracts by name, and what is only noted."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from architecture import core, layers, litellm_use, maps, shape, style, voice
from architecture.sources import Checkout, Violation

Contract = Callable[[Checkout], Iterable[Violation]]

CONTRACTS: Final[dict[str, Contract]] = {
    "layers": layers.layers,
    "no-cycles": layers.no_cycles,
    "litellm-seam": layers.litellm_seam,
    "litellm-subclass": litellm_use.no_router_subclass,
    "litellm-private": litellm_use.no_private_name,
    "litellm-writes": litellm_use.no_write,
    "core-imports": core.core_imports,
    "core-computes": core.core_computes,
    "file-length": shape.file_length,
    "attribute-count": shape.attribute_count,
    "prefixes": shape.prefixes,
    "class-names": shape.class_names,
    "package-maps": maps.package_maps,
    "guide": maps.guide,
    "tests-mirror-packages": maps.tests_mirror_packages,
    "persons": voice.persons,
    "metaphors": voice.metaphors,
    "lua": voice.lua,
}

# What ``--notes`` prints too and what fails nothing: words that are right in some places, and habits to give up.
NOTES: Final[dict[str, Contract]] = {
    "constants": style.constants,
    "dialect": style.dialect,
    "asserts": style.asserts,
    "doubtful-words": voice.doubtful,
}
