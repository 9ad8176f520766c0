"""The page's texts about charts and chains, in its languages; :mod:`.translations` has the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

CHART_EN: Final[Mapping[str, str]] = {
    "performance.latency": "Latency: mean and p95",
    "mark.opened": "opened",
    "mark.closed": "closed",
    "mark.reload": "configuration reloaded",
    "mark.legend_opened": "breaker opened",
    "mark.legend_closed": "breaker closed",
    "mark.legend_reload": "reload",
    "mark.all": "What is marked in the chart",
    "chains": "Chains",
    "chains.about": "share of the requests that each member served",
    "chains.asked": "Asked for",
    "chains.served": "Served by",
    "chains.or": "or",
    "chains.other": "another one at {provider}",
    "chains.cached": "the cache",
    "chains.failed": "not answered",
}

CHART_ES: Final[Mapping[str, str]] = {
    "performance.latency": "Latencia: media y p95",
    "mark.opened": "abierto",
    "mark.closed": "cerrado",
    "mark.reload": "configuración recargada",
    "mark.legend_opened": "cortacircuitos abierto",
    "mark.legend_closed": "cortacircuitos cerrado",
    "mark.legend_reload": "recarga",
    "mark.all": "Lo que está marcado en la gráfica",
    "chains": "Cadenas",
    "chains.about": "parte de las peticiones que atendió cada miembro",
    "chains.asked": "Pedido",
    "chains.served": "Atendido por",
    "chains.or": "o",
    "chains.other": "otro en {provider}",
    "chains.cached": "la caché",
    "chains.failed": "sin respuesta",
}
