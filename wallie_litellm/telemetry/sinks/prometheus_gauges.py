"""The gauges of Prometheus: the state at the moment of a scrape."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from prometheus_client.core import GaugeMetricFamily

from wallie_litellm.core.circuit_breaker import BreakerState

logger = logging.getLogger(__name__)

_BREAKER_STATES: Final = tuple(state.value for state in BreakerState)
_HEALTH: Final = ("healthy", "degraded", "down")

MOST_MODELS: Final = 100  # of a provider, those with limits first: with a wildcard, callers invent models

_Rows = Mapping[tuple[str, ...], Mapping[str, Any]]  # by labels
Status = Callable[[], Mapping[str, Any]]
SinkStats = Callable[[], Mapping[str, Mapping[str, int]]]


class StatusSource:
    """The current state that one sink has: from ``status`` and ``sink_stats`` where given, else from events."""

    def __init__(self, status: Status | None, sink_stats: SinkStats | None) -> None:
        self._status = status
        self._sink_stats = sink_stats
        self.breaker: dict[str, str] = {}
        self.health: dict[str, str] = {}

    def status(self) -> Mapping[str, Any]:
        """The guard's status."""
        return _result_of(self._status)

    def sinks(self) -> Mapping[str, Mapping[str, int]]:
        """The counters of each sink."""
        return _result_of(self._sink_stats)


class Gauges:
    """Collects the gauges of all sources at each scrape; of two with the same provider, the newer source counts."""

    def __init__(self, sources: Sequence[StatusSource]) -> None:
        self._sources = sources

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """The names alone, with which the registry finds clashes; no source is read."""
        return [*_gauges({}, {}, {}, {}), _not_hedged({}), _positions([]), *_budgets([], {}), _going_on([])]

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """All gauges with their current values."""
        providers: dict[str, Mapping[str, Any]] = {}
        breaker: dict[str, str] = {}
        health: dict[str, str] = {}
        sinks: dict[str, Mapping[str, int]] = {}
        hedges: dict[str, Mapping[str, Any]] = {}
        orders: list[Mapping[str, Any]] = []
        budgets: list[Mapping[str, Any]] = []
        month: Mapping[str, Any] = {}
        alerts: list[Mapping[str, Any]] = []
        for source in tuple(self._sources):
            status = source.status()
            found: Mapping[str, Mapping[str, Any]] = status.get("providers", {})
            hedges.update(status.get("routing", {}).get("hedge", {}))
            orders += status.get("routing", {}).get("order", ())
            budgets += status.get("budgets", ())
            month = status.get("budget") or month
            alerts += status.get("alerts", ())
            providers.update(found)
            breaker.update({**source.breaker, **{name: one["breaker"]["state"] for name, one in found.items()}})
            health.update({**source.health, **{name: one["health"] for name, one in found.items()}})
            sinks.update(source.sinks())
        gauges = _gauges(providers, breaker, health, sinks)
        return [*gauges, _not_hedged(hedges), _positions(orders), *_budgets(budgets, month), _going_on(alerts)]


def _going_on(alerts: Sequence[Mapping[str, Any]]) -> GaugeMetricFamily:
    return _gauge(
        "wallie_alert_going_on",
        "1 for a share of failures (error_rate) or a queue (queue) that is too large at present.",
        ("type", "provider", "model"),
        {(one["type"], one["provider"], one["model"] or ""): 1.0 for one in alerts},
    )


