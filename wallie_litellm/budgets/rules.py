"""Which budgets hold for a request: those of its feature, of its user in it, of its key, and of all features."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from wallie_litellm.config import WallieConfig
from wallie_litellm.config.budgets import CostBudget, OnExhausted
from wallie_litellm.core.spending import AccountName, SpendingLimits, nano_of


class Rule(NamedTuple):
    """One budget of the file: of a ``feature``, empty for all, as a whole or (``per_user``) of each user.

    Or of a ``key`` of the proxy's.
    """

    feature: str
    per_user: bool
    limits: SpendingLimits
    on_exhausted: OnExhausted
    key: str = ""

    @property
    def refuses(self) -> bool:
        """Whether requests are refused once it is exhausted."""
        return self.on_exhausted == "refuse"

    @property
    def setting(self) -> str:
        """Its key path in the configuration."""
        if self.key:
            return f"wallie.keys.{self.key}.budget"
        own = f"features.{self.feature}.budget" if self.feature else "budget"
        return f"wallie.{own}.per_user" if self.per_user else f"wallie.{own}"


class Entry(NamedTuple):
    """A budget as it holds for one request."""

    name: AccountName
    rule: Rule


NO_ENTRIES: Final[tuple[Entry, ...]] = ()


class BudgetRules:
    """The budgets of a configuration. ``processes`` share each of them, where they share no store."""

    def __init__(self, config: WallieConfig, processes: int = 1) -> None:
        own = {name: feature.budget for name, feature in config.features.items() if feature.budget is not None}
        self._general = tuple(_rules("", config.budget, processes))
        self._of_features = {name: (*_rules(name, budget, processes), *self._general) for name, budget in own.items()}
        self._of_keys = {
            name: tuple(rule._replace(key=name) for rule in _rules("", settings.budget, processes))
            for name, settings in config.keys.items()
            if settings.budget is not None
        }
        sources = (self._general, *self._of_features.values(), *self._of_keys.values())
        rules = dict.fromkeys(rule for source in sources for rule in source)
        #: The accounts that every process has from its start.
        self.common = tuple(Entry(AccountName(rule.feature, key=rule.key), rule) for rule in rules if not rule.per_user)
        #: Whether one of the budgets leads requests to the cheapest members of their chains.
        self.lead_to_cheapest = any(rule.on_exhausted == "cheapest" for rule in rules)

    def __bool__(self) -> bool:
        return bool(self._general or self._of_features or self._of_keys)

    def entry_of(self, name: AccountName) -> Entry | None:
        """The budget of an account; ``None`` where the file has none."""
        if name.key:
            return next((Entry(name, rule) for rule in self._of_keys.get(name.key, ())), None)
        rules = self._of_features.get(name.feature, ()) if name.feature else self._general
        fitting = (rule for rule in rules if rule.feature == name.feature and rule.per_user == bool(name.user))
        return next((Entry(name, rule) for rule in fitting), None)

    def of(self, feature: str | None, user: str | None, key: str | None = None) -> tuple[Entry, ...]:
        """The budgets that hold for a request; one without a user has none of the users'."""
        rules = self._general if feature is None else self._of_features.get(feature, self._general)
        if key is not None and (own := self._of_keys.get(key)):
            rules = (*own, *rules)
        if not rules:
            return NO_ENTRIES
        return tuple(
            Entry(AccountName(rule.feature, user or "" if rule.per_user else "", rule.key), rule)
            for rule in rules
            if user or not rule.per_user
        )


def _rules(feature: str, budget: CostBudget, processes: int) -> Iterator[Rule]:
    for per_user, amounts, on_exhausted in budget.parts():
        day, month = (
            None if usd is None else max(1, nano_of(usd) // processes)
            for usd in (amounts.daily_usd, amounts.monthly_usd)
        )
        yield Rule(feature, per_user, SpendingLimits(day, month), on_exhausted)
