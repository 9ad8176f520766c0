"""The view model: everything that the page shows, as plain values of one moment.

Times named ``at``, ``since`` are Unix seconds, ``*_in`` and ``*_for`` seconds from the moment, money US dollars,
shares 0 to 1. Nothing is formatted here: that depends on the language.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from wallie_litellm.core.dimensions import DIMENSIONS
from wallie_litellm.core.provider_names import account_name
from wallie_litellm.dashboard.chain_shares import Chains, chains_in
from wallie_litellm.dashboard.recent_traffic import HealthDay, Impact
from wallie_litellm.dashboard.usage_tables import UsageTable
from wallie_litellm.ledger.experiments import ExperimentFigures
from wallie_litellm.ledger.figures import Alert, MonthCost, RequestTotals, Totals
from wallie_litellm.ledger.kpis import Kpi
from wallie_litellm.telemetry.sink import SinkBacklog, backlogs_of


@dataclass(frozen=True, slots=True)
class Range:
    """A time range of the page: its name, its length, and the length of a chart's bucket, in seconds.

    It ends at ``until`` (Unix seconds), and now if that is ``None``.
    """

    name: str
    seconds: int
    step: int
    until: int | None = None


RANGES: Final[Mapping[str, Range]] = {
    one.name: one
    for one in (
        Range("1h", 3_600, 60),
        Range("24h", 86_400, 3_600),
        Range("7d", 7 * 86_400, 6 * 3_600),
        Range("30d", 30 * 86_400, 86_400),
    )
}
DEFAULT_RANGE: Final = "24h"


@dataclass(frozen=True, slots=True)
class Quota:
    """One limit. ``share`` is its utilisation, ``left`` what admission has of it at the moment.

    ``level`` is ``warning`` or ``critical`` from the configured shares on, else empty. ``learned`` is the limit as the
    vendor has said it, ``None`` where it has not. ``ends`` are Unix times: when it is used up at the earliest, as
    expected, and at the latest; each is ``None`` where that is not before the reset.
    """

    dimension: str
    used: float
    limit: float
    share: float
    level: str
    reset_in: float
    left: float
    learned: float | None = None
    ends: tuple[float | None, float | None, float | None] = (None, None, None)


@dataclass(frozen=True, slots=True)
class ModelState:
    """A model, or models under one pattern, with limits or a breaker of their own.

    ``health`` and ``breaker`` are empty where nothing is known against it.
    """

    name: str
    health: str
    breaker: str
    reason: str | None
    next_probe_in: float | None
    paused_for: float
    waiting: int | None
    quotas: Sequence[Quota]
    paused_models: Mapping[str, float] = field(default_factory=dict)  # none: it is one itself

    @property
    def has_room(self) -> bool:
        """Whether nothing waits for its limits, and none of them is near."""
        return not (self.waiting or self.paused_for or any(quota.level for quota in self.quotas))

    @property
    def is_in_trouble(self) -> bool:
        """Whether its own breaker is not closed, or counts failures."""
        return bool(self.breaker) and (self.health != "healthy" or self.breaker != "closed")


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider's present state, and its figures in the range, ``None`` where there is no ledger.

    ``paused_models`` are those of which nothing else is known, ``quiet_models`` the names of those that are called
    and have no trouble. ``reserved_ratio`` is what its recent calls reserved, of what was settled of them, in tokens;
    ``None`` before one is known.
    """

    name: str
    health: str  # healthy, degraded, down
    breaker: str  # a value of core.circuit_breaker.BreakerState; empty if the guard has not met the provider
    reason: str | None
    failures: int
    next_probe_in: float | None
    paused_for: float
    in_flight: int | None  # None where it cannot be known
    waiting: int | None
    quotas: Sequence[Quota]
    attempts: Totals | None
    requests: RequestTotals | None
    accounts: Sequence[AccountState] = ()
    paused_models: Mapping[str, float] = field(default_factory=dict)  # seconds, by model
    models: Sequence[ModelState] = ()
    reserved_ratio: float | None = None
    quiet_models: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class AccountState:
    """One of several keys of a provider, by its stable name (``openai#1a2b3c4d``), and what keeps it away."""

    name: str
    health: str
    breaker: str
    reason: str | None
    next_probe_in: float | None
    paused_for: float
    paused_models: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FeatureLimits:
    """The present state of a feature with limits of its own."""

    name: str
    waiting: int | None
    quotas: Sequence[Quota]


@dataclass(frozen=True, slots=True)
class TimeBucket:
    """A stretch of the range on a chart. ``cost_usd`` and ``attempts`` are by provider."""

    start: int
    cost_usd: Mapping[str, float]
    attempts: Mapping[str, int]
    failures: int
    mean_ms: float | None
    p95_ms: float | None = None


@dataclass(frozen=True, slots=True)
class ChartEvent:
    """What is marked in the charts: ``kind`` is opened or closed, of a breaker, or reload, of the configuration.

    ``model`` is the one whose breaker it is, empty for the provider's.
    """

    at: float
    kind: str
    provider: str = ""
    model: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Series:
    """What charts show from ``since`` to before ``until``, which is ``None`` for now: a bucket each ``step`` seconds.

    ``events``, which are marked, are in order of time.
    """

    since: float
    until: float | None
    step: int
    buckets: Sequence[TimeBucket]
    events: Sequence[ChartEvent] = ()


