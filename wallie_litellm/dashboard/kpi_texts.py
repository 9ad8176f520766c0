"""The page's texts about key figures, in its languages; :mod:`.translations` has the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

KPI_EN: Final[Mapping[str, str]] = {
    "kpis": "Key figures, 30 days",
    "kpi.uptime": "Uptime",
    "kpi.p95_latency": "p95 latency",
    "kpi.error_rate": "Error rate",
    "kpi.monthly_cost": "Monthly cost, projected",
    "kpi.fallback_rate": "Fallback rate",
    "kpi.critical_alerts": "Critical alerts",
    "kpi.cached_share": "From the cache",
    "kpi.wasted_share": "Cost wasted by hedges",
    "kpi.auto_saved_usd": "Saved by auto",
    "kpi.pass": "pass",
    "kpi.fail": "fail",
    "kpi.unknown": "no data",
}

KPI_ES: Final[Mapping[str, str]] = {
    "kpis": "Indicadores, 30 días",
    "kpi.uptime": "Disponibilidad",
    "kpi.p95_latency": "Latencia p95",
    "kpi.error_rate": "Tasa de error",
    "kpi.monthly_cost": "Coste mensual, previsto",
    "kpi.fallback_rate": "Tasa de respaldo",
    "kpi.critical_alerts": "Alertas críticas",
    "kpi.cached_share": "De la caché",
    "kpi.wasted_share": "Coste perdido en peticiones duplicadas",
    "kpi.auto_saved_usd": "Ahorrado por auto",
    "kpi.pass": "cumple",
    "kpi.fail": "no cumple",
    "kpi.unknown": "sin datos",
}
