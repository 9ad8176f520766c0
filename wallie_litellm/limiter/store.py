"""What a limiter asks of a store: one object per provider, whose operations are atomic.

The limiter holds its lock around each call, so that calls of one process do not interleave; a store that processes
share makes each operation atomic by itself too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from math import ceil
from typing import NamedTuple, Protocol

from wallie_litellm.core.circuit_breaker import Breaker, BreakerRules
from wallie_litellm.core.demand import NOTHING, Demand
from wallie_litellm.core.limit_keys import dimension_in, scope_in
from wallie_litellm.limiter.limits import AccountLimits


class Reservation:
    """The capacity that one admitted attempt holds. It ends in exactly one settlement.

    ``at`` is the time of admission, in seconds of the guard's clock. ``generation`` and ``probe`` tie the attempt's
    result to the breaker's state at that time; ``probe`` is the number of the breaker's permit, 0 for none. ``scope``
    is the pattern of its model's limits, empty where it has none.
    """

    __slots__ = ("at", "demand", "generation", "probe", "scope", "settled")

    def __init__(self, demand: Demand, at: float, generation: int, probe: int, scope: str = "") -> None:
        self.demand = demand
        self.at = at
        self.generation = generation
        self.probe = probe
        self.scope = scope
        self.settled = False


class DenialReason(Enum):
    """Why a demand is denied. Those that concern one limit come with its key."""

    LIMIT = "limit"  # a rate or a daily limit is used up; with its key
    CONCURRENCY = "concurrency"  # as many calls as may be are under way; with its key
    TOO_LARGE = "too_large"  # the demand exceeds a limit's whole capacity; with its key
    PAUSED = "paused"  # the provider asked for a pause
    CIRCUIT_OPEN = "circuit_open"  # the breaker admits nothing
    QUEUED = "queued"  # requests in front have not been served yet
    LEASE_REQUESTED = "lease_requested"  # there may be capacity: the lease server has been asked
    STORE_DOWN = "store_down"  # the shared store does not answer, and `on_store_error` is `closed`
    GUARD_CLOSED = "guard_closed"  # the guard admits nothing any more
    ABANDONED = "abandoned"  # the request left the queue by itself


# Looking up an enum's member costs more than the arithmetic around it (CPython 3.11).
_LIMIT, _CONCURRENCY = DenialReason.LIMIT, DenialReason.CONCURRENCY


class Denial(NamedTuple):
    """Why a demand cannot be admitted now, and for how many seconds (``inf``: not by waiting).

    ``limit`` is the key of the limit that is longest in the way. With one of a model's, the account is not waited for.
    """

    reason: DenialReason
    retry_after: float
    limit: str | None = None

    @property
    def dimension(self) -> str | None:
        """The dimension of :attr:`limit`."""
        return None if self.limit is None else dimension_in(self.limit)

    @property
    def scope(self) -> str:
        """Whose limit that is: a pattern, or empty for the account's."""
        return "" if self.limit is None else scope_in(self.limit)


def limit_denial(limit: str, retry_after: float) -> Denial:
    """The denial of a demand that exceeds what is left of the limit with this key."""
    return Denial(_CONCURRENCY if dimension_in(limit) == "concurrency" else _LIMIT, retry_after, limit)


def longest_denial(account: tuple[float, str], model: tuple[float, str]) -> tuple[float, str]:
    """The longer of two waits, in seconds with the key of the limit: the account's, and that of the model's limits.

    When a call ends, and with it the wait for a place among a model's, cannot be predicted: it counts as the longer.
    """
    wait, limit = max(account, model, key=lambda one: one[0])
    is_for_place = model[0] > 0 and dimension_in(model[1]) == "concurrency"
    return (wait, model[1]) if is_for_place else (wait, limit)


class Balance(NamedTuple):
    """Units reserved, settled and refunded so far in one dimension; reserved = settled + refunded + in flight."""

    reserved: int
    settled: int
    refunded: int


class LimitUsage(NamedTuple):
    """How much of a limit is used, in units of its dimension, and in how many seconds all of it is free again.

    ``used``: of a limit per minute what the last 60 seconds used, where tokens count once their call is settled; of a
    limit per day what was used or reserved since midnight. ``full`` is the limit less the headroom. ``left`` is what
    admission would let through at once. ``reserved`` tokens of calls in flight are in ``left``, and not in ``used``.
    ``exhausted_in``: of a limit per minute, the seconds until nothing is left if demand goes on as it is; ``None``
    where that is never, or was not asked for.
    """

    used: float
    limit: int
    full: float
    left: float
    reset_in: float
    balance: Balance
    reserved: int = 0
    exhausted_in: float | None = None

    @property
    def units(self) -> int:
        """What is used, rounded up to whole units."""
        return ceil(self.used - 1e-6)

    @property
    def utilization(self) -> float:
        """The share of ``full`` that is used: 0 to 1, above 1 in debt."""
        return self.units / self.full

    @property
    def committed(self) -> float:
        """:attr:`utilization` as it would be if the calls in flight used what they have reserved."""
        return ceil(self.used + self.reserved - 1e-6) / self.full


