"""The limits of providers and features as status reports show them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from wallie_litellm.core.dimensions import FEATURE
from wallie_litellm.forecast.forecasts import Forecasts
from wallie_litellm.guard.estimates import Estimates
from wallie_litellm.guard.vendor_limits import VendorLimits
from wallie_litellm.limiter.limit_report import add_learned
from wallie_litellm.limiter.registry import LimiterRegistry
from wallie_litellm.limiter.status import describe_all, describe_providers


def limits_status(
    limiters: LimiterRegistry,
    rejected: Collection[str],
    vendor_limits: VendorLimits,
    estimates: Estimates,
    forecasts: Forecasts,
    wall: float,
) -> dict[str, Any]:
    """All providers and features, with what is learned, estimated and forecast; ``wall`` is the present Unix time."""
    providers = describe_providers(limiters, wall, rejected)
    for name, described in providers.items():
        add_learned(vendor_limits.of(name) if limiters.is_placed(name) else None, described)
        if (of_provider := estimates.describe(name)) is not None:
            described["estimates"] = of_provider
        forecasts.add_to(name, described, wall)
    features = describe_all(limiters.features, wall)
    for name, described in features.items():
        forecasts.add_to(FEATURE + name, described, wall)
    return {"providers": providers, "features": features}
