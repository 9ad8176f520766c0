"""LiteLLM's complexity router, for what it says of a prompt alone: no model is called, and no Router is needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from wallie_litellm.core.prompt_complexity import PromptComplexity, excerpt, is_long

# Any number of tokens is a long prompt: for the excerpt of one.
_LONG_TEXT: Final = {"token_thresholds": {"simple": 0, "complex": 0}}


def complexity_classifier() -> Callable[[str], PromptComplexity]:
    """LiteLLM's heuristic scorer: the class and its ``classify`` are public, with the same arguments since 1.106.

    Its second argument is the Router that it would route for, which scoring does not use.
    """
    from litellm.router_strategy.complexity_router import ComplexityRouter  # late: only ``auto`` needs it

    scorer: Any = ComplexityRouter("auto", None)
    of_long: Any = ComplexityRouter("auto", None, _LONG_TEXT)

    def classify(prompt: str) -> PromptComplexity:
        tier, score, signals = (of_long if is_long(prompt) else scorer).classify(excerpt(prompt))
        level: Any = str(getattr(tier, "value", tier)).lower()
        return PromptComplexity(level, round(float(score), 3), tuple(map(str, signals)))

    return classify
