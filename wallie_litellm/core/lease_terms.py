"""The values with which the lease server decides: grants, denials, claims, and what it has of each worker."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil
from typing import Final, NamedTuple

from wallie_litellm.core.lease_exchange import Amounts, RenewalRequest

WORKER_TIMEOUT: Final = 5.0  # seconds without a request after which a worker's slots and claims are free again
FUTURE_SECONDS: Final = 0.5  # seconds of a limit's rate that one worker is granted ahead, where others wait as well
SMALLEST_GRANT: Final = 12  # units of future capacity: fewer would cost a round trip for every few requests
SURPLUS_DIVISOR: Final = 2  # a worker is granted its fair share of the surplus, divided by this, beyond its need
ROUNDING: Final = 1e-6  # units or seconds


class Grant(NamedTuple):
    """Units of one limit: ``at_once`` of ``amount`` are free now, the rest refills after ``delay`` seconds."""

    amount: float
    at_once: float
    delay: float

    def plus(self, later: Grant) -> Grant:
        """Both, where ``later`` was granted next, so that its refills follow."""
        delay = self.delay if self.amount > self.at_once else later.delay
        return Grant(self.amount + later.amount, self.at_once + later.at_once, delay)


class Denied(NamedTuple):
    """The limit that cannot cover a need, and the seconds until it may."""

    limit: str
    wait: float


class Claim(NamedTuple):
    """What a worker waits for: of two claims, the one with the smaller ``ticket`` was made first."""

    ticket: int
    units: Amounts


class Availability(NamedTuple):
    """Units of one limit that one worker can be granted."""

    now: float  # free at once; below 0 where the bucket is in debt
    total: float  # with future capacity, and without what others claim
    rate: float  # units a second that are refilled; 0 of a daily limit
    part: float  # of what may be on lease, and not on lease to this worker: as much as others have that use the limit


class Shortage(NamedTuple):
    """How far one limit is from covering a need."""

    wait: float  # seconds until refills cover it
    exhausted: bool  # no refill can: it is on lease, claimed, or used up for the day
    contended: bool  # other workers hold it on lease, and may return it


@dataclass
class LeasingWorker:
    """What the server has of one worker. Instants are seconds of its clock."""

    seen_at: float
    seq: int = 0
    lease_id: int = 0
    lease_expires_at: float = 0.0
    leased: dict[str, float] = field(default_factory=dict)
    unconfirmed: dict[str, float] = field(default_factory=dict)  # granted in the last answer
    slots: dict[str, int] = field(default_factory=dict)
    short_of_slots: dict[str, bool] = field(default_factory=dict)
    claims: dict[str, Claim] = field(default_factory=dict)  # by the scope of the need

    def unlease(self, amounts: Amounts) -> None:
        """Count ``amounts`` as on lease no longer."""
        for name, amount in amounts.items():
            left = self.leased.pop(name, 0.0) - amount
            if left > 0:
                self.leased[name] = left

    def claimed(self) -> set[str]:
        """The limits of which it waits for what others hold."""
        return {name for claim in self.claims.values() for name in claim.units}

    def uses(self, name: str) -> bool:
        """Whether it has some of a limit on lease, or waits for it."""
        return name in self.leased or name in self.claimed()

    def is_alive(self, now: float) -> bool:
        """Whether its slots and claims hold."""
        return now - self.seen_at <= WORKER_TIMEOUT


def decide(
    name: str,
    request: RenewalRequest,
    worker: LeasingWorker,
    need: float,
    available: Availability,
    shortage: Shortage,
    alive: int,
) -> Grant | Denied:
    """A grant of one limit that covers ``need``, with a part of the surplus; or why not. ``alive`` workers share it."""
    if need and (shortage.exhausted or shortage.wait > request["max_wait"] + ROUNDING):
        return Denied(name, max(shortage.wait, 0.0))
    granted = worker.unconfirmed.get(name, 0.0)  # for the needs before this one
    lacking = request["queued"].get(name, 0) - worker.leased.get(name, 0.0)  # for calls that wait
    part = int(min(available.total, ceil(available.part)))
    if available.rate and need > available.now:  # future capacity, for those that wait
        ahead = int(max(available.rate * FUTURE_SECONDS, SMALLEST_GRANT * (1 if need <= 1 else need)))
        in_time = shortage.wait <= request["max_wait"] + ROUNDING
        amount = max(need, min(lacking, ahead, part) if in_time else 0.0)
    else:
        surplus = int(max(0.0, min(available.now, available.total)) / (SURPLUS_DIVISOR * max(1, alive)))
        amount = max(need, min((request.get("prefetch") or {}).get(name, 0.0) - granted, surplus))
        if available.rate:  # as many as wait, so that one exchange is enough for several of them
            amount = max(amount, min(lacking, part, int(available.now)))
    delay = max(0.0, -available.now) / available.rate if available.rate else 0.0
    return Grant(amount, min(amount, max(0.0, available.now)), delay)
