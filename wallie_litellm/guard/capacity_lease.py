"""Capacity for a call that is made outside the router."""

from __future__ import annotations

from collections.abc import Callable

from wallie_litellm.core.demand import NOTHING, Demand
from wallie_litellm.core.validation import require_count
from wallie_litellm.limiter.limiter import Limiter
from wallie_litellm.limiter.store import Reservation


class CapacityLease:
    """Capacity taken by ``Guard.wait_for_capacity``: a context manager that settles it.

    Leaving the block charges the estimate; :meth:`settle` charges what was used instead, :meth:`release` nothing.
    """

    def __init__(self, limiter: Limiter, reservation: Reservation, on_settled: Callable[[Demand], None]) -> None:
        self._limiter = limiter
        self._reservation = reservation
        self._on_settled = on_settled
        self._ended = False

    def settle(self, tokens: int | None = None) -> None:
        """End the lease, charging ``tokens`` in place of the estimate. Harmless the second time."""
        require_count("tokens", tokens)
        estimate = self._reservation.demand
        used = estimate if tokens is None else Demand(estimate.requests, tokens, tokens, 0)
        # An expired reservation was charged its estimate; the actual usage is recorded all the same.
        self._limiter.settle(self._reservation, used)
        if not self._ended:
            self._ended = True
            self._on_settled(used)

    def release(self) -> None:
        """End the lease as if the call had never been made. Harmless the second time."""
        self._ended = True
        self._limiter.settle(self._reservation, NOTHING)

    def __enter__(self) -> CapacityLease:
        return self

    def __exit__(self, *_: object) -> None:
        self.settle()
