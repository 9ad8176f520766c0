"""The plan of a request of one router, made once, before its first attempt."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from wallie_litellm.guard.chain import stated_chain
from wallie_litellm.guard.cheapest import CheapestStep
from wallie_litellm.guard.context import Caller
from wallie_litellm.guard.guard import Guard
from wallie_litellm.guard.router_view import RouterView
from wallie_litellm.routing.plan import Asked, Decided, Member, Plan, PlanStep, no_scopes
from wallie_litellm.routing.routing import Routing

MOST_GROUPS: Final = 1_000  # whose plans are kept: with a wildcard, callers invent names
NO_MODEL: Final = "a model is missing: name one, or a tier, or give the request's feature a tier (wallie.features)"


class Planner:
    """Makes plans: the chain that the request states or the router has, changed by the steps of ``routing``.

    ``last_steps`` come after those.
    """

    def __init__(
        self,
        routing: Routing,
        chain_after: Callable[[str], Sequence[Member]],
        scopes_of: Callable[[str], Iterable[str]] = no_scopes,
        last_steps: tuple[PlanStep, ...] = (),
    ) -> None:
        self._routing = routing
        self._chain_after = chain_after
        self._scopes_of = scopes_of
        self._last_steps = last_steps
        self._usual: dict[str, Plan] = {}  # of requests that state nothing, by the group asked for

    def changed(self) -> None:
        """The Router's chains have changed."""
        self._usual = {}  # another thread may still write into the old one

    def plan(
        self,
        model: str | None,
        arguments: Mapping[str, Any],
        caller: Caller,
        stated: Mapping[str, Any],
        operation: str = "chat",
        *,
        streams: bool = False,
    ) -> Plan:
        """Where a request for ``model`` goes; ``stated`` are its arguments about the chain.

        Raises:
            TypeError: it names no model, and nothing else does.
            UnknownTier: it names a tier that is none.
        """
        steps = self._routing.steps + self._last_steps
        if model is not None and not (steps or stated):
            return self._usual.get(model) or self._learn_usual(model)
        members: Sequence[Member] = ()
        if stated.get("disable_fallbacks") is not True:
            fallbacks = stated.get("fallbacks")
            members = self._chain_after(model or "") if fallbacks is None else stated_chain(model or "", fallbacks)
        if not steps:
            if model is None:
                raise TypeError(NO_MODEL)
            return Plan(model, members)
        origin, key = caller[:3], caller.proxy_key
        asked = Asked(model, arguments, *origin, stated, self._chain_after, operation, streams, self._scopes_of, key)
        plan = Plan(model or "", members, Decided())
        for step in steps:
            plan = step(plan, asked)
        if model is None and not plan.group:
            raise TypeError(NO_MODEL)
        if plan.decided is not None and plan.group != model and plan.decided.requested is None:
            plan.decided.requested = model
        return plan

    def _learn_usual(self, model: str) -> Plan:
        usual, plan = self._usual, Plan(model, self._chain_after(model))
        if len(usual) < MOST_GROUPS:
            usual[model] = plan
        return plan


def planner_of(guard: Guard, chain_after: Callable[[str], Sequence[Member]], view: RouterView) -> Planner:
    """The planner of the router with this ``view``, by what the file of ``guard`` turns on."""
    cheapest = (CheapestStep(guard.budgets, view, guard.estimates, guard.could_serve),)
    last_steps = cheapest if guard.budgets.leads_to_cheapest else ()
    return Planner(guard.routing, chain_after, view.scopes_of or no_scopes, last_steps)
