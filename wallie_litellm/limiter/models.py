"""The limiters of models: one comes into being when its model is paused or fails, and is given up once it is quiet."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from math import inf
from typing import TYPE_CHECKING, Final

from wallie_litellm.core.circuit_breaker import BreakerAction, BreakerState, Verdict
from wallie_litellm.core.scopes import account_in
from wallie_litellm.limiter.leased.leased_limiter import LeasedLimiter
from wallie_litellm.limiter.limiter import Limiter
from wallie_litellm.limiter.recent_calls import CALLED_LATELY, RecentCalls

if TYPE_CHECKING:
    from wallie_litellm.limiter.redis.fleet import RedisFleet

MOST_MODELS: Final = 1_000  # limiters, and remembered times; with a wildcard, callers invent names


class ModelLimiters:
    """The limiters of models, by scope; they have no limits. A model without one lets every request pass.

    ``build`` makes a limiter. With ``keeps_all`` every model that is called has one, as breakers need that go by a rate
    of errors, and so by successes too.

    In a fleet, a limiter leases from the store that all workers share, whose broadcasts have the others build theirs.
    A worker gives one up whose breaker is closed, though it counts failures, once its own calls of that model are
    :data:`~wallie_litellm.limiter.recent_calls.CALLED_LATELY` seconds ago: the store keeps the count.
    """

    def __init__(
        self,
        build: Callable[[str], Limiter],
        fleet: RedisFleet | None,
        calls: RecentCalls,
        now: Callable[[], float],
        *,
        keeps_all: bool,
    ) -> None:
        self._build = build
        self._fleet = fleet
        self._calls = calls
        self._now = now
        self._keeps_all = keeps_all
        self._lock = threading.Lock()
        self.by_scope: dict[str, Limiter] = {}  # another one after each change: threads read it without the lock
        # When the breakers of those given up have changed last, in seconds: results from before do not count.
        self._changed_at: dict[str, float] = {}
        self._forgotten_until = -inf  # the latest of those that are not remembered any more
        self._reports = 0  # to the lease server, at most, of one of those given up
        if fleet is not None:
            fleet.on_model(self._join, self._give_up)

    def keep_all(self, keeps_all: bool) -> None:
        """Have a limiter for every model that is called from now on, or for those in trouble alone."""
        self._keeps_all = keeps_all

    def of_attempt(self, scope: str) -> Limiter | None:
        """The limiter that an attempt has to pass; ``None`` where it would let it pass as things are."""
        limiter = self.by_scope.get(scope)
        if self._keeps_all:
            return self._join(scope) if limiter is None and scope else limiter
        if limiter is None or not limiter.is_quiet():
            return limiter
        self._give_up(scope)
        return None

    def get(self, scope: str) -> Limiter | None:
        """The limiter of a model, if there is one."""
        return self.by_scope.get(scope)

    def closed_at(self, scope: str) -> float:
        """When a model's breaker closed, in seconds; ``-inf`` if it never opened, or is not closed."""
        limiter = self.by_scope.get(scope)
        return self._changed_at.get(scope, -inf) if limiter is None else limiter.closed_at

    def of(self, owner: str) -> list[Limiter]:
        """Those of the models of a provider, or of an account: of the one whose name is in their scopes."""
        return [limiter for scope, limiter in self.by_scope.items() if account_in(scope) == owner]

    def __iter__(self) -> Iterator[Limiter]:
        return iter(self.by_scope.values())

    def pause(self, scope: str, seconds: float) -> None:
        """Have no worker of the fleet call a model for so long."""
        with self._lock:
            self._existing(scope).pause(seconds)
        if self._fleet is not None:
            self._fleet.announce_pause(scope, seconds)

    def count(self, scope: str, verdict: Verdict, began_at: float, reason: str | None) -> None:
        """Count the result of a call that began at ``began_at`` and has no reservation at the model's limiter."""
        if verdict is not Verdict.FAILURE:
            limiter = self.by_scope.get(scope)
            if limiter is not None and (self._keeps_all or not limiter.is_quiet()):
                limiter.count(verdict, began_at, reason)
            return
        with self._lock:
            self._existing(scope).count(verdict, began_at, reason)

    def act(self, scope: str, action: BreakerAction) -> None:
        """Apply an operator's action to a model's breaker."""
        with self._lock:
            self._existing(scope).act(action)

    def _join(self, scope: str) -> Limiter:
        """The limiter of a model, which another worker may have paused or found failing."""
        with self._lock:
            return self._existing(scope)

    def _existing(self, scope: str) -> Limiter:
        limiter = self.by_scope.get(scope)
        if limiter is None:
            if len(self.by_scope) >= MOST_MODELS:
                self._make_room()
            limiter = self._build(scope)
            limiter.changed_at = self._changed_at.pop(scope, self._forgotten_until)
            self.by_scope = {**self.by_scope, scope: limiter}
            self._calls.fail(scope, self._now())  # or another worker's calls do
            if self._fleet is not None and isinstance(limiter, LeasedLimiter):
                limiter.continue_reports(self._reports)
                self._fleet.attach(limiter)
        return limiter

    def _give_up(self, scope: str) -> None:
        """Forget the limiter of a model that is quiet, unless calls that passed it are under way."""
        with self._lock:
            self._forget(scope, lambda limiter: self._is_stale(limiter) or (limiter.is_quiet() and not self._keeps_all))

    def _is_stale(self, limiter: Limiter) -> bool:
        called_at = max(self._calls.last(limiter.name), limiter.changed_at)
        return _is_closed(limiter) and called_at < self._now() - CALLED_LATELY

    def _make_room(self) -> None:
        """Give up what is idle: what is quiet, what has failed without being open, the oldest, what operators hold."""
        for lets_go in (Limiter.is_quiet, _is_closed, _is_not_forced, _is_any):
            for scope in list(self.by_scope):
                if len(self.by_scope) >= MOST_MODELS:
                    self._forget(scope, lets_go)

    def _forget(self, scope: str, may: Callable[[Limiter], bool]) -> None:
        limiter = self.by_scope.get(scope)
        if limiter is None or not limiter.is_idle() or not may(limiter):
            return
        if self._fleet is not None and not self._fleet.detach(limiter.name):
            return
        if isinstance(limiter, LeasedLimiter):
            self._reports = max(self._reports, limiter.reports)
        self.by_scope = {name: one for name, one in self.by_scope.items() if name != scope}
        if limiter.changed_at > self._forgotten_until:
            self._changed_at[scope] = limiter.changed_at
        if len(self._changed_at) > MOST_MODELS:
            oldest = next(iter(self._changed_at))
            self._forgotten_until = max(self._forgotten_until, self._changed_at.pop(oldest))


def _is_closed(limiter: Limiter) -> bool:
    return limiter.breaker_state()[0] is BreakerState.CLOSED


def _is_not_forced(limiter: Limiter) -> bool:
    return limiter.breaker_state()[0] is not BreakerState.FORCED_OPEN


def _is_any(_limiter: Limiter) -> bool:
    return True
