"""What the ledger's queries answer with. Times are Unix seconds, ``*_ms`` milliseconds, money US dollars."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Where:
    """A condition: only what has these values; ``None`` is any, the empty text is what named none."""

    provider: str | None = None
    model: str | None = None
    feature: str | None = None
    user_id: str | None = None


EVERYTHING = Where()


@dataclass(frozen=True, slots=True)
class Latency:
    """How long answers took, in ms, cached ones left out; ``None`` where there was none, or nobody asked."""

    mean_ms: float | None = None
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over attempts. The first five fields say of which; those that were not grouped by are ``None``.

    ``start`` is when the time bucket begins. ``by_caller`` are failures that the caller brought about, ``cache_hits``
    are among the ``successes``. ``cost_usd`` is of the attempts whose price is known, ``None`` when there is none such
    beside ``unpriced`` ones; ``estimated`` attempts have tokens that no provider reported.
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
    waited_ms: float
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    cost_usd: float | None
    unpriced: int
    estimated: int

    @property
    def success_rate(self) -> float | None:
        """The share, 0 to 1, of all attempts; ``None`` when there is none."""
        return share(self.successes, self.attempts)

    @property
    def error_rate(self) -> float | None:
        """The share of attempts that failed for other reasons than the caller's."""
        return share(self.attempts - self.successes - self.by_caller, self.attempts)


@dataclass(frozen=True, slots=True)
class RequestTotals:
    """Sums over requests, grouped as :class:`Totals`; ``provider`` is the one that served, or was tried last.

    ``by_caller`` are those that the caller ended, ``fallbacks`` those of the ``successes`` that a fallback served.
    ``latency`` is of the successes.
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

    @property
    def failures(self) -> int:
        """Those that were neither answered nor ended by their caller."""
        return self.requests - self.successes - self.by_caller

    @property
    def success_rate(self) -> float | None:
        """The share answered, 0 to 1, of those that their caller did not end; ``None`` when there is none."""
        return share(self.successes, self.requests - self.by_caller)

    @property
    def fallback_rate(self) -> float | None:
        """The share of the answered ones that a fallback served."""
        return share(self.fallbacks, self.successes)


@dataclass(frozen=True, slots=True)
class Cost:
    """US dollars since ``since``, ``None`` when every price is unknown; ``unpriced`` attempts are not in it."""

    since: float
    cost_usd: float | None
    unpriced: int
    estimated: int


@dataclass(frozen=True, slots=True)
class MonthCost:
    """A calendar month's cost so far, and what it will be at its end; ``None`` when nothing is known."""

    month: str  # 2026-11
    to_date: Cost
    projected_usd: float | None


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert; ``type`` is ``quota``, ``unpriced`` or ``budget``, ``level`` is empty where there is none."""

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
    """A change of a breaker (``type`` breaker), of a provider's health (health), or of model (fallback)."""

    id: str
    at: float
    type: str
    provider: str
    before: str
    after: str
    reason: str | None
    request_id: str | None


@dataclass(frozen=True, slots=True)
class Action:
    """An operator's order: ``action`` is a name such as ``reset_quota``, ``detail`` why, if that was said."""

    id: str
    at: float
    actor: str
    action: str
    provider: str
    detail: str | None


def share(part: int, whole: int) -> float | None:
    """``part`` of ``whole``, 0 to 1; ``None`` of nothing."""
    return part / whole if whole > 0 else None
