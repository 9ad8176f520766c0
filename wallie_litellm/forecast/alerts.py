"""Which forecasts are announced: a limit per day that runs out before it resets, once per limit and day."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from wallie_litellm.core.day_forecast import Forecast
from wallie_litellm.core.thresholds import ThresholdWatch
from wallie_litellm.forecast.limits import DayLimit

LOOK_EVERY: Final = 60.0  # seconds between two looks at all limits
_ENDS: Final = "ends"  # the only level
_END: Final = {_ENDS: 1.0}  # at all of the limit


def is_due(forecast: Forecast, now: float, lead: float) -> bool:
    """Whether it is time to announce that the limit runs out; times and ``lead`` are in seconds.

    By the weekly shape it is announced as soon as even the lower end of the interval runs out, however early in the
    day. Else, and where the forecast is linear, when the upper end does within ``lead``, the last moment at which the
    alert comes early enough if that end is right.
    """
    if forecast.method == "weekly" and forecast.latest is not None:
        return True
    return forecast.earliest is not None and forecast.earliest <= now + lead + LOOK_EVERY


class ForecastAlerts:
    """Announces each limit once a day: ``announce`` is called with it, its forecast and the time of its reset.

    As an alert of a quota, one is armed again when what is expected has fallen by a tenth of the limit, and its day is
    over.
    """

    def __init__(self, lead: float, announce: Callable[[DayLimit, Forecast, float, float], object]) -> None:
        self._lead = lead
        self._announce = announce
        self._watches: dict[DayLimit, tuple[float, ThresholdWatch]] = {}  # with the reset that the watch is for

    def look(self, limit: DayLimit, forecast: Forecast, full: float, left: float, now: float, reset_at: float) -> None:
        """Announce ``limit``, if that is due. ``full`` units are all of it; used up already it is no forecast."""
        watch = self._watch(limit, reset_at)
        if left > 0 and is_due(forecast, now, self._lead):
            if watch.rose(1.0, now, reset_at):
                self._announce(limit, forecast, full, reset_at)
        else:
            watch.fell(forecast.end / full)

    def note(self, limit: DayLimit, reset_at: float, at: float) -> None:
        """Another process, or an earlier one, has announced ``limit`` in the day that ends at ``reset_at``."""
        self._watch(limit, reset_at).rose(1.0, at, reset_at)

    def _watch(self, limit: DayLimit, reset_at: float) -> ThresholdWatch:
        known, watch = self._watches.get(limit, (reset_at, ThresholdWatch(_END)))
        if known != reset_at:
            watch.restart()
        self._watches[limit] = reset_at, watch
        return watch
