"""Which models of a provider have served lately, at this worker and at all of a fleet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf
from typing import Final

from wallie_litellm.core.served_models import SERVED_LATELY

REPORTED_AGAIN: Final = 60.0  # seconds after which a model that goes on serving is reported again
LOOKS_EVERY: Final = 1.0  # seconds between two looks at what has served here


class FleetServes:
    """What the lease server has to know, and what it last answered. Times are seconds of this process."""

    def __init__(self) -> None:
        self.here: Callable[[float], Mapping[str, float]] = lambda _since: {}  # when models have served here since then
        self.at: Mapping[str, float] = {}  # when models have served at any worker; another one after each answer
        self._look_at = -inf

    def report(self, now: float) -> dict[str, float]:
        """The models that have served here, and when, as far as the fleet does not know it."""
        if now < self._look_at:
            return {}
        self._look_at = now + LOOKS_EVERY
        served = self.here(now - SERVED_LATELY)
        return {model: at for model, at in served.items() if at > self.at.get(model, -inf) + REPORTED_AGAIN}

    def receive(self, now: float, ages: Mapping[str, float]) -> None:
        """The lease server's answer: seconds since each model has served."""
        self.at = {model: now - seconds for model, seconds in ages.items()}
