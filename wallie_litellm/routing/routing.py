"""What one guard decides by: the steps that make plans, and their switches."""

from __future__ import annotations

from typing import Any

from wallie_litellm.clock import Clock
from wallie_litellm.config import WallieConfig
from wallie_litellm.routing.answer_pool import AnswerPool
from wallie_litellm.routing.experiments import ExperimentStep
from wallie_litellm.routing.hedging import Hedging
from wallie_litellm.routing.plan import PlanStep
from wallie_litellm.routing.switches import Switches
from wallie_litellm.routing.warm_prefixes import WarmPrefixes, WarmStep


class Routing:
    """The decisions that the file turns on.

    ``steps`` change plans, in this order: tiers, experiments, order, warm prefixes. Without any, requests go where they
    say. ``answers`` is the cache of answers, ``warm`` what is remembered of prompts' beginnings, ``experiments`` the
    step that gives requests their arms, where the file turns them on.
    """

    def __init__(self, config: WallieConfig, clock: Clock, processes: int = 1) -> None:
        self.switches = Switches()
        features = config.features
        cached = any(feature.cache is not None for feature in features.values())
        self.answers = AnswerPool(clock) if cached else None
        marked = [name for name, feature in features.items() if feature.prompt_cache is not None]
        everywhere = config.routing.warm_prefix
        self.warm = WarmPrefixes(clock.now) if marked or everywhere else None
        self.steps: tuple[PlanStep, ...] = ()
        self.experiments = self._experiments(config) if config.experiments else None
        if self.experiments is not None:
            self.steps += (self.experiments,)
        if self.warm is not None:
            self.steps += (WarmStep(self.warm, marked, everywhere=everywhere, on=self.switches.on),)
        #: ``None`` where no feature is hedged: requests need not look.
        self.hedging = Hedging(config, clock, self.switches, processes=processes) or None

    def describe(self) -> dict[str, Any]:
        """The state of all of it, JSON-ready."""
        described: dict[str, Any] = {"switches": self.switches.describe()}
        if self.answers is not None:
            described["cache"] = self.answers.describe()
        if self.warm is not None:
            described["warm_prefix"] = self.warm.describe()
        if self.hedging is not None:
            described["hedge"] = self.hedging.describe()
        if self.experiments is not None:
            described["experiments"] = self.experiments.describe()
        return described

    def _experiments(self, config: WallieConfig) -> ExperimentStep:
        ordinary = {name: feature.tier for name, feature in config.features.items()}
        return ExperimentStep(config.experiments, config.routing.tiers, ordinary, self.switches.on)
