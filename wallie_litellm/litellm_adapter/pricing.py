"""What an attempt cost: LiteLLM's own price, and whether there is one at all.

LiteLLM decides which price counts: a deployment's own prices (``model_info`` or ``litellm_params``), else those of its
``base_model``, else the price map's, with LiteLLM's discounts and margins on top. Own prices replace the map's as a
whole: of two token prices, the one that is not given is 0.

LiteLLM also returns 0 where it has no price. Here that is ``None`` and ``unpriced``, unless a price of 0 is stated.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from math import isfinite
from typing import Any, Final, NamedTuple

import litellm
from litellm.cost_calculator import get_usage_object, select_model_name_for_cost_calc
from litellm.exceptions import ModelNotMappedError
from litellm.litellm_core_utils.litellm_logging import use_custom_pricing_for_model

from wallie_litellm.core.bill import NO_BILL, Bill
from wallie_litellm.core.demand import NOTHING, Demand
from wallie_litellm.core.operations import CHAT, COUNTED, GENERATING
from wallie_litellm.litellm_adapter.plain_prices import PlainPrices, is_plain, plain_prices
from wallie_litellm.litellm_adapter.price_map import has_price, has_token_price, prices_of
from wallie_litellm.litellm_adapter.providers import vendor_of
from wallie_litellm.litellm_adapter.wires.fields import value_of
from wallie_litellm.litellm_adapter.wires.usage import details_of

logger = logging.getLogger(__name__)

# Operations that only look something up, or manage it, cost nothing.
_FREE: Final = ("create_", "retrieve_", "list_", "cancel_", "delete_", "get_", "file_")
_LOOKUPS: Final = 3  # of a price that LiteLLM fails to look up; as many as LiteLLM's own
_STANDARD_TIERS: Final = (None, "default", "standard")
_CACHED: Final = 1000  # deployments; one with a pattern for a name counts once for each model asked of it

Entry = Mapping[str, Any]
_Key = tuple[str | None, str]


@dataclass(frozen=True, slots=True)
class _Source:
    """Where a deployment's price comes from; it holds for these ``params`` and ``info`` only."""

    params: Entry = field(repr=False)  # contains an API key
    info: Entry
    vendor: str | None
    custom: bool  # whether the deployment states prices of its own
    map_size: int
    key: str | None  # in litellm.model_cost
    entry: Entry | None
    priced: bool
    plain: PlainPrices | None = None  # of text alone

    def holds(self, params: Entry, info: Entry) -> bool:
        """Whether this still holds: deployments are replaced, and prices registered, while the router runs."""
        prices = litellm.model_cost
        if self.key is not None and prices.get(self.key) is not self.entry:
            return False
        if (self.params is not params and self.params != params) or (self.info is not info and self.info != info):
            return False
        return self.priced or (len(prices) == self.map_size and not has_price(self.entry))


class _Use(NamedTuple):
    """What is priced: tokens, their details as the provider wrote them down, and what changes their price."""

    tokens: Demand
    reported: Any
    operation: str
    service_tier: str | None


class PriceList:
    """Calculates the bills of attempts. Safe to use from several threads at once."""

    def __init__(self) -> None:
        self._sources: dict[_Key, _Source] = {}
        self._failed: set[_Key] = set()

    def bill(
        self,
        deployment: Entry,
        usage: Demand | None,
        reported: Any,
        *,
        response_cost: float | None = None,
        operation: str = "chat",
        estimated: bool = False,
        service_tier: str | None = None,
    ) -> Bill:
        """What an attempt used and cost.

        ``deployment`` is the entry of the router's ``model_list``; ``reported`` the usage as the provider wrote it
        down, without which ``usage`` is an estimate; ``response_cost`` is LiteLLM's own price of the response, in US
        dollars; ``service_tier`` is the one that served. Never raises: what LiteLLM cannot price is unpriced.
        """
        tokens = usage or NOTHING
        if not (tokens.tokens or response_cost):
            # Images, speech and the like are priced by LiteLLM or not at all.
            free = operation in COUNTED or operation.removeprefix("a").startswith(_FREE) or self._is_free(deployment)
            return NO_BILL if free else NO_BILL._replace(cost_usd=None, unpriced=True)
        source = self._source(deployment)
        if not response_cost and not source.custom:  # of a stream; with own prices the report may be the provider's
            response_cost = _stated_cost(reported)
        if _is_positive(response_cost) and (source.priced or not litellm.cost_margin_config):
            cost = response_cost  # LiteLLM had a price: only a fixed margin makes a cost of no price
        else:
            cost = self._calculated(source, _Use(tokens, reported, operation, service_tier))
        cached, written, reasoning = details_of(reported)
        return Bill(
            tokens.input,
            tokens.output,
            tokens.tokens,
            cached,
            reasoning,
            cost,
            cost is None,  # unpriced
            estimated or (reported is None and tokens.tokens > 0),
            written,
        )

    def quote(
        self, deployment: Entry, usage: Demand | None, reported: Any, operation: str, service_tier: str | None
    ) -> float | None:
        """What the usage of another deployment's answer would have cost at this one; ``None`` without a known price."""
        if usage is None or not usage.tokens:
            return self.bill(deployment, usage, None, operation=operation).cost_usd
        return self._calculated(self._source(deployment), _Use(usage, reported, operation, service_tier))

    def is_priced(self, deployment: Entry) -> bool:
        """Whether the deployment, or the price map, states a price, be it 0."""
        return self._source(deployment).priced

    def _is_free(self, deployment: Entry) -> bool:
        """Whether all prices of the deployment are stated, and 0."""
        entry = self._source(deployment).entry
        return has_price(entry) and not any(prices_of(entry))

    def _calculated(self, source: _Source, use: _Use) -> float | None:
        if not source.priced:
            return None
        if source.plain is not None and source.plain.hold_for(source.entry or {}) and _is_for_text(use):
            return source.plain.cost(use.tokens)
        try:
            cost = _completion_cost(source, use)
        except Exception as error:  # noqa: BLE001 # LiteLLM raises plain Exceptions, and pricing must not fail a call
            self._note_failure((source.info.get("id"), source.params.get("model", "")), error)
            return None
        return cost if cost or has_token_price(source.entry) else None

    def _source(self, deployment: Entry) -> _Source:
        params, info = deployment.get("litellm_params") or {}, deployment.get("model_info") or {}
        key = info.get("id"), params.get("model", "")
        source = self._sources.get(key)
        if source is None or not source.holds(params, info):
            if len(self._sources) >= _CACHED:
                self._sources.clear()
            self._sources[key] = source = _find(params, info)
        return source

    def _note_failure(self, key: _Key, error: Exception) -> None:
        if key in self._failed:
            return
        if len(self._failed) >= _CACHED:
            self._failed.clear()
        self._failed.add(key)
        logger.warning("LiteLLM cannot price %s (%s): its calls count as unpriced", key[1], type(error).__name__)


