"""The ``forecast:`` section: alerts of limits that will run out before they reset."""

from __future__ import annotations

from wallie_litellm.config.section import Section
from wallie_litellm.config.values import Duration, Switch


class ForecastSettings(Section):
    """``alert``: an alert where a limit per day will run out before it resets; ``lead``: how many seconds before that.

    Forecasts themselves are made where they are asked for, and cost nothing else.
    """

    alert: Switch = True
    lead: Duration = 3600.0
