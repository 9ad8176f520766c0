"""The checks of ``forecast:``: whether alerts of limits that will run out can be what the file says."""

from __future__ import annotations

from collections.abc import Iterator

from wallie_litellm.clock import DAY
from wallie_litellm.config import LimitSettings, ProviderLimits, RouterConfig, WallieConfig
from wallie_litellm.core.dimensions import DAY_DIMENSIONS


def forecast_notes(config: RouterConfig) -> Iterator[str]:
    """Forecasts that have nothing to go by, and alerts that no forecast is early enough for."""
    wallie = config.wallie
    if not wallie.forecast.alert:
        return
    if wallie.ledger is None and _states_days(wallie):
        yield (
            "wallie.forecast: without a ledger limits per day are forecast by a line through the day so far, with a "
            "wide interval; forecast.alert: false turns the alerts off"
        )
    if wallie.forecast.lead >= DAY:
        yield (
            f"wallie.forecast.lead: found {wallie.forecast.lead / 3600:g} h, when a limit's day has 24 h: every day "
            "that may end early is announced at its beginning"
        )


def _states_days(wallie: WallieConfig) -> bool:
    """Whether the file states a limit per day, of a provider, of models, or of a feature."""
    stated: list[ProviderLimits] = [
        limits for name, limits in wallie.providers.items() if wallie.states_limits_of(name)
    ]
    sections: list[LimitSettings] = [*stated, *(own for limits in stated for own in limits.models.values())]
    sections += [feature.limits for feature in wallie.features.values()]
    return any(dimension in own.by_dimension() for own in sections for dimension in DAY_DIMENSIONS)
