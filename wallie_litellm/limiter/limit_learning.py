"""What vendors say of one provider's limits, and what of that is kept to.

Vendors tell the limits of the model that was called. So a model without an entry under ``models:`` has a scope of its
own as soon as a limit of it is to be kept to. Of several keys the largest amount counts for a model, since they may be
those of one organisation, or of several; of several models that share an entry the smallest.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from math import inf
from typing import Final, NamedTuple

from wallie_litellm.clock import Clock
from wallie_litellm.core.dimensions import RATE_DIMENSIONS
from wallie_litellm.core.learned_limits import LearnedLimit
from wallie_litellm.core.limit_headers import MINUTE, Vocabulary
from wallie_litellm.core.limit_keys import ACCOUNT
from wallie_litellm.core.limit_sightings import Sighting
from wallie_litellm.core.scopes import MODEL_MARK
from wallie_litellm.limiter.learn_rules import LearnRules
from wallie_litellm.limiter.learned_model import LearnedModel
from wallie_litellm.limiter.limiter import Limiter

MOST_MODELS: Final = 500  # that are learned of, those called last; with a wildcard, callers invent them
MOST_SCOPES: Final = 100  # that models are given which have no entry, and which no router names
_SPECIAL: Final = re.compile(r"([*?[])")  # characters of a pattern
LONGEST_STEP: Final = 2.0  # seconds for which an answer slows calls down, in retrospect


NO_RULES: Final = LearnRules()

# A provider, a model or a pattern, and a dimension; what the file promises, and what the vendor allows.
Announce = Callable[[str, str, str, int, int], object]


class Callers(NamedTuple):
    """What routers call of a provider, as far as is known."""

    names: Callable[[str], bool] = lambda _scope: False  # whether a router names the model of a scope
    accounts_of: Callable[[str], Collection[str]] = lambda _model: ()  # at which a model is called
    has_left: Callable[[str], bool] = lambda _account: False  # whether an account is called no longer
    last_call: Callable[[str], float] = lambda _scope: -inf  # when a model was called last, in seconds


UNKNOWN_CALLERS: Final = Callers()


class LimitLearning:
    """Learns one provider's limits. ``rules`` are by scope; the account's hold for models without an entry.

    ``processes`` divide every limit among them. ``announce`` is called once for each limit of which the file promises
    more than the account has; ``on_scope`` when a model has been given a scope of its own; ``on_evict`` when what was
    learned of a model has made room for another one.
    """

    def __init__(
        self,
        limiter: Limiter,
        rules: Mapping[str, LearnRules],
        clock: Clock,
        announce: Announce,
        processes: int = 1,
        on_scope: Callable[[], object] = lambda: None,
        on_evict: Callable[[], object] = lambda: None,
        callers: Callers = UNKNOWN_CALLERS,
    ) -> None:
        self.limiter = limiter
        self.now, self.wall = clock.now, clock.wall
        self.processes = processes
        self.lock = threading.Lock()
        self._rules = dict(rules)
        self._account = self._rules.get(ACCOUNT, NO_RULES)
        self._announce = announce
        self._on_scope = on_scope
        self._on_evict = on_evict
        self._callers = callers
        self._models: dict[str, dict[str, LearnedModel]] = {}  # by model, then by account
        self._in_force: dict[tuple[str, str], int | None] = {}  # amounts that were set, by scope and dimension
        self._slowed: dict[tuple[str, str], float] = {}  # when calls were slowed down last
        self._announced: set[tuple[str, str]] = set()
        self._own_scopes: set[str] = set()

    def use(self, rules: Mapping[str, LearnRules], pattern_of: Callable[[str], str]) -> None:
        """Go by other rules of the file from now on, with what has been learned.

        ``pattern_of`` is the pattern of a model's scope: models may have other entries than before.
        """
        with self.lock:
            self._rules = dict(rules)
            self._account = self._rules.get(ACCOUNT, NO_RULES)
            for key in [key for key in self._in_force if not self._may_stay(*key)]:
                if self._in_force.pop(key) is not None and key[0] in (ACCOUNT, *self.limiter.scopes):
                    self.limiter.set_limit(*key, None)
            for model, accounts in self._models.items():
                for account, learned in accounts.items():
                    learned.move_to(pattern_of(f"{account}{MODEL_MARK}{model}") or own_scope(model))
            for accounts in self._models.values():
                for learned in self._called(accounts).values():
                    self.apply(learned)
                    learned.bound_anew()

    def _may_stay(self, scope: str, dimension: str) -> bool:
        """Whether a limit that is in force is one that the rules have learned."""
        if scope == ACCOUNT:
            return dimension in self._account.autos and self._account.keeps_to(dimension)
        return self.keeps_to(scope, dimension)

    def model(self, model: str, scope: str, account: str, vocabulary: Vocabulary) -> LearnedModel | None:
        """What is learned of one model at one account; ``None`` where nothing is to be.

        ``scope`` is the pattern of its entry, or empty.
        """
        if self.rules_of(scope).mode == "off":
            return None
        with self.lock:
            accounts = self._models.get(model, {})
            found = accounts.get(account)
            if found is None:
                if not accounts and len(self._models) >= MOST_MODELS:
                    self._evict()
                found = LearnedModel(self, model, scope or own_scope(model), account, vocabulary)
                self._models[model] = {**accounts, account: found}  # others read without the lock
            return found

    def _evict(self) -> None:
        """Forget the model that was called longest ago; limits that are in force stay so."""
        oldest = min(self._models, key=self._last_call)
        self._models = {model: accounts for model, accounts in self._models.items() if model != oldest}
        self._on_evict()

    def _last_call(self, model: str) -> float:
        return max(self._callers.last_call(f"{account}{MODEL_MARK}{model}") for account in self._models[model])

    def rules_of(self, scope: str) -> LearnRules:
        """The rules of a pattern, or of the own scope of a model without an entry."""
        return self._rules.get(scope, self._account)

    def is_stated(self, scope: str) -> bool:
        """Whether the file has an entry for a scope."""
        return scope in self._rules

    def keeps_to(self, scope: str, dimension: str) -> bool:
        """Whether a limit that the vendor tells is kept to there, and the limiter has the scope for it."""
        return scope in self.limiter.scopes and self.rules_of(scope).keeps_to(dimension)

    def siblings(self, learned: LearnedModel) -> list[LearnedModel]:
        """What is learned of the same model at all accounts that are called."""
        return list(self._called(self._models.get(learned.model, {})).values())

    def is_silent(self, learned: LearnedModel, dimension: str) -> bool:
        """Whether an account at which the model is called has not said lately what is left of a limit."""
        now, accounts = self.now(), self._models.get(learned.model, {})
        return any(
            (one := accounts.get(account)) is None or one.left_lately(dimension, now) is None
            for account in self._callers.accounts_of(learned.model)
        )

    def _called(self, accounts: Mapping[str, LearnedModel]) -> Mapping[str, LearnedModel]:
        """What is learned at those accounts that are called."""
        return {account: one for account, one in accounts.items() if not self._callers.has_left(account)}

    def rates(self, scope: str) -> dict[str, float]:
        """The limits per minute that are kept to in a scope, as units a second of this process."""
        rules = self.rules_of(scope)
        known = {dimension: self.limiter.configured().get((scope, dimension)) for dimension in RATE_DIMENSIONS}
        known |= {dimension: self._in_force.get((scope, dimension)) or amount for dimension, amount in known.items()}
        return {name: amount / MINUTE for name, amount in known.items() if amount and rules.keeps_to(name)}

    def slow_down(self, scope: str, dimension: str, per_second: float, share: float) -> None:
        """Take what has been refilled since the last answer away again, but for a share of it."""
        key, now = (scope, dimension), self.now()
        passed = min(now - self._slowed.get(key, now), LONGEST_STEP)
        self._slowed[key] = now
        if passed > 0:
            self.limiter.charge(scope, dimension, (1.0 - share) * per_second * passed)

    # What an answer has changed; called with the lock held

    def see(self, learned: LearnedModel, sightings: Iterable[Sighting], source: str) -> None:
        """An answer has said this of the limits of a model."""
        now, stated = self.now(), self.rules_of(learned.scope).stated
        for seen in sightings:
            if seen.limit is None:
                continue
            limit = learned.limits.setdefault(seen.dimension, LearnedLimit())
            limit.see(seen.limit, now, source, stated.get(seen.dimension))
            if limit.is_confirmed:
                self._compare(learned, seen.dimension)
        self.apply(learned)

    def apply(self, learned: LearnedModel) -> None:
        """Keep to what has been learned of a model's limits, as far as they are to be kept to."""
        scope = learned.scope
        rules = self.rules_of(scope)
        for dimension in learned.limits:
            if rules.keeps_to(dimension):
                self._set(scope, dimension, self._amount(scope, dimension, rules), learned)
            if dimension in self._account.autos and self._account.keeps_to(dimension):
                self._set(ACCOUNT, dimension, self._account_amount(dimension), learned)

    def accounts_changed(self) -> None:
        """Keep to what the accounts have said that are still called."""
        with self.lock:
            for accounts in self._models.values():
                for learned in self._called(accounts).values():
                    self.apply(learned)

    def _amount(self, scope: str, dimension: str, rules: LearnRules) -> int | None:
        """The limit to keep to; ``None`` is the configured one, or none."""
        now = self.now()
        limits = [most for every in self._in(scope) if (most := _limit(every, dimension, now)) is not None]
        if not limits:
            return None
        amount = max(1, int(min(limits) / self.processes))
        number = None if dimension in rules.autos else self.limiter.configured().get((scope, dimension))
        return None if number is not None and amount >= number else amount

    def _account_amount(self, dimension: str) -> int | None:
        """The account's limit that has no number of its own: what its models are allowed together, if that is more.

        It is never less than at the beginning, which is for models too of which nothing is known yet.
        """
        total, begins = self.learned(ACCOUNT, dimension), self.limiter.configured().get((ACCOUNT, dimension))
        if total is None or begins is None or total // self.processes <= begins:
            return None
        return total // self.processes

    def _set(self, scope: str, dimension: str, amount: int | None, learned: LearnedModel) -> None:
        if amount == self._in_force.get((scope, dimension)) or not self._has_scope(scope, learned):
            return
        self._in_force[scope, dimension] = amount
        self.limiter.set_limit(scope, dimension, amount)

    def _has_scope(self, scope: str, learned: LearnedModel) -> bool:
        """Whether the limiter has this scope; a model's own is added to it."""
        if scope == ACCOUNT or scope in self.limiter.scopes:
            return True
        if not self._callers.names(f"{learned.account}{MODEL_MARK}{learned.model}"):
            if len(self._own_scopes) >= MOST_SCOPES:
                return False
            self._own_scopes.add(scope)
        self.limiter.add_scope(scope)
        self._on_scope()
        return True

    def _compare(self, learned: LearnedModel, dimension: str) -> None:
        """Announce, once, that the file promises more than the account has."""
        own = self._rules.get(learned.scope, NO_RULES)
        stated = [rules.stated[dimension] for rules in (own, self._account) if dimension in rules.stated]
        if not stated or (learned.scope, dimension) in self._announced:
            return
        said = _amounts(self._called(self._models.get(learned.model, {})), dimension)
        if said and min(stated) > sum(said):  # several keys may be those of several organisations
            self._announced.add((learned.scope, dimension))
            self._announce(self.limiter.name, learned.scope, dimension, min(stated), max(said))

    # What is known

    def learned(self, scope: str, dimension: str) -> int | None:
        """What the vendor allows in a scope; of the account, what it allows those of its models that were called."""
        amounts = [max(said) for every in self._in(scope) if (said := _amounts(every, dimension))]
        if not amounts:
            return None
        return sum(amounts) if scope == ACCOUNT else min(amounts)

    def said(self, scope: str, dimension: str) -> tuple[str, float] | None:
        """Where what :meth:`learned` is made of was said last, and when, in seconds of the guard's clock."""
        found = [
            (one.seen_at(dimension), limit.source)
            for every in self._in(scope)
            for one in every.values()
            if (limit := one.limits.get(dimension)) is not None and limit.amount
        ]
        if not found:
            return None
        seen_at, source = max(found)
        return source, seen_at

    def scopes(self) -> list[str]:
        """The scopes of which something is configured or known: the account, patterns, and models without an entry."""
        known = {one.scope for every in self._in(ACCOUNT) for one in every.values() if one.limits}
        patterns = [scope for scope in self._rules if scope != ACCOUNT]
        return [ACCOUNT, *patterns, *sorted(known.difference(patterns))]

    def _in(self, scope: str) -> list[Mapping[str, LearnedModel]]:
        """What is learned of the models in a scope, of each by account; of the account's, of all."""
        models = [self._called(accounts) for accounts in list(self._models.values())]  # another thread may add one
        return [every for every in models if every and scope in (ACCOUNT, next(iter(every.values())).scope)]


def own_scope(model: str) -> str:
    """The pattern that matches one model alone."""
    return _SPECIAL.sub(r"[\1]", model)


def _amounts(accounts: Mapping[str, LearnedModel], dimension: str) -> list[int]:
    """What the vendor allows one model at each of its accounts."""
    limits = [limit for one in list(accounts.values()) if (limit := one.limits.get(dimension)) is not None]
    return [limit.amount for limit in limits if limit.amount]


def _limit(accounts: Mapping[str, LearnedModel], dimension: str, now: float) -> float | None:
    """The limit of one model to keep to."""
    limits = [limit.limit(now) for one in accounts.values() if (limit := one.limits.get(dimension)) is not None]
    return max((limit for limit in limits if limit is not None), default=None)
