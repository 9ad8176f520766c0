"""Once a budget is used up that says so, the cheapest member of a chain is asked first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from typing import Any, Final

from wallie_litellm.budgets.budgets import Budgets
from wallie_litellm.budgets.rules import Entry
from wallie_litellm.core.attempt_result import AttemptResult
from wallie_litellm.core.demand import ONE_REQUEST, Demand, Outcome
from wallie_litellm.guard.estimates import Estimates
from wallie_litellm.guard.router_view import RouterView
from wallie_litellm.litellm_adapter.requests import SizeReader, wish_of
from wallie_litellm.routing.plan import Asked, Decided, Member, Plan

_PROMPTS: Final = ("messages", "input", "prompt", "contents")  # arguments that are what is sent


class CheapestStep:
    """The step of a plan for the requests of budgets with ``on_exhausted: cheapest``; it comes last.

    Members are asked by what a request of this size costs there, those first that can serve now. One without a known
    price, or with parameters of its own, comes after the others. It also holds for a chain that the request states; an
    experiment does not count the request, as its arm is not what serves.
    """

    def __init__(
        self,
        budgets: Budgets,
        view: RouterView,
        estimates: Estimates,
        could_serve: Callable[[str, Demand], bool],
    ) -> None:
        self._budgets = budgets
        self._view = view
        self._estimates = estimates
        self._could_serve = could_serve
        self._sizes = SizeReader()

    def __call__(self, plan: Plan, asked: Asked) -> Plan:
        """The plan with the cheapest member first while such a budget is used up."""
        if not plan.members:
            return plan
        entry = self._budgets.exhausted(asked.feature, asked.user_id, asked.proxy_key, "cheapest")
        if entry is None:
            return plan
        members = (Member(plan.group), *plan.members)
        ordered = self._by_price(members, asked)
        first = ordered[0]
        if first.group == plan.group:
            return plan
        decided = plan.decided or Decided()
        decided.order = decided.order or plan.group
        decided.stands_in = True
        decided.experiment = decided.arm = decided.unit = None
        decided.why.append(f"{first.group} first as the cheapest: {_what(entry)} is used up")
        return plan._replace(group=first.group, members=tuple(ordered[1:]), decided=decided, experiment=None)

    def _by_price(self, members: Sequence[Member], asked: Asked) -> list[Member]:
        name = next((name for name in _PROMPTS if asked.arguments.get(name) is not None), "messages")
        size = self._sizes.size_of(asked.arguments, name)
        wish = wish_of(asked.arguments, {}, asked.arguments.get(name), asked.operation)

        def rank(member: Member) -> tuple[bool, bool, float]:
            estimate = self._estimates.before_pick(size, wish, asked.feature, member.group)
            price = None if member.parameters else self._price(member.group, asked.operation, estimate.usual_demand())
            scopes = tuple(self._view.scopes(member.group))
            serves = not scopes or any(self._could_serve(scope, ONE_REQUEST) for scope in scopes)
            return price is None, not serves, inf if price is None else price

        return sorted(members, key=rank)

    def _price(self, group: str, operation: str, demand: Demand) -> float | None:
        """US dollars of such a request at the group's first deployment; ``None`` without a known price."""
        entry: Any = self._view.first_of(group)
        if entry is None:
            return None
        return self._view.price(operation, entry, AttemptResult(Outcome.SUCCESS, usage=demand)).cost_usd


def _what(entry: Entry) -> str:
    if entry.rule.key:
        return f"the budget of the key {entry.rule.key}"
    whose = f"the budget of {entry.rule.feature}" if entry.rule.feature else "the budget of all features"
    return f"{whose} for each user" if entry.rule.per_user else whose
