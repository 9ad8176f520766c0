"""The price of text alone, by the two prices of a model in LiteLLM's map: LiteLLM takes a quarter of a millisecond.

They hold for a model if LiteLLM's own calculation comes to the same for a few usages, small ones and large ones: prices
by length, by region or by vendor show there. What is not text, comes from a vendor's cache or has any other detail, is
LiteLLM's to price.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import isclose
from typing import Any, Final, NamedTuple

import litellm

from wallie_litellm.core.demand import Demand

_INPUT, _OUTPUT = "input_cost_per_token", "output_cost_per_token"
# Vendors have other prices from 32,000 to 512,000 tokens on.
_PROBES: Final = (Demand(1, 4, 3, 1), Demand(1, 1_040_000, 1_000_000, 40_000))
_TOKENS: Final = frozenset(
    {"completion_tokens", "completion_tokens_details", "prompt_tokens", "prompt_tokens_details", "total_tokens"}
)


class PlainPrices(NamedTuple):
    """US dollars for a token of input, and of output."""

    input: float
    output: float

    def hold_for(self, entry: Mapping[str, Any]) -> bool:
        """Whether the map's ``entry`` still states them: LiteLLM writes new ones into it."""
        return bool(entry.get(_INPUT) == self.input and entry.get(_OUTPUT) == self.output)

    def cost(self, tokens: Demand) -> float:
        """US dollars for so many tokens."""
        return tokens.input * self.input + tokens.output * self.output


def plain_prices(entry: Mapping[str, Any] | None, quote: Callable[[Demand], float]) -> PlainPrices | None:
    """The prices of the map's ``entry``, if LiteLLM's ``quote`` for text comes to the same, in US dollars."""
    for_input, for_output = (None, None) if entry is None else (entry.get(_INPUT), entry.get(_OUTPUT))
    if not isinstance(for_input, int | float) or not isinstance(for_output, int | float):
        return None
    prices = PlainPrices(for_input, for_output)
    try:
        agrees = all(isclose(quote(probe), prices.cost(probe), rel_tol=1e-9) for probe in _PROBES)
    except Exception:  # noqa: BLE001 # of any kind: LiteLLM cannot price the model, and says so when it is asked to
        return None
    return prices if agrees else None


def is_plain(usage: Any) -> bool:
    """Whether a reported usage has nothing but two numbers of tokens; where none is reported, they are estimated."""
    if usage is None:
        return True
    if type(usage) is not litellm.Usage or usage.__pydantic_extra__ or not vars(usage).keys() <= _TOKENS:
        return False
    return _says_nothing(usage.prompt_tokens_details) and _says_nothing(usage.completion_tokens_details)


def _says_nothing(details: Any) -> bool:
    return details is None or not (details.__pydantic_extra__ or any(vars(details).values()))
