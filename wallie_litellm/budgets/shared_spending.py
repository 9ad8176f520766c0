"""What a fleet spends: one thread exchanges with Redis, one message at a time, for all requests that wait.

A message that was not answered is sent again with its sequence number, so that what it says was spent counts once.
While Redis is away ``on_store_error`` decides, and costs are kept until it is back.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import suppress
from hashlib import sha1, sha256
from importlib.resources import files
from math import ceil
from typing import Any, Final, NamedTuple

from redis.exceptions import NoScriptError

from wallie_litellm.budgets.accounts import Crossed, LocalAccount
from wallie_litellm.budgets.holds import BudgetHold
from wallie_litellm.budgets.rules import Entry
from wallie_litellm.budgets.spending import Spending
from wallie_litellm.config.models import StoreSettings
from wallie_litellm.core.spending import AccountName, Periods
from wallie_litellm.core.spending_exchange import (
    ADMITTED,
    NO_LIMIT,
    UNKNOWN,
    AccountReport,
    SpendingAnswer,
    SpendingRequest,
    Want,
    figures_of,
)
from wallie_litellm.limiter.redis.connection import Client, connect, reason_of
from wallie_litellm.limiter.redis.waiting import run_to_end, within

logger = logging.getLogger(__name__)

SCRIPT: Final = files("wallie_litellm.budgets").joinpath("lua/spending.lua").read_text()
SCRIPT_ID: Final = sha1(SCRIPT.encode()).hexdigest()  # noqa: S324 - Redis' own name for a script
PREFIX: Final = "wallie:v1:{budgets}:"  # one slot of a cluster: a request may be in several accounts
ACCOUNT_TTL: Final = 40 * 86_400  # seconds that an unused account is kept: longer than a month
HEARTBEAT: Final = 2.0  # seconds between two messages, at most
WORKER_TIMEOUT: Final = 30  # seconds without one after which a worker's reservations count no more
RECONNECT: Final = 0.3  # seconds between two attempts
MOST_WANTS: Final = 256  # in one message
MOST_ACCOUNTS: Final = 1_000  # in one message, besides those of the wants
LEDGER_LAG: Final = 1.0  # seconds after which costs of all workers are in the ledger
LOOK_AGAIN: Final = 0.05  # seconds between two messages while what Redis has lost is waited for
CLOSING: Final = 0.5  # seconds for the last message


def key_of(name: AccountName) -> str:
    """An account's key in Redis: a user is a digest there."""
    if name.key:
        return f"{PREFIX}key:{name.key}"
    user = f":{sha256(name.user.encode()).hexdigest()[:32]}" if name.user else ""
    return f"{PREFIX}account:{name.feature}{user}" if user else f"{PREFIX}total:{name.feature}"


class _Message(NamedTuple):
    """A request with what it is about: accounts and holds in its order, and what it says was spent."""

    request: SpendingRequest
    accounts: list[LocalAccount]
    holds: list[BudgetHold]


