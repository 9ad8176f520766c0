"""Finding a model in LiteLLM's price map, and whether it has a price there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

# LiteLLM's names of Bedrock's APIs and regions, in front of a model: bedrock/converse/..., bedrock/us-east-1/...
_BEDROCK_ROUTE: Final = re.compile(
    r"^(?:(?:converse|converse_like|invoke|async_invoke)/)?(?:[a-z]{2}(?:-[a-z]+)+-\d/)?"
)
_PER_TOKEN: Final = ("input_cost_per_token", "output_cost_per_token", "tiered_pricing")


def price_entry(
    prices: Mapping[str, Any], model: str, vendor: str | None, base: object = None
) -> Mapping[str, Any] | None:
    """The price map's entry; never ``get_model_info``, which makes one up with a price of 0.

    ``vendor`` is LiteLLM's name of the API that it calls; ``base`` is ``model_info.base_model``, which names the model
    behind a deployment's own name.
    """
    if isinstance(base, str):
        return next((prices[name] for name in (base, f"{vendor}/{base}") if prices.get(name)), None)
    bare = model.removeprefix(f"{vendor}/")
    names = (model, f"{vendor}/{bare}", bare, *_without_route(bare, vendor))
    candidates = (prices.get(name) for name in names)
    return next((entry for entry in candidates if entry and _is_of(vendor, entry)), None)


def _without_route(model: str, vendor: str | None) -> tuple[str, ...]:
    """The model behind a name that also says by which of the vendor's APIs, or where, it is called."""
    inner = _BEDROCK_ROUTE.sub("", model) if vendor == "bedrock" else model
    return (inner,) if inner != model else ()


def has_price(entry: Mapping[str, Any] | None) -> bool:
    """Whether an entry of the map prices anything, be it at 0."""
    return next(prices_of(entry), None) is not None


def prices_of(entry: Mapping[str, Any] | None) -> Iterator[Any]:
    """All prices that an entry states."""
    for key, value in (entry or {}).items():
        if ("cost_per_" in key or key == "tiered_pricing") and value is not None:
            yield value


def has_token_price(entry: Mapping[str, Any] | None) -> bool:
    """Whether an entry has a price for tokens, be it 0: others are priced per second, page or image."""
    return any((entry or {}).get(key) is not None for key in _PER_TOKEN)


def _is_of(vendor: str | None, entry: Mapping[str, Any]) -> bool:
    """Whether the entry is this vendor's; some are listed by API, such as ``bedrock_converse``."""
    return str(entry.get("litellm_provider") or "?").startswith(vendor or "")