def _budgets(rows: Sequence[Mapping[str, Any]], month: Mapping[str, Any]) -> Iterator[GaugeMetricFamily]:
    """Of features and of all; users are too many, keys have no label. ``month`` is of ``kpis.monthly_cost``."""
    shown: _Rows = {
        (row["feature"] or "", row["window"]): row for row in rows if row["user"] is None and row["key"] is None
    }
    for what, text in (
        ("spent", "What was spent of a budget in the present day or month, in US dollars."),
        ("reserved", "What calls under way have reserved of a budget, in US dollars."),
        ("limit", "The budget itself, in US dollars."),
    ):
        values: dict[tuple[str, ...], float] = {key: row[f"{what}_usd"] for key, row in shown.items()}
        yield _gauge(f"wallie_budget_{what}_usd", text, ("feature", "window"), values)
    forecast = {key: row for key, row in shown.items() if row.get("forecast") is not None}
    yield _gauge(
        "wallie_budget_expected_usd",
        "What a budget will have spent when its day or month ends, by its forecast, in US dollars.",
        ("feature", "window"),
        {key: row["expected"] for key, row in forecast.items()},
    )
    yield _gauge(
        "wallie_budget_exhausts_timestamp_seconds",
        "When a budget is used up (Unix time), of those that are before they begin anew.",
        ("feature", "window"),
        _exhaustions(shown),
    )
    own: _Rows = {(): month} if month.get("forecast") is not None else {}
    for what, text in (
        ("spent_usd", "What was spent in the present month (UTC), in US dollars."),
        ("limit_usd", "What a month may cost by kpis.monthly_cost, in US dollars."),
        ("expected", "What the present month will have cost, by its forecast, in US dollars."),
    ):
        values = {key: row[what] for key, row in own.items()}
        yield _gauge(f"wallie_month_{what.removesuffix('_usd')}_usd", text, (), values)
    text = "When the month's cost reaches kpis.monthly_cost (Unix time), where that is before the month ends."
    yield _gauge("wallie_month_exhausts_timestamp_seconds", text, (), _exhaustions(own))


def _exhaustions(rows: _Rows) -> dict[tuple[str, ...], float]:
    """When each row's limit is used up, in Unix seconds, of those that are."""
    return {
        key: datetime.fromisoformat(row["exhausts_at"]).timestamp()
        for key, row in rows.items()
        if row.get("exhausts_at") is not None
    }


def _positions(orders: Sequence[Mapping[str, Any]]) -> GaugeMetricFamily:
    return _gauge(
        "wallie_order_position",
        "The place of a model group in the order of its chain, 1 for the first, where that goes by latency.",
        ("chain", "stream", "model"),
        {
            (" > ".join(one["chain"]), str(one["stream"]).lower(), group): place
            for one in orders
            for place, group in enumerate(one["order"], 1)
        },
    )


def _not_hedged(hedges: Mapping[str, Mapping[str, Any]]) -> GaugeMetricFamily:
    return _gauge(
        "wallie_not_hedged_calls",
        "Late calls of features with hedges for which none was sent, by the reason.",
        ("feature", "reason"),
        {(name, reason): count for name, one in hedges.items() for reason, count in one["suppressed"].items()},
    )


