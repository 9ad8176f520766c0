"""What a router's attempts cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wallie_litellm.core.attempt_result import AttemptResult
from wallie_litellm.core.bill import Bill
from wallie_litellm.litellm_adapter.pricing import PriceList


class Prices:
    """Prices attempts by LiteLLM's price map and the deployments' own prices."""

    def __init__(self) -> None:
        self._prices = PriceList()

    def __call__(self, operation: str, entry: Mapping[str, Any], result: AttemptResult) -> Bill:
        """The bill of an attempt: see ``Pricer``."""
        return self._prices.bill(
            entry,
            result.usage,
            result.reported,
            response_cost=result.response_cost,
            operation=operation,
            estimated=result.estimated,
            service_tier=result.service_tier,
        )

    def quote(self, operation: str, entry: Mapping[str, Any], result: AttemptResult) -> float | None:
        """US dollars that the usage of an attempt would have cost at another deployment: see ``Quoter``."""
        return self._prices.quote(entry, result.usage, result.reported, operation, result.service_tier)
