"""What is spent in this process alone: every cost is counted here, and the ledger says what was spent before."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import Future
from math import inf
from typing import Final

from wallie_litellm.budgets.accounts import Crossed, Levels, LocalAccount
from wallie_litellm.budgets.holds import BudgetHold
from wallie_litellm.budgets.rules import BudgetRules, Entry
from wallie_litellm.clock import Clock
from wallie_litellm.core.spending import AccountName, Periods, periods

logger = logging.getLogger(__name__)

MOST_USERS: Final = 10_000  # accounts of users that are kept, unless more are in use
READ_AGAIN: Final = 5.0  # seconds between two tries to read the ledger
IDLE: Final = 60.0  # seconds without use after which an account may be dropped: its costs are in the ledger by then

# Reads nano-dollars spent in the present day and month before a Unix time: of each name, with that time.
SpentReader = Callable[[Mapping[AccountName, float], Periods], Mapping[AccountName, tuple[int, int]]]


class Spending:
    """The accounts of this process. Safe to use from any thread.

    ``enforces`` says whether exhausted budgets refuse at the moment. ``crossed`` is called with the levels that are
    reached. A hold expires after ``ttl`` seconds.
    """

    state = "ok"

    def __init__(
        self,
        clock: Clock,
        timezone: str,
        ttl: float,
        levels: Levels,
        enforces: Callable[[], bool],
        crossed: Callable[[Crossed], object],
    ) -> None:
        self._clock = clock
        self._timezone = timezone
        self._ttl = ttl
        self._levels = levels
        self._enforces = enforces
        self._crossed = crossed
        self._lock = threading.Lock()
        self._accounts: dict[AccountName, LocalAccount] = {}  # users' in the order of their last use
        self._holds: deque[BudgetHold] = deque()  # in the order in which they expire
        self._left: set[AccountName] = set()  # accounts whose budget is not in the file at the moment
        self._waiting: list[BudgetHold] = []  # for what the ledger has on record
        self._unread: set[AccountName] = set()  # accounts that began at zero, as the ledger could not be read
        self._again_at = inf  # when it is read again for them, in seconds of the clock
        self._is_unreadable = False  # the ledger, when it was read last
        self._reading = False
        self._periods = Periods(0, 0, 0, 0)
        self.reader: SpentReader | None = None  #: without one, accounts begin at zero

    def hold_of(self, entries: tuple[Entry, ...], amount: int) -> BudgetHold:
        """A hold that is still to be admitted."""
        return BudgetHold(self, entries, amount, self._clock.now() + self._ttl)

    def admit(self, hold: BudgetHold) -> Entry | None:
        """Reserve, or return the budget that is exhausted. Where ``hold.answer`` is set, that says it later."""
        with self._lock:
            self._expire()
            accounts = [self._account(entry) for entry in hold.entries]
            if self.reader is not None and self._must_wait(hold, accounts):
                return None
            return self._decide(hold, accounts)

    def settle(self, hold: BudgetHold, at: float, cost: int) -> None:
        """End a hold at its ``cost`` in nano-dollars, spent at the Unix time ``at``. Only the first call counts."""
        with self._lock:
            if hold.is_settled:
                return
            hold.is_settled = True
            self._release(hold)
            crossed = self._spend(hold.entries, int(at), cost) if cost else ()
        self._settled()
        for one in crossed:
            self._crossed(one)

    def spend(self, entries: tuple[Entry, ...], at: float, cost: int) -> None:
        """Count a cost that was not reserved."""
        self.settle(self.hold_of(entries, 0), at, cost)

    def exhausted(self, entries: Iterable[Entry], on_exhausted: str) -> Entry | None:
        """The first budget of this kind that is exhausted, as far as is known here."""
        with self._lock:
            now = self._now()
            for entry in entries:
                if entry.rule.on_exhausted == on_exhausted and not self._account(entry).admits(now):
                    return entry
        return None

    def restore(self, names: Mapping[AccountName, float]) -> None:
        """Take in what the ledger has on record of these from before their Unix times.

        Where it cannot be read, they begin at zero, and it is read again later.
        """
        with self._lock:
            now = self._now()
        spent = self.read(names, now)
        with self._lock:
            for name in names:
                account = self._accounts.get(name)
                if account is None or (account.is_known and name not in self._unread):
                    continue
                account.restore(*(spent or {}).get(name, (0, 0)), self._now(), self._levels)
                (self._unread.add if spent is None and self.reader is not None else self._unread.discard)(name)
            if not self._unread:
                self._again_at = inf
            elif spent is None:
                self._again_at = self._clock.now() + READ_AGAIN

    def open(self, entries: Iterable[Entry]) -> dict[AccountName, float]:
        """Have these accounts from now on; returns those of which more may be on record than is known here.

        With each is the Unix time from which its costs are counted here.
        """
        with self._lock:
            accounts = [self._account(entry) for entry in entries]
        return {account.entry.name: account.created_at for account in accounts if not account.is_known}

    def configure(self, rules: BudgetRules, levels: Levels) -> None:
        """Go by other budgets from now on; the time zone stays. One that comes back is read from the ledger."""
        with self._lock:
            self._levels = levels
            now = self._now()
            for name, account in self._accounts.items():
                entry = rules.entry_of(name)
                if entry is None:
                    self._left.add(name)
                elif name in self._left:
                    self._left.discard(name)
                    self._take_back(account, entry, now)
                elif entry != account.entry:
                    account.configure(entry, now, levels)

    def accounts(self) -> tuple[list[LocalAccount], Periods]:
        """All accounts, and the present day and month."""
        with self._lock:
            self._expire()
            return list(self._accounts.values()), self._now()

    def close(self) -> None:
        """End what runs in the background. Idempotent."""
        with self._lock:
            waiting, self._waiting = self._waiting, []
        for hold in waiting:
            hold.decide(None)

    # With the lock held

    def _now(self) -> Periods:
        wall, known = self._clock.wall(), self._periods
        if not known.day <= wall < known.day_ends:
            self._periods = now = periods(wall, self._timezone)
            if now.day < known.day:  # the clock was ahead, and is not any more
                for account in self._accounts.values():
                    self._set_back(account, now)
            return now
        return known

    def _account(self, entry: Entry) -> LocalAccount:
        account = self._accounts.get(entry.name)
        if account is None:
            self._make_room()
            account = LocalAccount(entry, self._now(), self._clock.wall())
            account.is_known = self.reader is None and not entry.name.user
        elif entry.name.user:
            del self._accounts[entry.name]
        self._accounts[entry.name] = account
        account.used_at = self._clock.now()
        return account

    def _take_back(self, account: LocalAccount, entry: Entry, now: Periods) -> None:
        """The file has the budget again: what was spent in between is in the ledger, where there is one."""
        if self.reader is None:
            account.configure(entry, now, self._levels)
        else:
            account.begin_anew(entry, now, self._clock.wall())

    def _set_back(self, account: LocalAccount, now: Periods) -> None:
        """What was spent goes into an earlier day; where there is a ledger, that has it."""
        if self.reader is None:
            account.spent.roll(now.day, now.month, self._clock.wall())
        else:
            account.begin_anew(account.entry, now, self._clock.wall())

    def _make_room(self) -> None:
        while len(self._accounts) >= MOST_USERS:
            oldest = next((one for one in self._accounts.values() if one.entry.name.user), None)
            if oldest is None or oldest.used_at > self._clock.now() - IDLE or not self._may_drop(oldest):
                return
            del self._accounts[oldest.entry.name]
            self._left.discard(oldest.entry.name)

    def _may_drop(self, account: LocalAccount) -> bool:
        return not account.reserved

    def _decide(self, hold: BudgetHold, accounts: Collection[LocalAccount]) -> Entry | None:
        now = self._now()
        if self._enforces():
            for account in accounts:
                if account.entry.rule.refuses and not account.admits(now):
                    return account.entry
        self._take(hold, accounts)
        return None

    def _take(self, hold: BudgetHold, accounts: Iterable[LocalAccount]) -> None:
        hold.is_held = True
        for account in accounts:
            account.reserved += hold.amount
        self._holds.append(hold)

    def _release(self, hold: BudgetHold) -> None:
        if hold.is_held:
            hold.is_held = False
            for entry in hold.entries:
                if (account := self._accounts.get(entry.name)) is not None:
                    account.reserved -= hold.amount

    def _expire(self) -> None:
        holds, now = self._holds, self._clock.now()
        while holds and (holds[0].is_settled or holds[0].expires_at <= now):
            self._release(holds.popleft())

    def _spend(self, entries: Iterable[Entry], at: int, cost: int) -> list[Crossed]:
        now = self._now()
        crossed: list[Crossed] = []
        for entry in entries:
            account = self._account(entry)
            account.spend(at, cost, now)
            self._note(account, at, cost)
            crossed += account.crossings(now, self._levels)
        return crossed

    def _note(self, account: LocalAccount, at: int, cost: int) -> None:
        """A cost was counted in ``account``."""

    def _settled(self) -> None:
        """A hold has ended; without the lock."""

    # What the ledger has on record

    def _must_wait(self, hold: BudgetHold, accounts: Iterable[LocalAccount]) -> bool:
        """Have read what is not known yet; ``hold`` waits for that where a budget refuses, unless it failed last."""
        unknown = [account.entry for account in accounts if not account.is_known]
        waits = not self._is_unreadable and any(entry.rule.refuses for entry in unknown)
        if waits:
            hold.answer = Future()
            self._waiting.append(hold)
        elif unknown:
            self._unread.update(entry.name for entry in unknown)
            if not self._is_unreadable or self._again_at == inf:
                self._again_at = self._clock.now()
        if waits or self._clock.now() >= self._again_at:
            self._start_reading()
        return waits

    def _start_reading(self) -> None:
        if not self._reading:
            self._reading = True
            threading.Thread(target=self._read, name="wallie-budgets-ledger", daemon=True).start()

    def _read(self) -> None:
        while True:
            with self._lock:
                waiting, self._waiting = self._waiting, []
                is_time = self._clock.now() >= self._again_at
                if not waiting and not is_time:
                    self._reading = False
                    return
                again = self._unread if is_time else ()
                unread = [self._accounts[name] for name in again if name in self._accounts]
                asked = [self._account(entry) for hold in waiting for entry in hold.entries]
                accounts = [*unread, *(account for account in asked if not account.is_known)]
            self.restore({account.entry.name: account.created_at for account in accounts})
            for hold in waiting:
                with self._lock:
                    refused = None
                    if not hold.is_settled:
                        refused = self._decide(hold, [self._account(entry) for entry in hold.entries])
                hold.decide(refused)

    def read(self, names: Mapping[AccountName, float], now: Periods) -> Mapping[AccountName, tuple[int, int]] | None:
        """What the ledger has on record of these; ``None`` without one, or with a warning, if it cannot be read."""
        if self.reader is None:
            return None
        try:
            spent = self.reader(names, now)
        except Exception as error:  # noqa: BLE001 - of any database
            if not self._is_unreadable:
                self._is_unreadable = True
                what = type(error).__name__
                logger.warning("what was spent of the budgets cannot be read from the ledger (%s)", what)
            return None
        self._is_unreadable = False
        return spent
