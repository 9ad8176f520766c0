"""HTML from a snapshot. The template engine escapes every value; nothing here depends on a request."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache
from importlib.metadata import version
from typing import Any, Final
from urllib.parse import quote, urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from wallie_litellm.config import KpiSettings
from wallie_litellm.core.circuit_breaker import BreakerState
from wallie_litellm.core.dimensions import DAY_DIMENSIONS, DIMENSIONS
from wallie_litellm.dashboard import charts
from wallie_litellm.dashboard.chain_shares import chain_shares
from wallie_litellm.dashboard.chart_names import bucket_names, mark_text
from wallie_litellm.dashboard.experiment_view import effect_text, interval_bars
from wallie_litellm.dashboard.formats import Formats, iso
from wallie_litellm.dashboard.impact import SEVERE, sentence
from wallie_litellm.dashboard.provider_order import by_trouble, is_near, is_roomy, unused
from wallie_litellm.dashboard.provider_queries import ProviderDay
from wallie_litellm.dashboard.recent_traffic import HealthCell
from wallie_litellm.dashboard.source import ACTIONS, EXPERIMENTING, EXPORTED, RELOAD, SWITCHING
from wallie_litellm.dashboard.translations import Translator, translator
from wallie_litellm.dashboard.usage_tables import DEFAULT_BY, TABS, By
from wallie_litellm.dashboard.view_model import (
    RANGES,
    Figures,
    ModelState,
    Provider,
    Quota,
    Snapshot,
    TimeBucket,
)
from wallie_litellm.dashboard.vital_figures import vital_figures
from wallie_litellm.ledger.figures import FailureKind, RecordedFailure, Totals
from wallie_litellm.ledger.kpis import Kpi
from wallie_litellm.ledger.queries import FEW
from wallie_litellm.ledger.request_log import RequestFilter
from wallie_litellm.ledger.schema import RECORD_TABLES
from wallie_litellm.telemetry.playbook import section_of, sections

STRIPS: Final = 256  # strips of health that are kept, of providers in each language
_HEALTH: Final = ("down", "degraded", "healthy")
_UNSEEN: Final = re.compile(  # control characters, those that reverse or hide others, and lone surrogates
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]"
)
_MEANING: Final = {  # state after a change: the health that it is coloured as
    "open": "down",
    "forced_open": "down",
    "down": "down",
    "half_open": "degraded",
    "degraded": "degraded",
    "closed": "healthy",
    "healthy": "healthy",
}


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("wallie_litellm.dashboard"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_visible,
    )
    environment.globals["section_of"] = section_of
    environment.tests["near"] = is_near
    environment.tests["roomy"] = is_roomy
    environment.filters["iso"] = iso
    environment.filters["url"] = lambda text: quote(str(text), safe="", errors="replace")
    environment.filters["raw"] = lambda value: "" if value is None else repr(value)
    environment.filters["exact"] = lambda text: escape(text.encode(errors="replace").decode())
    return environment


def _visible(value: object) -> object:
    """``value`` with U+FFFD in place of characters that are invisible or mislead the reader."""
    return value if isinstance(value, Markup) or not isinstance(value, str) else _UNSEEN.sub("\ufffd", value)


def _render(template: str, language: str, *, formats: Formats | None = None, **values: Any) -> str:
    return (
        _environment()
        .get_template(template)
        .render(
            t=translator(language),
            f=Formats(language) if formats is None else formats,
            language=language,
            ranges=list(RANGES),
            **values,
        )
    )


def render_panels(snapshot: Snapshot, language: str) -> str:
    """All panels: the same for all viewers, so that live refresh can share them."""
    figures, formats = snapshot.figures, Formats(language, snapshot.zone)
    names = _series(figures)
    zone, on_axis, in_full = bucket_names(snapshot.range, formats, translator(language))
    providers = by_trouble(snapshot)
    return _render(
        "panels.html",
        language,
        formats=formats,
        zone=zone,
        s=snapshot,
        figures=figures,
        providers=providers,
        limited=[one for one in providers if one.quotas or any(model.quotas for model in one.models)],
        unused=unused(snapshot),
        **_impact(snapshot, language),
        by_name=sorted(snapshot.providers, key=lambda one: one.name),
        ill={state: sorted(one.name for one in snapshot.providers if one.health == state) for state in _HEALTH},
        closest=_closest(snapshot),
        critical=_kpi(figures, "critical_alerts"),
        series=names,
        charts=None if figures is None else _charts(figures, names),
        clock=lambda at: formats.clock(at, snapshot.at),
        marks=[] if figures is None else charts.marks(figures.series),
        mark_text=mark_text(translator(language), lambda at: formats.clock(at, snapshot.at)),
        chains=[] if figures is None else chain_shares(figures.asked, snapshot.routing.chains),
        on_axis=on_axis,
        in_full=in_full,
        word=_words(language),
        meaning=_MEANING,
        actions=_actions,
        model_actions=_model_actions,
        days=DAY_DIMENSIONS,
        mean_wait=_mean_wait,
        usage=None if figures is None else figures.usage,
        tabs=TABS,
        few=FEW,
        error_text=error_text,
        interval_bars=lambda one: interval_bars(one.arms, lower_is_better=one.lower_is_better),
        effect_text=lambda metric, value: effect_text(formats, metric, value),
        kpi_text=lambda kpi, value: _kpi_text(formats, kpi, value),
        kpi_sign={"uptime": "> ", "critical_alerts": "≤ "},
    )


def render_page(
    panels: str,
    *,
    language: str,
    base: str,
    range_name: str,
    visitor_name: str | None,
    csrf: str,
    logged_in: bool,
    notice: str | None,
    name: str | None = None,
    by: By = DEFAULT_BY,
) -> str:
    """The page around ``panels``, which are HTML already; ``name`` is the installation's."""
    return _render(
        "page.html",
        language,
        panels=Markup(panels),  # noqa: S704 - rendered and escaped by render_panels
        base=base,
        range_name=range_name,
        by=by,
        visitor_name=visitor_name,
        csrf=csrf,
        logged_in=logged_in,
        notice=notice,
        name=name,
        own_version=version("wallie-litellm"),
        versions=", ".join(f"{name} {version(name)}" for name in ("wallie-litellm", "litellm")),
        host=socket.gethostname(),
    )


