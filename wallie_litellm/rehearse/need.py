"""The least limit under which a load would not have waited. Arithmetic."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

MINUTE: Final = 60.0  # seconds that a bucket takes to fill
_STEPS: Final = 40  # halvings: far below one unit
_ROUNDED: Final = 100  # a need is stated to about a hundredth of itself


class LimitChange(NamedTuple):
    """At ``at`` seconds, ``amount`` is taken of a limit; a negative one is given back."""

    at: float
    amount: float


def needed_per_minute(changes: Iterable[LimitChange]) -> float:
    """The least limit per minute whose bucket, full at first, holds whatever is taken of it."""
    ordered = sorted(changes)
    low, high = 0.0, sum(max(0.0, amount) for _, amount in ordered)
    if not high:
        return 0.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if _holds(ordered, middle) else (middle, high)
        if high - low < max(0.01, high / 10_000):
            break
    return high


def _holds(changes: Sequence[LimitChange], limit: float) -> bool:
    level, last, rate = limit, changes[0].at, limit / MINUTE
    for at, amount in changes:
        level = min(limit, level + (at - last) * rate) - amount
        last = at
        if level < 0 and amount > 0:
            return False
    return True


def most_over(changes: Iterable[LimitChange], limit: float, capacity: float) -> float:
    """By how many units a limit per minute was exceeded at most: what was taken of its bucket beyond its level."""
    level, last, over = capacity, -math.inf, 0.0
    for at, amount in sorted(changes):
        level = min(capacity, level + (at - last) * limit / MINUTE) - amount
        last = at
        if amount > 0:
            over = max(over, -level)
    return over


def most_at_once(changes: Iterable[LimitChange]) -> float:
    """The highest sum of all that is taken and not yet given back."""
    level = most = 0.0
    for _, amount in sorted(changes):
        level += amount
        most = max(most, level)
    return most


def rounded_up(need: float) -> int:
    """``need`` as a limit that a person would write: to about a hundredth, upwards."""
    if need <= 0:
        return 0
    step: int = max(1, 10 ** math.floor(math.log10(max(1.0, need / _ROUNDED))))
    # A half of the step above a hundred of it: 1,450 rather than 1,500.
    return math.ceil(need / step - 1e-9) * step
