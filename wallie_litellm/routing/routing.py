"""What one guard decides by: the steps that make plans, and their switches."""

from __future__ import annotations

from typing import Any

from wallie_litellm.clock import Clock
from wallie_litellm.config import WallieConfig
from wallie_litellm.routing.answer_pool import AnswerPool
from wallie_litellm.routing.auto import Auto
from wallie_litellm.routing.experiments import ExperimentStep
from wallie_litellm.routing.hedging import Hedging
from wallie_litellm.routing.plan import PlanStep
from wallie_litellm.routing.switches import Switches
from wallie_litellm.routing.tiers import Tiers
from wallie_litellm.routing.warm_prefixes import WarmPrefixes, WarmStep


class Routing:
    """The decisions that the file turns on.

    ``steps`` change plans, in this order: tiers, experiments, order, warm prefixes. Without any, requests go where they
    say. ``tiers`` are names for chains, ``answers`` is the cache of answers, ``warm`` what is remembered of prompts'
    beginnings, ``experiments`` the step that gives requests their arms, where the file turns them on.
    """

    def __init__(self, config: WallieConfig, clock: Clock, processes: int = 1) -> None:
        self.switches = Switches()
        features, settings = config.features, config.routing
        auto = None if settings.auto is None else Auto(settings.auto, clock.now, self.switches.on)
        of_features = {name: feature.tier for name, feature in features.items() if feature.tier is not None}
        self.tiers = Tiers(settings.tiers, of_features, auto) if settings.tiers else None
        cached = any(feature.cache is not None for feature in features.values())
        self.answers = AnswerPool(clock) if cached else None
        marked = {name: feature.prompt_cache for name, feature in features.items() if feature.prompt_cache is not None}
        everywhere = config.routing.warm_prefix
        self.warm = WarmPrefixes(clock.now) if marked or everywhere else None
        self.steps: tuple[PlanStep, ...] = () if self.tiers is None else (self.tiers,)
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
        if self.tiers is not None:
            described["tiers"] = self.tiers.describe()
            if self.tiers.auto is not None:
                described["auto"] = self.tiers.auto.describe()
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
