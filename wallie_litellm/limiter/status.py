"""A limiter's state as status reports show it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from wallie_litellm.core.circuit_breaker import BreakerState, health_of
from wallie_litellm.core.dimensions import DIMENSIONS
from wallie_litellm.limiter.limiter import Limiter, LimiterState

LONGEST_RESET: Final = 366 * 86_400.0  # seconds; a debt may last longer than a date can express


def health(state: LimiterState) -> str:
    """``healthy``, ``degraded`` or ``down``."""
    return health_of(state.breaker, state.consecutive_failures)


def describe_all(limiters: Mapping[str, Limiter], wall: float) -> dict[str, Any]:
    """The state of all ``limiters``, by name; ``wall`` is the present Unix time."""
    return {name: describe(limiter.state(), wall) for name, limiter in sorted(limiters.items())}


def describe(state: LimiterState, wall: float) -> dict[str, Any]:
    """The state of one limiter as plain JSON-ready data; ``wall`` is the present Unix time."""
    next_probe = state.next_probe_in if state.breaker is BreakerState.OPEN else None
    return {
        "health": health(state),
        "breaker": {
            "state": state.breaker.value,
            "reason": state.breaker_reason,
            "consecutive_failures": state.consecutive_failures,
            "next_probe_in": next_probe,
        },
        "paused_for": state.paused_for,
        "in_flight": state.in_flight,
        "waiting": state.waiting,
        "quota": {
            dimension: {
                "used": state.usage[dimension].units,
                "limit": state.usage[dimension].limit,
                "utilization": state.usage[dimension].utilization,
                "reset_at": _date(wall + min(state.usage[dimension].reset_in, LONGEST_RESET)),
                **state.usage[dimension].balance._asdict(),
            }
            for dimension in DIMENSIONS
            if dimension in state.usage
        },
    }


def _date(unix: float) -> str:
    return datetime.fromtimestamp(unix, UTC).isoformat()
