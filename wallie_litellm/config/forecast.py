"""The ``forecast:`` section: alerts of limits that will run out before they reset."""

from __future__ import annotations

from pydantic import Field

from wallie_litellm.config.section import Section
from wallie_litellm.config.values import Duration, Switch


class ForecastSettings(Section):
    """Alerts of limits per day that will run out. Forecasts themselves are made where they are asked for."""

    alert: Switch = Field(
        True,
        description="Whether there is an alert where a limit per day will run out before it resets.",
    )
    lead: Duration = Field(3600.0, description="Seconds before a limit runs out by which its alert has to come.")
