"""The page's texts about use, by whom and over time, in its languages; :mod:`.translations` has the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

USAGE_EN: Final[Mapping[str, str]] = {
    "usage": "Use",
    "usage.provider": "By provider",
    "usage.model": "By model",
    "usage.feature": "By feature",
    "usage.user": "By user",
    "usage.key": "By key",
    "usage.no_feature": "no feature",
    "usage.no_user": "no user",
    "usage.others": "{count} others",
    "usage.others_one": "1 other",
    "usage.partial": "Requests and p95 of users and keys are known of up to {count} attempts: choose a shorter range.",
    "column.errors": "Errors",
    "range.free": "From, to",
    "range.since": "From ({zone})",
    "range.until": "To ({zone})",
    "range.show": "Show",
    "range.between": "figures from {since} to {until}",
    "problem.range": "This range cannot be shown: {reason}.",
}

USAGE_ES: Final[Mapping[str, str]] = {
    "usage": "Uso",
    "usage.provider": "Por proveedor",
    "usage.model": "Por modelo",
    "usage.feature": "Por función",
    "usage.user": "Por usuario",
    "usage.key": "Por clave",
    "usage.no_feature": "sin función",
    "usage.no_user": "sin usuario",
    "usage.others": "{count} más",
    "usage.others_one": "1 más",
    "usage.partial": "Las peticiones y el p95 de usuarios y claves se conocen hasta {count} intentos: elija menos.",
    "column.errors": "Errores",
    "range.free": "Desde, hasta",
    "range.since": "Desde ({zone})",
    "range.until": "Hasta ({zone})",
    "range.show": "Mostrar",
    "range.between": "cifras de {since} a {until}",
    "problem.range": "Este periodo no se puede mostrar: {reason}.",
}