def _gauges(
    providers: Mapping[str, Mapping[str, Any]],
    breaker: Mapping[str, str],
    health: Mapping[str, str],
    sinks: Mapping[str, Mapping[str, int]],
) -> Iterator[GaugeMetricFamily]:
    models = {(name, model): own for name, one in providers.items() for model, own in _models(one).items()}
    quotas: _Rows = {
        (*owner, dimension): quota
        for owner, one in {**{(name, ""): one for name, one in providers.items()}, **models}.items()
        for dimension, quota in one.get("quota", {}).items()
    }
    yield _one_hot(
        "wallie_breaker_state", "1 for the state that a provider's breaker is in.", "state", _BREAKER_STATES, breaker
    )
    yield _one_hot("wallie_provider_health", "1 for the health that a provider has.", "status", _HEALTH, health)
    for what, text in (
        ("used", "How much of a limit is used: of a limit per minute, by the last 60 seconds."),
        ("limit", "The limit itself."),
        ("utilization", "The share of a limit that is used, its headroom left out: 0 to 1, above 1 in debt."),
        ("left", "What admission has left of a limit at this moment."),
        ("expected", "What a limit per day will have used when it resets, by its forecast."),
        ("learned", "The limit as the vendor has said it, where it has."),
    ):
        values: dict[tuple[str, ...], float] = {
            key: quota[what] for key, quota in quotas.items() if quota.get(what) is not None
        }
        yield _gauge(f"wallie_quota_{what}", text, ("provider", "model", "dimension"), values)
    yield _gauge(
        "wallie_quota_exhausts_timestamp_seconds",
        "When a limit is used up (Unix time), of those that are before they reset.",
        ("provider", "model", "dimension"),
        _exhaustions(quotas),
    )
    for key, metric, text in (
        ("in_flight", "wallie_requests_in_flight", "Attempts that are being served."),
        ("waiting", "wallie_requests_waiting", "Attempts that wait for capacity."),
        ("paused_for", "wallie_provider_paused_seconds", "For how long yet a provider asked not to be called."),
    ):
        known: dict[tuple[str, ...], float] = {
            (name,): one[key] for name, one in providers.items() if one[key] is not None
        }
        yield _gauge(metric, text, ("provider",), known)
    yield _gauge(
        "wallie_model_breaker_state",
        "1 for the state of a model's breaker, of those that are not closed.",
        ("provider", "model", "state"),
        {
            (*owner, state): 1.0
            for owner, own in models.items()
            if (state := own.get("breaker", {}).get("state", "closed")) != "closed"
        },
    )
    yield _gauge(
        "wallie_model_paused_seconds",
        "For how long yet a model is not to be called, of those that are paused.",
        ("provider", "model"),
        {owner: own["paused_for"] for owner, own in models.items() if own["paused_for"]},
    )
    yield _gauge(
        "wallie_model_requests_waiting",
        "Attempts that wait for the capacity of a model, of those that have limits.",
        ("provider", "model"),
        {owner: own["waiting"] for owner, own in models.items() if own.get("quota") and own["waiting"] is not None},
    )
    yield _gauge(
        "wallie_estimate_error",
        "How far reserved tokens were from settled ones, as a share of these: the mean and p95 of recent calls.",
        ("provider", "model", "figure"),
        {
            (name, model, figure): errors[f"{figure}_error"]
            for name, one in providers.items()
            for model, errors in one.get("estimates", {}).get("models", {}).items()
            for figure in ("mean", "p95")
        },
    )
    yield _gauge(
        "wallie_estimate_ratio",
        "Tokens that recent calls reserved, of those that were settled, of the sums: above 1 too many.",
        ("provider", "model"),
        {
            (name, model): figures["ratio"]
            for name, one in providers.items()
            for model, figures in one.get("estimates", {}).get("models", {}).items()
            if figures["ratio"] is not None
        },
    )
    yield _gauge(
        "wallie_sink_events",
        "Each sink's own counters, such as delivered, failed, dropped and pending.",
        ("sink", "state"),
        {(sink, state): count for sink, counts in sinks.items() for state, count in counts.items()},
    )


def _models(provider: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    """The models of a provider that have limits, or trouble."""
    found: Mapping[str, Mapping[str, Any]] = provider.get("models", {})
    if len(found) <= MOST_MODELS:
        return found
    limited = sorted(found, key=lambda model: (not found[model].get("quota"), model))
    return {model: found[model] for model in limited[:MOST_MODELS]}


def _gauge(name: str, text: str, labels: Sequence[str], values: Mapping[tuple[str, ...], float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def _one_hot(name: str, text: str, label: str, states: Sequence[str], present: Mapping[str, str]) -> GaugeMetricFamily:
    values: dict[tuple[str, ...], float] = {
        (provider, state): float(state == now) for provider, now in present.items() for state in states
    }
    return _gauge(name, text, ("provider", label), values)


def _result_of(read: Callable[[], Mapping[str, Any]] | None) -> Mapping[str, Any]:
    try:
        return read() if read is not None else {}
    except Exception:
        logger.exception("the metrics lack gauges whose state could not be read")  # the scrape itself does not fail
        return {}
