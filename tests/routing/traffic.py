"""Simulated traffic along one chain, on a fake clock: calls take what a log-normal distribution says."""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass, field
from math import exp
from typing import Any

from wallie_litellm.core.attempt_result import AttemptResult
from wallie_litellm.core.circuit_breaker import Verdict
from wallie_litellm.core.demand import Demand, Outcome
from wallie_litellm.routing.latencies import Latencies
from wallie_litellm.routing.order import OrderChange, OrderStep
from wallie_litellm.routing.plan import Asked, Member, Plan
from wallie_litellm.routing.switches import Switches

FAILED = AttemptResult(Outcome.REJECTED, Verdict.FAILURE, reason="HTTP 500", status_code=500)


@dataclass
class Call:
    """What is measured of an attempt."""

    scope: str
    started_at: float
    first_token_at: float | None = None
    hedge: bool = False


@dataclass
class Traffic:
    """Requests of one chain at a constant rate. ``takes`` are the medians of a call's seconds, by group."""

    takes: dict[str, float]
    per_second: float = 5.0
    sigma: float = 0.5
    seed: int = 1
    fails: frozenset[str] = frozenset()
    full: frozenset[str] = frozenset()  # scopes that admit nothing now
    now: float = 1_000.0
    changes: list[tuple[float, OrderChange]] = field(default_factory=list)
    asked: list[tuple[float, str]] = field(default_factory=list)
    switches: Switches = field(default_factory=Switches)
    _flying: list[tuple[float, int, Call, bool]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._dice = random.Random(self.seed)
        self.latencies = Latencies(lambda: self.now)
        self.step = OrderStep(
            *(self.latencies, lambda: self.now, self.switches, "latency", {"fixed": "fixed"}),
            *(lambda scope: scope not in self.full, self._note),
        )

    def _note(self, change: OrderChange) -> None:
        self.changes.append((self.now, change))

    def asked_for(self, feature: str | None = None, **stated: Any) -> Asked:
        """A request for the first group."""
        first = next(iter(self.takes))
        return Asked(first, {}, feature, None, {}, stated, lambda _: (), "chat", False, lambda group: (f"{group}/m",))

    def plan(self, feature: str | None = None, **stated: Any) -> Plan:
        """Where one request goes now."""
        first, *others = self.takes
        return self.step(Plan(first, tuple(map(Member, others))), self.asked_for(feature, **stated))

    def run(self, seconds: float) -> None:
        """Traffic for so long."""
        end = self.now + seconds
        begins = self.now
        while (begins := begins + self._dice.expovariate(self.per_second)) < end:
            self._land(begins)
            self.now = begins
            group = self.plan().group
            self.asked.append((begins, group))
            call = Call(f"{group}/m", begins)
            self.latencies.begin(call, False)
            takes = 0.02 if group in self.fails else self.takes[group] * exp(self._dice.gauss(0, self.sigma))
            heapq.heappush(self._flying, (begins + takes, len(self.asked), call, group in self.fails))
        self._land(end)
        self.now = end

    def _land(self, until: float) -> None:
        while self._flying and self._flying[0][0] <= until:
            self.now, _, call, fails = heapq.heappop(self._flying)
            usage = Demand(1, 60, 10, 50)
            self.latencies.end(call, FAILED if fails else AttemptResult(Outcome.SUCCESS, Verdict.SUCCESS, usage))

    @property
    def order(self) -> tuple[str, ...]:
        """The present order of the chain."""
        [chain] = self.step.describe()
        return tuple(chain["order"])

    def share(self, group: str, since: float) -> float:
        """The share of requests that asked ``group`` first since then."""
        recent = [one for at, one in self.asked if at >= since]
        return recent.count(group) / len(recent)
