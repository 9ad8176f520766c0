"""A lease server in this process, while the one that all workers share is away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from wallie_litellm.core.lease_exchange import LeaseAnswer, RenewalRequest, Seed, Uninitialised, WorkerReport
from wallie_litellm.core.lease_server import LeaseServer

UNLIMITED_SLOTS: Final = 10**9  # calls in flight, where nothing is counted
LOCAL_GENERATION_OFFSET: Final = (
    1_000_000  # breaker generations: results of calls admitted before belong to earlier ones
)


class LocalLeaseServer:
    """Leases one worker its part of the limits, one of ``workers``; where not ``counting``, it has the breaker only.

    ``generation`` is the breaker's before the outage.
    """

    def __init__(self, workers: int, generation: int, *, counting: bool) -> None:
        self._workers = workers
        self._counting = counting
        self._server = LeaseServer()
        self._generation = generation + LOCAL_GENERATION_OFFSET

    def exchange(self, now: float, request: RenewalRequest, wall: float) -> LeaseAnswer | Uninitialised:
        """As :meth:`LeaseServer.exchange`, on this process' clock; ``wall`` is the Unix time at ``now``."""
        answer = self._server.exchange(now, self._part_of(now, request, wall))
        if not answer["initialised"]:
            return answer
        rates, days = request["rate_limits"], request["daily_limits"]
        uncounted = dict.fromkeys((*rates, *days), 0.0)
        return {
            **answer,
            "now": wall,
            "used": {**uncounted, **answer["used"]},
            "last_minute": {**dict.fromkeys(rates, 0.0), **answer["last_minute"]},
            "leased": {**uncounted, **answer["leased"]},
            "day_ends_in": {**{name: ends_at - wall for name, (_, ends_at) in days.items()}, **answer["day_ends_in"]},
            "workers": self._workers,
        }

    def _part_of(self, now: float, request: RenewalRequest, wall: float) -> RenewalRequest:
        """The request for one worker's part of the limits."""
        part = 1 / self._workers
        nothing: Mapping[str, Sequence[float]] = {}
        rates = request["rate_limits"] if self._counting else nothing
        days = request["daily_limits"] if self._counting else nothing
        own: RenewalRequest = {
            **request,
            "rate_limits": {name: [rate * part, max(1.0, most * part)] for name, (rate, most) in rates.items()},
            "daily_limits": {
                name: [max(1, int(most * part)), ends_at - wall + now] for name, (most, ends_at) in days.items()
            },
            "reports": [_on_own_clock(report, now - wall) for report in request["reports"]],
        }
        own["slots"] = {
            name: [max(1, int(limit * part)) if self._counting else UNLIMITED_SLOTS, *counts]
            for name, (limit, *counts) in request["slots"].items()
        }
        own.pop("limits", None)  # they are in the rates and days already
        own["bounds"] = [[name, left * part, at - wall + now] for name, left, at in request.get("bounds", ())]
        if "seed" in request:
            breaker = request["seed"]["breaker"]
            alone: Seed = {**request["seed"], "workers": 1, "held": {}, "others": {}}
            own["seed"] = {**alone, "breaker": {**breaker, "generation": self._generation}}
        return own


def _on_own_clock(report: WorkerReport, ahead: float) -> WorkerReport:
    """The report with its instants on this process' clock, which is ``ahead`` of the server's, in seconds."""
    refunds = [[name, units, at + ahead] for name, units, at in report["refunds"]]
    recent = [[name, units, at + ahead] for name, units, at in report["recent"]]
    return {**report, "refunds": refunds, "recent": recent} if refunds or recent else report
