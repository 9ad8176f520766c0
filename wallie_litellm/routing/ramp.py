"""``ramp``: what has come back from an open breaker is given its traffic in steps.

Of a chain's requests only a share, which grows with time, asks a group first that has come back; the others ask the
next member first, as long as that can serve now. Nothing is refused for it, and nothing waits.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from wallie_litellm.core.last_used import LastUsed
from wallie_litellm.routing.plan import Asked, Plan
from wallie_litellm.routing.switches import Switches

FIRST_SHARE: Final = 0.1  # of the requests, when the breaker has just closed
MOST_GROUPS: Final = 1_000  # whose steps are kept: with a wildcard, callers invent models


class RampStep:
    """The step of a plan that spares a group which has come back less than ``seconds`` ago.

    ``closed_at`` returns when the breakers of a scope have closed last, in seconds of ``now``'s clock. ``serves_now``
    says of a scope whether it would admit a request now.
    """

    def __init__(
        self,
        seconds: float,
        now: Callable[[], float],
        switches: Switches,
        closed_at: Callable[[str], float],
        serves_now: Callable[[str], bool],
    ) -> None:
        self._seconds = seconds
        self._now = now
        self._switches = switches
        self._closed_at = closed_at
        self._serves_now = serves_now
        self._lock = threading.Lock()
        self._credit: LastUsed[str, float] = LastUsed(MOST_GROUPS)  # by group: requests that may ask it first

    def __call__(self, plan: Plan, asked: Asked) -> Plan:
        """The plan, or one that asks the next member first. A chain that the request states stays, as does an arm."""
        if not plan.may_move(asked):
            return plan
        share = self._share(plan.group, asked)
        if share >= 1.0 or not self._switches.on("ramp"):
            return plan
        first = plan.members[0]
        if first.parameters or not all(map(self._serves_now, asked.scopes_of(first.group))):
            return plan
        if self._takes(plan.group, share):
            return plan
        return plan.next_first(f"{first.group} first, as {plan.group} has just come back")

    def _share(self, group: str, asked: Asked) -> float:
        """The share of the requests that may ask ``group`` first."""
        since = max(map(self._closed_at, asked.scopes_of(group)), default=float("-inf"))
        return max(FIRST_SHARE, (self._now() - since) / self._seconds)

    def _takes(self, group: str, share: float) -> bool:
        """Whether this request is one of those that ask ``group``: evenly spread, without chance."""
        with self._lock:
            credit = (self._credit.get(group) or 0.0) + share
            self._credit.keep(group, credit - (credit >= 1.0))
            return credit >= 1.0
