"""Limits that are set at run time, and hold for the whole fleet in place of those of the file: the newest wins."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from wallie_litellm.core.lease_exchange import Bound, LimitInForce

AFTER: Final = 1e-3  # seconds, the resolution of the times at which limits were set


class LimitsInForce:
    """What one worker has set and the lease server does not have yet, and what it has received from there."""

    def __init__(self) -> None:
        self.keeps_to: Callable[[str], bool] = lambda _key: True  # whether the worker's file wants a limit, by its key
        self.pending: dict[str, LimitInForce] = {}  # until an answer has them, or newer ones
        self.bounds: dict[str, Bound] = {}  # for the next request
        self._set_at: dict[str, float] = {}  # by the server's clock

    def set(self, key: str, limit: LimitInForce) -> None:
        """This worker has set a limit."""
        self.pending[key] = limit
        self._set_at[key] = limit[0]

    def receive(self, answered: Mapping[str, LimitInForce], now: float) -> Iterator[tuple[str, int | None]]:
        """The limits to set here, by their keys: of each, units or ``None`` for the configured ones.

        One that is not kept to by this worker's file, since that has changed, is given up for the fleet; ``now`` is
        the server's time.
        """
        for key, (set_at, units, *_) in answered.items():
            known_at = self._set_at.get(key)
            if known_at is not None and set_at >= known_at:
                self.pending.pop(key, None)
            if known_at is None or set_at > known_at:
                if units and not self.keeps_to(key):
                    self.set(key, [max(now, set_at + AFTER), 0, 0, 0])
                    continue
                self._set_at[key] = set_at
                yield key, int(units) or None

    def take_bounds(self) -> list[Bound]:
        """What the vendor has said to be left since the last request."""
        bounds, self.bounds = list(self.bounds.values()), {}
        return bounds