class ProviderStore(Protocol):
    """One provider's limits, pause and breaker. Times are seconds of the guard's monotonic clock."""

    paused_until: float

    @property
    def limits(self) -> AccountLimits:
        """The configured limits, with those of models by pattern."""

    @property
    def scopes(self) -> tuple[str, ...]:
        """The patterns of the models with limits of their own, in the order in which they hold."""

    @property
    def breaker(self) -> Breaker:
        """Decides when the provider is not called."""

    @property
    def lookback(self) -> float:
        """For how many seconds usage may still be missing from a bucket."""

    @property
    def in_flight(self) -> int:
        """Reservations not yet settled."""

    def reserve(self, now: float, demand: Demand, scope: str = "") -> Reservation | Denial:
        """Take all of ``demand`` from the account's limits and those of ``scope``, or nothing."""

    def check(
        self, now: float, demand: Demand, ahead: Demand, scope: str = "", ahead_in_scope: Demand = NOTHING
    ) -> Denial | None:
        """The denial of ``demand`` once what is ``ahead`` has been served; ``None`` if it fits. Takes nothing.

        Of ``ahead``, only ``ahead_in_scope`` needs the limits of ``scope``.
        """

    def served_within(self, now: float, demand: Demand, scope: str, seconds: float) -> Demand:
        """The part of ``demand`` that the own limits of ``scope`` let through in that time."""

    def settle(self, now: float, reservation: Reservation, charged: Demand) -> bool:
        """Replace the reservation by ``charged``; ``False`` if it had been settled before."""

    def consume(self, now: float, amount: Demand, scope: str = "") -> None:
        """Charge ``amount``, which was used without a reservation."""

    def expire(self, before: float) -> Iterable[Reservation]:
        """The unsettled reservations admitted before ``before``."""

    def oldest(self) -> float | None:
        """When the oldest unsettled reservation was admitted."""

    def capacity(self, dimension: str, scope: str = "") -> float:
        """The most units that one request in ``scope`` may demand in ``dimension``; ``inf`` without a limit."""

    def fit(self, demand: Demand, scope: str = "") -> Demand:
        """``demand`` with its output cut to the capacity of the limits."""

    def on_breaker_report(self, now: float) -> None:
        """The breaker has recorded a call's result or an operator's action."""

    def pause(self, until: float) -> None:
        """Admit nothing before ``until``; an earlier, longer pause stands."""

    def reset(self, now: float, scope: str = "") -> None:
        """Forget what was used and any pause; with a ``scope``, what was used of its own limits alone."""

    def restore(self, now: float, day: Demand, recent: Iterable[tuple[float, Demand]], scope: str = "") -> None:
        """Count in the limits of one scope what was used before this process began.

        That is since midnight, and recently as (seconds ago, amount).
        """

    def usage(self, now: float, scope: str = "") -> dict[str, LimitUsage]:
        """The usage of one scope's limits, by dimension."""

    def demanded(self, now: float, seconds: float, scope: str = "") -> dict[str, float]:
        """What was demanded of each limit per minute in so many seconds, by dimension, without what waits."""

    def set_limit(self, now: float, scope: str, dimension: str, amount: int | None) -> None:
        """Have ``amount`` in force from now on, or with ``None`` the configured limit again."""

    def configure(
        self, now: float, limits: AccountLimits, rules: BreakerRules, levels: Mapping[str, float] | None
    ) -> None:
        """Go by other limits of the file, other rules of the breaker and other thresholds from now on."""

    def charge(self, now: float, scope: str, dimension: str, units: float) -> None:
        """Take units of a limit per minute that others have used."""

    def add_scope(self, scope: str) -> None:
        """Add a scope without limits."""

    def sent_since(self, at: float, scope: str) -> Demand:
        """What calls under way in ``scope`` have reserved that were admitted after ``at``."""

    def bound(self, now: float, scope: str, dimension: str, left: float) -> None:
        """Leave no more than ``left`` units of a limit."""

    def configured(self) -> dict[tuple[str, str], int]:
        """The configured limits, by scope and dimension."""