def render_login(*, language: str, base: str, next: str, error: str | None) -> str:  # noqa: A002 - its usual name
    """The form for a token; ``next`` is the address after it, relative to the page."""
    return _render("login.html", language, base=base, next=next, error=error)


def render_confirm(
    *,
    language: str,
    base: str,
    action: str,
    provider: str,
    range_name: str,
    csrf: str,
    visitor_name: str,
    scope_note: str | None,
    model: str = "",
) -> str:
    """An action's effect, and the form that takes it; ``model`` is the one it is for, empty for the provider."""
    return _render(
        "confirm.html",
        language,
        base=base,
        action=action,
        provider=provider,
        model=model,
        range_name=range_name,
        csrf=csrf,
        visitor_name=visitor_name,
        scope_note=scope_note,
    )


def render_export(*, language: str, base: str, range_name: str, visitor_name: str) -> str:
    """The form for an export."""
    return _render(
        "export.html", language, base=base, range_name=range_name, visitor_name=visitor_name, kinds=list(RECORD_TABLES)
    )


def render_requests(
    rows: Sequence[Mapping[str, Any]],
    wanted: RequestFilter,
    problem: str,
    *,
    language: str,
    base: str,
    range_name: str,
    more: bool,
    zone: str = "UTC",
) -> str:
    """The requests that are ``wanted``, the latest first, and the form that asks for others."""
    names, formats = ("feature", "user", "key", "provider", "model", "error"), Formats(language, zone)
    asked = {"range": range_name, **{name: getattr(wanted, name) for name in names}}
    asked |= {"failed": "1"} if wanted.failed else {}
    return _render(
        "requests.html",
        language,
        rows=rows,
        wanted=wanted,
        problem=problem,
        base=base,
        range_name=range_name,
        more=more,
        query=urlencode(asked, errors="replace"),
        formats=formats,
        clock=_clock(formats),
    )


def render_request(
    request_id: str,
    one: Mapping[str, Any] | None,
    attempts: Sequence[Mapping[str, Any]],
    *,
    language: str,
    base: str,
    zone: str = "UTC",
) -> str:
    """One request, with its attempts in order; ``one`` is ``None`` where it has not ended."""
    formats = Formats(language, zone)
    facts = [] if one is None else _request_facts(one, formats, translator(language))
    values = {"request_id": request_id, "ended": one is not None, "attempts": attempts, "facts": facts}
    return _render("request.html", language, formats=formats, base=base, clock=_clock(formats), **values)


