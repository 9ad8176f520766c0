"""The API's answers. Times are ISO 8601 in UTC, money US dollars, shares 0 to 1, ``*_ms`` milliseconds."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class ErrorDetail(BaseModel):
    """What is wrong, and what to do."""

    code: str = Field(examples=["wallie_unauthorized"])
    message: str


class ErrorBody(BaseModel):
    """The body of every answer that is not a success."""

    error: ErrorDetail


class BreakerStatus(BaseModel):
    """A provider's breaker; ``next_probe_in`` is in seconds, null unless it is open."""

    state: str = Field(description="closed, open, half_open, forced_open or disabled")
    reason: str | None
    consecutive_failures: int
    next_probe_in: float | None


class ForecastStatus(BaseModel):
    """When nothing is left, where that is foreseen before the reset.

    The fields after it are not of limits per minute: the interval of that, and what will be used at the reset, by the
    ``forecast`` named.
    """

    exhausts_at: str | None = None
    exhausts_earliest: str | None = None
    exhausts_latest: str | None = None
    forecast: str | None = Field(default=None, description="weekly, or linear with less than a week on record")
    expected: float | None = None
    expected_low: float | None = None
    expected_high: float | None = None


class QuotaStatus(ForecastStatus):
    """One limit: its use, when all of it is free again, and its sums (reserved, settled, refunded).

    ``used`` of a limit per minute is what the last 60 seconds used; ``left`` is what admission has at the moment.
    """

    model_config = ConfigDict(extra="allow")

    used: float
    limit: float
    utilization: float
    left: float
    reset_at: str


class ModelStatus(BaseModel):
    """A model with limits or a breaker of its own, or paused, for ``paused_for`` seconds.

    ``quota`` is that of its own limits; ``health`` and ``breaker`` are there where something is known against it.
    """

    model_config = ConfigDict(extra="allow")

    paused_for: float
    waiting: int | None
    quota: dict[str, QuotaStatus] = Field(default={}, description="by dimension")
    health: str | None = Field(default=None, description="healthy, degraded or down")
    breaker: BreakerStatus | None = None


class EstimateErrors(BaseModel):
    """How far the estimates of recent calls were from what was settled, as a share of this.

    ``ratio`` is all tokens that they reserved, of all that were settled: 1.2 are a fifth too many.
    """

    model_config = ConfigDict(extra="allow")

    calls: int
    ratio: float | None
    mean_error: float | None
    p95_error: float | None


class EstimateStatus(EstimateErrors):
    """Those of a provider, as this process has measured them, and of each of its models."""

    models: dict[str, EstimateErrors]


class AccountStatus(BaseModel):
    """One of several keys of a provider. ``paused_for`` is in seconds."""

    health: str = Field(description="healthy, degraded or down")
    breaker: BreakerStatus
    paused_for: float
    in_flight: int | None
    waiting: int | None
    models: dict[str, ModelStatus] = Field(default={}, description="those that are paused for this key")


class OwnerStatus(BaseModel):
    """A provider, or a feature with limits of its own, at this moment. ``paused_for`` is in seconds.

    ``in_flight`` and ``waiting`` are null where they cannot be known: beside an application with limits in its memory.
    """

    health: str = Field(description="healthy, degraded or down")
    breaker: BreakerStatus
    paused_for: float
    in_flight: int | None
    waiting: int | None
    quota: dict[str, QuotaStatus] = Field(description="by dimension: rpm, tpm, itpm, otpm, rpd, tpd, concurrency")
    accounts: dict[str, AccountStatus] = Field(
        default={}, description="by a digest of the key, where a provider is called with several"
    )
    models: dict[str, ModelStatus] = Field(
        default={}, description="by the pattern of limits of their own, and those that are paused or not called"
    )
    called_models: list[str] = Field(
        default=[], description="names of a provider's models that are called here, which actions take"
    )
    estimates: EstimateStatus | None = None


class StoreStatus(BaseModel):
    """Where the limits live: ``process``, ``redis``, or ``ledger`` where they cannot be reached."""

    model_config = ConfigDict(extra="allow")

    scope: str
    state: str


class BudgetStatus(ForecastStatus):
    """What was spent in the calendar month (UTC), of ``kpis.monthly_cost``."""

    spent_usd: float
    limit_usd: float


class ConfigStatus(BaseModel):
    """The configuration in force.

    ``changed``: the file is another one than what was loaded; ``refused``: and cannot be used.
    """

    file: str
    loaded_at: str
    changed: bool
    refused: bool
    restart_needed: list[str] = Field(description="keys that have changed, and that only a restart takes up")


class BudgetRowStatus(ForecastStatus):
    """A budget of the file in the present day or month; ``feature`` and ``user`` are null where it is that of all.

    ``key`` is the proxy's whose budget it is, null for others. ``state`` is ok, warning, critical or exhausted.
    """

    feature: str | None
    user: str | None
    key: str | None = None
    window: str
    spent_usd: float
    reserved_usd: float
    limit_usd: float
    over_usd: float
    reset_at: str
    on_exhausted: str
    state: str


