"""Limits that are set at run time, and hold for the whole fleet in place of those of the file: the newest wins."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from wallie_litellm.core.lease_exchange import Bound, LimitInForce


class LimitsInForce:
    """What one worker has set and the lease server does not have yet, and what it has received from there."""

    def __init__(self) -> None:
        self.pending: dict[str, LimitInForce] = {}  # until an answer has them, or newer ones
        self.bounds: dict[str, Bound] = {}  # for the next request
        self._set_at: dict[str, float] = {}  # by the server's clock

    def set(self, key: str, limit: LimitInForce) -> None:
        """This worker has set a limit."""
        self.pending[key] = limit
        self._set_at[key] = limit[0]

    def receive(self, answered: Mapping[str, LimitInForce]) -> Iterator[tuple[str, int | None]]:
        """The limits to set here, by their keys: of each, units or ``None`` for the configured ones."""
        for key, (set_at, units, *_) in answered.items():
            known_at = self._set_at.get(key)
            if known_at is not None and set_at >= known_at:
                self.pending.pop(key, None)
            if known_at is None or set_at > known_at:
                self._set_at[key] = set_at
                yield key, int(units) or None

    def take_bounds(self) -> list[Bound]:
        """What the vendor has said to be left since the last request."""
        bounds, self.bounds = list(self.bounds.values()), {}
        return bounds
