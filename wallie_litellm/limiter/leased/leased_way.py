"""What the admissions of one scope pass at a worker: leases of the account's limits, and of their model's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import inf

from wallie_litellm.core.demand import Demand
from wallie_litellm.core.limit_keys import ACCOUNT, dimension_in, limit_key
from wallie_litellm.limiter.leased.lease_balance import LeaseBalance
from wallie_litellm.limiter.leased.lease_client import IDLE_AFTER, MODEL_IDLE_AFTER, Calls, Slots, Waiting
from wallie_litellm.limiter.scope_accounting import ScopeAccounting


class SlotsOf:
    """The slots of one limit, and the calls in flight that take them."""

    __slots__ = ("key", "scope", "slots")

    def __init__(self, key: str, scope: ScopeAccounting, slots: Slots) -> None:
        self.key = key
        self.scope = scope
        self.slots = slots

    def are_taken(self) -> bool:
        """Whether this worker has none for one more call."""
        return self.scope.in_flight >= self.slots.granted

    def are_used_up(self, ahead: int) -> bool:
        """Whether there will be none, as far as is known, once so many requests have been served."""
        most = self.slots.granted if self.slots.are_short else self.slots.limit
        return self.scope.in_flight + ahead >= most


class LeasedWay:
    """Leases by key, with what has been admitted. ``balances`` are pairs with the positions of kinds in a demand."""

    __slots__ = ("account", "admitted", "balances", "model", "request_keys", "slots", "spent_at", "token_keys")

    def __init__(
        self,
        passed: Iterable[ScopeAccounting],
        balances: Mapping[str, LeaseBalance],
        slots: Mapping[str, Slots],
        earlier: LeasedWay | None,
    ) -> None:
        scopes = tuple(passed)
        keys = [(limit_key(name, one.scope), one) for one in scopes for name in (*one.buckets, *one.days)]
        self.account = {key: balances[key] for key, one in keys if one.scope == ACCOUNT}
        self.model = {key: balances[key] for key, one in keys if one.scope != ACCOUNT}
        self.balances = tuple((balances[key], balances[key].kind) for key, _ in keys)
        limited = [(limit_key("concurrency", one.scope), one) for one in scopes if one.concurrency is not None]
        self.slots = tuple(SlotsOf(key, one, slots[key]) for key, one in limited)
        windows = [limit_key(name, one.scope) for one in scopes for name in one.windows]
        # A request counts in the window when it is admitted, tokens when they are settled: an estimate is no use.
        self.request_keys = tuple(key for key in windows if dimension_in(key) == "rpm")
        self.token_keys = tuple((key, balances[key].kind) for key in windows if dimension_in(key) != "rpm")
        self.spent_at: float = -inf if earlier is None else earlier.spent_at  # seconds of the guard's clock
        self.admitted: int = 0 if earlier is None else earlier.admitted  # requests since the last report

    @property
    def leases(self) -> Iterable[tuple[str, LeaseBalance]]:
        """All leases, with their keys."""
        return (*self.account.items(), *self.model.items())

    def has(self, now: float, demand: Demand) -> bool:
        """Whether all that is demanded is ready."""
        return all(balance.has(now, demand[kind]) for balance, kind in self.balances)

    def is_leased(self, demand: Demand, *, of_model: bool) -> bool:
        """Whether all that is demanded is leased, or all ``of_model``; a part of it may still have to refill."""
        leases = self.model.values() if of_model else (balance for _, balance in self.leases)
        return all(balance.left >= demand[balance.kind] for balance in leases)

    def lacks_for_model(self, now: float, demand: Demand) -> str | None:
        """The key of a limit of the model's that lacks what is demanded, where none of the account's does."""
        if any(not balance.has(now, demand[balance.kind]) for balance in self.account.values()):
            return None
        return next((key for key, one in self.model.items() if not one.has(now, demand[one.kind])), None)


def calls_of(ways: Mapping[str, LeasedWay], now: float, waiting: Waiting, paused_for: float) -> Calls:
    """The calls of a worker at ``now``; what was admitted is counted anew from then on."""
    idle = {scope for scope, way in ways.items() if scope != ACCOUNT and now - way.spent_at > MODEL_IDLE_AFTER}
    if all(now - way.spent_at > IDLE_AFTER for way in ways.values()):
        idle.add(ACCOUNT)
    admitted = {scope: way.admitted for scope, way in ways.items()}
    for way in ways.values():
        way.admitted = 0
    in_flight = {own.key: own.scope.in_flight for way in ways.values() for own in way.slots}
    return Calls(waiting, in_flight, {**admitted, ACCOUNT: sum(admitted.values())}, idle, paused_for)
