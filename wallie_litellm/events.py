"""What has happened, as frozen facts in the past tense. The guard publishes them; sinks receive them.

Times named ``at`` are Unix seconds, ``*_ms`` milliseconds, money US dollars. ``id`` is unique to the fact, sorts by
time and stays the same however often the fact is delivered, so that a receiver can recognise a repetition. No fact
holds a prompt, an answer, a key or a provider's own error text.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from wallie_litellm.core.demand import Demand


class Settled(NamedTuple):
    """One attempt has ended: a call to one deployment.

    ``model`` is the group that callers ask for and ``deployment`` LiteLLM's name of the model behind it. ``number``
    counts the request's attempts from 1. Tokens are what the provider reported, else, with ``estimated``, what was
    delivered. ``cost_usd`` is ``None``, and ``unpriced`` true, when no price is known. ``charged`` is what the limits
    were charged at the end. ``cached_tokens`` were read from the vendor's cache and ``cache_write_tokens`` written into
    it; both are part of ``prompt_tokens``. ``first_token_ms`` is ``None`` without a stream or content. ``scope`` is the
    pattern of the limits' ``models:`` entry that held for the model, ``None`` where none did. ``hedge`` marks one that
    was begun while another attempt of the request was still unanswered. ``proxy_key`` names the proxy's virtual key of
    the request: its alias, else the beginning of its hash, never the key; ``None`` outside a proxy.
    """

    id: str
    at: float
    request_id: str
    number: int
    provider: str
    model: str
    deployment: str
    operation: str  # chat, embedding, responses, messages, ...: what was asked of the provider
    stream: bool
    outcome: str  # a value of core.demand.Outcome
    success: bool
    error: str | None
    status_code: int | None
    latency_ms: float  # from admission to the end
    waited_ms: float  # before admission
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    cost_usd: float | None
    unpriced: bool
    estimated: bool
    charged: Demand
    feature: str | None
    user_id: str | None
    metadata: Mapping[str, Any]
    first_token_ms: float | None = None  # from admission to a stream's first content
    cache_write_tokens: int | None = None
    scope: str | None = None
    estimated_input: int | None = None  # input tokens reserved at admission
    estimated_output: int | None = None  # output tokens reserved at admission
    hedge: bool = False
    proxy_key: str | None = None


class Ended(NamedTuple):
    """One request has ended, after one attempt, several, or none at all.

    ``model`` is the group that was asked for. ``error`` is a class of failure in this package's words; ``by_caller``
    is true where the caller ended it: cancelled, broke off, or asked for what no provider accepts. ``settled`` are its
    attempts in the order in which they ended.

    The fields after them are what routing decided. ``requested`` is the name that the caller used, where that is not
    ``model``. ``unit`` is a hash of the user or session that has the ``arm`` of the ``experiment``, ``None`` where the
    request itself is the unit. ``auto_tier`` is the tier that ``auto`` chose, or would have, and ``auto_saved_usd``
    what that saved, or would have. ``order`` is the group that was planned first, where its latency put another before
    it. ``wasted_usd`` is the cost of hedges that lost, ``saved_usd`` that of the answer that a cache had. ``why`` are
    short reasons, without content. ``proxy_key`` is that of :class:`Settled`.
    """

    id: str
    at: float
    request_id: str
    model: str
    operation: str
    stream: bool
    success: bool
    error: str | None
    status_code: int | None
    by_caller: bool
    latency_ms: float
    waited_ms: float
    used_fallback: bool
    provider: str  # the one that served, else the last that was tried or refused
    feature: str | None
    user_id: str | None
    metadata: Mapping[str, Any]
    settled: tuple[Settled, ...]
    requested: str | None = None
    tier: str | None = None
    experiment: str | None = None
    arm: str | None = None
    unit: str | None = None
    auto_tier: str | None = None
    auto_saved_usd: float | None = None
    order: str | None = None
    hedged: bool = False
    wasted_usd: float = 0.0
    cache_hit: bool = False
    saved_usd: float | None = None
    why: tuple[str, ...] = ()
    proxy_key: str | None = None

    @property
    def served(self) -> Settled | None:
        """The attempt that served the request: the last that succeeded; ``None`` without one, or where a cache did."""
        attempts = reversed(self.settled) if self.success else ()
        return next((attempt for attempt in attempts if attempt.success), None)


class FellBack(NamedTuple):
    """A request went on from one member of its chain to the next."""

    id: str
    at: float
    request_id: str
    from_model: str
    to_model: str
    from_provider: str
    reason: str
    feature: str | None
    user_id: str | None


class BreakerChanged(NamedTuple):
    """A breaker went from one state to another; both are values of core.circuit_breaker.BreakerState.

    It is that of ``model`` at ``provider``, or, without one, the provider's.
    """

    id: str
    at: float
    provider: str
    before: str
    after: str
    reason: str | None
    reopens_in: float  # seconds until the next probe; 0 when not open
    model: str | None = None


class HealthChanged(NamedTuple):
    """A provider, or ``model`` at it, became ``healthy``, ``degraded`` or ``down``."""

    id: str
    at: float
    provider: str
    before: str
    status: str
    reason: str | None
    model: str | None = None


class ProviderDown(NamedTuple):
    """An outage has begun: failures have opened the breaker of a provider, of one of its accounts, or of ``model``."""

    id: str
    at: float
    provider: str
    reason: str | None
    model: str | None = None


class QuotaCrossed(NamedTuple):
    """A limit's utilisation reached the ``warning`` or the ``critical`` share.

    ``model`` is the pattern of the ``models:`` entry that has the limit, ``None`` for one of the account's.
    """

    id: str
    at: float
    provider: str
    dimension: str
    level: str
    utilization: float  # 0 to 1, above 1 in debt
    used: float
    limit: float  # the amount at which nothing is left, with burst and headroom
    reset_in: float  # seconds until all of it is free again
    model: str | None = None


class ExhaustionForeseen(NamedTuple):
    """A limit per day, a budget, or the month's cost will be used up before it resets.

    A budget's ``dimension`` is ``daily_usd`` or ``monthly_usd``, and its ``provider`` as of a feature's limit, or empty
    for all requests; that of the month's cost is ``cost_usd``, without a ``provider``.

    ``exhausts_at`` is ``None`` where that is so only at the upper end of the interval, whose end is reached at
    ``earliest``; ``latest`` is ``None`` where its lower end outlasts the day. ``method`` is ``weekly`` or ``linear``.
    ``model`` is as in :class:`QuotaCrossed`.
    """

    id: str
    at: float
    provider: str
    dimension: str
    exhausts_at: float | None
    earliest: float | None
    latest: float | None
    reset_at: float
    timezone: str  # in whose midnight it resets
    expected: float  # units used at the reset, if they were to be had
    limit: float  # the amount at which nothing is left
    method: str
    model: str | None = None


class LimitOverstated(NamedTuple):
    """The file promises more of a model's limit than the vendor says the account has.

    ``model`` is the pattern of the entry under ``models:``, or the model's name where it has none.
    """

    id: str
    at: float
    provider: str
    model: str
    dimension: str
    configured: int
    learned: int


class Unpriced(NamedTuple):
    """Calls are made to a deployment that has no known price."""

    id: str
    at: float
    provider: str
    model: str
    deployment: str


class BudgetCrossed(NamedTuple):
    """A budget's cost reached the ``warning`` or the ``critical`` share of it, or all of it (``exhausted``).

    With ``on_exhausted`` it is one of the ``budget:`` keys: of a ``feature``, ``None`` for all, and of a ``user_id``,
    ``None`` for all together, or of a ``proxy_key``. Without, it is ``kpis.monthly_cost``.
    """

    id: str
    at: float
    level: str
    utilization: float
    spent_usd: float
    budget_usd: float
    month: str  # 2026-11, in UTC; of a budget by day 2026-11-28; in the time zone of the budgets
    window: str = "month"  # or day
    feature: str | None = None
    user_id: str | None = None
    on_exhausted: str | None = None
    proxy_key: str | None = None


class OperatorActed(NamedTuple):
    """An operator acted: ``reset_quota``, ``close_circuit``, ``open_circuit``, ``release_circuit``.

    Or switched a decision on or off, ``switch_on`` and ``switch_off``, or ended an experiment, ``conclude_experiment``,
    or had a stopped arm of one go on, ``resume_arm``: ``provider`` is then its name. Or exported the ledger from the
    dashboard, ``export_csv``. ``model`` is the pattern of the ``models:`` entry whose limits were reset, ``None`` where
    all of the provider's were.
    """

    id: str
    at: float
    actor: str
    action: str
    provider: str
    detail: str | None
    model: str | None = None


class UsageReported(NamedTuple):
    """A provider's limits were charged for a call outside the router; ``source`` is ``update_usage`` or ``lease``."""

    id: str
    at: float
    provider: str
    charged: Demand
    source: str


