"""The chains of a router's settings."""

from __future__ import annotations

from collections.abc import Sequence

from wallie_litellm.guard.chain import chain_after, configured_chains
from wallie_litellm.guard.tier_names import TierNames
from wallie_litellm.litellm_adapter.inner_router import InnerRouter
from wallie_litellm.routing.plan import Member


class ConfiguredChains:
    """The chains of the Router's settings, by kind and group."""

    def __init__(self, inner: InnerRouter, tiers: TierNames) -> None:
        self._inner, self._tiers = inner, tiers
        self.changed()

    def changed(self) -> None:
        """Read the settings anew."""
        self._by_kind = {name: configured_chains(value) for name, value in self._inner.fallbacks().items()}

    def after(self, group: str) -> Sequence[Member]:
        """The members of ``group``'s chain after the first."""
        if chain := self._tiers.chain(group):
            return tuple(map(Member, chain[1:]))
        return chain_after(group, self._by_kind["fallbacks"])

    def own(self, kind: str, group: str) -> Sequence[Member]:
        """The chain after a fault of this ``kind``."""
        return chain_after(group, self._by_kind[kind])

    def names_after(self, group: str) -> Sequence[str]:
        """The names of :meth:`after`."""
        return tuple(member.group for member in self.after(group))
