"""The figures at the top of the page that say whether callers are hurt, and which of them miss their targets. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from wallie_litellm.dashboard.formats import Formats
from wallie_litellm.dashboard.recent_traffic import Impact
from wallie_litellm.ledger.kpis import Kpi

_CRITICAL_SHARES: Final = 10.0  # times the share that a target allows, from which on a figure is critical
_CRITICAL_LATENCY: Final = 3.0  # times the target's seconds, likewise


@dataclass(frozen=True, slots=True)
class VitalFigure:
    """One of them: its ``name`` among the texts, its text, and its ``level``, empty, warning or critical."""

    name: str
    value: float | None
    text: str
    level: str = ""


def vital_figures(impact: Impact, kpis: Sequence[Kpi], formats: Formats) -> list[VitalFigure]:
    """Those of the last minutes; without a ledger, what waits alone."""
    waiting = VitalFigure("waiting", impact.waiting, formats.number(impact.waiting))
    if impact.recent is None:
        return [waiting]
    targets = {one.name: one.target for one in kpis}
    requests, rate = impact.recent.requests, impact.recent.per_minute
    success, p95, fallbacks = requests.success_rate, requests.latency.p95_ms, requests.fallback_rate
    failed = None if success is None else 1 - success
    allowed = 1 - (targets.get("uptime") or 0.0)
    return [
        VitalFigure("success", success, formats.share(success), _level(failed, allowed, _CRITICAL_SHARES)),
        VitalFigure("rate", rate, formats.number(rate, 1 if 0 < rate < 10 else 0)),
        VitalFigure("p95", p95, formats.milliseconds(p95), _late(p95, targets)),
        waiting,
        VitalFigure(
            "fallback",
            fallbacks,
            formats.share(fallbacks),
            _level(fallbacks, targets.get("fallback_rate"), _CRITICAL_SHARES),
        ),
    ]


def _late(p95_ms: float | None, targets: Mapping[str, float | None]) -> str:
    return _level(None if p95_ms is None else p95_ms / 1000, targets.get("p95_latency"), _CRITICAL_LATENCY)


def _level(value: float | None, allowed: float | None, critical: float) -> str:
    if value is None or allowed is None or value <= allowed:
        return ""
    return "critical" if value >= allowed * critical else "warning"
