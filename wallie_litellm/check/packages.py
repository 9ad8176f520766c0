"""Whether an optional package is installed."""

from __future__ import annotations

from importlib.util import find_spec


def is_installed(module: str) -> bool:
    """Whether ``module`` can be imported, without importing it (its parents are imported)."""
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):  # the parent is missing; a name such as '..x'
        return False