class AlertStatus(BaseModel):
    """A share of failures (``error_rate``) or a queue (``queue``) that is too large at present, in this process.

    ``value`` is the share, or how many wait. That of a group has a ``model`` and no ``provider``; that of a feature's
    limits has ``feature:NAME`` as its provider.
    """

    type: str
    provider: str
    model: str | None
    value: float
    limit: float
    since: str


class Status(BaseModel):
    """The same as ``guard.status()``."""

    providers: dict[str, OwnerStatus]
    features: dict[str, OwnerStatus]
    store: StoreStatus
    config: ConfigStatus | None = Field(default=None, description="null where the guard was not opened from a file")
    sinks: dict[str, Any]
    budget: BudgetStatus
    budgets: list[BudgetRowStatus] = []
    alerts: list[AlertStatus] = []


class LimitRow(BaseModel):
    """One limit. ``configured`` is the file's number, ``auto`` or null, ``learned`` what the vendor says, or null.

    ``source`` is where it was said (headers, error, admin), ``seen_at`` when last. ``limit`` is in force, of which
    ``used`` are used and ``left`` left; null where it is not known here.
    """

    configured: int | str | None
    learned: int | None
    source: str | None
    seen_at: str | None
    limit: int | None
    used: float | None
    left: float | None


class ScopeLimitRows(BaseModel):
    """The limits of all models together, or of those that a pattern matches; ``learn`` is off, advise or enforce."""

    learn: str
    settings: dict[str, Any] = Field(
        default={}, description="what else the file states: burst, headroom, learn, and of a provider its other keys"
    )
    limits: dict[str, LimitRow] = Field(description="by dimension: rpm, tpm, itpm, otpm, rpd, tpd, concurrency")


class ProviderLimitRows(BaseModel):
    """One provider's limits, by scope: the empty one is the account's."""

    scopes: dict[str, ScopeLimitRows]


class Limits(BaseModel):
    """The same as ``guard.limits()``."""

    providers: dict[str, ProviderLimitRows]


class UsageRow(BaseModel):
    """Sums over attempts of one provider, model, feature, user or key; the empty name is what named none.

    ``requests``, ``fallbacks`` and ``fallback_rate`` are of whole requests. Latencies are those of answers that did not
    come from a cache; ``first_token_*`` is of streams, from the call to the first content. By user and by key all of
    these, but for means, are null above 50,000 attempts in the range, and null of ``rest``; sums by key are of what
    came with one. ``errors`` are failures that the caller did not cause. ``cached_tokens`` were read from a vendor's
    cache, and ``cache_write_tokens`` written into it. ``cost_usd`` is null when no price is known; ``unpriced``
    attempts are not in it. ``estimated`` attempts have tokens that no provider reported.
    """

    name: str
    attempts: int
    successes: int
    success_rate: float | None
    errors: int
    error_rate: float | None
    mean_ms: float | None
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    first_token_p50_ms: float | None
    first_token_p95_ms: float | None
    waited_ms: float
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cached_tokens: int
    cache_write_tokens: int
    cost_usd: float | None
    unpriced: int
    estimated: int
    requests: int | None
    fallbacks: int | None
    fallback_rate: float | None


class Usage(BaseModel):
    """Sums from ``since`` to before ``until`` (null: now). Ranges above two hours are of whole quarters of an hour."""

    range: str | None
    since: str
    until: str | None
    by: str
    totals: list[UsageRow] = Field(description="the dearest first")
    others: int = Field(description="groups that are not among them")
    rest: UsageRow | None = Field(description="the sums of those; null where there are none")


class AlertRow(BaseModel):
    """``type`` is quota, forecast, provider_down, unpriced, budget, ..., ``level`` warning, critical or empty."""

    id: str
    at: str
    type: str
    level: str
    provider: str
    dimension: str
    model: str
    utilization: float | None
    used: float | None
    limit: float | None
    detail: str | None


class Alerts(BaseModel):
    """The last alerts, the latest first."""

    alerts: list[AlertRow]


class KpiRow(BaseModel):
    """One key figure; latency in seconds. ``actual`` and ``passed`` are null while there are no records for them.

    ``target`` and ``passed`` are null of figures without a target.
    """

    name: str
    target: float | None
    actual: float | None
    passed: bool | None
    note: str


class Kpis(BaseModel):
    """The key figures since ``since``; the month's cost is that of the calendar month (UTC)."""

    since: str
    kpis: list[KpiRow]


class Order(BaseModel):
    """Why an action is taken, for the record, and on which of the provider's models, where it is not on all."""

    model_config = ConfigDict(extra="forbid")

    reason: str | None = Field(default=None, max_length=200)
    model: str | None = Field(
        default=None, max_length=200, description="a model's name, or of a quota a pattern of `models`: it alone"
    )


class Done(BaseModel):
    """The action as it went on record."""

    provider: str
    model: str | None = None
    action: str
    actor: str
    at: str
    message: str
