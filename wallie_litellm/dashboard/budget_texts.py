"""The page's texts about budgets, in its languages; :mod:`.translations` has the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

BUDGETS_EN: Final[Mapping[str, str]] = {
    "budgets": "Budgets",
    "budgets.of": "Of",
    "budgets.all": "all features",
    "budgets.window": "By",
    "budgets.spent": "Spent",
    "budgets.reserved": "{amount} reserved",
    "budgets.then": "Once used up",
    "quota.exhausted": "used up",
    "window.day": "day",
    "window.month": "month",
    "on_exhausted.alert": "alert",
    "on_exhausted.cheapest": "cheapest model",
    "on_exhausted.refuse": "refuse",
}

BUDGETS_ES: Final[Mapping[str, str]] = {
    "budgets": "Presupuestos",
    "budgets.of": "De",
    "budgets.all": "todas las funciones",
    "budgets.window": "Por",
    "budgets.spent": "Gastado",
    "budgets.reserved": "{amount} reservados",
    "budgets.then": "Una vez agotado",
    "quota.exhausted": "agotado",
    "window.day": "día",
    "window.month": "mes",
    "on_exhausted.alert": "aviso",
    "on_exhausted.cheapest": "modelo más barato",
    "on_exhausted.refuse": "rechazar",
}
