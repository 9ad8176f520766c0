"""The page of one provider."""

from __future__ import annotations

from collections.abc import Mapping

from markupsafe import Markup

from wallie_litellm.core.dimensions import DAY_DIMENSIONS
from wallie_litellm.dashboard import charts
from wallie_litellm.dashboard.chart_names import bucket_names, mark_text
from wallie_litellm.dashboard.formats import IN_UTC, Formats, ShownZone
from wallie_litellm.dashboard.panel_key import PanelKey
from wallie_litellm.dashboard.panel_values import MEANING, error_text, impact_values, provider_actions, words
from wallie_litellm.dashboard.provider_queries import ProviderFigures
from wallie_litellm.dashboard.rendering import render
from wallie_litellm.dashboard.translations import Translator, translator
from wallie_litellm.dashboard.view_model import Provider, Range, Series, Snapshot, recorded_only


def render_provider_panels(
    snapshot: Snapshot, key: PanelKey, chosen: Range, found: ProviderFigures | None, problem: str
) -> str:
    """A provider's present and its figures in a range: the same for all viewers, so that live refresh can share them.

    ``problem`` is why the figures, which are ``None`` then, cannot be read.
    """
    language, formats = key.language, Formats(key.language, snapshot.zone)
    t = translator(language)
    zone, on_axis, in_full = bucket_names(chosen, formats, t)
    known = next((one for one in snapshot.providers if one.name == key.provider), None)
    one = recorded_only(key.provider) if known is None else known

    def clock(at: float) -> str:
        return formats.clock(at, snapshot.at)

    return render(
        "provider_panels.html",
        language,
        formats=formats,
        zone=zone,
        **impact_values(snapshot, language),
        s=snapshot,
        one=one,
        found=found,
        problem=problem,
        base=key.base,
        range_name=key.range_name,
        facts=_provider_facts(one, found, formats, t),
        charts=None if found is None else _charts(found.series),
        marks=[] if found is None else charts.marks(found.series),
        mark_text=mark_text(t, clock),
        on_axis=on_axis,
        in_full=in_full,
        clock=clock,
        word=words(language),
        meaning=MEANING,
        actions=provider_actions,
        days=DAY_DIMENSIONS,
        error_text=error_text,
    )


def render_provider(
    panels: str, *, name: str, language: str, base: str, range_name: str, zone: ShownZone = IN_UTC
) -> str:
    """The page around ``panels``, which are HTML already, of the provider of this name."""
    return render(
        "provider.html",
        language,
        shown_in=zone,
        panels=Markup(panels),  # noqa: S704 - rendered and escaped by render_provider_panels
        name=name,
        base=base,
        range_name=range_name,
    )


def _provider_facts(
    one: Provider, found: ProviderFigures | None, formats: Formats, t: Translator
) -> list[tuple[str, str, float | None, str]]:
    """The figures at the top of its page: field, name, value and text."""
    numbers = [("in-flight", "in_flight", one.in_flight), ("waiting", "waiting", one.waiting)]
    shown: list[tuple[str, str, float | None, str]] = [
        (field, t(f"column.{name}"), value, formats.number(value)) for field, name, value in numbers
    ]
    if found is None:
        return shown
    total, fallbacks = found.total, found.requests.fallback_rate
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


def _charts(series: Series) -> Mapping[str, charts.Chart]:
    buckets = series.buckets
    return {
        "attempts": charts.stacked(buckets, lambda one: [sum(one.attempts.values()) - one.failures, one.failures]),
        "latency": charts.line(buckets, lambda one: one.mean_ms, lambda one: one.p95_ms),
    }
