"""Checks of the numbers that callers pass."""

from __future__ import annotations

from typing import Final

MOST_TOKENS: Final = 10**12  # requests or tokens; more than any real count


def require_count(name: str, value: object, *, optional: bool = True) -> None:
    """Check that ``value`` is a count of requests or tokens, or ``None`` where that is allowed.

    Raises:
        TypeError: it is not a whole number.
        ValueError: it is negative, or larger than any real one.
    """
    if value is None and optional:
        return
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name}: found {value!r}, expected a whole number")
    if not 0 <= value <= MOST_TOKENS:
        raise ValueError(f"{name}: found {value}, expected 0 to {MOST_TOKENS}")
