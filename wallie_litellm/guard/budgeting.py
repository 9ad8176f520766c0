"""The money of one attempt: reserved by its estimated cost before its capacity, or the request is refused."""

from __future__ import annotations

import asyncio

from wallie_litellm.budgets.budgets import Budgets
from wallie_litellm.budgets.holds import BudgetHold
from wallie_litellm.budgets.rules import Entry
from wallie_litellm.budgets.spending import Spending
from wallie_litellm.core.spending import nano_of
from wallie_litellm.guard.context import Attempt, RequestContext, estimated_cost
from wallie_litellm.guard.guard import Guard


class Budgeting:
    """Reserves for the attempts of one router. An attempt's end settles its hold, at the cost that is on record.

    Where a feature's calls of a model group cost more than their estimates, later ones reserve as much more.
    """

    def __init__(self, guard: Guard, budgets: Budgets, spending: Spending) -> None:
        self._guard = guard
        self._budgets = budgets
        self._spending = spending

    async def reserve(self, context: RequestContext, attempt: Attempt) -> None:
        """Reserve what ``attempt`` will cost, of every budget that holds for its request.

        Raises:
            BudgetExhausted: one of them is used up, and refuses.
            RateLimited: the store of the budgets is away, and they may not be spent without it.
        """
        hold = self._hold(context, attempt)
        if hold is None:
            return
        refused = self._spending.admit(hold)
        if hold.answer is not None:
            try:
                refused = await asyncio.wrap_future(hold.answer)
            except GeneratorExit:
                self._guard.later(hold.release)
                raise
            except BaseException:
                hold.release()
                raise
        self._conclude(context, attempt, hold, refused)

    def reserve_blocking(self, context: RequestContext, attempt: Attempt) -> None:
        """:meth:`reserve` for a thread without an event loop."""
        hold = self._hold(context, attempt)
        if hold is None:
            return
        refused = self._spending.admit(hold)
        if hold.answer is not None:
            refused = hold.answer.result()
        self._conclude(context, attempt, hold, refused)

    def release(self, attempt: Attempt, error: BaseException) -> None:
        """The attempt is not made, for ``error``: nothing was spent."""
        hold, attempt.budget_hold = attempt.budget_hold, None
        if hold is None:
            return
        if isinstance(error, GeneratorExit):  # a coroutine that is collected: see Guard.later
            self._guard.later(hold.release)
        else:
            hold.release()

    def _hold(self, context: RequestContext, attempt: Attempt) -> BudgetHold | None:
        caller = context.caller
        entries = self._budgets.entries(caller.feature, caller.user_id, caller.proxy_key)
        if not entries:
            return None
        demand = attempt.demand if attempt.estimate is None else attempt.estimate.usual_demand()
        cost = estimated_cost(context, attempt, demand)
        estimated = nano_of(cost) if cost else 0
        ratio = self._budgets.ratio(entries, attempt.group)
        hold = self._spending.hold_of(entries, ratio.expected(estimated))
        hold.estimated, hold.ratio = estimated, ratio
        return hold

    def _conclude(self, context: RequestContext, attempt: Attempt, hold: BudgetHold, refused: Entry | None) -> None:
        if refused is None:
            attempt.budget_hold = hold
            return
        error = self._budgets.refusal(refused, attempt.provider, attempt.group)
        if not attempt.hedge:  # no other member of the chain would be admitted
            context.feature_refusal = error
            reason = str(error).rstrip(".")
            context.fail(attempt.group, error.provider, reason, error.retry_after, error.status_code)
        raise error


def budgeting_of(guard: Guard) -> Budgeting | None:
    """The budgeting of a guard; ``None`` where its file has no budgets."""
    budgets = guard.budgets
    return None if budgets.spending is None else Budgeting(guard, budgets, budgets.spending)
