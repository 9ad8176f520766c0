"""What one guard decides by: the steps that make plans, and their switches."""

from __future__ import annotations

from typing import Any

from wallie_litellm.clock import Clock
from wallie_litellm.config import WallieConfig
from wallie_litellm.routing.plan import PlanStep
from wallie_litellm.routing.switches import Switches


class Routing:
    """The decisions that the file turns on.

    ``steps`` change plans, in this order: tiers, experiments, order. Without any, requests go where they say.
    """

    def __init__(self, config: WallieConfig, clock: Clock) -> None:
        self.switches = Switches()
        self.steps: tuple[PlanStep, ...] = ()

    def describe(self) -> dict[str, Any]:
        """The state of all of it, JSON-ready."""
        return {"switches": self.switches.describe()}
