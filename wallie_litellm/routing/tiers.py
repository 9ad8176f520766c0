"""Tiers: names for chains. A request may name one as its model, by ``tier``, or through its feature."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from wallie_litellm.config.tiers import AUTO
from wallie_litellm.core.operations import GENERATING
from wallie_litellm.errors import UnknownTier
from wallie_litellm.routing.auto import Auto, Choice
from wallie_litellm.routing.plan import Asked, Decided, Member, Plan


class Tiers:
    """The tiers of a file, and the step of a plan that puts a tier's chain in the place of its name.

    ``of_features`` are those of the features' requests that name no model. Chains that a request states, and those
    after context-window and content-policy faults, stay.
    """

    def __init__(
        self, chains: Mapping[str, Sequence[str]], of_features: Mapping[str, str], auto: Auto | None = None
    ) -> None:
        self.chains = {name: tuple(groups) for name, groups in chains.items()}
        self.auto = auto
        self.names = frozenset(self.chains) if auto is None else frozenset((*self.chains, AUTO))
        self._of_features = dict(of_features)
        self._members = {name: tuple(map(Member, groups)) for name, groups in self.chains.items()}
        self._granted = {name: frozenset(groups) for name, groups in self.chains.items()}
        self._any = frozenset[str]().union(*self.chains.values())

    def chain(self, name: str) -> Sequence[str]:
        """The groups of a tier; ``auto`` has those of its middle one. Empty where it is no tier's name."""
        if name == AUTO and self.auto is not None:
            name = self.auto.settings.medium
        return self.chains.get(name, ())

    def name_for(
        self, model: str | None, feature: str | None, stated: Any, metadata: Mapping[str, Any]
    ) -> tuple[str, str] | None:
        """The tier that a request is for, and where it names it; ``None`` for a request that goes where it says.

        ``stated`` is its argument ``tier``. A ``tier`` in its metadata counts where it is a tier's name: applications
        may have one of their own.

        Raises:
            UnknownTier: ``stated`` is no tier.
        """
        if stated is not None and stated != "":
            if not isinstance(stated, str) or stated not in self.names:
                raise UnknownTier(_unknown(stated, sorted(self.names)))
            return str(stated), "as the request says"
        found = metadata.get("tier")
        if isinstance(found, str) and found in self.names:
            return found, "as the request's metadata say"
        if model:
            return (model, "by its name") if model in self.names else None
        named = self._of_features.get(feature or "")
        return None if named is None else (named, f"of feature {feature}")

    def __call__(self, plan: Plan, asked: Asked) -> Plan:
        """The plan along the tier's chain, if the request is for one."""
        named = self.name_for(asked.model, asked.feature, asked.stated.get("tier"), asked.metadata)
        decided = plan.decided or Decided()
        if named is None:
            self._watch(decided, asked)
            return self._expanded(plan._replace(decided=decided))
        name, why = named
        tier, granted = name, self._granted.get(name)
        decided.why.append(f"tier {tier} {why}")
        if tier == AUTO and self.auto is not None:
            granted = self._any
            tier = self._chosen(self.auto, decided, asked)
        else:
            self._watch(decided, asked)
        decided.tier = tier
        decided.requested = asked.model or named[0]
        first, *others = self._members[tier]
        if asked.states_chain:
            others = [member for member in plan.members if member.group != first.group or member.parameters]
        return self._expanded(Plan(first.group, tuple(others), decided, name, granted or frozenset()))

    def _chosen(self, auto: Auto, decided: Decided, asked: Asked) -> str:
        """The tier of a request for ``auto``; all that is decided is on its record."""
        middle = auto.settings.medium
        if not auto.is_on:
            decided.why.append(f"auto: {middle}, as auto is switched off")
            return middle
        choice = auto.choose(asked)
        if auto.in_shadow:
            self._note_shadow(auto, decided, choice)
            return middle
        decided.auto_tier = choice.tier
        decided.auto_against, decided.on_saved = self.chains[auto.settings.complex][0], auto.note_saved
        decided.why.append(choice.why)
        return choice.tier

    def _watch(self, decided: Decided, asked: Asked) -> None:
        """Note what ``auto`` would have chosen, if that is asked for."""
        auto = self.auto
        if auto is not None and auto.in_shadow and auto.is_on and asked.operation in GENERATING:
            self._note_shadow(auto, decided, auto.choose(asked))

    def _note_shadow(self, auto: Auto, decided: Decided, choice: Choice) -> None:
        decided.auto_tier, decided.shadow = choice.tier, True
        decided.auto_against, decided.on_saved = self.chains[choice.tier][0], auto.note_saved
        decided.why.append(f"in shadow, {choice.why}")

    def _expanded(self, plan: Plan) -> Plan:
        """The plan with each tier among the members that the request states as the groups of its chain."""
        if self.names.isdisjoint(member.group for member in plan.members):
            return plan
        members: dict[tuple[str, bool], Member] = {}
        for member in plan.members:
            for group in self.chain(member.group) or (member.group,):
                if group != plan.group or member.parameters:
                    members.setdefault((group, bool(member.parameters)), Member(group, member.parameters))
        return plan._replace(members=tuple(members.values()))

    def describe(self) -> dict[str, Any]:
        """The chains; JSON-ready."""
        return {name: list(groups) for name, groups in self.chains.items()}


def _unknown(name: object, known: Sequence[str]) -> str:
    close = get_close_matches(str(name), known, 1, 0.6)
    hint = f"; did you mean {close[0]!r}?" if close else "."
    return f"tier: found {str(name)[:60]!r}, which is no tier{hint} Tiers: {', '.join(known)}"
