"""A process that lends to itself while the lender that all share is away."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wallie_litellm.core.lease_server import LeaseServer

UNLIMITED = 10**9


class LocalLeaseServer:
    """Lends one process its part of the limits, by how many there were; or, not ``counting``, minds the breaker alone.

    ``generation`` is where its breaker's generations begin.
    """

    def __init__(self, workers: int, generation: int, *, counting: bool) -> None:
        self._workers = workers
        self._counting = counting
        self._lender = LeaseServer()
        self._generation = generation

    def exchange(self, now: float, request: Mapping[str, Any], wall: float) -> dict[str, Any]:
        """See :meth:`LeaseServer.exchange`; ``wall`` is the time, in seconds, that the request calls now."""
        buckets: Mapping[str, Any] = request["buckets"] if self._counting else {}
        days: Mapping[str, Any] = request["days"] if self._counting else {}
        part = 1 / self._workers
        mine = {
            **request,
            "buckets": {name: [rate * part, max(1.0, most * part)] for name, (rate, most) in buckets.items()},
            "days": {name: [max(1, int(most * part)), ends - wall + now] for name, (most, ends) in days.items()},
        }
        if "slots" in request:
            mine["slots"] = max(1, int(request["slots"] * part)) if self._counting else UNLIMITED
        if "seed" in mine:
            mine["seed"]["breaker"]["generation"] = self._generation
        answer = self._lender.exchange(now, mine)
        if not answer["known"]:
            return answer
        names = (*request["buckets"], *request["days"])
        return {
            **answer,
            "now": wall,
            "used": {**dict.fromkeys(names, 0.0), **answer["used"]},
            "lent": {**dict.fromkeys(names, 0.0), **answer["lent"]},
            "ends": {**{name: ends - wall for name, (_, ends) in request["days"].items()}, **answer["ends"]},
            "workers": self._workers,
        }
