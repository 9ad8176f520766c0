"""Tiers as a router's names: what a call says of them, and the groups that they stand for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from wallie_litellm.litellm_adapter.complexity import complexity_classifier
from wallie_litellm.litellm_adapter.metadata import stated_tier, tags_of
from wallie_litellm.routing.tiers import Tiers


class TierNames:
    """The tiers of a guard, for one of its routers; without any, all names are groups."""

    def __init__(self, tiers: Tiers | None) -> None:
        self._tiers = tiers
        #: The group that is asked first, by the name of each tier.
        self.first_groups = {} if tiers is None else {name: tiers.chain(name)[0] for name in sorted(tiers.names)}
        if tiers is not None and tiers.auto is not None and tiers.auto.classify is None:
            tiers.auto.classify = complexity_classifier()

    def chain(self, name: str) -> Sequence[str]:
        """The groups of a tier; empty for any other name."""
        return () if self._tiers is None else self._tiers.chain(name)

    def tier_for(self, model: object, arguments: Mapping[str, Any]) -> str | None:
        """The tier that a call is for; ``None`` where it goes to the model that it names.

        Raises:
            UnknownTier: it names a tier that is none.
        """
        if self._tiers is None:
            return None
        feature, _, metadata, _ = tags_of(arguments)
        named = self._tiers.name_for(None if model is None else str(model), feature, stated_tier(arguments), metadata)
        return None if named is None else named[0]

    def in_groups(self, stated: Mapping[str, Any], names: Sequence[str]) -> Mapping[str, Any]:
        """``stated`` with the tiers in its chains of these ``names`` as their groups.

        A chain after a tier is one after each of its groups; one that goes on to a tier goes on along it.
        """
        if self._tiers is None or not any(stated.get(name) for name in names):
            return stated
        return {**stated, **{name: self._expanded(stated[name]) for name in names if stated.get(name)}}

    def _expanded(self, fallbacks: Any) -> Any:
        if not isinstance(fallbacks, list | tuple):
            return fallbacks
        expanded: list[Any] = []
        for entry in fallbacks:
            if not isinstance(entry, Mapping):
                expanded += self._groups(entry)
            elif "model" in entry:
                expanded += [{**entry, "model": group} for group in self._groups(entry["model"])]
            else:
                chains = {group: self._expanded(after) for name, after in entry.items() for group in self._groups(name)}
                expanded.append(chains)
        return expanded

    def _groups(self, name: Any) -> Sequence[Any]:
        return self.chain(name) or (name,) if isinstance(name, str) else (name,)

    def take_stated(self, arguments: dict[str, Any], stated: dict[str, Any]) -> None:
        """Move the tier that a call states from its ``arguments``, which go to the provider, to those ``stated``."""
        if self._tiers is not None:
            stated["tier"] = stated_tier(arguments)
            arguments.pop("tier", None)
