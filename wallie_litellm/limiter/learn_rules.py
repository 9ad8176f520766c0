"""What the file says of learning the limits of one scope."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from wallie_litellm.config.limits import ADVISE, BurstLimits, ProviderLimits
from wallie_litellm.core.limit_keys import ACCOUNT


class LearnRules(NamedTuple):
    """Whether the limits of a scope are learned, and which of them have no number of their own.

    ``stated`` are the limits to which the file gives a number; ``autos`` those that take the vendor's.
    """

    mode: str = ADVISE  # or off, enforce
    autos: frozenset[str] = frozenset()
    stated: Mapping[str, int] = {}

    def keeps_to(self, dimension: str) -> bool:
        """Whether a limit that the vendor tells is kept to."""
        return self.mode == "enforce" or (self.mode != "off" and dimension in self.autos)


def keeps_to(rules: Mapping[str, LearnRules]) -> Callable[[str, str], bool]:
    """Whether a limit that the vendor tells is kept to, by scope and dimension; the account's rules are general."""
    return lambda scope, dimension: rules.get(scope, rules[ACCOUNT]).keeps_to(dimension)


def learn_rules(settings: ProviderLimits | None, configured: Mapping[tuple[str, str], int]) -> dict[str, LearnRules]:
    """The rules of a provider's scopes; ``configured`` are the limits that its limiter begins with.

    The limits of a known vendor's own address are not those of a server elsewhere, which takes none of that vendor's.
    """
    if settings is None:
        return {ACCOUNT: LearnRules()}
    stated: Mapping[str, BurstLimits] = {ACCOUNT: settings, **settings.models}
    return {scope: _rules(own, settings.learn_mode(scope), scope, configured) for scope, own in stated.items()}


def _rules(settings: BurstLimits, mode: str, scope: str, configured: Mapping[tuple[str, str], int]) -> LearnRules:
    begins = settings.autos()
    autos = frozenset(name for name, amount in begins.items() if not amount or (scope, name) in configured)
    numbers = {str(name): amount for name, amount in settings.by_dimension().items()}
    return LearnRules(mode, autos, {name: amount for name, amount in numbers.items() if name not in begins})
