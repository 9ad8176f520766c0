"""What the last minute used of a fleet's limits, as one worker has it: the lease server's last answer, and since."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf

from wallie_litellm.core.demand import Demand
from wallie_litellm.core.lease_exchange import Amounts, RecentUse
from wallie_litellm.core.limit_keys import dimension_in, scope_in
from wallie_litellm.core.sliding_window import SLOTS_PER_SECOND, SlidingWindow, slot_of


class MinuteUsage:
    """Notes use for the next report, and keeps ``windows`` at the fleet's use. Times are seconds of this process."""

    def __init__(self, windows: Mapping[str, SlidingWindow]) -> None:
        self.answered: dict[str, float] = dict.fromkeys(windows, 0)  # units in the server's last answer
        self._windows = windows
        self._is_answered = False
        self._unreported: dict[tuple[str, int], float] = {}  # units by limit and slot
        # Use in an outage, which the server that all workers share has to know when it is back.
        self._outage: dict[str, SlidingWindow] | None = None
        self._outage_began_at = inf

    def note(self, at: float, amount: Demand, scope: str) -> None:
        """Have the next report say that ``amount`` was used in ``scope`` at ``at``, before this process began."""
        for name in self._windows:
            if scope_in(name) == scope:
                self._note(name, at, amount.of(dimension_in(name)))

    def add(self, now: float, name: str, units: float) -> None:
        """``units`` are used now."""
        if (window := self._windows.get(name)) is not None and units:
            window.add(now, units)
            self._note(name, now, units)
            if self._outage is not None:
                self._outage.setdefault(name, SlidingWindow()).add(now, units)

    def take_back(self, now: float, name: str, at: float, units: float) -> None:
        """``units`` that counted as used at ``at`` were not."""
        if (window := self._windows.get(name)) is not None and units:
            window.take_back(now, at, units)
            self._note(name, at, -units)
            if self._outage is not None:
                self._outage.setdefault(name, SlidingWindow()).take_back(now, at, units)

    def _note(self, name: str, at: float, units: float) -> None:
        key = name, slot_of(at)
        self._unreported[key] = self._unreported.get(key, 0) + units

    def report(self, server_offset: float) -> list[RecentUse]:
        """What the server does not have yet; its clock is ``server_offset`` seconds ahead.

        A slot stands for its middle; what is taken back may be in the slot before, since clocks differ by a little.
        """
        noted, self._unreported = self._unreported, {}
        return [
            [name, units, (slot + (0.5 if units > 0 else -0.5)) / SLOTS_PER_SECOND + server_offset]
            for (name, slot), units in noted.items()
            if units
        ]

    def update(self, now: float, answered: Amounts) -> None:
        """Copy the server's answer."""
        is_first, self._is_answered = not self._is_answered, True
        self.answered = dict(answered)
        for name, window in self._windows.items():
            unreported = sum(units for (noted, _), units in self._unreported.items() if noted == name)
            take = window.spread if is_first else window.replace
            take(now, max(0, answered.get(name, 0) + unreported))

    def used(self, now: float) -> dict[str, float]:
        """Units used by the fleet in the last minute, by limit."""
        return {name: window.used(now) for name, window in self._windows.items()}

    def reset(self, now: float, scope: str) -> None:
        """An operator has reset the quota, with a ``scope`` that of its own limits."""
        for name, window in self._windows.items():
            if scope in ("", scope_in(name)):
                self.answered[name] = 0
                window.reset(now)
        self._unreported = {
            key: units for key, units in self._unreported.items() if scope not in ("", scope_in(key[0]))
        }

    def begin_outage(self, now: float) -> None:
        """The server that all workers share is away; what is not reported is in a report that it will get."""
        self._outage = {name: SlidingWindow() for name in self._windows}
        self._outage_began_at = now

    def reconnect(self, now: float) -> None:
        """Report to that server what was used without it, as far as it still counts."""
        windows = self._outage or {}
        self._unreported = {
            (name, slot_of(at)): units
            for name, window in windows.items()
            for at, units in window.recent(now, self._outage_began_at)
        }
        self._outage = None

    def forked(self) -> None:
        """Begin anew in a child process: what is not reported is the parent's."""
        self._unreported.clear()
        self._outage = None
