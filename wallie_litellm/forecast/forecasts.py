"""What is known of the use of each limit per day, and its forecast at any moment. Times are Unix seconds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from math import inf
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

from wallie_litellm.config import WallieConfig
from wallie_litellm.core.budget import month_begins, month_ends
from wallie_litellm.core.cut_days import shape_without
from wallie_litellm.core.daily_quota import last_midnight, next_midnight
from wallie_litellm.core.day_forecast import Forecast, Window, day_forecast
from wallie_litellm.core.dimensions import DAY_DIMENSIONS
from wallie_litellm.core.iso_time import iso_time
from wallie_litellm.core.limit_keys import ACCOUNT
from wallie_litellm.core.local_day import days_until
from wallie_litellm.core.month_forecast import month_forecast
from wallie_litellm.core.spending import periods
from wallie_litellm.core.weekly_shape import WeeklyShape
from wallie_litellm.forecast.limits import BUDGETS, COST, MONTH_COST, DayLimit, spending_of

HISTORY: Final = 8 * 7 * 86_400.0  # seconds of the record that a shape is made of

_BUDGETS: Final = ""  # the key of their time zone: no provider has that name

Quarters = Iterable[tuple[float, float]]  # the beginning of a quarter of an hour, and units used in it; oldest first


class History(NamedTuple):
    """The use of one limit on record: the shape of earlier days, and what is used in the one that ends at ``ends``."""

    shape: WeeklyShape | None = None
    used: float = 0.0
    ends: float = -inf
    limit: float = 0.0  # by which the shape's days were taken to be cut


class Forecasts:
    """The forecasts of all limits per day, of limiters whose days end at midnight in ``zones``, else UTC.

    ``counted_since`` is when this process began to count, where no record has what was used before.
    """

    def __init__(self, zones: Mapping[str, str], counted_since: float = -inf) -> None:
        self._zones = zones
        self._counted_since = counted_since
        self._histories: dict[DayLimit, History] = {}

    def configure(self, config: WallieConfig) -> None:
        """Have days end where another configuration says; what was known is looked up anew."""
        self._zones = _zones_of(config)
        self._histories = {}

    def zone(self, limit: DayLimit) -> str:
        """The time zone in whose midnight a limit resets."""
        if limit.dimension in BUDGETS.values():
            return self._zones.get(_BUDGETS, "UTC")
        if limit.dimension == COST:
            return self._zones.get(_BUDGETS, "UTC") if limit.scope else "UTC"
        return self._zones.get(limit.name, "UTC")

    def reset_at(self, limit: DayLimit, now: float) -> float:
        """When a limit resets next: at midnight, a monthly budget when its month ends, the month's cost in UTC."""
        if limit.dimension == BUDGETS["month"]:
            return float(periods(now, self.zone(limit)).month_ends)
        return month_ends(now) if limit == MONTH_COST else next_midnight(now, self.zone(limit))

    def history(self, limit: DayLimit) -> History:
        """What is known of a limit."""
        return self._histories.get(limit, History())

    def needed_since(self, limit: DayLimit, full: float, now: float) -> float:
        """From when on :meth:`learn` needs the record: that of the day, or of all weeks for the first time in a day."""
        history = self.history(limit)
        is_known = now < history.ends and history.limit == full
        return last_midnight(now, self.zone(limit)) if is_known else now - HISTORY

    def learn(self, limit: DayLimit, full: float, since: float, quarters: Quarters, now: float) -> None:
        """Take in the record from ``since`` on. ``full`` is the amount of the limit."""
        zone, record = self.zone(limit), list(quarters)
        midnight, shape = last_midnight(now, zone), self.history(limit).shape
        if since < midnight:
            shape = shape_without(full, days_until(now, record, ZoneInfo(zone)))
        used = sum(units for start, units in record if start >= midnight)
        self._histories[limit] = History(shape, used, next_midnight(now, zone), full)

    def of(self, limit: DayLimit, used: float, left: float, now: float) -> Forecast:
        """The forecast of a limit of which so many units are used and ``left`` now."""
        zone, history = self.zone(limit), self.history(limit)
        midnight = last_midnight(now, zone)
        window = Window(now, max(midnight, self._counted_since), next_midnight(now, zone), ZoneInfo(zone))
        on_record = history.used if now < history.ends else used  # a new day may not have been looked up yet
        return day_forecast(history.shape, on_record, used, used + left, window)

    def of_month(self, limit: DayLimit, spent: float, amount: float, now: float) -> Forecast:
        """The forecast of what is spent in the present month (UTC) of ``amount`` US dollars."""
        history = self.history(limit)
        window = Window(now, max(month_begins(now), self._counted_since), month_ends(now), ZoneInfo("UTC"))
        today = history.used if now < history.ends else 0.0
        return month_forecast(history.shape, today, spent, amount, window)

    def budget(self, spent: float, amount: float, now: float) -> dict[str, Any]:
        """The month's budget as status reports show it; without an amount there is nothing to run out."""
        shown: dict[str, Any] = {"spent_usd": spent, "limit_usd": amount}
        if amount > 0:
            shown |= described_forecast(self.of_month(MONTH_COST, spent, amount, now), places=2)
        return shown

    def add_to_budgets(self, rows: list[dict[str, Any]], now: float) -> list[dict[str, Any]]:
        """The rows of budgets with their forecasts, as status reports show them; a user's, or a key's, is linear."""
        for row in rows:
            row.update(described_forecast(self.of_budget(row, now), places=2))
        return rows

    def of_budget(self, row: Mapping[str, Any], now: float) -> Forecast:
        """The forecast of a budget, by its row as status reports show it."""
        spent, left = row["spent_usd"], max(0.0, row["limit_usd"] - row["spent_usd"])
        limit = spending_of(row["feature"])
        history = self.history(limit) if row["user"] is None and row["key"] is None else History()
        zone = ZoneInfo(self.zone(limit))
        local = datetime.fromtimestamp(now, zone).replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
        begin = local.replace(day=1) if row["window"] == "month" else local
        reset_at = datetime.fromisoformat(row["reset_at"]).timestamp()
        window = Window(now, max(begin.timestamp(), self._counted_since), reset_at, zone)
        today = history.used if now < history.ends else 0.0
        return month_forecast(history.shape, today, spent, spent + left, window)

    def add_to(self, name: str, described: Mapping[str, Any], now: float) -> None:
        """Add the forecasts of one limiter's limits to its quotas, as status reports show them."""
        quotas = {ACCOUNT: described["quota"]}
        quotas |= {scope: own["quota"] for scope, own in described.get("models", {}).items() if "quota" in own}
        for scope, quota in quotas.items():
            for dimension in DAY_DIMENSIONS:
                if (shown := quota.get(dimension)) is not None:
                    forecast = self.of(DayLimit(name, scope, dimension), shown["used"], shown["left"], now)
                    shown.update(described_forecast(forecast))


def forecasts_for(config: WallieConfig, now: float) -> Forecasts:
    """The forecasts of a guard that begins ``now``: without a ledger it does not know what was used before."""
    return Forecasts(_zones_of(config), -inf if config.ledger is not None else now)


def _zones_of(config: WallieConfig) -> dict[str, str]:
    zones = {name: limits.reset_timezone for name, limits in config.providers.items()}
    return {**zones, _BUDGETS: config.budget.reset_timezone}


def described_forecast(forecast: Forecast, places: int | None = None) -> dict[str, Any]:
    """A forecast as status reports show it: units rounded to so many decimal places, times as ISO 8601."""
    at, earliest, latest = (
        None if when is None else iso_time(when, "milliseconds")
        for when in (forecast.exhausts_at, forecast.earliest, forecast.latest)
    )
    return {
        "exhausts_at": at,
        "exhausts_earliest": earliest,
        "exhausts_latest": latest,
        "forecast": forecast.method,
        "expected": round(forecast.end, places),
        "expected_low": round(forecast.low, places),
        "expected_high": round(forecast.high, places),
    }
