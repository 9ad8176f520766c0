"""What each call will use, and how good the guess was. Learned in this process alone, and lost with it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from wallie_litellm.config import ProviderLimits, WallieConfig
from wallie_litellm.core.attempt_result import AttemptResult
from wallie_litellm.core.demand import Demand, Outcome
from wallie_litellm.core.learned_estimates import ErrorFigures, Estimate, ModelEstimates, UsualUse, Wish
from wallie_litellm.core.media_tokens import rates_of
from wallie_litellm.core.prompt_size import PromptSize
from wallie_litellm.core.vendor_counting import PLAIN, rule_of
from wallie_litellm.guard.context import Attempt

MOST_KEPT: Final = 1_000  # models, and features with their model groups: with a wildcard, callers invent names
MOST_LISTED: Final = 100  # models of a provider, those called most
_INPUT_LIMITS: Final = ("tpm", "itpm", "tpd")
_SUCCESS: Final = Outcome.SUCCESS

_UNKNOWN: Final = ModelEstimates(PLAIN, rates_of(""), None)  # before a deployment is picked
_K = TypeVar("_K")
_V = TypeVar("_V", ModelEstimates, UsualUse)


class Estimates:
    """Estimates the calls of one guard. Safe to use from several threads: what two learn at once is kept of one."""

    def __init__(self, limits: Mapping[str, ProviderLimits]) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._models: dict[tuple[str, str], ModelEstimates] = {}  # by provider and deployment
        self._usual: dict[tuple[str | None, str], UsualUse] = {}  # by feature and model group

    def configure(self, config: WallieConfig) -> None:
        """Go by another configuration: a provider whose cached tokens count otherwise now is learned anew."""
        before, self._limits = self._limits, config.providers
        with self._lock:
            self._models = {
                key: one
                for key, one in self._models.items()
                if _counting(before, key[0]) == _counting(self._limits, key[0])
            }

    def before_pick(self, size: PromptSize, wish: Wish, feature: str | None, group: str) -> Estimate:
        """The estimate of a call of which the deployment is not known yet."""
        return Estimate(size, wish, _UNKNOWN, self._usual_use(feature, group))

    def of(
        self,
        model: ModelEstimates,
        size: PromptSize,
        wish: Wish,
        feature: str | None,
        group: str,
        *,
        marked: bool = False,
    ) -> Estimate:
        """The estimate of a call to ``model``, as its vendor counts."""
        return Estimate(size, wish, model, self._usual_use(feature, group), marked=marked)

    def model_of(self, attempt: Attempt) -> ModelEstimates:
        """What is known of the attempt's model."""
        key = attempt.provider, attempt.deployment
        found = self._models.get(key)
        if found is None:
            found = self._add(self._models, key, self._read_model(attempt))
        return found

    def _usual_use(self, feature: str | None, group: str) -> UsualUse:
        key = feature, group
        found = self._usual.get(key)
        return self._add(self._usual, key, UsualUse()) if found is None else found

    def _read_model(self, attempt: Attempt) -> ModelEstimates:
        # Late: they import LiteLLM, which takes seconds.
        from wallie_litellm.litellm_adapter.providers import vendor_of
        from wallie_litellm.litellm_adapter.requests import most_output_of

        params = attempt.entry.get("litellm_params") or {}
        model = attempt.deployment
        vendor = vendor_of(model, params) or attempt.provider
        name = model.partition("/")[2] or model
        rule = rule_of(vendor, name, _counting(self._limits, attempt.provider))
        return ModelEstimates(rule, rates_of(model), most_output_of(model, vendor) if rule.reserves_most else None)

    def _add(self, kept: dict[_K, _V], key: _K, made: _V) -> _V:
        with self._lock:
            if len(kept) >= MOST_KEPT:  # names that callers invent have not been served: the first of these goes
                kept.pop(next((name for name, one in kept.items() if not one.has_learned), next(iter(kept))))
            return kept.setdefault(key, made)

    @staticmethod
    def cut(demand: Demand, capacity: Callable[[str], float]) -> Demand:
        """``demand`` with its input cut to what the limits can hold: most of it may be in the vendor's cache."""
        most = min(map(capacity, _INPUT_LIMITS))
        if demand.input <= most:
            return demand
        return Demand(demand.requests, int(most), int(most), demand.output)

    @staticmethod
    def learn(attempt: Attempt, result: AttemptResult) -> None:
        """An attempt has been settled: learn from what its provider reported."""
        estimate, usage, reservation = attempt.estimate, result.usage, attempt.reservation
        if estimate is None or usage is None or reservation is None or result.outcome is not _SUCCESS:
            return
        if result.reported is None or result.estimated or not estimate.model.is_looked_at():
            return
        counted = usage if result.counted is None else result.counted
        cached = 0
        if estimate.is_cacheable:
            from wallie_litellm.litellm_adapter.wires.usage import cached_tokens  # late, as above

            cached = cached_tokens(result.reported)
        estimate.learn(usage, cached, reservation.demand.tokens, counted.tokens)

    def describe(self, provider: str) -> dict[str, Any] | None:
        """The errors of one provider's estimates, and of each model's; ``None`` before any call is settled."""
        models = {name: one.errors for (at, name), one in tuple(self._models.items()) if at == provider}
        models = {name: errors for name, errors in models.items() if errors.calls}
        if not models:
            return None
        whole = ErrorFigures()
        for errors in models.values():
            whole = whole.plus(errors)
        listed = sorted(models, key=lambda name: -models[name].calls)[:MOST_LISTED]
        return {
            **whole.as_dict(),
            "scope": "process",
            "models": {name: models[name].as_dict() for name in sorted(listed)},
        }


def _counting(limits: Mapping[str, ProviderLimits], provider: str) -> str | None:
    """What the file says of a provider's cached tokens."""
    found = limits.get(provider)
    return None if found is None else found.cached_tokens
