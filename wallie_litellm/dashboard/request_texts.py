"""The page's texts about the log of requests, in its languages; :mod:`.translations` has the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

REQUEST_EN: Final[Mapping[str, str]] = {
    "requests": "Requests",
    "requests.intro": "What was asked for and how it was served, without prompts and answers: those are not on record.",
    "requests.none": "No request on record fits.",
    "requests.id": "Request",
    "requests.error": "Error contains",
    "requests.failed": "failed only",
    "requests.search": "Search",
    "requests.more": "Earlier ones",
    "requests.all": "All requests",
    "requests.attempts": "Attempts, in order",
    "requests.no_attempts": "No call was made.",
    "requests.not_ended": "This request is under way, or its process ended before it did: its attempts so far.",
    "requests.answered": "answered",
    "requests.not_answered": "failed",
    "requests.fallback": "by a fallback",
    "requests.hit": "from the cache",
    "column.user": "User",
    "column.key": "Key",
    "column.outcome": "Outcome",
    "column.attempts": "Attempts",
    "column.deployment": "Deployment",
    "column.first_token": "First token",
    "column.latency": "Latency",
    "problem.no_request": "There is no request of this id on record.",
}

REQUEST_ES: Final[Mapping[str, str]] = {
    "requests": "Peticiones",
    "requests.intro": "Qué se pidió y cómo se atendió, sin preguntas ni respuestas, que no se guardan.",
    "requests.none": "Ninguna petición guardada coincide.",
    "requests.id": "Petición",
    "requests.error": "El error contiene",
    "requests.failed": "solo fallidas",
    "requests.search": "Buscar",
    "requests.more": "Anteriores",
    "requests.all": "Todas las peticiones",
    "requests.attempts": "Intentos, en orden",
    "requests.no_attempts": "No se hizo ninguna llamada.",
    "requests.not_ended": "Esta petición está en curso, o su proceso terminó antes que ella: sus intentos hasta ahora.",
    "requests.answered": "atendida",
    "requests.not_answered": "fallida",
    "requests.fallback": "por un respaldo",
    "requests.hit": "de la caché",
    "column.user": "Usuario",
    "column.key": "Clave",
    "column.outcome": "Resultado",
    "column.attempts": "Intentos",
    "column.deployment": "Despliegue",
    "column.first_token": "Primer token",
    "column.latency": "Latencia",
    "problem.no_request": "No hay ninguna petición guardada con este identificador.",
}
