"""What several pages say of a provider: its state in words, its actions, and what happened lately."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

from markupsafe import Markup

from wallie_litellm.config import KpiSettings
from wallie_litellm.core.circuit_breaker import BreakerState
from wallie_litellm.core.dimensions import DIMENSIONS
from wallie_litellm.dashboard.formats import Formats
from wallie_litellm.dashboard.impact import SEVERE, sentence
from wallie_litellm.dashboard.recent_traffic import HealthCell
from wallie_litellm.dashboard.rendering import render
from wallie_litellm.dashboard.source import ACTIONS, EXPERIMENTING, EXPORTED, RELOAD, SWITCHING
from wallie_litellm.dashboard.translations import translator
from wallie_litellm.dashboard.view_model import ModelState, Provider, Snapshot
from wallie_litellm.dashboard.vital_figures import vital_figures
from wallie_litellm.ledger.figures import FailureKind, RecordedFailure

STRIPS: Final = 256  # strips of health that are kept, of providers in each language
HEALTH: Final = ("down", "degraded", "healthy")  # the worst first
MEANING: Final = {  # state after a change: the health that it is coloured as
    "open": "down",
    "forced_open": "down",
    "down": "down",
    "half_open": "degraded",
    "degraded": "degraded",
    "closed": "healthy",
    "healthy": "healthy",
}


def impact_values(snapshot: Snapshot, language: str) -> dict[str, Any]:
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
    html = render("health_strip.html", language, formats=formats, provider=provider, cells=cells)
    return Markup(html)  # noqa: S704 - a template


def words(language: str) -> Callable[[str, str], str]:
    """A function that returns a value's name; an unknown value is its own name."""
    known = {
        "health": HEALTH,
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


def provider_actions(provider: Provider) -> list[str]:
    """The actions that apply to a provider in its state, in the sequence of the buttons."""
    if not provider.breaker:
        return []
    return ["reset_quota", *_circuit_actions(provider.breaker, failures=provider.failures)]


def model_actions(model: ModelState) -> list[str]:
    """The same of a model below its provider."""
    return _circuit_actions(model.breaker)


def _circuit_actions(breaker: str, failures: int = 0) -> list[str]:
    held = breaker in ("forced_open", "disabled")
    circuit = ["open_circuit"] if breaker != "forced_open" else []
    circuit += ["close_circuit"] if breaker != "closed" or failures else []
    return [*circuit, *(["release_circuit"] if held else [])]


def error_text(failure: RecordedFailure | FailureKind) -> str:
    """The class of a failure, with the status that the vendor answered where that says more."""
    error, status = failure.error or "", failure.status_code
    return error if status is None or str(status) in error else " ".join(filter(None, (error, f"HTTP {status}")))
