"""What one guard decides by: the steps that make plans, and their switches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from wallie_litellm.clock import Clock
from wallie_litellm.config import WallieConfig
from wallie_litellm.config.values import AUTO_FIRST_TOKEN
from wallie_litellm.core.demand import ONE_REQUEST, Demand
from wallie_litellm.routing.answer_pool import AnswerPool
from wallie_litellm.routing.auto import Auto
from wallie_litellm.routing.experiments import ExperimentStep
from wallie_litellm.routing.first_token import FirstTokenBounds
from wallie_litellm.routing.hedging import Hedging
from wallie_litellm.routing.latencies import Latencies
from wallie_litellm.routing.order import LATENCY, OrderChange, OrderStep
from wallie_litellm.routing.plan import PlanStep
from wallie_litellm.routing.ramp import RampStep
from wallie_litellm.routing.silence import SilenceStep
from wallie_litellm.routing.switches import Switches
from wallie_litellm.routing.tiers import Tiers
from wallie_litellm.routing.turned_on import turned_on
from wallie_litellm.routing.warm_prefixes import WarmPrefixes, WarmStep


class Breakers(Protocol):
    """What is asked of the breakers that an attempt in a scope passes."""

    def is_open(self, scope: str) -> bool:
        """Whether one of them admits nothing now."""

    def closed_at(self, scope: str) -> float:
        """When the last of them closed, in seconds of the guard's clock."""

    def denial_of(self, scope: str, demand: Demand, priority: int) -> object:
        """Why the limits, a pause or a breaker of the scope would not admit ``demand`` now; ``None`` if they would."""


class Routing:
    """The decisions that the file turns on.

    ``steps`` change plans, in this order: tiers, experiments, warm prefixes, order, silence, ramp. Without any,
    requests go where they say. ``tiers`` are names for chains, ``answers`` is the cache of answers, ``warm`` what is
    remembered of prompts' beginnings, ``experiments`` the step that gives requests their arms, ``latencies`` what calls
    have taken, where the file turns them on.
    """

    def __init__(
        self,
        config: WallieConfig,
        clock: Clock,
        switches: Switches,
        breakers: Breakers,
        on_order_change: Callable[[OrderChange], object],
        processes: int = 1,
    ) -> None:
        self.switches = switches
        self._turned_on = sorted(turned_on(config))
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

        def serves_now(scope: str) -> bool:
            return not breakers.denial_of(scope, ONE_REQUEST, 0)

        #: ``None`` where nothing is decided by them.
        self.latencies = Latencies(clock.now) if _measures(config) else None
        self.first_tokens = self.order = None
        if self.latencies is not None:
            self.first_tokens = FirstTokenBounds(self.latencies, clock.now, self.switches)
            orders = {name: own.order for name, own in features.items() if own.order is not None}
            if LATENCY in (config.routing.order, *orders.values()):
                self.order = OrderStep(
                    *(self.latencies, clock.now, self.switches, config.routing.order, orders),
                    *(breakers.is_open, on_order_change, serves_now),
                )
                self.steps += (self.order,)
            bound = frozenset(name for name, own in features.items() if own.first_token is AUTO_FIRST_TOKEN)
            if bound:
                self.steps += (SilenceStep(self.latencies, self.switches, bound, breakers.is_open),)
        if (seconds := config.breaker.ramp) is not None:
            spared = (breakers.closed_at, breakers.is_open, serves_now)
            self.steps += (RampStep(seconds, clock.now, self.switches, *spared),)
        #: ``None`` where no feature is hedged: requests need not look.
        self.hedging = Hedging(config, clock, self.switches, self.latencies, processes) or None

    def describe(self) -> dict[str, Any]:
        """The state of all of it, JSON-ready."""
        described: dict[str, Any] = {"switches": self.switches.describe(), "turned_on": self._turned_on}
        if self.tiers is not None:
            described["tiers"] = self.tiers.describe()
            if self.tiers.auto is not None:
                described["auto"] = self.tiers.auto.describe()
        if self.order is not None:
            described["order"] = self.order.describe()
        if self.first_tokens is not None:
            described["first_token"] = self.first_tokens.describe()
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


def _measures(config: WallieConfig) -> bool:
    """Whether the file decides anything by what calls take."""
    features = config.features.values()
    bounds = (*(own.first_token for own in features), *(own.first_token for own in config.providers.values()))
    by_latency = config.routing.order == LATENCY or any(own.order == LATENCY for own in features)
    return by_latency or AUTO_FIRST_TOKEN in bounds or any(own.hedge is not None for own in features)
