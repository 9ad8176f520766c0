"""What one guard decides by: the steps that make plans, and their switches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple, Protocol

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
from wallie_litellm.routing.order import OrderChange, OrderStep
from wallie_litellm.routing.plan import PlanStep
from wallie_litellm.routing.ramp import RampStep
from wallie_litellm.routing.silence import SilenceStep
from wallie_litellm.routing.switches import Switches
from wallie_litellm.routing.tiers import Tiers
from wallie_litellm.routing.turned_on import turned_on
from wallie_litellm.routing.warm_prefixes import WarmPrefixes, WarmStep

_BY_LATENCY: Final = frozenset({"first_token", "hedge", "order"})  # decisions by what calls take


class Scopes(Protocol):
    """What is asked of the limits and the breakers that an attempt in a scope passes."""

    def closed_at(self, scope: str) -> float:
        """When the last of the breakers closed, in seconds of the guard's clock."""

    def denial_of(self, scope: str, demand: Demand, priority: int) -> object:
        """Why limits, a pause or a breaker would not admit ``demand`` now; ``None`` if they would."""


class Routing:
    """The decisions that the file turns on.

    ``steps`` change plans, in this order: tiers, experiments, warm prefixes, order, silence, ramp. Without any,
    requests go where they say. ``tiers`` are names for chains, ``answers`` is the cache of answers, ``warm`` what is
    remembered of prompts' beginnings, ``experiments`` the step that gives requests their arms, ``latencies`` what calls
    have taken, where the file turns them on. What ``before``, of an earlier configuration, has measured goes on.
    """

    def __init__(
        self,
        config: WallieConfig,
        clock: Clock,
        switches: Switches,
        scopes: Scopes,
        on_order_change: Callable[[OrderChange], object],
        processes: int = 1,
        before: Routing | None = None,
    ) -> None:
        self.switches = switches
        on, features, settings = turned_on(config), config.features, config.routing
        self._turned_on = sorted(on)
        auto = self._auto(config, clock, before)
        of_features = {name: own.tier for name, own in features.items() if own.tier is not None}
        self.tiers = Tiers(settings.tiers, of_features, auto) if settings.tiers else None
        self.experiments = self._experiments(config, before) if "experiments" in on else None
        answers, warm_before, latencies, first_tokens, order, hedging = _kept(before)
        self.answers = answers or AnswerPool(clock) if "cache" in on else None
        self.warm = warm_before or WarmPrefixes(clock.now) if "warm_prefix" in on else None
        #: ``None`` where nothing is decided by them.
        self.latencies = latencies or Latencies(clock.now) if on & _BY_LATENCY else None
        self.first_tokens = self.order = None
        #: ``None`` where no feature is hedged: requests need not look.
        self.hedging = Hedging(config, clock, switches, self.latencies, processes, hedging) or None

        def serves_now(scope: str) -> bool:
            return not scopes.denial_of(scope, ONE_REQUEST, 0)

        warm = silence = ramp = None
        if self.warm is not None:
            points = {name: own.prompt_cache for name, own in features.items() if own.prompt_cache is not None}
            warm = WarmStep(self.warm, points, everywhere=settings.warm_prefix, on=switches.on)
        if self.latencies is not None:
            self.first_tokens = first_tokens or FirstTokenBounds(self.latencies, clock.now, switches)
            bound = frozenset(name for name, own in features.items() if own.first_token is AUTO_FIRST_TOKEN)
            if bound:
                silence = SilenceStep(self.latencies, switches, bound, serves_now)
            if "order" in on:
                orders = {name: own.order for name, own in features.items() if own.order is not None}
                self.order = order or OrderStep(
                    self.latencies, clock.now, switches, settings.order, orders, serves_now, on_order_change
                )
                self.order.use(settings.order, orders)
        if (seconds := config.breaker.ramp) is not None:
            ramp = RampStep(seconds, clock.now, switches, scopes.closed_at, serves_now)
        steps = (self.tiers, self.experiments, warm, self.order, silence, ramp)
        self.steps: tuple[PlanStep, ...] = tuple(step for step in steps if step is not None)

    def describe(self) -> dict[str, Any]:
        """The state of all of it, JSON-ready."""
        parts = {
            "tiers": self.tiers,
            "auto": None if self.tiers is None else self.tiers.auto,
            "order": self.order,
            "first_token": self.first_tokens,
            "cache": self.answers,
            "warm_prefix": self.warm,
            "hedge": self.hedging,
            "experiments": self.experiments,
        }
        described = {name: part.describe() for name, part in parts.items() if part is not None}
        return {"switches": self.switches.describe(), "turned_on": self._turned_on, **described}

    def _experiments(self, config: WallieConfig, before: Routing | None) -> ExperimentStep:
        ordinary = {name: feature.tier for name, feature in config.features.items()}
        known = {} if before is None or before.experiments is None else before.experiments.by_name
        return ExperimentStep(config.experiments, config.routing.tiers, ordinary, self.switches.on, known)

    def _auto(self, config: WallieConfig, clock: Clock, before: Routing | None) -> Auto | None:
        if (settings := config.routing.auto) is None:
            return None
        known = None if before is None or before.tiers is None else before.tiers.auto
        if known is not None and known.settings == settings:
            return known
        return Auto(settings, clock.now, self.switches.on)


class _Kept(NamedTuple):
    """What is measured and remembered, which another configuration does not change."""

    answers: AnswerPool | None = None
    warm: WarmPrefixes | None = None
    latencies: Latencies | None = None
    first_tokens: FirstTokenBounds | None = None
    order: OrderStep | None = None
    hedging: Hedging | None = None


def _kept(before: Routing | None) -> _Kept:
    if before is None:
        return _Kept()
    return _Kept(before.answers, before.warm, before.latencies, before.first_tokens, before.order, before.hedging)
