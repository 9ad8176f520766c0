"""What one attempt has reserved of its budgets."""

from __future__ import annotations

from concurrent.futures import Future
from contextlib import suppress
from typing import Protocol

from wallie_litellm.budgets.rules import Entry
from wallie_litellm.core.cost_ratio import CostRatio
from wallie_litellm.core.spending import nano_of


class Settles(Protocol):
    """What has admitted a hold."""

    def settle(self, hold: BudgetHold, at: float, cost: int) -> None:
        """End it at its ``cost``, in nano-dollars."""


class BudgetHold:
    """A reservation of ``amount`` nano-dollars in all accounts of ``entries``; it is settled once.

    ``is_held``: it counts as reserved. It expires at ``expires_at``, in seconds of the guard's clock. ``answer`` is
    what a request waits for while it is not decided: the budget that is exhausted, or ``None``. Its cost, against the
    call's ``estimated`` one, in nano-dollars, is a lesson for ``ratio``.
    """

    __slots__ = (
        "_owner", "amount", "answer", "entries", "estimated", "expires_at", "is_held", "is_settled", "ratio",
    )  # fmt: skip

    def __init__(self, owner: Settles, entries: tuple[Entry, ...], amount: int, expires_at: float) -> None:
        self._owner = owner
        self.entries = entries
        self.amount = amount
        self.expires_at = expires_at
        self.is_held = False
        self.is_settled = False
        self.answer: Future[Entry | None] | None = None
        self.estimated = 0
        self.ratio: CostRatio | None = None

    def settle(self, at: float, cost_usd: float | None) -> None:
        """End the hold at what was spent at the Unix time ``at``; without a known price nothing is counted.

        Only the first call counts. Nothing is waited for.
        """
        cost = nano_of(cost_usd) if cost_usd else 0
        if cost and self.ratio is not None and not self.is_settled:
            self.ratio.add(self.estimated, cost)
        self._owner.settle(self, at, cost)

    def release(self) -> None:
        """End the hold: nothing was spent."""
        self._owner.settle(self, 0.0, 0)

    def decide(self, refused: Entry | None) -> None:
        """Let the request go on that waits for it, or say which budget is exhausted."""
        answer = self.answer
        if answer is not None and not answer.done():
            with suppress(Exception):  # cancelled in this moment: the request releases the hold
                answer.set_result(refused)
