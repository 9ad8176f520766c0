"""What was spent before a process began is in the ledger, which may be out of reach at the start."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from fake_clock import FakeClock
from support import wait_until

from wallie_litellm.budgets.rules import Entry, Rule
from wallie_litellm.budgets.spending import READ_AGAIN, Spending
from wallie_litellm.core.spending import NANO, AccountName, Periods, SpendingLimits


class Ledger:
    """Has 3 US dollars of every account, of which this process knows nothing."""

    def __init__(self) -> None:
        self.reads = 0
        self.is_down = True

    def __call__(self, names: Mapping[AccountName, float], now: Periods) -> dict[AccountName, tuple[int, int]]:
        self.reads += 1
        if self.is_down:
            raise OSError("connection refused")
        return dict.fromkeys(names, (3 * NANO, 3 * NANO))


def entry_of(user: str, on_exhausted: str) -> Entry:
    return Entry(AccountName("chat", user), Rule("chat", bool(user), SpendingLimits(3 * NANO), on_exhausted))  # type: ignore[arg-type]


@pytest.mark.parametrize(("has_ledger", "found"), [(True, 3.01), (False, 0.02)])
def test_a_clock_that_was_a_month_ahead_leaves_budgets_that_hold(has_ledger: bool, found: float) -> None:
    clock, ledger, entry = FakeClock(), Ledger(), entry_of("", "alert")
    ledger.is_down = False
    spending = Spending(clock, "UTC", 60.0, (("exhausted", 1.0),), lambda: True, lambda crossed: None)
    spending.reader = ledger if has_ledger else None
    for days in (0, 31, -31):
        clock._wall += days * 86_400
        spending.accounts()  # as any request does, it notes the day
        spending.restore(spending.open([entry]))
        spending.spend((entry,), clock.wall(), NANO // 100)
    (account,), now = spending.accounts()
    figures = account.figures(now)
    assert (figures.day, figures.month) == (now.day, now.month)
    assert (figures.day_spent, figures.month_spent) == (found * NANO, found * NANO)


@pytest.mark.parametrize("user", ["", "u"])
@pytest.mark.parametrize("on_exhausted", ["refuse", "cheapest"])
def test_a_ledger_that_is_down_at_the_start_counts_once_it_is_back(
    user: str, on_exhausted: str, caplog: pytest.LogCaptureFixture
) -> None:
    clock, ledger, entry = FakeClock(), Ledger(), entry_of(user, on_exhausted)
    spending = Spending(clock, "UTC", 60.0, (("exhausted", 1.0),), lambda: True, lambda crossed: None)
    spending.reader = ledger
    if not user:
        spending.restore(spending.open([entry]))

    def ask(entry: Entry = entry) -> bool:
        hold = spending.hold_of((entry,), 0)
        refused = spending.admit(hold)
        if hold.answer is not None:
            refused = hold.answer.result(10)
        hold.settle(clock.wall(), 0.01)
        return refused is not None

    def spent(user: str = user) -> float:
        accounts, now = spending.accounts()
        return next(one.figures(now).day_spent / NANO for one in accounts if one.entry.name.user == user)

    assert not ask()
    wait_until(lambda: ledger.reads == 1 and not spending._reading)
    assert not ask()  # it is not asked again at once
    assert not ask(entry_of("new", on_exhausted))  # nor for another user
    assert (ledger.reads, spent()) == (1, 0.02)
    clock.advance(READ_AGAIN)
    ask()
    wait_until(lambda: ledger.reads == 2 and not spending._reading)
    assert caplog.text.count("cannot be read from the ledger") == 1
    ledger.is_down = False
    clock.advance(READ_AGAIN)
    ask()
    wait_until(lambda: spent() > 1)
    assert ask() is (on_exhausted == "refuse")
    assert (ledger.reads, spent(), spent("new")) == (3, 3.05, 3.01)
