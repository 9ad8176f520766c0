"""The plan of a request of one router, made once, before its first attempt."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from wallie_litellm.guard.chain import stated_chain
from wallie_litellm.guard.context import Caller
from wallie_litellm.routing.plan import Asked, Decided, Member, Plan
from wallie_litellm.routing.routing import Routing


class Planner:
    """Makes plans: the chain that the request states or the router has, changed by the steps of ``routing``."""

    def __init__(self, routing: Routing, chain_after: Callable[[str], Sequence[Member]]) -> None:
        self._routing = routing
        self._chain_after = chain_after

    def plan(self, model: str, arguments: Mapping[str, Any], caller: Caller, stated: Mapping[str, Any]) -> Plan:
        """Where a request for ``model`` goes; ``stated`` are its arguments about the chain."""
        steps = self._routing.steps
        members: Sequence[Member] = ()
        if stated.get("disable_fallbacks") is not True:
            fallbacks = stated.get("fallbacks")
            members = self._chain_after(model) if fallbacks is None else stated_chain(model, fallbacks)
        if not steps:
            return Plan(model, members)
        asked = Asked(model, arguments, caller.feature, caller.user_id, caller.metadata, stated, self._chain_after)
        plan = Plan(model, members, Decided())
        for step in steps:
            plan = step(plan, asked)
        if plan.decided is not None and plan.group != model and plan.decided.requested is None:
            plan.decided.requested = model
        return plan
