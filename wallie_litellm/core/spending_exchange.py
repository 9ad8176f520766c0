"""All accounts of a fleet, and the messages with which its workers count what they spend.

A worker states what it has reserved as a whole, so that a message that was lost corrects itself; what it has spent is
counted once, by the message's sequence number. ``budgets/lua/spending.lua`` is :meth:`SpendingServer.exchange` in Lua.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final, TypedDict

from wallie_litellm.core.spending import SpendingAccount, SpendingFigures, SpendingLimits, admits

ADMITTED: Final = 0  # instead of the number of the account that is exhausted
UNKNOWN: Final = -1  # one of the accounts is not known
NO_LIMIT: Final = -1
CLOCK_AHEAD: Final = 300  # seconds that a worker's clock may be ahead of the server's
KEPT: Final = 86_400  # seconds that a worker's last sequence number is kept after it was heard


class AccountReport(TypedDict, total=False):
    """What a worker says of an account: its reservations, what it spent (``[at, amount]``), and what it began with.

    ``seed`` is ``[day_spent, month_spent, until]``, for an account that the server does not know.
    """

    reserved: int
    spent: list[list[int]]
    seed: list[int]


class Want(TypedDict):
    """A reservation that is wanted: of so many nano-dollars, in these accounts, numbered from 1.

    ``limits`` are ``[account, day, month]``: each has to admit it.
    """

    accounts: list[int]
    limits: list[list[int]]
    amount: int


class SpendingRequest(TypedDict):
    """One message of a worker. ``day`` and ``month`` began at these Unix times.

    ``timeout``: seconds without a message after which a worker's reservations count no more.
    """

    worker: str
    sequence: int
    timeout: int
    day: int
    month: int
    accounts: list[AccountReport]
    wants: list[Want]


class SpendingAnswer(TypedDict):
    """The number of live workers, the accounts' figures (``None``: not known), and what became of what was wanted.

    Amounts are text: JSON in Lua has 14 digits.
    """

    workers: int
    accounts: list[list[str] | None]
    wants: list[int]


class SpendingServer:
    """Answers the messages of all workers."""

    def __init__(self) -> None:
        self.accounts: dict[str, SpendingAccount] = {}
        self.seen: dict[str, float] = {}  # when each worker was heard last, in seconds

    def exchange(self, names: Sequence[str], request: SpendingRequest, now: float) -> SpendingAnswer:
        """Count what a worker has spent and reserved in the accounts of these ``names``, and admit what fits."""
        worker = request["worker"]
        self.seen[worker] = now
        live = {one for one, at in self.seen.items() if at >= now - request["timeout"]}
        self._forget(now - KEPT)
        accounts = [
            self._account(name, report, request) for name, report in zip(names, request["accounts"], strict=True)
        ]
        for account, report in zip(accounts, request["accounts"], strict=True):
            if account is not None:
                _take_in(account, report, request, now + CLOCK_AHEAD)
        wants = [_admit(accounts, want, worker, live) for want in request["wants"]]
        figures = [None if account is None else _texts(account.figures(live)) for account in accounts]
        return {"workers": len(live), "accounts": figures, "wants": wants}

    def _account(self, name: str, report: AccountReport, request: SpendingRequest) -> SpendingAccount | None:
        account = self.accounts.get(name)
        if account is not None:
            account.forget(self.seen)
        if account is None and "seed" in report:
            day_spent, month_spent, until = report["seed"]
            account = SpendingAccount(request["day"], request["month"], day_spent, month_spent, until)
            self.accounts[name] = account
        return account

    def _forget(self, before: float) -> None:
        for worker in [worker for worker, at in self.seen.items() if at < before]:
            del self.seen[worker]


def _take_in(account: SpendingAccount, report: AccountReport, request: SpendingRequest, latest: float) -> None:
    account.roll(request["day"], request["month"], latest)
    worker, sequence = request["worker"], request["sequence"]
    if sequence > account.sequences.get(worker, 0):
        for at, amount in report["spent"]:
            account.spend(at, amount)
        account.sequences[worker] = sequence
    account.reserved[worker] = report["reserved"]


def _admit(accounts: Sequence[SpendingAccount | None], want: Want, worker: str, live: Collection[str]) -> int:
    """:data:`ADMITTED`, :data:`UNKNOWN`, or the number of the account that is exhausted."""
    concerned = [accounts[number - 1] for number in want["accounts"]]
    if None in concerned:
        return UNKNOWN
    for number, day, month in want["limits"]:
        account = accounts[number - 1]
        limits = SpendingLimits(None if day == NO_LIMIT else day, None if month == NO_LIMIT else month)
        if account is not None and not admits(account.figures(live), limits):
            return number
    for account in concerned:
        if account is not None:
            account.reserved[worker] += want["amount"]
    return ADMITTED


def _texts(figures: SpendingFigures) -> list[str]:
    return [str(amount) for amount in figures]


def figures_of(texts: Sequence[str]) -> SpendingFigures:
    """The figures of an answer."""
    return SpendingFigures(*map(int, texts))
