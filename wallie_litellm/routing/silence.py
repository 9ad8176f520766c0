"""A model that has fallen silent is asked second until one of its calls is answered.

``first_token: auto`` gives each call up after its bound; until the first of them has reached that, and five have opened
the breaker, new calls would go there too.
"""

from __future__ import annotations

from collections.abc import Callable

from wallie_litellm.routing.latencies import Latencies
from wallie_litellm.routing.plan import Asked, Plan
from wallie_litellm.routing.switches import Switches


class SilenceStep:
    """The step of a plan for the ``features`` whose first token is bound by what is measured."""

    def __init__(
        self, latencies: Latencies, switches: Switches, features: frozenset[str], serves_now: Callable[[str], bool]
    ) -> None:
        self._latencies = latencies
        self._switches = switches
        self._features = features
        self._serves_now = serves_now

    def __call__(self, plan: Plan, asked: Asked) -> Plan:
        """The plan, or one that asks the next member first. A chain that the request states stays, as does an arm."""
        if asked.feature not in self._features or not plan.may_move(asked) or plan.members[0].parameters:
            return plan
        if not self._switches.on("first_token") or not self._is_silent(plan.group, asked):
            return plan
        second = plan.members[0].group
        if self._is_silent(second, asked) or not all(map(self._serves_now, asked.scopes_of(second))):
            return plan
        return plan.next_first(f"{second} first, as {plan.group} says nothing")

    def _is_silent(self, group: str, asked: Asked) -> bool:
        scopes = tuple(asked.scopes_of(group))
        return bool(scopes) and all(self._latencies.is_silent(one, asked.streams) for one in scopes)
