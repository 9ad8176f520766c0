"""An outage of the lease server: what a worker may use meanwhile, and what it has to charge afterwards.

Without the server each worker keeps to its part of the limits: one share of as many as there were workers. What the
fleet had used, and what other workers had on lease, is missing from that part; what this worker had on lease is not.
When the server is back, it is charged with what was used beyond that, once, however often it goes away in between.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil, inf
from typing import NamedTuple, Self


class RateAtDisconnect(NamedTuple):
    """A rate limit as the worker last saw it. Instants are seconds of the worker's clock, amounts units."""

    full_at: float  # when the fleet's bucket is full again
    seconds_per_unit: float
    capacity: float
    leased: float  # to all workers
    in_hand: float  # of that, to this worker, and unspent


class DayAtDisconnect(NamedTuple):
    """A daily limit as the worker last saw it."""

    used: float
    ends_at: float
    leased: float
    in_hand: float


@dataclass
class Outage:
    """From the server's last answer to its next; use :meth:`begin`."""

    workers: int
    rates: Mapping[str, RateAtDisconnect]
    days: Mapping[str, DayAtDisconnect]
    part_full_at: Mapping[str, float]  # when nothing is missing from this worker's part of a rate
    part_missing: Mapping[str, float]  # units that are missing from its part of a day
    withheld: dict[str, float] = field(default_factory=dict)  # units of its part that wait for :meth:`confirm`
    charged: dict[str, int] = field(default_factory=dict)  # units reported to the server so far
    began_at: float = -inf
    reconnected_at: float = -inf
    used_at_reconnect: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def begin(
        cls,
        now: float,
        workers: int,
        rates: Mapping[str, RateAtDisconnect],
        days: Mapping[str, DayAtDisconnect],
        *,
        confirmed: bool = True,
    ) -> Self:
        """The server has stopped answering.

        Unless that is ``confirmed``, the part of each rate begins with what is in hand, and with refills: the server
        may have leased the rest to others since its last answer, and may be about to answer again.
        """
        part_full_at: dict[str, float] = {}
        withheld: dict[str, float] = {}
        for name, rate in rates.items():
            used = max(0.0, rate.full_at - now) / rate.seconds_per_unit
            missing = max(0.0, (used + rate.leased) / workers - rate.in_hand)
            if not confirmed:
                withheld[name] = max(0.0, rate.capacity / workers - rate.in_hand - missing)
                missing += withheld[name]
            part_full_at[name] = now + missing * rate.seconds_per_unit * workers
        part_missing = {name: max(0.0, (day.used + day.leased) / workers - day.in_hand) for name, day in days.items()}
        return cls(workers, rates, days, part_full_at, part_missing, withheld, began_at=now)

    def confirm(self) -> dict[str, float]:
        """The outage lasts: the units that were withheld so far, by limit, which are this worker's from now on."""
        released, self.withheld = self.withheld, {}
        self.part_full_at = {
            name: full_at - released.get(name, 0.0) * self.rates[name].seconds_per_unit * self.workers
            for name, full_at in self.part_full_at.items()
        }
        return released

    def is_new_day(self, name: str, ends_at: float) -> bool:
        """Whether a day that ends at ``ends_at`` began during the outage; clocks may differ by a second."""
        return ends_at > self.days[name].ends_at + 1

    def carried_usage(self, now: float, days_end_at: Mapping[str, float]) -> dict[str, float]:
        """Units that are missing from this worker's part because of what was used or leased before the outage."""
        carried = {
            name: max(0.0, self.part_full_at[name] - now) / rate.seconds_per_unit / self.workers
            for name, rate in self.rates.items()
        }
        for name in self.days:
            carried[name] = 0.0 if self.is_new_day(name, days_end_at.get(name, inf)) else self.part_missing[name]
        return carried

    def resumed_usage(self, now: float) -> dict[str, float]:
        """Units that are missing from this worker's part after a reconnect that brought no answer."""
        resumed = {}
        for name, used in self.used_at_reconnect.items():
            rate = self.rates.get(name)
            refilled = (now - self.reconnected_at) / rate.seconds_per_unit / self.workers if rate else 0.0
            resumed[name] = max(0.0, used - refilled)
        return resumed

    def reconcile(
        self, now: float, used: Mapping[str, float], uncounted: Mapping[str, float], days_end_at: Mapping[str, float]
    ) -> dict[str, int]:
        """The server answers again: whole units to charge it with, by limit.

        ``used`` is missing from this worker's part now. ``uncounted`` was used where nothing was counted, and takes
        its place; of a rate, no more than a full bucket is charged.
        """
        carried = self.carried_usage(now, days_end_at)
        units = {name: used[name] - carried.get(name, 0.0) - self.charged.get(name, 0) for name in used}
        for name, amount in uncounted.items():
            rate = self.rates.get(name)
            units[name] = min(amount, rate.capacity) if rate else amount
        charge = {name: ceil(amount) for name, amount in units.items() if amount > 0}
        for name, amount in charge.items():
            self.charged[name] = self.charged.get(name, 0) + amount
        self.reconnected_at, self.used_at_reconnect = now, dict(used)
        return charge
