"""Experiments: which arm a request has, and where an experiment stands."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

from wallie_litellm.config import ExperimentSettings
from wallie_litellm.core.arms import arm_of, unit_hash
from wallie_litellm.core.iso_time import iso_time
from wallie_litellm.routing.plan import Asked, Decided, Member, Plan
from wallie_litellm.routing.warm_prefixes import session_of

STARTED: Final = "started"
STOPPED: Final = "stopped"
RESUMED: Final = "resumed"
CONCLUDED: Final = "concluded"

AFTER: Final = 0.001  # seconds between two changes of which the second was made by a clock that is behind
MOST_UNITS: Final = 10_000  # whose arms are remembered, those that were seen last
_BITS: Final = 64  # of a unit's hash
_random: Final = random.Random()  # noqa: S311 - it divides requests


class Change(NamedTuple):
    """One of an experiment's changes on record, as :class:`~wallie_litellm.events.ExperimentChanged` has it."""

    id: str
    at: float
    definition: str
    change: str
    arm: str
    reason: str | None = None


class AlreadyConcluded(ValueError):  # noqa: N818 - it says what happened
    """An experiment was concluded before, ``at`` a Unix time: nothing changes."""

    def __init__(self, name: str, winner: str, at: float) -> None:
        super().__init__(f"{name} was concluded before, at {iso_time(at, 'seconds')}: {winner} has won, which stays")
        self.name, self.winner, self.at = name, winner, at

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.name, self.winner, self.at)


class Standing(NamedTuple):
    """Where an experiment stands: since when it is measured (Unix seconds), the arms stopped, the arm that has won.

    ``resumed`` are the arms that were stopped once and go on, with the change that says so.
    """

    since: float | None = None
    start: str | None = None  # id of the change that started it
    stopped: frozenset[str] = frozenset()
    winner: str | None = None
    concluded_at: float | None = None
    reason: str | None = None
    resumed: Mapping[str, Change] = {}

    @property
    def state(self) -> str:
        """``not_started`` (no worker has yet), ``running`` or ``concluded``."""
        if self.winner is not None:
            return "concluded"
        return "not_started" if self.since is None else "running"


def standing_of(changes: Iterable[Change], definition: str) -> Standing:
    """Where an experiment of this ``definition`` stands by its ``changes``, in order of time.

    With another definition between, it begins anew: what was stopped or concluded before says nothing of it.
    """
    standing, current = Standing(), None
    for change in changes:
        if change.change == STARTED:
            if change.definition != current:
                current, standing = change.definition, Standing(change.at, change.id)
        elif change.definition != current:
            continue
        elif change.change == STOPPED:
            standing = standing._replace(stopped=standing.stopped | {change.arm})
        elif change.change == RESUMED:
            resumed = {**standing.resumed, change.arm: change}
            standing = standing._replace(stopped=standing.stopped - {change.arm}, resumed=resumed)
        elif change.change == CONCLUDED:
            standing = standing._replace(winner=change.arm, concluded_at=change.at, reason=change.reason)
    return standing if current == definition else Standing()


