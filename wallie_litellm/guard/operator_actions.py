"""What operators do to providers and models; each action goes on record with its actor."""

from __future__ import annotations

from collections.abc import Callable

from wallie_litellm.core.circuit_breaker import BreakerAction
from wallie_litellm.guard.reporter import Reporter
from wallie_litellm.limiter.registry import LimiterRegistry


class OperatorActions:
    """Carries out an operator's actions; the methods are those of :class:`~wallie_litellm.guard.guard.Guard`.

    ``forget_rejections`` is called with the scopes whose pauses end.
    """

    def __init__(
        self, limiters: LimiterRegistry, forget_rejections: Callable[[str], object], reporter: Reporter
    ) -> None:
        self._limiters = limiters
        self._forget_rejections = forget_rejections
        self._reporter = reporter

    def reset_quota(self, provider: str, actor: str, detail: str | None, model: str | None) -> None:
        """Forget use and pauses: of a provider with its accounts and models, or of one model."""
        if model is None:
            for limiter in (*self._limiters.limiters_of(provider), *self._limiters.models_of(provider)):
                limiter.reset()
                self._forget_rejections(limiter.name)
            self._reporter.on_action(actor, "reset_quota", provider, detail)
            return
        limiter, pattern = self._limiters.known(provider), self._limiters.known_pattern(provider, model)
        if pattern:
            limiter.reset(pattern)
        for paused in self._limiters.models_of(provider):
            shares_limits = pattern and self._limiters.pattern_of(paused.name) == pattern
            if shares_limits or self._limiters.is_named(paused.name, model):
                paused.reset()
                self._forget_rejections(paused.name)
        self._reporter.on_action(actor, "reset_quota", provider, detail, pattern or model)

    def close_circuit(self, provider: str, actor: str, detail: str | None, model: str | None) -> None:
        """Close the breakers of a provider, its accounts and models, or of one model."""
        if model is None:
            for limiter in (*self._limiters.limiters_of(provider), *self._limiters.models_of(provider)):
                limiter.act("close")
        else:
            self._act_on_model(provider, model, "close")
        self._reporter.on_action(actor, "close_circuit", provider, detail, model)

    def open_circuit(self, provider: str, actor: str, detail: str | None, model: str | None) -> None:
        """Open the breaker of a provider, which all its models pass, or of one model."""
        if model is None:
            self._limiters.known(provider).act("force_open")
        else:
            self._act_on_model(provider, model, "force_open")
        self._reporter.on_action(actor, "open_circuit", provider, detail, model)

    def release_circuit(self, provider: str, actor: str, detail: str | None, model: str | None) -> None:
        """Release the breakers of a provider and its models, or of one model."""
        if model is None:
            for limiter in (self._limiters.known(provider), *self._limiters.models_of(provider)):
                limiter.act("release")
        else:
            self._act_on_model(provider, model, "release")
        self._reporter.on_action(actor, "release_circuit", provider, detail, model)

    def reached_by(self, action: str, provider: str, model: str | None) -> list[str]:
        """The names of the limiters that an action reaches; the first is the one that is named.

        Raises:
            ValueError: there is no such provider, or no such model of it.
        """
        own, *accounts = (limiter.name for limiter in self._limiters.limiters_of(provider))
        of_models = [limiter.name for limiter in self._limiters.models_of(provider)]
        if action == "reset_quota":
            if model is None:
                return [own, *accounts]
            has_limits = bool(self._limiters.known_pattern(provider, model))
            return [own] if has_limits else [name for name in of_models if self._limiters.is_named(name, model)]
        if model is not None:
            return self._limiters.scopes_of(provider, model)
        if action == "open_circuit":
            return [own]
        return [own, *(accounts if action == "close_circuit" else ()), *of_models]

    def _act_on_model(self, provider: str, model: str, action: BreakerAction) -> None:
        for scope in self._limiters.scopes_of(provider, model):
            self._limiters.models.act(scope, action)
