"""The states of providers and accounts as their own breakers and their models' make them, and the changes of these."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from wallie_litellm.core.circuit_breaker import Breaker, BreakerState
from wallie_litellm.core.overall_state import Counted, OverallState, overall_state
from wallie_litellm.core.scopes import account_in, model_in
from wallie_litellm.limiter.limiter import Limiter
from wallie_litellm.limiter.listener import BreakerChange, Crossing, GuardListener
from wallie_litellm.limiter.models import ModelLimiters
from wallie_litellm.limiter.recent_calls import CALLED_LATELY, RecentCalls

_CLEAN: Counted = (BreakerState.CLOSED, 0)


class ProviderHealth:
    """Listens to all limiters of a guard, under their locks, and takes no lock of another.

    ``own`` finds the limiter of a provider or an account. ``on_model`` is called with the scope of a model whose
    breaker has changed, and with whether another process brought that about.
    """

    def __init__(
        self,
        listener: GuardListener,
        own: Callable[[str], Limiter | None],
        calls: RecentCalls,
        now: Callable[[], float],
        on_model: Callable[[str, BreakerState, bool], object],
    ) -> None:
        self.models: ModelLimiters | None = None  # until the registry has it
        self._listener = listener
        self._own = own
        self._calls = calls
        self._now = now
        self._on_model = on_model

    def of(self, owner: str, instead: Mapping[str, Counted] | None = None) -> OverallState:
        """The overall state of ``owner``; ``instead`` is what is taken for the states of some limiters, by name."""
        instead = instead or {}
        since = self._now() - CALLED_LATELY
        limiter, troubled = self._own(owner), list(self._troubled(owner, instead))
        own = instead.get(owner) or (_CLEAN if limiter is None else limiter.breaker_state())
        lately = [state for scope, state, changed_at in troubled if max(self._calls.last(scope), changed_at) > since]
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
        return any(
            account_in(scope) == owner and scope not in troubled and self._calls.served_at(scope) > since
            for scope in self._calls.served_scopes()
        )

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
            self._listener.on_breaker_change(BreakerChange(name, before, after, breaker, now, was, present))

    def on_threshold(self, provider: str, crossing: Crossing) -> None:
        """The use of a limit has reached a threshold."""
        self._listener.on_threshold(provider, crossing)
