"""All limiters of one guard: of providers, accounts, models in trouble, and features with limits of their own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from wallie_litellm.clock import Clock
from wallie_litellm.config import WallieConfig
from wallie_litellm.core.circuit_breaker import BreakerState
from wallie_litellm.core.demand import Demand
from wallie_litellm.core.dimensions import FEATURE
from wallie_litellm.core.limit_keys import ACCOUNT
from wallie_litellm.core.model_patterns import WILDCARDS
from wallie_litellm.core.overall_state import OverallState
from wallie_litellm.core.scopes import MODEL_MARK, account_in, model_in, model_scope
from wallie_litellm.limiter.configured import ConfiguredLimiters, LimiterSettings
from wallie_litellm.limiter.leased.leased_limiter import LeasedLimiter
from wallie_litellm.limiter.leased.leased_store import LeasedStore
from wallie_litellm.limiter.limit_learning import Callers
from wallie_litellm.limiter.limiter import Limiter
from wallie_litellm.limiter.listener import GuardListener, OncePerFleet
from wallie_litellm.limiter.memory_store import MemoryStore
from wallie_litellm.limiter.models import MOST_MODELS, ModelLimiters
from wallie_litellm.limiter.provider_health import ProviderHealth
from wallie_litellm.limiter.recent_calls import CALLED_LATELY, RecentCalls
from wallie_litellm.limiter.store import Denial, DenialReason

if TYPE_CHECKING:
    from wallie_litellm.limiter.redis.fleet import RedisFleet


_CIRCUIT_OPEN = DenialReason.CIRCUIT_OPEN

FoundDenial = tuple[Denial, Limiter]  # what keeps a demand from being admitted, and whose denial it is


class Account(NamedTuple):
    """One of several keys at a provider: ``limiter`` has its breaker and its pauses, and no limits."""

    limiter: Limiter
    provider: Limiter


class LimiterRegistry:
    """Finds a limiter by name; a provider's is built at its first use, a model's when it is first in trouble.

    A scope (:mod:`~wallie_litellm.core.scopes`) stands for all limiters that an attempt there passes: the model's
    breaker and pauses, the account's, and the provider's limits and breaker.
    """

    def __init__(
        self,
        config: WallieConfig,
        clock: Clock,
        listener: GuardListener,
        processes: int = 1,
        fleet: RedisFleet | None = None,
    ) -> None:
        self._configured = ConfiguredLimiters(config, processes)
        self._clock = clock
        self.calls = RecentCalls()
        self.health = ProviderHealth(listener, self._own, self.calls, clock.now, self.names, self._on_model_change)
        self._when_open: Callable[[str], object] = lambda _scope: None
        self._fleet = fleet
        self._lock = threading.Lock()
        self._providers: dict[str, Limiter] = {}
        self._accounts: dict[str, Account] = {}
        # With the limits of the vendor's own address, which has not been called yet: a router may name another.
        self._by_default: dict[str, Limiter] = {}
        self.models = self.health.models = ModelLimiters(
            lambda scope: self._build(scope, self._configured.with_limits(None)),
            fleet,
            self.calls,
            clock.now,
            keeps_all=self._configured.keeps_all,
        )
        self._features: dict[str, Limiter] = {}
        self._former_features: dict[str, Limiter] = {}  # whose limits the file states no longer
        self._scopes: dict[str, set[str]] = {}  # of the models that routers call, by provider or account
        self._groups: dict[str, dict[str, None]] = {}  # in which they are called, by scope
        self._patterns: dict[str, str] = {}  # of the limits that models have besides the account's, by scope
        self._met: dict[str, bool] = {}  # that routers have called; whether, first, at the vendor's own address
        self._left: frozenset[str] = frozenset()  # of those, what no router calls any more
        self.has_router = False
        self._add_limiters()

    def _add_limiters(self) -> None:
        """Build the limiters of features with limits, and of providers that the configuration names."""
        stated = self._configured
        for name in stated.features():
            if name not in self._features:
                former = self._former_features.pop(name, None)
                self._features[name] = former or self._attached(self._build(FEATURE + name, stated.of_feature(name)))
        for name in stated.config.providers:
            if stated.are_stated(name):
                self.provider(name)
            elif name not in self._providers:
                self._by_default[name] = self._build(name, stated.of_provider(name))

    def configure(self, config: WallieConfig) -> None:
        """Go by another configuration from now on. What is used, waits and is under way stays, as do breakers' states.

        A limiter whose limits are gone lets its queue pass.
        """
        with self._lock:
            self._configured = stated = replace(self._configured, config=config)
            self._patterns = {}
            self._by_default = {name: one for name, one in self._by_default.items() if name in config.providers}
        for name in self._features.keys() - stated.features():
            self._former_features[name] = self._features.pop(name)
        self._add_limiters()
        self.models.keep_all(stated.keeps_all)
        for limiter in [*self, *self._former_features.values()]:
            limiter.configure(self._settings_of(limiter), self.pattern_of)
            if isinstance(limiter, LeasedLimiter):
                limiter.keep_to(stated.keeps_to(limiter.name, limiter.configured()))

    def _settings_of(self, limiter: Limiter) -> LimiterSettings:
        name, stated = limiter.name, self._configured
        if limiter.is_feature:
            return stated.of_feature(name.removeprefix(FEATURE))
        if name in self._providers or name in self._by_default:
            return stated.of_provider(name, elsewhere=not self._met.get(name, True))
        return stated.with_limits(None)

    def provider(self, name: str) -> Limiter:
        """The limiter of one provider; without limits it still has a breaker."""
        limiter = self._providers.get(name)
        if limiter is None:
            with self._lock:
                limiter = self._providers.get(name) or self._first(name)
                self._providers[name] = limiter
        return limiter

    def is_placed(self, provider: str) -> bool:
        """Whether it is settled at which address ``provider`` is, and with it whose default limits it has."""
        return provider in self._providers

    def is_at_own_address(self, provider: str) -> bool:
        """Whether a router calls ``provider`` at the vendor's own address, or one that the file gives its name."""
        return self._met.get(provider, False) and provider not in self._left

    def meet(
        self, provider: str, account: str, at_own_address: bool, scope: str = "", group: str | None = None
    ) -> None:
        """A router calls this account of this provider, at the vendor's own address or at another, for a model.

        The limits that hold where the file says nothing are those of the vendors' own addresses. Of several routers
        that mean different addresses by one name, the first decides.
        """
        with self._lock:
            if scope:
                self._scopes.setdefault(account, set()).add(scope)
                self._groups.setdefault(scope, {})[group or ""] = None
                self._patterns.pop(scope, None)
            self._met = {provider: at_own_address, account: at_own_address, **self._met}
            self._left -= {provider, account}
            if not at_own_address and provider in self._by_default:
                elsewhere = self._configured.of_provider(provider, elsewhere=True)
                self._by_default[provider] = self._build(provider, elsewhere)
        shared = self.provider(provider)
        if account != provider:
            with self._lock:
                if account not in self._accounts:
                    limiter = self._attached(self._build(account, self._configured.with_limits(None)))
                    self._accounts[account] = Account(limiter, shared)

    def place(self, at_own_address: Mapping[str, bool]) -> None:
        """A router has been built anew: these providers are at their vendors' own addresses now, or elsewhere."""
        with self._lock:
            moved = [name for name, own in at_own_address.items() if self._met.get(name, own) is not own]
            self._met = {**self._met, **at_own_address}
        for limiter in map(self.provider, moved):
            limiter.configure(self._settings_of(limiter), self.pattern_of)

    def retain(self, called: Collection[str]) -> None:
        """Routers call these providers and accounts alone from now on; status reports list the others no longer."""
        with self._lock:
            self._left = frozenset(set(self._met).difference(called))

    def names(self, scope: str) -> bool:
        """Whether a router names the model of a scope, rather than a wildcard; without a router, always."""
        return not self.has_router or scope in self._scopes.get(account_in(scope), ())

    def callers_of(self, provider: str) -> Callers:
        """What routers call of a provider."""
        return Callers(self.names, partial(self._accounts_of, provider), self._has_left, self.calls.last)

    def _accounts_of(self, provider: str, model: str) -> list[str]:
        called = list(self._scopes.items())
        return [
            account
            for account, scopes in called
            if self.provider_name(account) == provider
            and account not in self._left
            and (f"{account}{MODEL_MARK}{model}" in scopes or any(_is_wildcard(scope, model) for scope in list(scopes)))
        ]

    def _has_left(self, account: str) -> bool:
        return account in self._left

    @property
    def accounts(self) -> Mapping[str, Account]:
        """The accounts of providers that are called with several keys, by name."""
        return self._accounts

    def when_model_opens(self, callback: Callable[[str], object]) -> None:
        """Have ``callback`` called, under the limiter's lock, with the scope of a model whose breaker has opened."""
        self._when_open = callback

    def _on_model_change(self, scope: str, state: BreakerState, ours: bool) -> None:
        if state in (BreakerState.OPEN, BreakerState.FORCED_OPEN):
            self._when_open(scope)
        if ours and self._fleet is not None:
            self._fleet.list_model(scope, is_troubled=state is not BreakerState.CLOSED)

    def paused_for(self, name: str) -> float:
        """Seconds for which a provider, or an account, is paused, or all its models are that routers call."""
        account = self._accounts.get(name)
        limiter = self.providers[name] if account is None else account.limiter
        with self._lock:
            models = [self.models.get(scope) for scope in self._scopes.get(name, ())]
        of_models = min((0.0 if model is None else model.state().paused_for for model in models), default=0.0)
        return max(limiter.state().paused_for, of_models)

    def models_of(self, name: str) -> list[Limiter]:
        """The limiters, as far as there are some, of the models of a provider and its accounts, or of an account."""
        return [one for one in self.models if name in (account_in(one.name), self.provider_name(one.name))]

    def scopes_of(self, name: str, model: str) -> list[str]:
        """The scopes of a model, or of those of a group or a pattern, at a provider and its accounts, or at an account.

        Raises:
            ValueError: there is no such provider or account, or no router calls this model of it.
        """
        owners = [limiter.name for limiter in self.limiters_of(name)]
        with self._lock:
            called = {scope for owner in owners for scope in self._scopes.get(owner, ())}
        called.update(limiter.name for limiter in self.models_of(name))
        called.update(scope for scope in self.calls.served_scopes() if model_in(scope) and account_in(scope) in owners)
        names = {model, model_in(model_scope("", model))}
        found = {
            scope
            for scope in called
            if any(fnmatchcase(model_in(scope), name) for name in names) or model in self._groups.get(scope, ())
        }
        found = found or {
            f"{account_in(scope)}{MODEL_MARK}{name}" for scope in called for name in names if _is_wildcard(scope, name)
        }
        if not found:
            known = ", ".join(sorted({model_in(scope) for scope in called})) or "none"
            raise ValueError(f"unknown model {model!r} of {name}; known: {known}")
        return sorted(found)

    def called_models(self, provider: str) -> list[str]:
        """The models of a provider that routers name, and those that a wildcard matches and that were called lately."""
        owners = {provider, *(name for name in list(self._accounts) if self.provider_name(name) == provider)}
        since = self._clock.now() - CALLED_LATELY
        lately = {scope for scope in self.calls.served_scopes() if self.calls.served_at(scope) > since}
        with self._lock:
            called = lately.union(*(self._scopes.get(owner, ()) for owner in owners - self._left))
        names = {model_in(scope) for scope in called if account_in(scope) in owners}
        return sorted(name for name in names if WILDCARDS.isdisjoint(name))

    def overall(self, name: str) -> OverallState:
        """The state of a provider, or of an account, with its models."""
        return self.health.of(name)

    def denial_of_models(self, name: str, demand: Demand) -> FoundDenial | None:
        """The denial that ends first, where all models of a provider, or of an account, are open.

        So it is where each account of the provider is open, or all its models are.
        """
        if name in self._providers and (accounts := self.limiters_of(name)[1:]):
            denied = [own for one in accounts if (own := self._denial_of_account(one, demand)) is not None]
            return min(denied, key=_soonest) if len(denied) == len(accounts) else None
        if self.overall(name).state is self._state_of(name):
            return None
        denials = [(limiter.check(demand), limiter) for limiter in self.models.of(name) if not limiter.is_quiet()]
        found = [(denial, limiter) for denial, limiter in denials if denial is not None]
        return min(found, key=_soonest) if found and len(found) == len(denials) else None

    def _denial_of_account(self, account: Limiter, demand: Demand) -> FoundDenial | None:
        denial = account.check(demand)
        if denial is not None and denial.reason is _CIRCUIT_OPEN:
            return denial, account
        return self.denial_of_models(account.name, demand)

    def _state_of(self, name: str) -> BreakerState:
        limiter = self._own(name)
        return BreakerState.CLOSED if limiter is None else limiter.breaker_state()[0]

    def _own(self, name: str) -> Limiter | None:
        account = self._accounts.get(name)
        return account.limiter if account is not None else self._providers.get(name) or self._by_default.get(name)

    def provider_name(self, scope: str) -> str:
        """The name of the provider whose scope this is."""
        name = account_in(scope)
        account = self._accounts.get(name)
        return name if account is None else account.provider.name

    def limiters_of(self, name: str) -> tuple[Limiter, ...]:
        """The limiter of a provider and those of its accounts, or of an account.

        Raises:
            ValueError: there is no such provider or account.
        """
        if (account := self._accounts.get(name)) is not None:
            return (account.limiter,)
        shared = self.known(name)
        accounts = list(self._accounts.values())  # another thread may add one
        return (shared, *(account.limiter for account in accounts if account.provider is shared))

    def pattern_of(self, scope: str) -> str:
        """The pattern of the limits that a model has at its provider besides the account's; empty if it has none.

        Those of its group's name hold where none is the model's own.
        """
        found = self._patterns.get(scope)
        if found is None:
            if not (model := model_in(scope)):
                return ACCOUNT
            found = self.provider(self.provider_name(scope)).scope_of(model, *self._groups.get(scope, ()))
            if len(self._patterns) >= MOST_MODELS:
                self._patterns = {}  # other threads read the old one
            self._patterns[scope] = found
        return found

    def forget_patterns(self) -> None:
        """Look the patterns of models up again: one has been added."""
        self._patterns = {}

    def is_named(self, scope: str, model: str) -> bool:
        """Whether ``model``, which people type, is the name of this scope's model or that of a group with it."""
        return model_in(scope) in (model, model_in(model_scope("", model))) or model in self._groups.get(scope, ())

    def known_pattern(self, name: str, model: str) -> str:
        """:meth:`pattern_of` for names that people type: a model's, its group's or a pattern; empty if only paused.

        Raises:
            ValueError: the model has no limits of its own, and has not been paused.
        """
        limiter = self.known(self.provider_name(name))
        called = {
            pattern
            for scope in list(self._groups)
            if self.is_named(scope, model)
            and self.provider_name(scope) == limiter.name
            and (pattern := self.pattern_of(scope))
        }
        pattern = model if model in limiter.scopes else limiter.scope_of(model) or min(called, default="")
        if not pattern and not any(self.is_named(paused.name, model) for paused in self.models_of(name)):
            known = ", ".join(limiter.scopes) or "none"
            raise ValueError(f"model {model!r} has no limits of its own at {name}; models with limits: {known}")
        return pattern

    def models_under(self, limiter: Limiter, pattern: str) -> list[str]:
        """The scopes of the models that routers call, whose limits at a provider are those of ``pattern``."""
        with self._lock:
            scopes = [scope for called in self._scopes.values() for scope in called]
        return [
            scope for scope in scopes if self.provider_name(scope) == limiter.name and self.pattern_of(scope) == pattern
        ]

    def denial_of(self, scope: str, demand: Demand, priority: int = 0) -> FoundDenial | None:
        """What keeps a scope from admitting ``demand`` now, and whose denial it is."""
        pattern = self.pattern_of(scope)
        return self._longest_denial(scope, lambda limiter: _check(limiter, demand, priority, pattern))

    def denials_of(self, scopes: Iterable[str], demand: Demand, priority: int) -> dict[str, FoundDenial | None]:
        """:meth:`denial_of` each of ``scopes`` at one moment: those that share limits wait equally long for them."""
        seen: dict[tuple[Limiter, str], Denial | None] = {}  # a provider and an account may have the same name

        def check(limiter: Limiter, pattern: str) -> Denial | None:
            key = limiter, pattern
            if key not in seen:
                seen[key] = _check(limiter, demand, priority, pattern)
            return seen[key]

        return {scope: self._longest_denial(scope, partial(check, pattern=self.pattern_of(scope))) for scope in scopes}

    def _longest_denial(self, scope: str, check: Callable[[Limiter], Denial | None]) -> FoundDenial | None:
        found = [(denial, one) for one in self._passed_in(scope) if (denial := check(one)) is not None]
        return max(found, key=_longest) if found else None

    def _passed_in(self, scope: str) -> tuple[Limiter, ...]:
        """The limiters that an attempt in ``scope`` passes."""
        name = account_in(scope)
        passed: tuple[Limiter, ...] = self._accounts.get(name) or (self.provider(name),)
        model = self.models.get(scope)
        return passed if model is None else (model, *passed)

    def is_open(self, scope: str) -> bool:
        """Whether a breaker that an attempt in ``scope`` passes admits nothing at the moment."""
        return any(one.is_open() for one in self._passed_in(scope))

    def closed_at(self, scope: str) -> float:
        """When the last of the breakers that an attempt in ``scope`` passes closed, in seconds; ``-inf`` for never."""
        passed = self._passed_in(scope)
        return max(self.models.closed_at(scope), *(one.closed_at for one in passed))

    def known(self, name: str) -> Limiter:
        """:meth:`provider`, or an account's, for names that people type.

        Raises:
            ValueError: there is no such provider.
        """
        if (account := self._accounts.get(name)) is not None:
            return account.limiter
        if name not in self._providers and name not in self._by_default:
            known = sorted((*self._providers, *self._by_default))
            raise ValueError(f"unknown provider {name!r}; known: {', '.join(known)}")
        return self.provider(name)

    @property
    def features(self) -> Mapping[str, Limiter]:
        """The limiters of features, by the feature's name."""
        return self._features

    @property
    def providers(self) -> Mapping[str, Limiter]:
        """The limiters of providers, by name; those included that nothing has called or named yet."""
        return {**self._by_default, **self._providers}

    @property
    def listed_providers(self) -> Mapping[str, Limiter]:
        """The limiters of the providers that the file gives limits, or that are called; without a router, of all."""
        if not self.has_router:
            return self.providers
        with self._lock:
            found, left = dict(self._providers), self._left
        return {
            name: one
            for name, one in found.items()
            if name not in left or self._configured.config.states_limits_of(name)
        }

    @property
    def listed_accounts(self) -> Mapping[str, Account]:
        """The accounts that routers call."""
        with self._lock:
            return {name: account for name, account in self._accounts.items() if name not in self._left}

    def __iter__(self) -> Iterator[Limiter]:
        accounts = [account.limiter for account in list(self._accounts.values())]
        return iter([*self.providers.values(), *self._features.values(), *accounts, *self.models])

    def _first(self, name: str) -> Limiter:
        limiter = self._by_default.pop(name, None) or self._build(name, self._configured.of_provider(name))
        return self._attached(limiter)

    def _attached(self, limiter: Limiter) -> Limiter:
        """``limiter``, which leases from the fleet's store from now on, where there is one."""
        if self._fleet is not None and isinstance(limiter, LeasedLimiter):
            limiter.report_served(partial(self.calls.models_served, limiter.name))
            self._fleet.attach(limiter)
        return limiter

    def _build(self, name: str, settings: LimiterSettings) -> Limiter:
        (limits, rules, ttl, levels), fleet = settings, self._fleet
        terms = (name, limits, rules, self._clock.wall, levels)
        if fleet is None:
            return Limiter(name, MemoryStore(*terms, self.health), self._clock, ttl, self.health)
        store = LeasedStore(*terms, OncePerFleet(self.health, fleet.once), worker=fleet.worker)
        limiter = LeasedLimiter(name, store, self._clock, ttl, self.health)
        limiter.on_scope = self.forget_patterns
        limiter.keep_to(self._configured.keeps_to(name, limiter.configured()))
        return limiter


def _is_wildcard(scope: str, model: str) -> bool:
    """Whether the deployment of ``scope`` is for any model with such a name."""
    return "*" in model_in(scope) and fnmatchcase(model, model_in(scope))


def _soonest(found: FoundDenial) -> float:
    return found[0].retry_after


def _longest(found: FoundDenial) -> tuple[bool, float]:
    return found[0].reason is _CIRCUIT_OPEN, found[0].retry_after


def _check(limiter: Limiter, demand: Demand, priority: int, pattern: str) -> Denial | None:
    return limiter.check(demand, priority, pattern if pattern in limiter.scopes else ACCOUNT)
