"""The page's texts about whether callers are hurt, in its languages; :mod:`.translations` has the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

OVERALL_EN: Final[Mapping[str, str]] = {
    "overall": "The last five minutes",
    "overall.well": "All providers answer",
    "overall.stopped": "stopped by an operator",
    "overall.down": "down",
    "overall.paused": "paused",
    "overall.degraded": "degraded",
    "overall.since": "since {time}",
    "overall.more": "and {count} more",
    "overall.idle": "no requests in the last five minutes",
    "overall.request": "1 request",
    "overall.requests": "{count} requests",
    "overall.traffic": "{requests} in the last five minutes, {failed}",
    "overall.moved": "in the last five minutes {moved}, {failed}",
    "overall.went": "{count} requests went to {model}",
    "overall.went_one": "1 request went to {model}",
    "overall.to": "{count} to {model}",
    "overall.elsewhere": "{count} elsewhere",
    "overall.failed": "{count} failed",
    "overall.one_failed": "1 failed",
    "overall.none_failed": "none failed",
    "vital.success": "answered",
    "vital.rate": "requests/min",
    "vital.p95": "p95",
    "vital.waiting": "waiting now",
    "vital.fallback": "by a fallback",
}

OVERALL_ES: Final[Mapping[str, str]] = {
    "overall": "Los últimos cinco minutos",
    "overall.well": "Todos los proveedores responden",
    "overall.stopped": "detenido por un operador",
    "overall.down": "caído",
    "overall.paused": "en pausa",
    "overall.degraded": "degradado",
    "overall.since": "desde las {time}",
    "overall.more": "y {count} más",
    "overall.idle": "ninguna petición en los últimos cinco minutos",
    "overall.request": "1 petición",
    "overall.requests": "{count} peticiones",
    "overall.traffic": "{requests} en los últimos cinco minutos, {failed}",
    "overall.moved": "en los últimos cinco minutos {moved}, {failed}",
    "overall.went": "{count} peticiones pasaron a {model}",
    "overall.went_one": "1 petición pasó a {model}",
    "overall.to": "{count} a {model}",
    "overall.elsewhere": "{count} a otros",
    "overall.failed": "{count} fallaron",
    "overall.one_failed": "1 falló",
    "overall.none_failed": "ninguna falló",
    "vital.success": "atendidas",
    "vital.rate": "peticiones/min",
    "vital.p95": "p95",
    "vital.waiting": "en espera ahora",
    "vital.fallback": "por un respaldo",
}