class Experiment:
    """One experiment of the file, and where it stands."""

    def __init__(self, name: str, settings: ExperimentSettings, ordinary: frozenset[str]) -> None:
        self.name = name
        self.settings = settings
        self.standing = Standing()
        self._names = ordinary | settings.arms.keys()
        self._arms, self._kind = dict(settings.arms), settings.unit
        self._given = lru_cache(MOST_UNITS)(self._give)
        self._recorded: tuple[Change, ...] = ()
        self._own: tuple[Change, ...] = ()  # of this process, that the ledger has not yet
        self._lock = threading.Lock()

    def is_for(self, settings: ExperimentSettings, ordinary: frozenset[str]) -> bool:
        """Whether it is the experiment of these settings, and of a feature with these tiers."""
        return settings == self.settings and self._names == ordinary | settings.arms.keys()

    def note(self, change: Change) -> None:
        """A change that this process has made holds at once."""
        with self._lock:
            self._own = (*self._own, change)
            self._stand()

    def learn(self, recorded: Sequence[Change]) -> None:
        """The changes that the ledger has on record."""
        ids = {change.id for change in recorded}
        with self._lock:
            self._recorded = tuple(recorded)
            self._own = tuple(change for change in self._own if change.id not in ids)
            self._stand()

    def time_of_change(self, wall: float) -> float:
        """The time of a change at ``wall``: after all that are known, whichever clocks those were made by."""
        return max([wall, *(change.at + AFTER for change in (*self._recorded, *self._own))])

    def _stand(self) -> None:
        changes = sorted((*self._recorded, *self._own), key=lambda change: (change.at, change.id))
        self.standing = standing_of(changes, self.settings.definition)

    def takes(self, model: str | None) -> bool:
        """Whether a request of the feature takes part: it names no model, one of the arms, or the feature's tier.

        One that names another model wants that one, and is left alone.
        """
        return model is None or model in self._names

    def given(self, asked: Asked) -> tuple[str, str | None, str | None]:
        """What keeps its arm, by kind, its hash, and the arm: the user, else the session, else the request.

        A request has no hash; there is no arm where all are stopped.
        """
        if self._kind == "user" and asked.user_id:
            return "user", *self._given(f"user:{asked.user_id}", self.standing.stopped)
        session = None if self._kind == "request" else session_of(asked.arguments, asked.metadata)
        if session is not None:
            return "session", *self._given(f"session:{session}", self.standing.stopped)
        drawn = f"{_random.getrandbits(_BITS):016x}"
        return "request", None, arm_of(drawn, self._arms, self.standing.stopped)

    def _give(self, unit: str, stopped: frozenset[str]) -> tuple[str, str | None]:
        hashed = unit_hash(self.name, unit)
        return hashed, arm_of(hashed, self._arms, stopped)

    def describe(self) -> dict[str, Any]:
        """What the file says of it and where it stands, JSON-ready."""
        standing, settings = self.standing, self.settings
        return {
            "feature": settings.feature,
            "metric": settings.metric,
            "unit": settings.unit,
            "arms": {arm: {"share": share, "stopped": arm in standing.stopped} for arm, share in settings.arms.items()},
            "state": standing.state,
            "since": standing.since,
            "winner": standing.winner,
        }


class ExperimentStep:
    """The step of a plan that gives requests their arm; ``tiers`` are chains by name, ``ordinary`` features' tiers.

    Of those that are ``known``, the ones that another configuration has not changed go on.
    """

    def __init__(
        self,
        experiments: Mapping[str, ExperimentSettings],
        tiers: Mapping[str, Sequence[str]],
        ordinary: Mapping[str, str | None],
        on: Callable[[str], bool],
        known: Mapping[str, Experiment] = {},
    ) -> None:
        self._tiers = tiers
        self._on = on
        own = {name: frozenset(filter(None, [ordinary.get(one.feature)])) for name, one in experiments.items()}
        self.by_name = {
            name: known[name]
            if name in known and known[name].is_for(settings, own[name])
            else Experiment(name, settings, own[name])
            for name, settings in experiments.items()
        }
        self._by_feature = {one.settings.feature: one for one in self.by_name.values()}

    def __call__(self, plan: Plan, asked: Asked) -> Plan:
        """The plan with the request's arm asked first, if it takes part in an experiment."""
        experiment = self._by_feature.get(asked.feature or "")
        if experiment is None or not self._on("experiments"):
            return plan
        stated = asked.stated
        if stated.get("experiment") is False or not experiment.takes(stated.get("tier") or asked.model):
            return plan
        decided, winner = plan.decided or Decided(), experiment.standing.winner
        if winner is not None:
            decided.why.append(f"{winner} has won {experiment.name}")
            return self._asked_first(winner, plan, decided, experiment.name, asked)
        kind, unit, arm = experiment.given(asked)
        if arm is None:
            return plan
        decided.experiment, decided.arm, decided.unit = experiment.name, arm, unit
        decided.why.append(f"arm {arm} of {experiment.name} by {kind}")
        return self._asked_first(arm, plan, decided, experiment.name, asked)

    def groups_of(self, name: str) -> dict[str, str]:
        """Each arm of an experiment, and the group that it asks first."""
        arms = self.by_name[name].settings.arms
        return {arm: self._tiers.get(arm, (arm,))[0] for arm in arms}

    def _asked_first(self, arm: str, plan: Plan, decided: Decided, name: str, asked: Asked) -> Plan:
        """The arm, then the rest of the request's chain; a tier is a chain of its own."""
        tier, members = self._tiers.get(arm), plan.members
        if tier is not None:
            decided.tier = arm
            members = members if asked.states_chain else tuple(map(Member, tier[1:]))
            return Plan(tier[0], members, decided, arm, frozenset(tier), name)
        if arm != plan.group and asked.stated.get("disable_fallbacks") is not True:
            members = (Member(plan.group), *[one for one in members if one.group != arm])
        return Plan(arm, members, decided, plan.tier, plan.granted, name)

    def describe(self) -> dict[str, Any]:
        """Every experiment, by name."""
        return {name: one.describe() for name, one in self.by_name.items()}
