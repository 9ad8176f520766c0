"""The page of one provider."""

from __future__ import annotations

from wallie_litellm.core.dimensions import DAY_DIMENSIONS
from wallie_litellm.dashboard import charts
from wallie_litellm.dashboard.chart_names import bucket_names
from wallie_litellm.dashboard.formats import Formats
from wallie_litellm.dashboard.panel_values import MEANING, error_text, impact_values, provider_actions, words
from wallie_litellm.dashboard.provider_queries import ProviderDay
from wallie_litellm.dashboard.rendering import render
from wallie_litellm.dashboard.translations import Translator, translator
from wallie_litellm.dashboard.view_model import RANGES, Provider, Snapshot, TimeBucket


def render_provider(
    snapshot: Snapshot, one: Provider, day: ProviderDay | None, problem: str, *, language: str, base: str
) -> str:
    """One provider's present and its last 24 hours; ``problem`` is why these cannot be read."""
    formats = Formats(language, snapshot.zone)
    zone, on_axis, in_full = bucket_names(RANGES["24h"], formats, translator(language))
    return render(
        "provider.html",
        language,
        formats=formats,
        zone=zone,
        **impact_values(snapshot, language),
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
        word=words(language),
        meaning=MEANING,
        actions=provider_actions,
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