class FeedbackGiven(NamedTuple):
    """The application judged the answer to a request, from 0 (of no use) to 1; of several, the last counts."""

    id: str
    at: float
    request_id: str
    value: float


class ExperimentChanged(NamedTuple):
    """An experiment was ``started`` or ``concluded``, or one of its arms ``stopped`` by its guardrail or ``resumed``.

    ``arm`` is the one that was stopped or resumed, or has won; empty at the start. ``definition`` is a hash of what the
    file says of the experiment: with another one its measurement begins anew.
    """

    id: str
    at: float
    experiment: str
    definition: str
    change: str
    arm: str
    actor: str
    reason: str | None


class ArmStopped(NamedTuple):
    """An experiment's guardrail has stopped an ``arm``, which left too many of its ``requests`` unanswered."""

    id: str
    at: float
    experiment: str
    arm: str
    error_rate: float  # share of the requests that the arm did not answer, 0 to 1
    limit: float  # the share above which an arm is stopped
    requests: int


class ErrorRateCrossed(NamedTuple):
    """Too large a share of the attempts at a ``provider`` failed, or of the requests for a group; or no longer.

    A group's is ``model``, without a ``provider``. ``error_rate`` is the share of ``failed`` among the ``requests``, or
    the attempts, of the last ``window`` seconds, without those that their callers ended. ``resolved`` marks the end,
    after ``lasted`` seconds.
    """

    id: str
    at: float
    provider: str
    model: str | None
    error_rate: float  # 0 to 1
    limit: float  # the share from which on it is too large
    failed: int
    requests: int
    window: float
    resolved: bool = False
    lasted: float = 0.0


