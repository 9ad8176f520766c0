"""HTML from a snapshot. The template engine escapes every value; nothing here depends on a request."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import version

from markupsafe import Markup

from wallie_litellm.core.dimensions import DAY_DIMENSIONS
from wallie_litellm.dashboard import charts
from wallie_litellm.dashboard.chain_shares import chain_shares
from wallie_litellm.dashboard.chart_names import bucket_names, mark_text
from wallie_litellm.dashboard.experiment_view import effect_text, interval_bars
from wallie_litellm.dashboard.formats import IN_UTC, Formats, ShownZone
from wallie_litellm.dashboard.panel_values import (
    HEALTH,
    MEANING,
    error_text,
    impact_values,
    model_actions,
    provider_actions,
    words,
)
from wallie_litellm.dashboard.provider_order import by_trouble, unused
from wallie_litellm.dashboard.rendering import render
from wallie_litellm.dashboard.translations import translator
from wallie_litellm.dashboard.usage_tables import DEFAULT_BY, TABS, By
from wallie_litellm.dashboard.view_model import Figures, Quota, Snapshot
from wallie_litellm.ledger.figures import Totals
from wallie_litellm.ledger.kpis import Kpi
from wallie_litellm.ledger.queries import FEW
from wallie_litellm.ledger.schema import RECORD_TABLES
from wallie_litellm.telemetry.playbook import sections


def render_panels(snapshot: Snapshot, language: str) -> str:
    """All panels: the same for all viewers, so that live refresh can share them."""
    figures, formats = snapshot.figures, Formats(language, snapshot.zone)
    names = _series(figures)
    zone, on_axis, in_full = bucket_names(snapshot.range, formats, translator(language))
    providers = by_trouble(snapshot)
    return render(
        "panels.html",
        language,
        formats=formats,
        zone=zone,
        s=snapshot,
        figures=figures,
        providers=providers,
        limited=[one for one in providers if one.quotas or any(model.quotas for model in one.models)],
        unused=unused(snapshot),
        **impact_values(snapshot, language),
        by_name=sorted(snapshot.providers, key=lambda one: one.name),
        ill={state: sorted(one.name for one in snapshot.providers if one.health == state) for state in HEALTH},
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
        word=words(language),
        meaning=MEANING,
        actions=provider_actions,
        model_actions=model_actions,
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
    zone: ShownZone = IN_UTC,
) -> str:
    """The page around ``panels``, which are HTML already; ``name`` is the installation's."""
    return render(
        "page.html",
        language,
        shown_in=zone,
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
    return render("login.html", language, base=base, next=next, error=error)


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
    return render(
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
    return render(
        "export.html", language, base=base, range_name=range_name, visitor_name=visitor_name, kinds=list(RECORD_TABLES)
    )


def render_playbook(*, language: str, base: str) -> str:
    """What to do when an alert comes."""
    return render("playbook.html", language, base=base, sections=_playbook())


@cache
def _playbook() -> Mapping[str, Markup]:
    from markdown_it import MarkdownIt

    markdown = MarkdownIt()
    return {name: Markup(markdown.render(text)) for name, text in sections().items()}  # noqa: S704 - a file of the package


def render_problem(*, language: str, base: str, status: int, message: str) -> str:
    """What is wrong, and the way back."""
    return render("problem.html", language, base=base, status=status, message=message)


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


def _mean_wait(attempts: Totals) -> float | None:
    """Milliseconds that an attempt waited for capacity, on average."""
    return attempts.waited_ms / attempts.attempts if attempts.attempts else None


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
