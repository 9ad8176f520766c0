"""The messages between a worker and the lease server: one JSON request, one JSON answer.

Times are seconds. Amounts are units of a limit, requests or tokens, by its key
(:mod:`~wallie_litellm.core.limit_keys`). Instants in an answer are seconds from now, because Redis' Lua writes numbers
with 14 digits, too few for Unix time in microseconds; ``now`` of an answer is therefore text there. Instants in a
request are Unix time by the server's clock: a report may arrive late, or again, and what is "seconds ago" when it is
written would then be too recent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, NotRequired, TypeAlias, TypedDict

from wallie_litellm.core.circuit_breaker import BreakerAction

VERSION: Final = 3  # of these messages and of the state in Redis; also in request.lua, inspect.lua and Redis' keys

Amounts: TypeAlias = Mapping[str, float]  # units by limit
BreakerOutcome: TypeAlias = Sequence[Any]  # [breaker generation, verdict, permit (0: no probe), reason, count]
RecentUse: TypeAlias = Sequence[Any]  # [limit, units, when by the server's clock]; below 0: taken back
Refund: TypeAlias = Sequence[Any]  # [limit, units, when they were reserved by the server's clock, or earlier]
Bound: TypeAlias = Sequence[Any]  # [limit, units that are left at most, when by the server's clock]
Away: TypeAlias = Sequence[float]  # [when the server stopped answering by its clock, workers that shared it then]
Need: TypeAlias = Sequence[Any]  # [scope of a model, or empty; units by limit: all of them are granted, or nothing]
# [when it was set by the server's clock, to the millisecond; units that are stated, 0 for those of each worker's file;
# units a minute, a day or at once that are usable; capacity of a rate's bucket]
LimitInForce: TypeAlias = Sequence[float]
GrantedUnits: TypeAlias = Sequence[float]  # [units, part of them that is free now, seconds until the rest refills]


class BreakerSnapshot(TypedDict):
    """A breaker's state as a worker last saw it."""

    state: str
    generation: NotRequired[int]
    reason: NotRequired[str | None]
    reopens_in: float
    open_for: float


class Seed(TypedDict):
    """What a worker has of the fleet's earlier state, for a server that has lost it."""

    workers: int  # that shared it
    held: Amounts  # on lease to this one
    others: Amounts  # on lease to the others
    used: Amounts
    last_minute: Amounts
    pause: float
    breaker: BreakerSnapshot


class WorkerReport(TypedDict):
    """What has happened at a worker since its last report. The server applies each ``seq`` once."""

    seq: int
    lease_id: int
    spent: Amounts  # from the lease
    returned: Amounts  # of the lease, unspent
    charge: Amounts  # used, and not from the lease
    refunds: Sequence[Refund]
    recent: Sequence[RecentUse]  # of limits per minute; tokens at their settlement
    outcomes: Sequence[BreakerOutcome]
    actions: Sequence[BreakerAction]  # of an operator
    pause: float
    reset: Sequence[str]  # scopes whose quota is; "" is all of the provider, with its pause
    breaker_trip: NotRequired[BreakerSnapshot]  # the breaker opened while the server was away
    away: NotRequired[Away]  # this worker went on alone meanwhile; ``charge`` has what it used


class RenewalRequest(TypedDict):
    """A worker's reports, and the capacity that it asks for."""

    version: int
    worker: str
    born: NotRequired[str]  # of the last answer: another state's worker has leases that are void, and a seed
    ack: int  # ``seq`` of the last answer that arrived; what was granted in a later one is taken back
    lease_ttl: float  # a lease that is not renewed for so long is charged in full
    rate_limits: Mapping[str, Sequence[float]]  # [units a minute, capacity of the bucket]
    daily_limits: Mapping[str, Sequence[float]]  # [units a day, Unix time of the day's end]
    breaker_rules: Mapping[str, Any]  # fields of core.circuit_breaker.BreakerRules
    reports: Sequence[WorkerReport]
    max_wait: float  # capacity that is refilled later than this is of no use
    queued: Amounts  # demanded by all calls that wait
    slots: Mapping[str, Sequence[int]]  # [calls that may be in flight in all, calls in flight here, slots wanted]
    probe: bool  # a call waits for the permit to probe
    needs: Sequence[Need]  # of the first call that waits for each model, in the order in which they are to be served
    prefetch: NotRequired[Amounts]  # beyond the needs, as far as there is a surplus
    limits: NotRequired[Mapping[str, LimitInForce]]  # that a worker has set
    bounds: NotRequired[Sequence[Bound]]  # what the vendor has said to be left
    served: NotRequired[Mapping[str, float]]  # when models have served last, by the server's clock
    seed: NotRequired[Seed]


class BreakerAnswer(TypedDict):
    """The fleet's breaker."""

    state: str
    generation: int
    failures: int
    reason: NotRequired[str | None]
    reopens_in: float
    open_for: float
    permit: int  # to probe, for this worker; 0 for none
    probe_free_in: float  # until another probe may go


class LeaseAnswer(TypedDict):
    """What the server granted, and the state that all workers share."""

    initialised: Literal[True]
    now: float | str  # Unix time of the server's clock
    born: str  # when the state began: another one than an earlier one that was lost
    seq: int  # the last report of this worker that was applied
    lease_id: int  # another number when a lease has expired
    expires_in: float
    grants: Mapping[str, GrantedUnits]
    denied: Mapping[str, Sequence[Any]]  # [limit, seconds], by the scope of the need
    used: Amounts  # by all workers: what is missing from a bucket, or used of a day
    last_minute: Amounts  # used by all workers in the last 60 s, of limits per minute
    leased: Amounts  # to all workers, unspent as far as reported
    day_ends_in: Mapping[str, float]
    slots: Mapping[str, int]  # by limit
    short_of_slots: Mapping[str, bool]  # limits of which any worker has fewer slots than it needs
    limits: Mapping[str, LimitInForce]
    reclaim: Mapping[str, bool]  # limits of which another worker needs what is on lease
    workers: int
    quota_resets: int  # so far
    pause: float
    breaker: BreakerAnswer
    served: Mapping[str, float]  # seconds since models have served last, at any worker; of late alone
    broadcast: bool  # other workers have to renew at once


class Uninitialised(TypedDict):
    """The server has no state yet, or not the worker's, and asks for a seed.

    With ``error`` it refuses the request's version.
    """

    initialised: Literal[False]
    now: NotRequired[float | str]
    error: NotRequired[str]


def version_error(version: object) -> str:
    """The ``error`` of an answer to a request of another version."""
    return f"the request is of version {version}, the lease server of version {VERSION}"