class SharedSpending(Spending):
    """The accounts of a fleet, as one of its workers sees them."""

    def __init__(self, store: StoreSettings, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.state = "connecting"
        self.error: str | None = None
        self.workers = 1
        self._store = store
        self._begin()
        _all.add(self)

    def _begin(self) -> None:
        """This process is a worker that has told Redis nothing yet."""
        self.worker = f"{os.getpid()}-{os.urandom(6).hex()}"
        self._sequence = 0
        self._unanswered: dict[AccountName, dict[int, int]] = {}  # what the last message says was spent
        self._queue: deque[BudgetHold] = deque()
        self._asked: list[BudgetHold] = []  # that the last message was about
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake = asyncio.Event()
        self._signalled = False
        self._closing = False

    def admit(self, hold: BudgetHold) -> Entry | None:
        """Reserve in Redis where a budget refuses; of others the next message has it."""
        with self._lock:
            self._expire()
            accounts = [self._account(entry) for entry in hold.entries]
            if not self._enforces() or not any(entry.rule.refuses for entry in hold.entries):
                self._take(hold, accounts)
                return None
            if self.state == "down":
                return self._decide_alone(hold, accounts)
            hold.answer = Future()
            self._queue.append(hold)
        self._signal()
        return None

    def open(self, entries: Any) -> dict[AccountName, float]:
        """Have these accounts from now on, and ask Redis for them."""
        opened = super().open(entries)
        self._signal()
        return opened

    def status(self) -> dict[str, Any]:
        """The exchange with Redis, ready for JSON."""
        return {"state": self.state, "error": self.error, "on_store_error": self._store.on_store_error}

    def close(self) -> None:
        """Send what is left, and end the thread. Idempotent."""
        self._closing = True
        thread = self._thread
        self._signal()
        if thread is not None and thread is not threading.current_thread():
            thread.join(2 * CLOSING)
        super().close()

    def forked(self) -> None:
        """This is a child process now: what the parent has reserved and spent is the parent's to tell."""
        self._parents = (self._thread, self._loop, self._wake)  # kept: closing them would end the parent's connection
        self._lock = threading.Lock()
        self._begin()
        self._holds.clear()
        for account in self._accounts.values():
            account.reserved = account.sent = 0
            account.unsent = {}

    # With the lock held

    def _account(self, entry: Entry) -> LocalAccount:
        account = super()._account(entry)
        account.is_known = account.is_shared
        return account

    def _take_back(self, account: LocalAccount, entry: Entry, now: Periods) -> None:
        account.configure(entry, now, self._levels)  # Redis has it

    def _set_back(self, account: LocalAccount, now: Periods) -> None:
        """Redis has its own clock."""

    def _may_drop(self, account: LocalAccount) -> bool:
        return not (account.reserved or account.sent or account.unsent or account.entry.name in self._unanswered)

    def _note(self, account: LocalAccount, at: int, cost: int) -> None:
        account.unsent[at] = account.unsent.get(at, 0) + cost

    def _decide_alone(self, hold: BudgetHold, accounts: list[LocalAccount]) -> Entry | None:
        """Redis is away: every worker has an equal part of what was left; or all, or nothing."""
        policy, now = self._store.on_store_error, self._now()
        if policy != "open":
            for account in accounts:
                if not account.entry.rule.refuses:
                    continue
                if policy == "closed" or not self._part_admits(account, now):
                    return account.entry
        self._take(hold, accounts)
        return None

    def _part_admits(self, account: LocalAccount, now: Periods) -> bool:
        figures = account.figures(now)
        kept = (account.unsent, self._unanswered.get(account.entry.name, {}))
        for limit, spent, begins in zip(account.entry.rule.limits, figures[2:4], figures[:2], strict=True):
            if limit is None:
                continue
            own = sum(amount for costs in kept for at, amount in costs.items() if at >= begins)
            left = max(0, limit - (spent - own) - account.elsewhere)
            if own + account.reserved >= ceil(left / self.workers):
                return False
        return True

    def _settled(self) -> None:
        self._signal()

    # The thread

    def _signal(self) -> None:
        if self._signalled:
            return
        self._signalled = True
        with self._lock:
            if self._thread is None and not self._closing:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=self._run, args=(self._loop,), name="wallie-budgets-redis", daemon=True
                )
                self._thread.start()
        if (loop := self._loop) is not None:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(self._wake.set)

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        run_to_end(loop, self._main(), CLOSING)

    async def _main(self) -> None:
        client: Client | None = None
        while not self._closing:
            self._wake.clear()
            self._signalled = False
            try:
                client = client or connect(self._store.url, self._store.timeout)
                due = await self._exchange(client)
            except Exception as error:  # noqa: BLE001 - Redis', the network's, and those of a URL that leads nowhere
                self._on_lost(error)
                if client is not None:
                    with suppress(Exception):
                        await within(CLOSING, client.aclose())
                client, due = None, False
            if not due and not self._closing:
                await self._rest(RECONNECT if client is None else HEARTBEAT)
        await self._leave(client)

    async def _rest(self, seconds: float) -> None:
        if self.state == "down":
            await asyncio.sleep(seconds)
            return
        with suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), seconds)

    async def _exchange(self, client: Client) -> bool:
        """One message and its answer; returns whether the next one is due at once."""
        message = self._build()
        request = json.dumps(message.request, separators=(",", ":"))
        names = [f"{PREFIX}workers", *(key_of(account.entry.name) for account in message.accounts)]
        slow = 4 if self.state != "ok" else 1  # a connection has to be made
        reply = await within(self._store.timeout * slow, self._send(client, names, request))
        crossed, unknown = self._take_in(message, json.loads(reply))
        for one in crossed:
            self._crossed(one)
        if self.state != "ok":
            if self.state == "down":
                logger.warning("Redis serves the budgets again")
            self.state, self.error = "ok", None
        if unknown:
            await self._seed(client, unknown)
            return True
        return bool(self._queue)

    @staticmethod
    async def _send(client: Client, names: list[str], request: str) -> Any:
        arguments = (len(names), *names, request, ACCOUNT_TTL, "")
        try:
            return await client.evalsha(SCRIPT_ID, *arguments)
        except NoScriptError:  # a server that has restarted, or has taken over
            return await client.eval(SCRIPT, *arguments)

    def _build(self) -> _Message:
        with self._lock:
            self._expire()
            now = self._now()
            holds = [hold for hold in (self._queue.popleft() for _ in range(len(self._queue))) if not hold.is_settled]
            self._queue.extend(holds[MOST_WANTS:])
            holds = holds[:MOST_WANTS]
            wanted = [[self._account(entry) for entry in hold.entries] for hold in holds]
            accounts = list({id(one): one for accounts in wanted for one in accounts}.values())
            accounts += self._due(accounts)
            self._number_what_was_spent(accounts)
            reports = [self._report(account) for account in accounts]
            places = {id(account): number for number, account in enumerate(accounts, 1)}
            wants = [_want(hold, own, places) for hold, own in zip(holds, wanted, strict=True)]
            request: SpendingRequest = {
                "worker": self.worker,
                "sequence": self._sequence,
                "timeout": WORKER_TIMEOUT,
                "day": now.day,
                "month": now.month,
                "accounts": reports,
                "wants": wants,
            }
            self._asked = holds
            return _Message(request, accounts, holds)

    def _due(self, accounts: list[LocalAccount]) -> list[LocalAccount]:
        """The accounts that the message is about, besides ``accounts``."""
        there = {id(one) for one in accounts}
        others = (one for one in self._accounts.values() if id(one) not in there)
        due = [
            one
            for one in others
            if one.unsent
            or one.entry.name in self._unanswered
            or one.reserved != one.sent
            or one.reserved
            or not one.entry.name.user
        ]
        return due[:MOST_ACCOUNTS]

    def _number_what_was_spent(self, accounts: list[LocalAccount]) -> None:
        """What was said before and not answered is said again, and nothing else before that."""
        if self._unanswered:
            return
        self._sequence += 1
        for account in accounts:
            if account.unsent:
                self._unanswered[account.entry.name] = account.unsent
                account.unsent = {}

    def _report(self, account: LocalAccount) -> AccountReport:
        spent = self._unanswered.get(account.entry.name, {})
        account.sent = account.reserved
        return {"reserved": account.reserved, "spent": [[at, amount] for at, amount in spent.items()]}

    def _take_in(self, message: _Message, answer: SpendingAnswer) -> tuple[list[Crossed], list[LocalAccount]]:
        """The levels that are reached now, and the accounts that Redis does not know."""
        crossed: list[Crossed] = []
        unknown: list[LocalAccount] = []
        answers: list[tuple[BudgetHold, Entry | None]] = []
        with self._lock:
            self._asked = []
            self.workers = max(1, answer["workers"])
            now = self._now()
            for hold, result in zip(message.holds, answer["wants"], strict=True):
                if result == UNKNOWN:
                    self._queue.append(hold)
                    continue
                if result == ADMITTED:
                    for entry in hold.entries:
                        self._account(entry).sent += hold.amount
                    if not hold.is_settled:
                        self._take(hold, [self._account(entry) for entry in hold.entries])
                answers.append((hold, None if result == ADMITTED else message.accounts[result - 1].entry))
            for account, texts in zip(message.accounts, answer["accounts"], strict=True):
                said = self._unanswered.pop(account.entry.name, {})
                if texts is None:
                    unknown.append(account)
                    for at, amount in said.items():
                        account.unsent[at] = account.unsent.get(at, 0) + amount
                    continue
                account.hear(figures_of(texts), now)
                account.seed_from = None
                crossed += account.crossings(now, self._levels)
        for hold, refused in answers:
            hold.decide(refused)
        return crossed, unknown

    # Accounts that Redis does not know

    async def _seed(self, client: Client, unknown: list[LocalAccount]) -> None:
        """Give Redis what the ledger has on record, of what it has lost only once all workers' costs are in there."""
        ready, waits = self._ripe(unknown)
        if not ready:
            await asyncio.sleep(min(*waits, LOOK_AGAIN))
            return
        now = self._now()
        untils = {account.entry.name: account.created_at for account in ready}
        spent = await asyncio.to_thread(self.read, untils, now)
        with self._lock:
            reports: list[AccountReport] = []
            for account in ready:
                day, month = (spent or {}).get(account.entry.name, (0, 0))
                if account.is_shared:  # what was heard of Redis before it lost that is no less
                    figures = account.figures(now)
                    own = sum(account.unsent.values())
                    day, month = max(day, figures.day_spent - own), max(month, figures.month_spent - own)
                # Without a ledger, costs that are not sent yet are nowhere else.
                until = 0 if spent is None else int(account.created_at)
                reports.append({"reserved": account.reserved, "spent": [], "seed": [day, month, until]})
                account.sent = account.reserved
            request: SpendingRequest = {
                "worker": self.worker,
                "sequence": 0,
                "timeout": WORKER_TIMEOUT,
                "day": now.day,
                "month": now.month,
                "accounts": reports,
                "wants": [],
            }
        names = [f"{PREFIX}workers", *(key_of(account.entry.name) for account in ready)]
        await within(self._store.timeout, self._send(client, names, json.dumps(request)))

    def _ripe(self, unknown: list[LocalAccount]) -> tuple[list[LocalAccount], list[float]]:
        """The accounts that can be given to Redis now, and the seconds until others can."""
        ready: list[LocalAccount] = []
        waits: list[float] = []
        with self._lock:
            for account in unknown:
                if account.is_shared and account.seed_from is None:  # Redis has lost it
                    account.created_at = float(ceil(self._clock.wall()))
                    account.seed_from = time.monotonic() + account.created_at - self._clock.wall() + LEDGER_LAG
                wait = 0.0 if account.seed_from is None else account.seed_from - time.monotonic()
                (waits if wait > 0 else ready).append(wait if wait > 0 else account)  # type: ignore[arg-type] # one of each
        return ready, waits

    # The end of a connection

    def _on_lost(self, error: Exception) -> None:
        self.error = reason_of(error)
        if self.state != "down":
            logger.warning(
                "Redis does not serve the budgets (%s): on_store_error is %s", self.error, self._store.on_store_error
            )
        answers: list[tuple[BudgetHold, Entry | None]] = []
        with self._lock:
            self.state = "down"
            undecided, self._asked = [*self._asked, *self._queue], []
            self._queue.clear()
            for hold in undecided:
                refused = None
                if not hold.is_settled:
                    refused = self._decide_alone(hold, [self._account(entry) for entry in hold.entries])
                answers.append((hold, refused))
        for hold, refused in answers:
            hold.decide(refused)

    async def _leave(self, client: Client | None) -> None:
        """Send what is left, and reserve nothing any more."""
        if client is None or self.state == "down":
            return
        with self._lock:
            for account in self._accounts.values():
                account.reserved = 0
        with suppress(Exception):
            await within(CLOSING, self._exchange(client))
            await within(CLOSING, client.zrem(f"{PREFIX}workers", self.worker))
            await within(CLOSING, client.aclose())


def _want(hold: BudgetHold, accounts: list[LocalAccount], places: Mapping[int, int]) -> Want:
    limits = [
        [places[id(account)], *(NO_LIMIT if limit is None else limit for limit in account.entry.rule.limits)]
        for account in accounts
        if account.entry.rule.refuses
    ]
    return {"accounts": [places[id(account)] for account in accounts], "limits": limits, "amount": hold.amount}


_all: weakref.WeakSet[SharedSpending] = weakref.WeakSet()


def _after_fork() -> None:
    for spending in list(_all):
        spending.forked()


os.register_at_fork(after_in_child=_after_fork)