class QueueCrossed(NamedTuple):
    """At least ``limit`` requests have waited for ``provider``, in one process, all through ``window`` seconds.

    Or, with ``resolved``, few do again, after ``lasted`` seconds. Of a feature's limits it is ``feature:NAME``.
    """

    id: str
    at: float
    provider: str
    waiting: int  # the fewest in that time; at the end, those that wait
    limit: int
    window: float
    resolved: bool = False
    lasted: float = 0.0


class OrderChanged(NamedTuple):
    """What was measured has put a ``chain`` in another order, for its streams or for its other requests."""

    id: str
    at: float
    chain: tuple[str, ...]  # in the file's order
    stream: bool
    before: tuple[str, ...]
    after: tuple[str, ...]
    reason: str


Event = (
    Settled
    | Ended
    | FellBack
    | BreakerChanged
    | HealthChanged
    | ProviderDown
    | QuotaCrossed
    | ExhaustionForeseen
    | LimitOverstated
    | Unpriced
    | BudgetCrossed
    | OperatorActed
    | UsageReported
    | FeedbackGiven
    | ExperimentChanged
    | ArmStopped
    | ErrorRateCrossed
    | QueueCrossed
    | OrderChanged
)

_numbers = itertools.count()
_process = os.urandom(5).hex()


def _renew_process() -> None:
    global _process  # noqa: PLW0603 - a forked child must not continue its parent's ids
    _process = os.urandom(5).hex()


os.register_at_fork(after_in_child=_renew_process)


def new_id(at: float | None = None) -> str:
    """An identifier that sorts by time: 12 hex digits of milliseconds, the process, a count within it."""
    milliseconds = int((time.time() if at is None else at) * 1000)
    return f"{milliseconds:012x}-{_process}-{next(_numbers):06x}"


def named_id(at: float, name: str) -> str:
    """An identifier that sorts by time as :func:`new_id`'s does, and is the same in every process that names it."""
    digest = hashlib.sha256(name.encode()).hexdigest()
    return f"{int(at * 1000):012x}-{digest[:10]}-{digest[10:16]}"