def _find(params: Entry, info: Entry) -> _Source:
    custom = use_custom_pricing_for_model({**params, "metadata": {"model_info": info}})
    model = str(params.get("model", ""))
    vendor = vendor_of(model, params)

    def look_up() -> str:
        name = select_model_name_for_cost_calc(
            model=model,
            completion_response=None,
            base_model=_base_model(params, info),
            custom_pricing=custom,
            custom_llm_provider=vendor,
            router_model_id=info.get("id"),
        )
        return str(litellm.get_model_info(name, custom_llm_provider=vendor)["key"])

    key = _found(look_up, model)
    # The entry itself: get_model_info fills in a price of 0 where there is none.
    entry = litellm.model_cost.get(key) if key is not None else None
    source = _Source(params, info, vendor, custom, len(litellm.model_cost), key, entry, has_price(entry))
    if custom or _has_terms():
        return source
    return replace(source, plain=plain_prices(entry, partial(_quote, source)))


def _quote(source: _Source, tokens: Demand) -> float:
    """LiteLLM's price of text alone."""
    return _completion_cost(source, _Use(tokens, None, CHAT, None))


def _is_for_text(use: _Use) -> bool:
    """Whether the price of a model's text is that of this use."""
    return (
        use.operation in GENERATING
        and use.service_tier in _STANDARD_TIERS
        and use.tokens.tokens == use.tokens.input + use.tokens.output
        and is_plain(use.reported)
        and not _has_terms()
    )


def _has_terms() -> bool:
    """Whether discounts or margins are set in LiteLLM."""
    return bool(litellm.cost_discount_config or litellm.cost_margin_config)


def _found(look_up: Callable[[], str], model: str) -> str | None:
    """The key that ``look_up`` finds in the price map; ``None`` where the map does not have ``model``."""
    for _ in range(_LOOKUPS):
        try:
            return look_up()
        except ModelNotMappedError:
            return None
        except Exception as error:  # noqa: BLE001 # of any kind, beside a thread that registers prices or imports
            failure = error
    logger.warning("LiteLLM cannot look up the price of %s: its calls count as unpriced", model, exc_info=failure)
    return None


def _base_model(params: Entry, info: Entry) -> str | None:
    base = params.get("base_model") or info.get("base_model")
    return base if isinstance(base, str) else None


def _completion_cost(source: _Source, use: _Use) -> float:
    answer: dict[str, Any] = {"usage": _as_usage(use.tokens, use.reported)}
    if use.service_tier is not None:
        answer["service_tier"] = use.service_tier
    cost: float = litellm.completion_cost(
        completion_response=answer,
        model=source.params["model"],
        call_type="aembedding" if use.operation == "embedding" else "acompletion",
        custom_llm_provider=source.vendor,
        custom_pricing=source.custom,
        base_model=_base_model(source.params, source.info),
        router_model_id=source.info.get("id"),
    )
    return float(cost)


def _as_usage(tokens: Demand, reported: Any) -> litellm.Usage:
    """The usage in LiteLLM's own form, from any of the three wire formats."""
    usage = get_usage_object({"usage": reported}) if reported is not None else None
    if usage is not None:
        return usage
    return litellm.Usage(prompt_tokens=tokens.input, completion_tokens=tokens.output, total_tokens=tokens.tokens)


def _stated_cost(reported: Any) -> Any:
    """LiteLLM's price of a stream, which it writes into the usage."""
    return None if isinstance(reported, Mapping) else value_of(reported, "cost")


def _is_positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0 and isfinite(value)