def _request_facts(one: Mapping[str, Any], formats: Formats, t: Translator) -> list[tuple[str, str]]:
    facts = {
        t("column.time", zone=formats.zone): _clock(formats)(one["at"]),
        t("column.outcome"): t("requests.answered") if one["success"] else t("requests.not_answered"),
        t("column.feature"): one["feature"],
        t("column.user"): one["user_id"],
        t("column.key"): one["proxy_key"],
        t("column.model"): " → ".join(filter(None, (one["requested"], one["model"]))),
        t("column.provider"): one["provider"],
        t("column.latency"): formats.milliseconds(one["latency_ms"]),
        t("column.waited"): formats.milliseconds(one["waited_ms"]),
        t("column.cost"): formats.money(one["cost_usd"]),
        t("routing.tier"): one["tier"],
        t("experiments"): " ".join(filter(None, (one["experiment"], one["arm"]))),
        t("routing.reason"): "; ".join(filter(None, (one["error"], one["why"]))),
    }
    shown = [(name, str(value)) for name, value in facts.items() if value]
    return shown + [(name, str(value)) for name, value in (one["metadata"] or {}).items()]


def _clock(formats: Formats) -> Callable[[float], str]:
    now = time.time()
    return lambda at: formats.clock(at, now)


def render_provider(
    snapshot: Snapshot, one: Provider, day: ProviderDay | None, problem: str, *, language: str, base: str
) -> str:
    """One provider's present and its last 24 hours; ``problem`` is why these cannot be read."""
    formats = Formats(language, snapshot.zone)
    zone, on_axis, in_full = bucket_names(RANGES["24h"], formats, translator(language))
    return _render(
        "provider.html",
        language,
        formats=formats,
        zone=zone,
        **_impact(snapshot, language),
        s=snapshot,
        one=one,
        day=day,
        problem=problem,
        base=base,
        facts=_provider_facts(one, day, formats, translator(language)),
        chart=None if day is None else _p95_chart(day),
        on_axis=on_axis,
        in_full=in_full,
        clock=lambda at: formats.clock(at, snapshot.at),
        word=_words(language),
        meaning=_MEANING,
        actions=_actions,
        days=DAY_DIMENSIONS,
        error_text=error_text,
    )


def _provider_facts(
    one: Provider, day: ProviderDay | None, formats: Formats, t: Translator
) -> list[tuple[str, str, float | None, str]]:
    """The figures at the top of its page: field, name, value and text."""
    numbers = [("in-flight", "in_flight", one.in_flight), ("waiting", "waiting", one.waiting)]
    shown: list[tuple[str, str, float | None, str]] = [
        (field, t(f"column.{name}"), value, formats.number(value)) for field, name, value in numbers
    ]
    if day is None:
        return shown
    total, fallbacks = day.total, day.requests.fallback_rate
    return [
        ("attempts", t("column.attempts"), total.attempts, formats.number(total.attempts)),
        ("success-rate", t("column.success_rate"), total.success_rate, formats.share(total.success_rate)),
        ("error-rate", t("column.error_rate"), total.error_rate, formats.share(total.error_rate)),
        ("p95", t("column.p95"), total.latency.p95_ms, formats.milliseconds(total.latency.p95_ms)),
        ("fallback-rate", t("column.fallback_rate"), fallbacks, formats.share(fallbacks)),
        ("tokens", t("column.tokens"), total.total_tokens, formats.number(total.total_tokens)),
        ("cost", t("column.cost"), total.cost_usd, formats.money(total.cost_usd)),
        *shown,
    ]


def _p95_chart(day: ProviderDay) -> charts.Chart:
    p95 = dict(day.latency)
    return charts.line([TimeBucket(start, {}, {}, 0, None) for start in p95], lambda one: p95[one.start])


def render_playbook(*, language: str, base: str) -> str:
    """What to do when an alert comes."""
    return _render("playbook.html", language, base=base, sections=_playbook())


@cache
def _playbook() -> Mapping[str, Markup]:
    from markdown_it import MarkdownIt

    markdown = MarkdownIt()
    return {name: Markup(markdown.render(text)) for name, text in sections().items()}  # noqa: S704 - a file of the package


def render_problem(*, language: str, base: str, status: int, message: str) -> str:
    """What is wrong, and the way back."""
    return _render("problem.html", language, base=base, status=status, message=message)


def _impact(snapshot: Snapshot, language: str) -> dict[str, Any]:
    """What the top of the page and the rows of providers say of the last minutes and the last day."""
    formats, found, t = Formats(language, snapshot.zone), snapshot.impact, translator(language)

    def minute(at: float) -> str:
        return formats.minute(at, snapshot.at)

    figures, day = snapshot.figures, {} if snapshot.day is None else snapshot.day.cells
    kinds = {one.kind for one in found.troubles} if found is not None else set()
    return {
        "sentence": "" if found is None else sentence(found, t, formats.number, minute),
        "impact_level": "down" if kinds & SEVERE else "degraded" if kinds else "healthy",
        "vitals": [] if found is None else vital_figures(found, figures.kpis if figures is not None else (), formats),
        "recent": None if found is None else found.recent,
        "strips": {name: _strip(name, cells, language, snapshot.zone) for name, cells in day.items()},
    }


