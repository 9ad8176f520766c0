"""The results of the ledger's queries. Times are Unix seconds, ``*_ms`` milliseconds, money US dollars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Where:
    """A condition on records: ``None`` accepts every value, the empty text records without one."""

    provider: str | None = None
    model: str | None = None
    feature: str | None = None
    user_id: str | None = None
    proxy_key: str | None = None


EVERYTHING: Final = Where()  # every record


@dataclass(frozen=True, slots=True)
class Latency:
    """Times in ms, of answers without cached ones; ``None`` without an answer, or when not requested."""

    mean_ms: float | None = None
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over attempts. The first five fields and ``proxy_key`` identify the group; others than its own are
    ``None``.

    ``start`` is when the time bucket begins. ``by_caller`` counts failures that the caller caused, ``cache_hits`` are
    among the ``successes``. ``cost_usd`` is of the attempts with a known price, ``None`` when all are ``unpriced``;
    ``estimated`` attempts have tokens that no provider reported. ``first_token`` is of streams, from the call to the
    first content, whatever their end.
    """

    start: int | None
    provider: str | None
    model: str | None
    feature: str | None
    user_id: str | None
    attempts: int
    successes: int
    by_caller: int
    cache_hits: int
    latency: Latency
    first_token: Latency
    waited_ms: float
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cached_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    cost_usd: float | None
    unpriced: int
    estimated: int
    proxy_key: str | None = None

    @property
    def success_rate(self) -> float | None:
        """The share of successes, 0 to 1; ``None`` without an attempt."""
        return share(self.successes, self.attempts)

    @property
    def errors(self) -> int:
        """Attempts that failed and not by the caller's doing."""
        return self.attempts - self.successes - self.by_caller

    @property
    def error_rate(self) -> float | None:
        """The share of ``errors`` among the attempts, 0 to 1; ``None`` without an attempt."""
        return share(self.errors, self.attempts)


@dataclass(frozen=True, slots=True)
class Ranking:
    """The groups with the highest cost, in its order, and the sums of all ``others``, a number of groups.

    ``others`` have no percentiles; ``rest`` is ``None`` where there are none.
    """

    top: Sequence[Totals]
    others: int
    rest: Totals | None


@dataclass(frozen=True, slots=True)
class RequestTotals:
    """Sums over requests, grouped as :class:`Totals`; ``provider`` is the one that answered, or was tried last.

    ``by_caller`` counts requests that the caller ended, ``fallbacks`` the ``successes`` that a fallback answered.
    ``latency`` is of the successes without the ``cache_hits`` among them. ``hedged`` had a hedge, whose cost is in
    ``wasted_usd`` if it lost. ``saved_usd`` is what the cached answers had cost, and ``auto_saved_usd`` what ``auto``'s
    choices of a tier saved, or with ``shadow`` would have.
    """

    start: int | None
    provider: str | None
    model: str | None
    feature: str | None
    user_id: str | None
    requests: int
    successes: int
    by_caller: int
    fallbacks: int
    latency: Latency
    waited_ms: float
    cache_hits: int = 0
    hedged: int = 0
    wasted_usd: float = 0.0
    saved_usd: float = 0.0
    auto_saved_usd: float = 0.0
    proxy_key: str | None = None

    @property
    def cached_share(self) -> float | None:
        """The share of answered requests whose answer a cache had, 0 to 1."""
        return share(self.cache_hits, self.successes)

    @property
    def failures(self) -> int:
        """Requests that were neither answered nor ended by their caller."""
        return self.requests - self.successes - self.by_caller

    @property
    def success_rate(self) -> float | None:
        """The share of answered requests, 0 to 1, without those that callers ended; ``None`` without a request."""
        return share(self.successes, self.requests - self.by_caller)

    @property
    def fallback_rate(self) -> float | None:
        """The share of answered requests that a fallback answered, 0 to 1."""
        return share(self.fallbacks, self.successes)


@dataclass(frozen=True, slots=True)
class Cost:
    """US dollars since ``since``, without ``unpriced`` attempts; ``None`` when every attempt is unpriced."""

    since: float
    cost_usd: float | None
    unpriced: int
    estimated: int


@dataclass(frozen=True, slots=True)
class MonthCost:
    """A calendar month's cost so far, and projected to its end; ``None`` without a priced attempt."""

    month: str  # 2026-11
    to_date: Cost
    projected_usd: float | None


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert; ``type`` is ``quota``, ``unpriced``, ``budget``, ..., ``level`` is empty where there is none."""

    id: str
    at: float
    type: str
    level: str
    provider: str
    dimension: str
    model: str
    utilization: float | None
    used: float | None
    limit: float | None
    detail: str | None


@dataclass(frozen=True, slots=True)
class Transition:
    """A change of a breaker (``type`` breaker), of health (health), or of model (fallback).

    ``model`` is the one whose breaker or health it is, empty for the provider's.
    """

    id: str
    at: float
    type: str
    provider: str
    before: str
    after: str
    reason: str | None
    request_id: str | None
    model: str = ""


@dataclass(frozen=True, slots=True)
class RecordedFailure:
    """A failed attempt. ``model`` is the group that was asked for, ``error`` a class of failure."""

    provider: str
    at: float
    request_id: str
    model: str
    error: str | None
    status_code: int | None
    latency_ms: float


@dataclass(frozen=True, slots=True)
class FailureKind:
    """How many attempts failed alike, and when the last of them did."""

    error: str | None
    status_code: int | None
    count: int
    last_at: float


@dataclass(frozen=True, slots=True)
class FallbackCount:
    """How many requests went on from a provider to the model group ``to_model``; one request may do so repeatedly."""

    provider: str
    to_model: str
    count: int


@dataclass(frozen=True, slots=True)
class Action:
    """An operator's action: ``action`` is a name such as ``reset_quota``, ``detail`` the reason, if one was given.

    ``model`` is the pattern of the ``models:`` entry it was for, empty for all of the provider.
    """

    id: str
    at: float
    actor: str
    action: str
    provider: str
    detail: str | None
    model: str = ""


def share(part: int, whole: int) -> float | None:
    """``part`` of ``whole``, 0 to 1; ``None`` for a ``whole`` of 0."""
    return part / whole if whole > 0 else None