@dataclass(frozen=True, slots=True)
class Costs:
    """Cost today and this month (UTC), and in the range (``spent``)."""

    today: float | None
    month: MonthCost
    spent: float | None
    unpriced: int
    estimated: int


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """A recorded change: ``kind`` is breaker, health, fallback, or action, which ``actor`` has taken.

    ``before`` and ``after`` are states, models of a fallback, or empty and the action's name. Equal fallbacks, of which
    each request may cause one, are one row: ``times`` is their number, ``at`` the latest.
    """

    at: float
    kind: str
    provider: str
    before: str
    after: str
    reason: str | None
    actor: str
    times: int = 1
    model: str = ""  # the one that it is about, empty for all of the provider


@dataclass(frozen=True, slots=True)
class Figures:
    """The ledger's figures of a range from ``since`` to before ``until``, which is ``None`` for now.

    ``at`` is when they were read.
    """

    at: float
    since: float
    by_provider: Mapping[str, Totals]
    requests_by_provider: Mapping[str, RequestTotals]
    total: Totals
    requests: RequestTotals
    costs: Costs
    series: Series
    alerts: Sequence[Alert]
    history: Sequence[HistoryRow]
    kpis: Sequence[Kpi]
    experiments: Sequence[ExperimentFigures] = ()
    usage: UsageTable = field(default_factory=UsageTable)
    asked: Sequence[RequestTotals] = ()  # by the group that was asked for and the provider
    until: float | None = None


@dataclass(frozen=True, slots=True)
class Worker:
    """A process that shares the store. ``seen_ago`` is in seconds; ``here`` marks the process that answers."""

    name: str
    pid: int | None
    host: str
    seen_ago: float | None
    here: bool


@dataclass(frozen=True, slots=True)
class Fleet:
    """The store of the limits. ``scope``: process, redis or ledger; ``processes`` divide the limits if not redis.

    ``state`` is ok, connecting or down. ``read_only`` is why this process takes no actions, ``None`` if it does.
    """

    scope: str
    state: str
    error: str | None
    on_store_error: str | None
    processes: int
    workers: Sequence[Worker]
    read_only: str | None


@dataclass(frozen=True, slots=True)
class RoutingSwitch:
    """A decision that the file turns on, and whether it is made."""

    name: str
    on: bool


@dataclass(frozen=True, slots=True)
class TierRow:
    """A tier's chain, and how often ``auto`` has chosen it."""

    name: str
    chain: Sequence[str]
    chosen: int


