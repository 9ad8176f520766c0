"""Estimates that learn from what vendors report: a prompt's tokens by model, an answer's by feature and model group."""

from __future__ import annotations

from math import ceil
from typing import Any, Final, NamedTuple

from wallie_litellm.core.demand import Demand
from wallie_litellm.core.media_tokens import MediaRates
from wallie_litellm.core.prompt_size import PromptSize
from wallie_litellm.core.recent_quantile import RecentQuantile
from wallie_litellm.core.vendor_counting import ModelRule

DEFAULT_OUTPUT_TOKENS: Final = 150  # of an answer of which nothing is known
USUAL_OUTPUT: Final = 0.9  # the quantile of a feature's answers that is reserved
CACHEABLE: Final = 1_024  # tokens of the shortest prompt that vendors cache

_FEW_PROMPTS: Final = 3  # calls before a ratio of prompt tokens is used
_FEW_OUTPUTS: Final = 10  # calls before a usual output is used
_FEW_CACHED: Final = 2  # calls before a usual share of cached tokens is used
_TINY: Final = 32  # tokens of a prompt that teaches nothing: what vendors add to each weighs as much
_MOST_OFF: Final = 20.0  # a ratio beyond this, or below its inverse, says something of a mistake
_ALL_LOOKED_AT: Final = 100  # calls of a model, all of which teach something; then one in `_LOOKED_AT` does
_LOOKED_AT: Final = 4
_ERRORS_KEPT: Final = 256  # calls of which the errors are kept


class ErrorFigures:
    """How far estimates were from what was settled, of the last calls.

    The ratio of what they reserved to what was settled, of the sums, and absolute relative errors, in whole and prompt.
    """

    __slots__ = ("_next", "_prompt", "_total", "calls")

    def __init__(self) -> None:
        self.calls = 0  # that were settled, looked at or not
        self._next = 0
        self._total: list[tuple[int, int]] = []  # tokens as reserved, and as settled
        self._prompt: list[float] = []

    def add(self, reserved: int, settled: int, prompt: float) -> None:
        """One call that was settled: its tokens, of which ``settled`` are above 0, and the error of its prompt."""
        if len(self._total) < _ERRORS_KEPT:
            self._total.append((reserved, settled))
            self._prompt.append(prompt)
        else:
            place = self._next = (self._next + 1) % _ERRORS_KEPT
            self._total[place], self._prompt[place] = (reserved, settled), prompt

    def plus(self, other: ErrorFigures) -> ErrorFigures:
        """The figures of both."""
        both = ErrorFigures()
        both.calls = self.calls + other.calls
        both._total = self._total + other._total
        both._prompt = self._prompt + other._prompt
        return both

    def as_dict(self) -> dict[str, Any]:
        """Calls, ratio, mean error and its 95th percentile; ``prompt`` has the errors of the prompt's tokens alone.

        An error weighs each call alike, however small; the ratio weighs each by its tokens, as limits do.
        """
        reserved, settled = (sum(column) for column in zip(*self._total, strict=True)) if self._total else (0, 0)
        errors = [abs(one - other) / other for one, other in self._total]
        ratio = round(reserved / settled, 4) if settled else None
        return {"calls": self.calls, "ratio": ratio, **_figures(errors), "prompt": _figures(self._prompt)}


def _figures(errors: list[float]) -> dict[str, float | None]:
    found = sorted(errors)
    if not found:
        return {"mean_error": None, "p95_error": None}
    at = min(len(found) - 1, ceil(0.95 * len(found)) - 1)
    return {"mean_error": round(sum(found) / len(found), 4), "p95_error": round(found[at], 4)}


class ModelEstimates:
    """What is known of one model at one provider: its vendor's rule, and the vendor's count against the estimate."""

    __slots__ = ("_ratios", "errors", "most_output", "rates", "rule")

    def __init__(self, rule: ModelRule, rates: MediaRates, most_output: int | None) -> None:
        self.rule = rule
        self.rates = rates
        self.most_output = most_output  # tokens that the model can generate, where that is known
        self.errors = ErrorFigures()
        self._ratios: dict[str, RecentQuantile] = {}  # by the prompt's kind

    @property
    def has_learned(self) -> bool:
        """Whether a call has been settled."""
        return self.errors.calls > 0

    def prompt_tokens(self, estimate: int, kind: str) -> int:
        """The tokens of a prompt, from its estimate without the vendor's tokenizer."""
        ratio = self._ratios.get(kind)
        return estimate if ratio is None or ratio.value is None else ceil(estimate * ratio.value)

    def is_looked_at(self) -> bool:
        """Count one more call of this model; whether to learn from it: of many, one in a few is enough."""
        self.errors.calls = calls = self.errors.calls + 1
        return calls <= _ALL_LOOKED_AT or not calls % _LOOKED_AT

    def learn_prompt(self, estimate: int, kind: str, counted: int) -> None:
        """The vendor has counted a prompt."""
        if estimate < _TINY or counted <= 0:
            return
        ratio = self._ratios.get(kind)
        if ratio is None:
            ratio = self._ratios[kind] = RecentQuantile(0.5, _FEW_PROMPTS)
        ratio.add(min(_MOST_OFF, max(1 / _MOST_OFF, counted / estimate)))


