"""The states of providers and accounts as their own breakers and their models' make them, and the changes of these."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from math import inf

from wallie_litellm.core.circuit_breaker import Breaker, BreakerState
from wallie_litellm.core.overall_state import Counted, OverallState, overall_state
from wallie_litellm.core.scopes import MODEL_MARK, account_in, model_in
from wallie_litellm.limiter.leased.leased_limiter import LeasedLimiter
from wallie_litellm.limiter.limiter import Limiter
from wallie_litellm.limiter.listener import BreakerChange, Crossing, GuardListener
from wallie_litellm.limiter.models import ModelLimiters
from wallie_litellm.limiter.recent_calls import CALLED_LATELY, RecentCalls

_CLEAN: Counted = (BreakerState.CLOSED, 0)


class ProviderHealth:
    """Listens to all limiters of a guard, under their locks, and takes no lock of another.

    ``own`` finds the limiter of a provider or an account. ``is_named`` returns whether a router names the model of a
    scope: what a wildcard matches may be an invention of the caller's, until it has served. ``on_model`` is called with
    the scope of a model whose breaker has changed, and with whether another process brought that about.
    """

    def __init__(
        self,
        listener: GuardListener,
        own: Callable[[str], Limiter | None],
        calls: RecentCalls,
        now: Callable[[], float],
        is_named: Callable[[str], bool],
        on_model: Callable[[str, BreakerState, bool], object],
    ) -> None:
        self.models: ModelLimiters | None = None  # until the registry has it
        self._listener = listener
        self._own = own
        self._calls = calls
        self._now = now
        self._is_named = is_named
        self._on_model = on_model

    def of(self, owner: str, instead: Mapping[str, Counted] | None = None) -> OverallState:
        """The overall state of ``owner``; ``instead`` is what is taken for the states of some limiters, by name."""
        instead = instead or {}
        since = self._now() - CALLED_LATELY
        limiter, troubled = self._own(owner), list(self._troubled(owner, instead))
        own = instead.get(owner) or (_CLEAN if limiter is None else limiter.breaker_state())
        lately = [
            state
            for scope, state, changed_at in troubled
            if max(self._calls.last(scope), changed_at) > since and self._is_known(scope)
        ]
        serves = bool(lately) and self._another_serves(owner, {scope for scope, _, _ in troubled}, since)
        is_partial = any(state is not BreakerState.CLOSED for _, (state, _), _ in troubled)
        return overall_state(own, lately, serves=serves, is_partial=is_partial)

    def _troubled(self, owner: str, instead: Mapping[str, Counted]) -> Iterator[tuple[str, Counted, float]]:
        """The models whose breakers are not closed, or count failures, and when each has changed last."""
        for limiter in () if self.models is None else self.models.of(owner):
            state = instead.get(limiter.name) or limiter.breaker_state()
            if state != _CLEAN:
                yield limiter.name, state, limiter.changed_at

    def _another_serves(self, owner: str, troubled: set[str], since: float) -> bool:
        of_fleet = self._served_in_fleet(owner).items()
        return any(
            account_in(scope) == owner and scope not in troubled and self._calls.served_at(scope) > since
            for scope in self._calls.served_scopes()
        ) or any(at > since and f"{owner}{MODEL_MARK}{model}" not in troubled for model, at in of_fleet)

    def _served_in_fleet(self, owner: str) -> Mapping[str, float]:
        """When models of ``owner`` have served last, at any worker of a fleet."""
        limiter = self._own(owner)
        return limiter.served_in_fleet if isinstance(limiter, LeasedLimiter) else {}

    def _is_known(self, scope: str) -> bool:
        """Whether a model is one of the vendor's, as far as is known."""
        return self._is_named(scope) or self._has_served(scope)

    def _has_served(self, scope: str) -> bool:
        return self._calls.served_at(scope) > -inf or model_in(scope) in self._served_in_fleet(account_in(scope))

    def _outage_of(self, scope: str) -> str | None:
        """What is announced as down where the breaker of ``scope`` opens: all models that no router names are one."""
        if not model_in(scope) or self._is_named(scope):
            return scope
        owner = account_in(scope)
        is_announced = any(
            other != scope
            and state is not BreakerState.CLOSED
            and self._has_served(other)
            and not self._is_named(other)
            for other, (state, _), _ in self._troubled(owner, {})
        )
        return f"{owner}{MODEL_MARK}*" if self._has_served(scope) and not is_announced else None

    # As the listener of limiters

    def on_breaker_change(
        self, name: str, before: Counted, after: Counted, breaker: Breaker, now: float, ours: bool
    ) -> None:
        """A breaker's state or its count of failures has changed; unless ``ours``, another process reports it."""
        if model_in(name) and before[0] is not after[0]:
            self._on_model(name, after[0], ours)
        if ours:
            owner = account_in(name)
            was, present = self.of(owner, {name: before}), self.of(owner, {name: after})
            outage = self._outage_of(name) if after[0] is BreakerState.OPEN else None
            self._listener.on_breaker_change(BreakerChange(name, before, after, breaker, now, was, present, outage))

    def on_threshold(self, provider: str, crossing: Crossing) -> None:
        """The use of a limit has reached a threshold."""
        self._listener.on_threshold(provider, crossing)
