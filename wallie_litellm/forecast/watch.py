"""Looks at the record and at the limits every minute: what is learned, and what is announced."""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping
from math import inf
from typing import Any, NamedTuple

from wallie_litellm.forecast.alerts import ForecastAlerts
from wallie_litellm.forecast.forecasts import Forecasts, Quarters
from wallie_litellm.forecast.limits import BUDGETS, MONTH_COST, DayLimit, budget_of, day_limits, spending_of
from wallie_litellm.limiter.limiter import Limiter

logger = logging.getLogger(__name__)


class RecordedUse(NamedTuple):
    """What is on record: the use of limits by quarter of an hour, and when each was announced last."""

    quarters: Mapping[DayLimit, Quarters]
    announced: Mapping[DayLimit, float]


# Reads the record of each limit from a Unix time on; with the present one.
ReadRecord = Callable[[Mapping[DayLimit, float], float], RecordedUse]


class ForecastWatch:
    """Has ``forecasts`` learn what ``read`` returns, where there is a record, and ``alerts`` see the forecasts.

    It looks every ``interval`` seconds, on a thread of its own; ``now`` is the wall clock. ``budget`` returns what is
    spent of the month's, and its amount, in US dollars; ``budgets`` the rows of features' and users' budgets, as status
    reports show them. Limits and budgets are a part, one of ``processes``, of those whose use is on record.
    """

    def __init__(
        self,
        forecasts: Forecasts,
        limiters: Callable[[], Iterable[Limiter]],
        alerts: ForecastAlerts | None,
        read: ReadRecord | None,
        *,
        now: Callable[[], float],
        interval: float,
        budget: Callable[[], tuple[float, float]] = lambda: (0.0, 0.0),
        budgets: Callable[[], Iterable[Mapping[str, Any]]] = tuple,
        processes: int = 1,
    ) -> None:
        self._forecasts = forecasts
        self._limiters = limiters
        self._alerts = alerts
        self._read = read
        self._now = now
        self._interval = interval
        self._budget = budget
        self._budgets = budgets
        self._processes = processes
        self._closing = threading.Event()
        self._is_down = False

    def start(self) -> None:
        """Begin; a forked child begins anew, without its parent's thread."""
        if not self._closing.is_set():
            _watches.add(self)
            threading.Thread(target=self._run, name="wallie-forecast", daemon=True).start()

    def go_on(self) -> None:
        """Begin anew in a forked child."""
        if not self._closing.is_set():
            self._closing = threading.Event()
            self.start()

    def close(self) -> None:
        """End the thread. Idempotent."""
        self._closing.set()

    def look(self) -> None:
        """Learn what is on record, and announce what is due."""
        found, now = dict(day_limits(self._limiters())), self._now()
        full = {limit: usage.full for limit, usage in found.items()}
        rows = list(self._budgets())
        if self._read is not None:
            costs = (MONTH_COST, *(spending_of(row["feature"]) for row in rows))
            self._learn(self._read, {**full, **dict.fromkeys(costs, inf)}, now)
        if self._alerts is None:
            return
        for limit, usage in found.items():
            forecast, reset_at = (
                self._forecasts.of(limit, usage.used, usage.left, now),
                self._forecasts.reset_at(limit, now),
            )
            self._alerts.look(limit, forecast, usage.full, usage.left, now, reset_at)
        spent, amount = self._budget()
        if amount > 0:
            month = self._forecasts.of_month(MONTH_COST, spent, amount, now)
            reset_at = self._forecasts.reset_at(MONTH_COST, now)
            self._alerts.look(MONTH_COST, month, amount, amount - spent, now, reset_at)
        for row in rows:
            # Thousands of users would be thousands of alerts, and what is linear is none.
            if row["user"] is None and row["key"] is None:
                self._look_at_budget(self._alerts, row, now)

    def _look_at_budget(self, alerts: ForecastAlerts, row: Mapping[str, Any], now: float) -> None:
        limit, amount = budget_of(row["feature"], row["window"]), row["limit_usd"]
        forecast, reset_at = self._forecasts.of_budget(row, now), self._forecasts.reset_at(limit, now)
        alerts.look(limit, forecast, amount, amount - row["spent_usd"], now, reset_at)

    def _learn(self, read: ReadRecord, full: Mapping[DayLimit, float], now: float) -> None:
        since = {limit: self._forecasts.needed_since(limit, units, now) for limit, units in full.items()}
        try:
            record = read(since, now)
        except Exception as error:  # noqa: BLE001 - of a database that is away, whatever its driver raises
            if not self._is_down:
                logger.warning("the ledger cannot be read (%s): forecasts stay as they are", type(error).__name__)
            self._is_down = True
            return
        self._is_down = False
        for limit, units in full.items():
            parts = 1 if limit == MONTH_COST else self._processes
            quarters = [(start, used / parts) for start, used in record.quarters.get(limit, ())]
            self._forecasts.learn(limit, units, since[limit], quarters, now)
        for limit, at in record.announced.items():
            reset_at = self._forecasts.reset_at(limit, now)
            is_watched = limit in full or limit.dimension in BUDGETS.values()
            if self._alerts is not None and is_watched and self._forecasts.reset_at(limit, at) == reset_at:
                self._alerts.note(limit, reset_at, at)

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                self.look()
            except Exception:
                logger.exception("limits could not be forecast")
            self._closing.wait(self._interval)


_watches: weakref.WeakSet[ForecastWatch] = weakref.WeakSet()


def _go_on_in_child() -> None:
    for watch in tuple(_watches):
        watch.go_on()


os.register_at_fork(after_in_child=_go_on_in_child)