class UsualUse:
    """What one feature's calls of one model group use: the output, and the share of prompts that no cache had."""

    __slots__ = ("output", "uncached")

    def __init__(self) -> None:
        self.output = RecentQuantile(USUAL_OUTPUT, _FEW_OUTPUTS)
        self.uncached = RecentQuantile(USUAL_OUTPUT, _FEW_CACHED)

    @property
    def has_learned(self) -> bool:
        """Whether enough calls have been settled to say what is usual."""
        return self.output.value is not None

    def output_tokens(self, choices: int = 1) -> int:
        """The output of an answer without ``max_tokens``."""
        usual = self.output.value
        return (DEFAULT_OUTPUT_TOKENS if usual is None else ceil(usual)) * choices


class Wish(NamedTuple):
    """What a caller asks for: ``limit`` of the output in tokens, over all ``choices``; whether the answer is text."""

    limit: int | None = None
    choices: int = 1
    generates: bool = True


class Estimate:
    """The estimate of one call. ``prompt`` are all tokens of its prompt, those from a cache included.

    ``marked``: parts of the prompt are marked for the vendor's cache. ``is_cacheable``: what is read from it will not
    count. With ``may_exceed`` the prompt may be larger than a limit, as most of it will not count.
    """

    __slots__ = ("_base", "_kind", "_wish", "demand", "is_cacheable", "may_exceed", "model", "prompt", "usual")

    def __init__(
        self, size: PromptSize, wish: Wish, model: ModelEstimates, usual: UsualUse, *, marked: bool = False
    ) -> None:
        self.model = model
        self.usual = usual
        self._wish = wish
        self._base = base = size.estimate(model.rates)
        self._kind = kind = size.kind(base)
        self.prompt = prompt = model.prompt_tokens(base, kind)
        rule = model.rule
        self.is_cacheable = rule.expects_cached and base >= CACHEABLE and (marked or not rule.marks_cache)
        self.may_exceed = False
        if self.is_cacheable:
            uncached = usual.uncached.value
            self.may_exceed = marked if uncached is None else uncached < 1
            prompt = prompt if uncached is None else ceil(prompt * uncached)
        self.demand: Demand = rule.demand(prompt, self._output() if wish.generates else 0)

    def _output(self) -> int:
        wish, rule = self._wish, self.model.rule
        if wish.limit is None:
            most = self.model.most_output
            if rule.reserves_most and most is not None:
                return most * wish.choices
            return self.usual.output_tokens(wish.choices)
        if rule.reserves_max_tokens or self.usual.output.value is None:
            return max(0, wish.limit)
        return max(0, min(wish.limit, self.usual.output_tokens(wish.choices)))

    def usual_demand(self) -> Demand:
        """What the call will probably use: its whole prompt and the usual output, whatever the limits count."""
        wish, output = self._wish, self.usual.output_tokens(self._wish.choices)
        if not wish.generates:
            output = 0
        elif wish.limit is not None:
            output = max(0, min(wish.limit, output))
        return Demand(1, self.prompt + output, self.prompt, output)

    def learn(self, usage: Demand, cached: int, reserved: int, settled: int) -> None:
        """The call has succeeded: the vendor's ``usage``, and tokens as ``reserved`` and as ``settled`` by limits."""
        self.model.learn_prompt(self._base, self._kind, usage.input)
        if usage.input > 0 and settled > 0:
            self.model.errors.add(reserved, settled, abs(self.prompt - usage.input) / usage.input)
        if self._wish.generates and usage.output > 0:
            self.usual.output.add(usage.output / self._wish.choices)
        if self.is_cacheable and usage.input > 0:
            self.usual.uncached.add(max(0.0, 1 - cached / usage.input))
