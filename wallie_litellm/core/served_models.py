"""Which models of a provider have served lately, at any worker of a fleet."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Final

SERVED_LATELY: Final = 600.0  # seconds for which a model that has served counts as one that does
MOST_SERVED: Final = 16  # models, the latest: one that is not in trouble is enough


class ServedModels:
    """When each model has served last. Times are seconds of the caller's clock."""

    __slots__ = ("_at",)

    def __init__(self) -> None:
        self._at: dict[str, float] = {}

    def note(self, now: float, served: Mapping[str, float]) -> None:
        """Models have served at these times."""
        if not served:
            return
        for model, at in served.items():
            self._at[model] = max(min(now, at), self._at.get(model, -inf))
        latest = sorted(self._at.items(), key=lambda one: (-one[1], one[0]))[:MOST_SERVED]
        self._at = {model: at for model, at in latest if now - at < SERVED_LATELY}

    def ages(self, now: float) -> dict[str, float]:
        """Seconds since each model has served last, of those that have lately."""
        return {model: now - at for model, at in self._at.items() if now - at < SERVED_LATELY}
