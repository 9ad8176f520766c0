"""Over any number of processes, whatever is reserved, settled, cancelled, lost or expires, in whatever order."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

from fake_clock import FakeClock
from hypothesis import given, settings
from hypothesis import strategies as st

from wallie_litellm.budgets.accounts import Crossed
from wallie_litellm.budgets.holds import BudgetHold
from wallie_litellm.budgets.rules import BudgetRules, Entry
from wallie_litellm.budgets.shared_spending import SharedSpending
from wallie_litellm.budgets.spending import Spending
from wallie_litellm.config import StoreSettings, WallieConfig
from wallie_litellm.core.spending import NANO
from wallie_litellm.core.spending_exchange import (
    ADMITTED,
    UNKNOWN,
    SpendingAnswer,
    SpendingRequest,
    SpendingServer,
)

TTL = 600.0
CONFIG = WallieConfig.model_validate(
    {"features": {"chat": {"budget": {"daily_usd": 10, "on_exhausted": "refuse", "per_user": {"daily_usd": 4}}}}}
)
RULES = BudgetRules(CONFIG)
LEVELS = (("warning", 0.8), ("critical", 0.95), ("exhausted", 1.0))


class CheckedServer(SpendingServer):
    """Holds every admission against the sum of what is spent and reserved."""

    def exchange(self, names: Sequence[str], request: SpendingRequest, now: float) -> SpendingAnswer:
        before = super().exchange(names, {**request, "wants": []}, now)["accounts"]
        answer = super().exchange(names, request, now)
        used = [0 if texts is None else int(texts[2]) + int(texts[4]) for texts in before]
        for want, result in zip(request["wants"], answer["wants"], strict=True):
            if result == UNKNOWN:
                assert None in [before[number - 1] for number in want["accounts"]]
                continue
            fits = all(used[number - 1] < day for number, day, _ in want["limits"])
            assert (result == ADMITTED) == fits
            if fits:
                for number in want["accounts"]:
                    used[number - 1] += want["amount"]
        return answer


class Worker(SharedSpending):
    """One process; the test makes its exchanges."""

    def __init__(self, clock: FakeClock, crossed: list[Crossed]) -> None:
        store = StoreSettings(url="redis://127.0.0.1:1")
        super().__init__(store, clock, "UTC", TTL, LEVELS, lambda: True, crossed.append)
        self.state = "ok"

    def _signal(self) -> None:
        """No thread."""

    def exchange(self, server: SpendingServer, now: float, *, answered: bool = True, arrives: bool = True) -> None:
        """One message; of accounts that are new the server has nothing on record."""
        message = self._build()
        request: Any = json.loads(json.dumps(message.request))
        names = [account.entry.name for account in message.accounts]
        answer = server.exchange([str(name) for name in names], request, now) if arrives else None
        if answer is None or not answered:
            self._on_lost(ConnectionError())
            self.state = "ok"
            return
        _, unknown = self._take_in(message, answer)
        if unknown:
            reports: Any = [{"reserved": one.reserved, "spent": [], "seed": [0, 0, 0]} for one in unknown]
            for one in unknown:
                one.sent = one.reserved
            seeding: Any = {**request, "accounts": reports, "wants": [], "sequence": 0}
            server.exchange([str(one.entry.name) for one in unknown], seeding, now)
            self.exchange(server, now)


steps = st.fixed_dictionaries(
    {
        "worker": st.integers(0, 2),
        "do": st.sampled_from(["want", "want", "exchange", "exchange", "settle", "settle", "cancel", "wait", "lose"]),
        "user": st.sampled_from(["u", "v", None]),
        "usd": st.integers(0, 3),
        "which": st.integers(0, 5),
        "arrives": st.booleans(),
    }
)


@settings(max_examples=120, deadline=None)
@given(st.lists(steps, max_size=60))
def test_what_is_spent_is_exact_and_nothing_is_admitted_beyond_the_limit(played: list[dict[str, Any]]) -> None:
    clock, server = FakeClock(), CheckedServer()
    workers = [Worker(clock, []) for _ in range(3)]
    waiting: list[tuple[Worker, BudgetHold]] = []
    held: list[tuple[Worker, BudgetHold]] = []
    spent: dict[Any, int] = {}
    for step in played:
        worker = workers[step["worker"]]
        mine = [one for one in held if one[0] is worker]
        if step["do"] == "want":
            hold = worker.hold_of(RULES.of("chat", step["user"]), step["usd"] * NANO)
            assert worker.admit(hold) is None
            waiting.append((worker, hold))
        elif step["do"] == "exchange":
            worker.exchange(server, clock.wall())
            _collect(waiting, held)
        elif step["do"] == "lose" and not worker._queue:
            worker.exchange(server, clock.wall(), answered=False, arrives=step["arrives"])
        elif step["do"] == "settle" and mine:
            _, hold = one = mine[step["which"] % len(mine)]
            held.remove(one)
            for _ in range(2):  # the second time without effect
                hold.settle(clock.wall(), float(step["usd"]))
            for entry in hold.entries:
                spent[entry.name] = spent.get(entry.name, 0) + step["usd"] * NANO
        elif step["do"] == "cancel" and waiting:
            one = waiting.pop(step["which"] % len(waiting))
            one[1].release()
        elif step["do"] == "wait":
            clock.advance(TTL / 2)
    for worker in workers:
        worker.exchange(server, clock.wall())
    for _, hold in [*waiting, *held]:
        hold.release()
    for worker in (*workers, *workers):
        worker.exchange(server, clock.wall())
    for name, account in server.accounts.items():
        assert account.day_spent == {str(key): amount for key, amount in spent.items()}.get(name, 0)
        assert sum(account.reserved.values()) == 0
    for worker in workers:
        assert all(not account.reserved and not account.unsent for account in worker.accounts()[0])


def _collect(waiting: list[tuple[Worker, BudgetHold]], held: list[tuple[Worker, BudgetHold]]) -> None:
    for one in list(waiting):
        answer: Future[Entry | None] | None = one[1].answer
        if answer is not None and answer.done():
            waiting.remove(one)
            if answer.result() is None:
                held.append(one)


def test_in_one_process_what_is_spent_is_exact_and_reservations_expire() -> None:
    clock = FakeClock()
    spending = Spending(clock, "UTC", TTL, LEVELS, lambda: True, lambda _: None)
    entries = RULES.of("chat", "u")
    holds = [spending.hold_of(entries, NANO) for _ in range(12)]
    refused = [spending.admit(hold) for hold in holds]
    assert [one.name.user if one else None for one in refused] == [None] * 4 + ["u"] * 8
    holds[0].settle(clock.wall(), 0.5)
    clock.advance(TTL + 1)
    assert spending.admit(spending.hold_of(entries, NANO)) is None
    holds[1].settle(clock.wall(), 3.4)  # it had expired: its cost counts all the same
    (user,) = [account for account in spending.accounts()[0] if account.entry.name.user]
    figures = user.figures(spending.accounts()[1])
    assert (figures.day_spent, figures.reserved) == (int(3.9 * NANO), NANO)
    assert spending.admit(spending.hold_of(entries, NANO)) is not None
