"""Snapshots to render: a healthy fleet, an unhealthy one, one without a ledger, one full of hostile text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from wallie_litellm.core.confidence_sequence import Interval
from wallie_litellm.dashboard.chain_shares import Chains
from wallie_litellm.dashboard.impact import assess_impact
from wallie_litellm.dashboard.provider_queries import ProviderFigures
from wallie_litellm.dashboard.recent_traffic import CELL, CELLS, HealthCell, HealthDay, RecentTraffic
from wallie_litellm.dashboard.usage_tables import UsageLine, UsageTable
from wallie_litellm.dashboard.view_model import (
    RANGES,
    BudgetRow,
    ChartEvent,
    Costs,
    FeatureLimits,
    Figures,
    Fleet,
    HistoryRow,
    ModelState,
    Provider,
    Quota,
    RoutingState,
    Series,
    Snapshot,
    TimeBucket,
    Worker,
)
from wallie_litellm.ledger.experiments import ArmFigures, ExperimentFigures
from wallie_litellm.ledger.figures import (
    Alert,
    Cost,
    FailureKind,
    FallbackCount,
    Latency,
    MonthCost,
    RecordedFailure,
    RequestTotals,
    Totals,
    Transition,
)
from wallie_litellm.ledger.kpis import Kpi
from wallie_litellm.routing.experiments import Standing

NOW = 1_795_694_400.0  # 2026-11-26 12:00:00 UTC
NO_LEDGER = "there is no ledger: the configuration says 'ledger: null'"
READ_ONLY = "this process only reads the ledger"

HOSTILE: Mapping[str, str] = {
    "provider": '"><script>alert(1)</script>',
    "feature": "<img src=x onerror=alert(2)>",
    "model": "'\"><svg/onload=alert(3)>",
    "reason": "javascript:alert(4)//<a href='javascript:alert(4)'>",
    "actor": "maria\u202etpircs <b style=color:red>",
    "detail": "{{ 7 * 7 }}{% raw %}</td></table><iframe srcdoc='x'>",
    "worker": "w\x00\x1b[31m\ud800" + "x" * 600,
    "problem": "</p><style>*{display:none}</style>",
}


def quota(dimension: str, used: float, limit: float, level: str = "", reset_in: float = 31.0) -> Quota:
    return Quota(dimension, used, limit, used / limit, level, reset_in, max(0.0, limit - used))


def model(name: str, health: str = "", breaker: str = "", quotas: Sequence[Quota] = ()) -> ModelState:
    reason, probe = ("server error", 8.0) if breaker == "open" else (None, None)
    return ModelState(name, health, breaker, reason, probe, 0.0, 0, quotas)


def totals(provider: str | None, attempts: int = 1_736, failures: int = 17, cost: float | None = 3.45) -> Totals:
    return Totals(
        start=None,
        provider=provider,
        model=None,
        feature=None,
        user_id=None,
        attempts=attempts,
        successes=attempts - failures,
        by_caller=0,
        cache_hits=0,
        latency=Latency(760.4, 690.0, 1_512.0, 2_210.0),
        first_token=Latency(310.0, 280.0, 641.0, 902.0),
        waited_ms=15.0 * attempts,
        prompt_tokens=600 * attempts,
        completion_tokens=300 * attempts,
        total_tokens=900 * attempts,
        cached_tokens=0,
        cache_write_tokens=0,
        reasoning_tokens=0,
        cost_usd=cost,
        unpriced=0,
        estimated=0,
    )


def requests(provider: str | None, served: int = 1_700, fallbacks: int = 34) -> RequestTotals:
    return RequestTotals(
        start=None,
        provider=provider,
        model=None,
        feature=None,
        user_id=None,
        requests=served + 3,
        successes=served,
        by_caller=1,
        fallbacks=fallbacks,
        latency=Latency(780.0, 700.0, 1_600.0, 2_300.0),
        waited_ms=15.0 * served,
    )


def provider(name: str, health: str = "healthy", breaker: str = "closed", quotas: Sequence[Quota] = ()) -> Provider:
    quotas = quotas or (quota("rpm", 20, 500), quota("tpm", 76_624, 150_000), quota("rpd", 430, 10_000, "", 43_000.0))
    return Provider(name, health, breaker, None, 0, None, 0.0, 2, 0, quotas, totals(name), requests(name))


def figures(names: Sequence[str], events: Sequence[ChartEvent] = (), **changed: object) -> Figures:
    """The figures of a ledger of the last 24 hours with providers of these names."""
    begins = NOW - 86_400 - 900
    plain = Figures(
        at=NOW,
        since=begins,
        by_provider={name: totals(name) for name in names},
        requests_by_provider={name: requests(name) for name in names},
        total=totals(None, 1_736 * len(names), 17 * len(names), 3.45 * len(names)),
        requests=requests(None, 1_700 * len(names), 34 * len(names)),
        costs=Costs(
            today=1.35,
            month=MonthCost("2026-11", Cost(begins, 212.5, 0, 0), 247.9),
            spent=3.45 * len(names),
            unpriced=0,
            estimated=0,
        ),
        series=series(begins, names, events),
        alerts=(),
        history=(),
        kpis=[
            Kpi("uptime", 0.995, 0.9991, True),
            Kpi("p95_latency", 8.0, 1.6, True),
            Kpi("error_rate", 0.02, 0.0098, True),
            Kpi("monthly_cost", 500.0, 247.9, True, "$212.50 so far in 2026-11"),
            Kpi("fallback_rate", 0.1, 0.02, True),
            Kpi("critical_alerts", 0.0, 0.0, True),
        ],
        usage=UsageTable("provider", [UsageLine(name, totals(name), requests(name)) for name in names]),
    )
    return replace(plain, **changed)  # type: ignore[arg-type]


def series(begins: float, names: Sequence[str], events: Sequence[ChartEvent] = ()) -> Series:
    """A day by hours."""
    first = int(begins) // 3_600 * 3_600
    return Series(begins, None, 3_600, [_bucket(first + hour * 3_600, hour, names) for hour in range(25)], events)


def _bucket(start: int, hour: int, names: Sequence[str]) -> TimeBucket:
    calls = {name: 40 + (hour * 7 + number * 13) % 60 for number, name in enumerate(names)}
    costs = {name: 0.002 * count for name, count in calls.items()}
    mean = None if hour == 3 else 600.0 + 12 * hour
    return TimeBucket(start, costs, calls, hour % 5, mean, None if mean is None else 2.4 * mean)


def fleet(**changed: object) -> Fleet:
    workers = [Worker("w-7f3a", 4711, "web-1", 0.4, True), Worker("w-91bc", 4712, "web-2", 1.2, False)]
    return replace(Fleet("redis", "ok", None, "local", 2, workers, None), **changed)  # type: ignore[arg-type]


def snapshot(providers: Sequence[Provider], found: Figures | None, **changed: object) -> Snapshot:
    problem = NO_LEDGER if found is None else None
    plain = Snapshot(NOW, RANGES["24h"], providers, (), fleet(), 500.0, found, problem)
    return replace(plain, **changed)  # type: ignore[arg-type]


def arm(name: str, effect: Interval | None = None, *, stopped: bool = False) -> ArmFigures:
    """An arm with half of the units."""
    return ArmFigures(
        arm=name,
        share=0.5,
        stopped=stopped,
        units=412,
        requests=1_240,
        successes=1_180,
        by_caller=10,
        fallbacks=31,
        unpriced=0,
        cost_usd=0.00042,
        p50_ms=780.0,
        p95_ms=2_900.0,
        feedbacks=80,
        feedback=0.81,
        measured=1_230,
        mean=0.959,
        effect=effect,
    )


def experiment(name: str = "chat-model", **changed: object) -> ExperimentFigures:
    """An experiment of two arms in which the second is better."""
    arms = [arm("gpt-4o-mini"), arm("claude-sonnet-4", Interval(0.004, 0.031, 0.058))]
    standing = Standing(NOW - 400_000, "c1")
    plain = ExperimentFigures(name, "wallie-chat", "success", "user", standing, arms, "claude-sonnet-4", 0.4)
    return replace(plain, **changed)  # type: ignore[arg-type]


CHAINS: Chains = {
    "llama-3.1-8b": {"llama-3.1-8b": ["groq"], "gpt-4o-mini": ["openai"], "claude-sonnet-4": ["anthropic"]},
    "gpt-4o-mini": {"gpt-4o-mini": ["openai"], "gemini-2.0-flash": ["gemini"], "gemini-2.0-pro": ["gemini"]},
}


def asked() -> list[RequestTotals]:
    """The requests for chains: the first loses a part to its members, and the second has an answer by another one."""

    def one(model: str, provider: str, count: int, fallbacks: int = 0, *, failed: int = 0) -> RequestTotals:
        plain = replace(requests(provider), model=model, requests=count, successes=count - failed, by_caller=0)
        return replace(plain, fallbacks=fallbacks, cache_hits=0)

    return [
        one("llama-3.1-8b", "groq", 700, failed=26),
        one("llama-3.1-8b", "openai", 250, 250),
        one("llama-3.1-8b", "anthropic", 50, 50),
        replace(one("gpt-4o-mini", "openai", 300), cache_hits=30),
        one("gpt-4o-mini", "gemini", 20, 20),
        one("gpt-4o-mini", "mistral", 5, 5),
        one("text-embedding-3", "openai", 900),
    ]


def healthy() -> Snapshot:
    """Three healthy providers, an empty history."""
    names = ["anthropic", "gemini", "openai"]
    providers, recent = [provider(name) for name in names], traffic(100, 0, names)
    day = HealthDay({name: cells({}) for name in names})
    return snapshot(providers, figures(names), impact=assess_impact(providers, (), (), recent), day=day)


def ill() -> Snapshot:
    """One provider of each kind of trouble, alerts, actions, and failed targets."""
    names = ["anthropic", "deepseek", "gemini", "groq", "mistral", "openai"]
    providers = [
        replace(
            provider("anthropic", quotas=[quota("rpm", 891, 1_000, "warning", 53.0), quota("rpd", 980, 50_000)]),
            models=[
                replace(
                    model(
                        "claude-opus-4*", quotas=[replace(quota("itpm", 29_400, 30_000, "critical"), learned=20_000.0)]
                    ),
                    paused_for=12.0,
                    waiting=4,
                ),
                model("claude-sonnet-4-5", "down", "open"),
            ],
            reserved_ratio=1.083,
        ),
        replace(provider("deepseek", "degraded"), failures=2, paused_for=42.0),
        replace(provider("gemini", "degraded", "half_open"), reason="released by the operator"),
        replace(provider("groq", "down", "open"), reason="server error", next_probe_in=25.0),
        replace(provider("mistral", "down", "forced_open"), reason="forced open by the operator"),
        replace(
            provider("openai", quotas=[quota("rpm", 498, 500, "critical", 58.0), quota("tpm", 70_000, 150_000)]),
            breaker="disabled",
            reason="disabled by the operator",
            in_flight=31,
            waiting=12,
        ),
    ]
    alerts = [
        Alert("9", NOW - 60, "quota", "critical", "openai", "rpm", "", 0.996, 498, 500, None),
        Alert("8", NOW - 900, "quota", "warning", "anthropic", "rpm", "", 0.82, 820, 1_000, None),
        Alert("7", NOW - 4_000, "unpriced", "", "deepseek", "", "deepseek-chat", None, None, None, "chat-2"),
        Alert("6", NOW - 90_000, "budget", "warning", "", "", "", 0.8, 400.0, 500.0, "2026-11"),
    ]
    history = [
        HistoryRow(NOW - 20, "action", "mistral", "", "open_circuit", "incident 4711", "maria (page, 127.0.0.1)"),
        HistoryRow(NOW - 25, "health", "groq", "degraded", "down", "server error", ""),
        HistoryRow(NOW - 25, "breaker", "groq", "closed", "open", "server error", ""),
        HistoryRow(
            NOW - 28, "order", "", "gpt-4o, mistral", "mistral, gpt-4o", "mistral takes 0.4 s", "", model="gpt-4o"
        ),
        HistoryRow(NOW - 30, "fallback", "groq", "llama-3.1-8b", "gpt-4o-mini", "server error", ""),
        HistoryRow(NOW - 90_000, "breaker", "gemini", "forced_open", "half_open", "released by the operator", ""),
    ]
    stopped = [arm("gpt-4o-mini", stopped=True), arm("claude-sonnet-4")]
    experiments = [experiment(), experiment("cheaper", metric="cost", arms=stopped, leader=None, split=0.00002)]
    events = [
        ChartEvent(NOW - 40_000, "opened", "groq", "", "server error"),
        ChartEvent(NOW - 36_000, "closed", "groq"),
        ChartEvent(NOW - 20_000, "reload", reason="new limits"),
        ChartEvent(NOW - 90, "opened", "groq", "llama-3.1-8b", "timeout"),
        ChartEvent(NOW - 25, "opened", "groq", "", "server error"),
    ]
    found = figures(names, alerts=alerts, history=history, experiments=experiments, events=events, asked=asked())
    costs = replace(found.costs, unpriced=49, estimated=7)
    failed = [replace(kpi, passed=False) if kpi.name in ("uptime", "error_rate") else kpi for kpi in found.kpis]
    found = replace(found, costs=costs, kpis=failed)
    features = [FeatureLimits("summaries", 3, [quota("rpm", 29, 30, "critical")])]
    budgets = [
        BudgetRow("", "", "", "month", 812.5, 0.0, 1_000.0, 220_000.0, "alert", "warning"),
        BudgetRow("chat", "", "", "day", 20.3, 0.25, 20.0, 43_000.0, "cheapest", "exhausted"),
        BudgetRow("chat", "u1", "", "day", 0.51, 0.0, 0.5, 43_000.0, "refuse", "exhausted"),
        BudgetRow("", "", "batch", "month", 3.1, 0.0, 10.0, 43_000.0, "alert", ""),
    ]
    recent = traffic(100, 26, ["anthropic", "groq"], [FallbackCount("groq", "gpt-4o-mini", 30)])
    failure = RecordedFailure("groq", NOW - 20, "r1", "llama-3.1-8b", "timeout", 504, 30_000.0)
    recent = replace(recent, last_failures={"groq": failure})
    down = Transition("1", NOW - 2_760, "health", "groq", "degraded", "down", "server error", None)
    return snapshot(
        providers,
        found,
        features=features,
        budgets=budgets,
        routing=RoutingState(chains=CHAINS),
        impact=assess_impact(providers, features, [down], recent),
        day=HealthDay({"groq": cells({46: "degraded", 47: "down"})}, [down]),
    )


def provider_figures(name: str, model_name: str = "gpt-4o", error: str = "timeout") -> ProviderFigures:
    """24 hours of a provider with one model and one failure."""
    opened = ChartEvent(NOW - 60, "opened", name, model_name, error)
    change = Transition("1", NOW - 60, "health", name, "degraded", "down", error, None, model_name)
    failure = RecordedFailure(name, NOW - 20, "r1/<1>", model_name, error, 504, 30_000.0)
    kind = FailureKind(error, 504, 17, NOW - 20)
    models = [replace(totals(None), model=model_name)]
    day = series(NOW - 86_400, [name], [opened])
    return ProviderFigures(totals(None), requests(None), models, day, [change], [kind], [failure])


def traffic(asked: int, failed: int, names: Sequence[str], fallbacks: Sequence[FallbackCount] = ()) -> RecentTraffic:
    """The last five minutes, with 30 attempts of each provider of these names."""
    moved = sum(one.count for one in fallbacks)
    of_all = replace(requests(None, asked, moved), requests=asked, successes=asked - failed, by_caller=0)
    return RecentTraffic(of_all, {name: totals(name, 30, 0) for name in names}, {}, fallbacks)


def cells(levels: Mapping[int, str]) -> tuple[HealthCell, ...]:
    """A day of half hours; those that ``levels`` does not name had no trouble."""
    since = int(NOW) - CELL * CELLS
    troubled = {"degraded": (30, 3, 0.0), "down": (30, 30, float(CELL)), "healthy": (30, 0, 0.0)}
    named = ((at, levels.get(at, "healthy")) for at in range(CELLS))
    return tuple(HealthCell(since + at * CELL, *troubled[level], level) for at, level in named)


def without_ledger() -> Snapshot:
    """Two providers, and no figures at all."""
    names = ["anthropic", "openai"]
    return snapshot([replace(provider(name), attempts=None, requests=None) for name in names], None)


def empty() -> Snapshot:
    """A process that has met no provider, with a ledger in which nothing is."""
    nothing = replace(totals(None, 0, 0, 0.0), latency=Latency(), cost_usd=0.0)
    costs = Costs(0.0, MonthCost("2026-11", Cost(NOW, None, 0, 0), None), None, 0, 0)
    unknown = [replace(kpi, actual=None, passed=None) for kpi in figures([]).kpis]
    no_requests = replace(requests(None), requests=0, successes=0, by_caller=0, fallbacks=0, latency=Latency())
    none = UsageTable("provider", [])
    found = figures(
        [],
        total=nothing,
        requests=no_requests,
        costs=costs,
        kpis=unknown,
        series=Series(NOW, None, 3_600, ()),
        usage=none,
    )
    return snapshot((), found, fleet=Fleet("process", "ok", None, None, 1, (), None))


def hostile() -> Snapshot:
    """Every text that comes from outside is an attack."""
    bad = HOSTILE
    name = bad["provider"]
    models = [
        model(bad["model"], "<odd>", "open", [quota("rpm", 3, 2, "critical")]),
        replace(model(bad["detail"], "down", bad["reason"]), reason=bad["reason"]),
    ]
    own = replace(provider(name, "down", "open"), reason=bad["reason"], next_probe_in=3.0, models=models)
    unusual = replace(provider(bad["model"], "<odd>", "<odd>"), reason=bad["detail"])
    alerts = [
        Alert("1", NOW, "quota", "critical", name, "rpm", bad["model"], 1.4, 7.0, 5.0, bad["detail"]),
        Alert("2", NOW, "unpriced", "", name, "", bad["model"], None, None, None, bad["detail"]),
        Alert("3", NOW, bad["feature"], bad["reason"], name, bad["actor"], bad["model"], None, None, None, None),
    ]
    history = [
        HistoryRow(NOW, kind, name, bad["model"], bad["feature"], bad["reason"], bad["actor"], model=bad["model"])
        for kind in ("breaker", "health", "fallback", "action", bad["detail"])
    ]
    standing = Standing(NOW, "c1", frozenset(), bad["model"], NOW, bad["reason"])
    attacked = [arm(bad["model"]), arm(bad["detail"], Interval(-0.1, 0.1, 0.3))]
    experiments = [
        experiment(name, feature=bad["feature"], arms=attacked, standing=standing),
        experiment(bad["reason"], metric=bad["actor"], unit=bad["detail"], leader=bad["model"], arms=attacked),
    ]
    events = [ChartEvent(NOW - 60, kind, name, bad["model"], bad["reason"]) for kind in ("opened", "closed", "reload")]
    found = figures([name, bad["model"]], alerts=alerts, history=history, experiments=experiments, events=events)
    found = replace(found, asked=[replace(requests(name), model=bad["model"])])
    usage = UsageTable("feature", [UsageLine(bad["feature"], replace(totals(None, cost=None), unpriced=1), None)])
    recent = traffic(9, 9, [name], [FallbackCount(name, bad["model"], 3)])
    failure = RecordedFailure(name, NOW, bad["detail"], bad["model"], bad["reason"], 500, 1.0)
    recent = replace(recent, last_failures={name: failure})
    workers = [Worker(bad["worker"], 1, bad["provider"], None, False)]
    return snapshot(
        [own, unusual],
        replace(found, usage=usage),
        features=[FeatureLimits(bad["feature"], 0, [quota("rpm", 3, 2, "critical")])],
        budgets=[BudgetRow(bad["feature"], bad["model"], "", "day", 3.0, 0.0, 2.0, 3.0, "refuse", "exhausted")],
        fleet=fleet(workers=workers, state="down", error=bad["problem"], on_store_error=bad["detail"]),
        impact=assess_impact([own, unusual], (), [], recent),
        day=HealthDay({name: cells({3: "down"})}),
    )


SAMPLES = {"healthy": healthy, "ill": ill, "without_ledger": without_ledger, "empty": empty, "hostile": hostile}