@dataclass(frozen=True, slots=True)
class OrderRow:
    """A chain that goes by latency: its present order, the reason for it, and its members' pace by the last look."""

    chain: Sequence[str]
    stream: bool
    order: Sequence[str]
    reason: str
    pace: Mapping[str, Mapping[str, float] | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RoutingState:
    """The switches, tiers, orders and chains; ``shadow``: what ``auto`` chooses is only on record."""

    switches: Sequence[RoutingSwitch] = ()
    tiers: Sequence[TierRow] = ()
    orders: Sequence[OrderRow] = ()
    shadow: bool = False
    chains: Chains = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BudgetRow:
    """A budget of the file: of a ``feature``, a ``user`` or a ``key``; all are empty where it is that of all.

    ``level`` is empty, warning, critical or exhausted; ``reset_in`` is in seconds.
    """

    feature: str
    user: str
    key: str
    window: str
    spent_usd: float
    reserved_usd: float
    limit_usd: float
    reset_in: float
    on_exhausted: str
    level: str

    @property
    def share(self) -> float:
        """How much of it is spent, 0 to 1, above 1 if more."""
        return self.spent_usd / self.limit_usd


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One moment. Without a ledger, or while it cannot be read, ``figures`` is ``None`` and ``problem`` says why.

    ``day`` is ``None`` then too.
    """

    at: float
    range: Range
    providers: Sequence[Provider]
    features: Sequence[FeatureLimits]
    fleet: Fleet
    budget_usd: float
    figures: Figures | None
    problem: str | None
    routing: RoutingState = RoutingState()
    config: Mapping[str, Any] | None = None  # as status reports have it; None where no file is
    budgets: Sequence[BudgetRow] = ()
    impact: Impact | None = None
    day: HealthDay | None = None
    zone: str = "UTC"  # IANA name of the time zone that times are shown in
    backlogs: Sequence[tuple[str, SinkBacklog]] = ()  # of sinks, by name


def build_snapshot(
    status: Mapping[str, Any],
    fleet: Fleet,
    chosen: Range,
    at: float,
    levels: tuple[float, float],
    figures: Figures | None,
    problem: str | None,
) -> Snapshot:
    """The snapshot of a guard's ``status()`` and the ledger's figures. ``levels``: the warning and critical shares."""
    described: Mapping[str, Any] = status["providers"]
    providers = [_provider(name, described[name], at, levels, figures) for name in sorted(described)]
    if figures is not None:
        providers += [recorded_only(name, figures) for name in sorted(set(figures.by_provider) - {*described, ""})]
    features = [
        FeatureLimits(name, own["waiting"], _quotas(own, at, levels))
        for name, own in status["features"].items()
        if own["quota"]
    ]
    limit, routing = status["budget"]["limit_usd"], _routing(status)
    budgets = [_budget(row, at) for row in status.get("budgets", ())]
    config, backlogs = status.get("config"), backlogs_of(status.get("sinks", {}))
    return Snapshot(
        at, chosen, providers, features, fleet, limit, figures, problem, routing, config, budgets, backlogs=backlogs
    )


def _budget(row: Mapping[str, Any], at: float) -> BudgetRow:
    return BudgetRow(
        row["feature"] or "",
        row["user"] or "",
        row["key"] or "",
        row["window"],
        row["spent_usd"],
        row["reserved_usd"],
        row["limit_usd"],
        max(0.0, datetime.fromisoformat(row["reset_at"]).timestamp() - at),
        row["on_exhausted"],
        "" if row["state"] == "ok" else row["state"],
    )


def _routing(status: Mapping[str, Any]) -> RoutingState:
    described: Mapping[str, Any] = status.get("routing") or {}
    auto: Mapping[str, Any] = described.get("auto") or {}
    turned_on, chosen = described.get("turned_on", ()), auto.get("chosen", {})
    return RoutingState(
        [RoutingSwitch(name, on) for name, on in described.get("switches", {}).items() if name in turned_on or not on],
        [TierRow(name, chain, chosen.get(name, 0)) for name, chain in described.get("tiers", {}).items()],
        [OrderRow(**one) for one in described.get("order", ())],
        bool(auto.get("shadow")),
        chains_in(status),
    )


def _provider(
    name: str, own: Mapping[str, Any], at: float, levels: tuple[float, float], figures: Figures | None
) -> Provider:
    breaker = own["breaker"]
    models: Mapping[str, Mapping[str, Any]] = own.get("models", {})
    plain = {model: one for model, one in models.items() if "quota" not in one and "breaker" not in one}
    shown = [_model(model, one, at, levels) for model, one in sorted(models.items()) if model not in plain]
    in_trouble = {model.name for model in shown if model.is_in_trouble}
    return Provider(
        name,
        own["health"],
        breaker["state"],
        breaker["reason"],
        breaker["consecutive_failures"],
        breaker["next_probe_in"],
        own["paused_for"],
        own["in_flight"],
        own["waiting"],
        _quotas(own, at, levels),
        figures.by_provider.get(name) if figures is not None else None,
        figures.requests_by_provider.get(name) if figures is not None else None,
        [_account(account_name(name, digest), one) for digest, one in sorted(own.get("accounts", {}).items())],
        {model: one["paused_for"] for model, one in plain.items() if one["paused_for"]},
        shown,
        own.get("estimates", {}).get("ratio"),
        [model for model in own.get("called_models", ()) if model not in in_trouble],
    )


def _model(name: str, own: Mapping[str, Any], at: float, levels: tuple[float, float]) -> ModelState:
    breaker: Mapping[str, Any] = own.get("breaker", {})
    return ModelState(
        name,
        own.get("health", ""),
        breaker.get("state", ""),
        breaker.get("reason"),
        breaker.get("next_probe_in"),
        own["paused_for"],
        own["waiting"],
        _quotas(own, at, levels),
    )


def _account(name: str, own: Mapping[str, Any]) -> AccountState:
    breaker = own["breaker"]
    return AccountState(
        name,
        own["health"],
        breaker["state"],
        breaker["reason"],
        breaker["next_probe_in"],
        own["paused_for"],
        {model: one["paused_for"] for model, one in own.get("models", {}).items() if one["paused_for"]},
    )


def recorded_only(name: str, figures: Figures | None = None) -> Provider:
    """A provider of the ledger that this process's guard has not met, or that has another name now."""
    found = (None, None) if figures is None else (figures.by_provider[name], figures.requests_by_provider.get(name))
    return Provider(name, "", "", None, 0, None, 0.0, None, None, (), *found)


def _quotas(own: Mapping[str, Any], at: float, levels: tuple[float, float]) -> list[Quota]:
    return [
        Quota(
            dimension,
            quota["used"],
            quota["limit"],
            quota["utilization"],
            _level(quota["utilization"], levels),
            max(0.0, datetime.fromisoformat(quota["reset_at"]).timestamp() - at),
            quota["left"],
            quota.get("learned"),
            (_at(quota, "exhausts_earliest"), _at(quota, "exhausts_at"), _at(quota, "exhausts_latest")),
        )
        for dimension in DIMENSIONS
        if (quota := own.get("quota", {}).get(dimension)) is not None
    ]


def _at(quota: Mapping[str, Any], name: str) -> float | None:
    moment = quota.get(name)
    return None if moment is None else datetime.fromisoformat(moment).timestamp()


def _level(share: float, levels: tuple[float, float]) -> str:
    warning, critical = levels
    return "critical" if share >= critical else "warning" if share >= warning else ""
