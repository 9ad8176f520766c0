"""What operators do to providers and models; each action goes on record with its actor."""

from __future__ import annotations

from collections.abc import Callable

from wallie_litellm.core.circuit_breaker import BreakerAction
from wallie_litellm.guard.reporter import Reporter
from wallie_litellm.guard.settlement import Settlement
from wallie_litellm.limiter.registry import LimiterRegistry
from wallie_litellm.routing.routing import Routing


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


class OperatorMethods:
    """The part of the guard that operators act through: ``actor``, and ``detail``, the reason, go on record."""

    routing: Routing
    reporter: Reporter
    _limiters: LimiterRegistry
    _settlement: Settlement

    @property
    def _actions(self) -> OperatorActions:
        return OperatorActions(self._limiters, self._settlement.forget_rejections, self.reporter)

    def reset_quota(
        self, provider: str, actor: str = "app", detail: str | None = None, *, model: str | None = None
    ) -> None:
        """Set ``provider``'s usage to zero and end any pause of it, of its accounts and of their models.

        With ``model``, a model's name or a pattern of the file, only those of its own limits, and its pauses.

        Raises:
            ValueError: there is no such provider, or nothing to reset of this model at it.
        """
        self._actions.reset_quota(provider, actor, detail, model)

    def close_circuit(
        self, provider: str, actor: str = "app", detail: str | None = None, *, model: str | None = None
    ) -> None:
        """Let requests through to ``provider`` again, whatever the state of its breaker and its accounts' and models'.

        With ``model``, to that one: its own breaker closes.
        """
        self._actions.close_circuit(provider, actor, detail, model)

    def open_circuit(
        self, provider: str, actor: str = "app", detail: str | None = None, *, model: str | None = None
    ) -> None:
        """Let no request through to ``provider`` until :meth:`close_circuit` or :meth:`release_circuit`.

        With ``model``, to that one.
        """
        self._actions.open_circuit(provider, actor, detail, model)

    def release_circuit(
        self, provider: str, actor: str = "app", detail: str | None = None, *, model: str | None = None
    ) -> None:
        """End :meth:`open_circuit` by a probe: the result of the next request closes the breaker or opens it again.

        Of the provider and of all its models, or of ``model`` alone.
        """
        self._actions.release_circuit(provider, actor, detail, model)

    def switch(self, name: str, *, on: bool, actor: str = "app", detail: str | None = None) -> None:
        """Switch a decision of the ``routing`` off at run time, or on again: one of ``routing.switches.SWITCHES``.

        Raises:
            ValueError: there is no such switch.
        """
        self.routing.switches.set(name, on=on)
        self.reporter.on_action(actor, "switch_on" if on else "switch_off", name, detail)

    def reached_by(self, action: str, provider: str, model: str | None = None) -> list[str]:
        """The names of the limiters that an ``action``, one of the methods above, reaches; the first is the one named.

        Raises:
            ValueError: there is no such provider, or no such model of it.
        """
        return self._actions.reached_by(action, provider, model)
