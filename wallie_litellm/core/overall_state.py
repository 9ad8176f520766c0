"""The state of a provider as its own breaker and those of its models make it together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from wallie_litellm.core.circuit_breaker import BreakerState, health_of

_CLOSED, _HALF_OPEN = BreakerState.CLOSED, BreakerState.HALF_OPEN
_OPEN, _FORCED_OPEN = BreakerState.OPEN, BreakerState.FORCED_OPEN
_SHUT = (_OPEN, _FORCED_OPEN)

Counted = tuple[BreakerState, int]  # a breaker's state and its count of failures


class OverallState(NamedTuple):
    """A breaker's state, and its count of failures, for a provider or an account as a whole."""

    state: BreakerState
    failures: int
    is_partial: bool  # a model's breaker is not closed

    @property
    def health(self) -> str:
        """``healthy``, ``degraded`` (also where a model alone is open) or ``down``."""
        found = health_of(self.state, self.failures)
        return "degraded" if found == "healthy" and self.is_partial else found


def overall_state(own: Counted, models: Sequence[Counted], *, serves: bool, is_partial: bool = False) -> OverallState:
    """The state of ``own``, a provider's breaker; or open where those of all its ``models`` are.

    ``models`` are those called lately whose breakers are not closed, or count failures. ``serves``: a model without
    failures has served lately. ``is_partial``: the breaker of a model that was not called lately is not closed.
    """
    state, failures = own
    states = [one for one, _ in models]
    is_partial = is_partial or any(one is not _CLOSED for one in states)
    if state not in _SHUT and states and not serves and all(one is _HALF_OPEN or one in _SHUT for one in states):
        state = next(one for one in (_HALF_OPEN, _OPEN, _FORCED_OPEN) if one in states)
    return OverallState(state, max([failures, *(count for _, count in models)]), is_partial)