@lru_cache(maxsize=STRIPS)
def _strip(provider: str, cells: tuple[HealthCell, ...], language: str, zone: str) -> Markup:
    """A provider's 24 hours: rendered anew when they have changed, not whenever the page is."""
    formats = Formats(language, zone)
    html = _render("health_strip.html", language, formats=formats, provider=provider, cells=cells)
    return Markup(html)  # noqa: S704 - a template


def _words(language: str) -> Callable[[str, str], str]:
    """A function that returns a value's name; an unknown value is its own name."""
    known = {
        "health": _HEALTH,
        "breaker": tuple(state.value for state in BreakerState),
        "action": (*ACTIONS, *SWITCHING, *EXPERIMENTING, RELOAD, EXPORTED),
        "dimension": DIMENSIONS,
        "quota": ("warning", "critical", "exhausted", "resolved"),
        "window": ("day", "month"),
        "on_exhausted": ("alert", "cheapest", "refuse"),
        "alert": (
            *("quota", "forecast", "limit_overstated", "provider_down", "unpriced", "budget", "arm_stopped"),
            *("error_rate", "queue"),
        ),
        "metric": ("cost", "latency", "success", "feedback"),
        "unit": ("user", "session", "request"),
        "experiment": ("not_started", "running", "concluded"),
        "kpi": (*KpiSettings.model_fields, "cached_share", "wasted_share", "auto_saved_usd"),
        "fleet": ("process", "redis", "ledger", "ok", "connecting", "down"),
    }
    translate = translator(language)
    return lambda kind, value: translate(f"{kind}.{value}") if value in known[kind] else value


def _closest(snapshot: Snapshot) -> tuple[str, Quota] | None:
    """The limit with the highest utilization, and the name of its provider, with its model, or its feature."""
    owners = [(one.name, one.quotas) for one in snapshot.providers]
    owners += [(f"{one.name} {model.name}", model.quotas) for one in snapshot.providers for model in one.models]
    owners += [(one.name, one.quotas) for one in snapshot.features]
    return max(((name, quota) for name, own in owners for quota in own), key=lambda own: own[1].share, default=None)


def _kpi(figures: Figures | None, name: str) -> Kpi | None:
    return next((kpi for kpi in figures.kpis if kpi.name == name), None) if figures is not None else None


def _kpi_text(formats: Formats, kpi: str, value: float | None) -> str:
    if kpi in ("auto_saved_usd", "monthly_cost"):
        return formats.money(value)
    if kpi == "critical_alerts":
        return formats.number(value)
    return (
        formats.milliseconds(None if value is None else value * 1000) if kpi == "p95_latency" else formats.share(value)
    )


def _actions(provider: Provider) -> list[str]:
    """The actions that apply to a provider in its state, in the sequence of the buttons."""
    if not provider.breaker:
        return []
    return ["reset_quota", *_circuit_actions(provider.breaker, failures=provider.failures)]


def _model_actions(model: ModelState) -> list[str]:
    """The same of a model below its provider."""
    return _circuit_actions(model.breaker)


def _circuit_actions(breaker: str, failures: int = 0) -> list[str]:
    held = breaker in ("forced_open", "disabled")
    circuit = ["open_circuit"] if breaker != "forced_open" else []
    circuit += ["close_circuit"] if breaker != "closed" or failures else []
    return [*circuit, *(["release_circuit"] if held else [])]


def _mean_wait(attempts: Totals) -> float | None:
    """Milliseconds that an attempt waited for capacity, on average."""
    return attempts.waited_ms / attempts.attempts if attempts.attempts else None


def error_text(failure: RecordedFailure | FailureKind) -> str:
    """The class of a failure, with the status that the vendor answered where that says more."""
    error, status = failure.error or "", failure.status_code
    return error if status is None or str(status) in error else " ".join(filter(None, (error, f"HTTP {status}")))


def _series(figures: Figures | None) -> list[str]:
    return (
        sorted({name for bucket in figures.series.buckets for name in bucket.attempts}) if figures is not None else []
    )


def _charts(figures: Figures, names: Sequence[str]) -> Mapping[str, charts.Chart]:
    buckets = figures.series.buckets
    return {
        "cost": charts.stacked(buckets, lambda one: [one.cost_usd.get(name, 0.0) for name in names]),
        "attempts": charts.stacked(buckets, lambda one: [sum(one.attempts.values()) - one.failures, one.failures]),
        "latency": charts.line(buckets, lambda one: one.mean_ms, lambda one: one.p95_ms),
    }
