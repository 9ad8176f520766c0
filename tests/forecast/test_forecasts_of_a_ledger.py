"""Limits per day forecast by what a ledger has of their use: in status, and announced once."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fake_clock import FakeClock
from forecast_support import WEEKDAY
from ledger_support import settled
from recording import RecordingBus
from sqlalchemy import text
from support import wait_until

from wallie_litellm.bootstrap import model_patterns, open_guard
from wallie_litellm.config import RouterConfig, parse_config
from wallie_litellm.core.demand import Demand
from wallie_litellm.events import Event, ExhaustionForeseen, UsageReported, new_id
from wallie_litellm.forecast.alerts import ForecastAlerts
from wallie_litellm.forecast.watch import ForecastWatch
from wallie_litellm.guard import Guard
from wallie_litellm.ledger.daily_use import read_record
from wallie_litellm.ledger.engine import open_engine, writing
from wallie_litellm.ledger.insert import insert_records
from wallie_litellm.ledger.migrations import migrate
from wallie_litellm.ledger.records import record_of
from wallie_litellm.telemetry.alert_facts import FactSelector

HOUR = 3600
DAY = 24 * HOUR
MONDAY = datetime.fromisoformat("2026-11-23T00:00+00:00").timestamp()
NOON = MONDAY + DAY / 2
WEEKS = 5


def filled(folder: Path) -> str:
    """Five weeks and a morning: a Monday's 1,000 requests are spread evenly; half of each hour's are for ``gpt-4o``."""
    url = f"sqlite:///{folder}/wallie.db"
    records = []
    for hour in range(WEEKS * 7 * 24 + 12):
        at = MONDAY - WEEKS * 7 * DAY + hour * HOUR + 60
        units = WEEKDAY[hour // 24 % 7] * 10 / 24
        for model in ("gpt-4o", "gpt-4o-mini"):
            used = Demand(round(units * 500), round(units * 500), 0, 0)  # thousandths
            names = {"model": model, "deployment": model, "feature": "chat"}
            records.append(settled(id=new_id(at), at=at, **names, charged=used, cost_usd=0.003))

    async def write() -> None:
        engine = open_engine(url)
        async with writing(engine) as connection:
            await connection.run_sync(migrate)
            await connection.run_sync(insert_records, [record_of(event, "w") for event in records])
        await engine.dispose()

    asyncio.run(write())
    return url


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ledger")
    filled(folder)
    return folder / "wallie.db"


@pytest.fixture
def url(kept: Path, tmp_path: Path) -> str:
    """A copy of the ledger, which a test may write into."""
    return f"sqlite:///{shutil.copy(kept, tmp_path)}"


def config_of(url: str, **sections: Any) -> RouterConfig:
    limits = {"rpd": 750_000, "models": {"gpt-4o": {"rpd": 400_000}}}
    wallie = {"providers": {"openai": limits}, "features": {"chat": {"limits": {"tpd": 2_000_000}}}, **sections}
    model = {"model_name": "gpt-4o", "litellm_params": {"model": "openai/gpt-4o"}}
    return parse_config({"model_list": [model], "wallie": {**wallie, "ledger": {"url": url}}})


def budget_row(window: str, spent: float, limit: float, user: str | None = None) -> dict[str, Any]:
    reset_at = "2026-11-24T00:00:00Z" if window == "day" else "2026-12-01T00:00:00Z"
    owner = {"feature": "chat", "user": user, "key": None, "window": window}
    return {**owner, "spent_usd": spent, "limit_usd": limit, "reset_at": reset_at}


def note(url: str, *events: Event) -> None:
    """Have the events on record."""

    async def write() -> None:
        engine = open_engine(url)
        async with writing(engine) as connection:
            await connection.run_sync(insert_records, [record_of(event, "w") for event in events])
        await engine.dispose()

    asyncio.run(write())


class Watched:
    """A guard at noon whose limits and forecasts are as the ledger has them, and its watch, which looks when asked."""

    def __init__(self, url: str, now: float = NOON) -> None:
        self.clock = FakeClock(wall=now)
        self.bus = RecordingBus()
        self.guard = Guard(config_of(url).wallie, clock=self.clock, bus=self.bus)
        self.guard.update_usage("openai", requests=500_000)
        self.spent = 0.0  # US dollars this month
        self.budgets = [budget_row("day", 0.072, 100.0), budget_row("month", 3.0, 100.0)]
        reporter, zone = self.guard.reporter, self.guard.forecasts.zone
        alerts = ForecastAlerts(HOUR, lambda limit, *rest: reporter.on_foreseen(limit, *rest, zone(limit)))
        read = partial(read_record, url, lambda: model_patterns(self.guard))
        self.watch = ForecastWatch(
            self.guard.forecasts,
            self.guard.limiters,
            alerts,
            read,
            now=self.clock.wall,
            interval=60,
            budget=lambda: (self.spent, 500.0),
            budgets=lambda: self.budgets,
        )

    def quota(self, dimension: str = "rpd") -> dict[str, Any]:
        found: dict[str, Any] = self.guard.status()["providers"]["openai"]["quota"][dimension]
        return found


def test_status_says_when_a_limit_per_day_ends_and_by_which_method(url: str) -> None:
    watched = Watched(url)
    assert watched.quota()["forecast"] == "linear"

    watched.watch.look()

    quota = watched.quota()
    assert quota["forecast"] == "weekly"
    assert quota["exhausts_at"][:16] == "2026-11-23T18:00"
    assert quota["exhausts_earliest"] <= quota["exhausts_at"] <= quota["exhausts_latest"]
    assert quota["expected"] == pytest.approx(1_000_000, rel=0.01)
    of_feature = watched.guard.status()["features"]["chat"]["quota"]["tpd"]
    assert (of_feature["forecast"], of_feature["exhausts_at"]) == ("weekly", None)
    of_model = watched.guard.status()["providers"]["openai"]["models"]["gpt-4o"]["quota"]["rpd"]
    assert of_model["forecast"] == "weekly"
    assert of_model["expected"] == pytest.approx(250_000, rel=0.01)  # none of it counted by this process


def test_the_months_budget_has_a_forecast_of_its_own(url: str) -> None:
    watched = Watched(url)
    watched.watch.look()

    budget = watched.guard.status()["budget"]

    # Two calls of $0.003 in each hour until the month's end, the rest of Monday and seven days, on top of nothing.
    assert budget["forecast"] == "weekly"
    assert budget["expected"] == pytest.approx((12 + 7 * 24) * 2 * 0.003, abs=0.01)
    assert budget["exhausts_at"] is None
    watched.spent = 499.5  # and another is spent in the week that is left
    watched.watch.look()
    (event,) = [event for event in watched.bus.of(ExhaustionForeseen) if not event.provider]
    assert event.exhausts_at == pytest.approx(NOON + 0.5 / 0.006 * HOUR, abs=HOUR)
    assert event.reset_at == datetime.fromisoformat("2026-12-01T00:00+00:00").timestamp()


def test_budgets_have_forecasts_in_their_rows_and_those_of_users_are_linear(url: str) -> None:
    watched = Watched(url)
    watched.watch.look()
    day, month, of_user = (
        budget_row("day", 0.072, 0.108),  # 0.006 in each hour
        budget_row("month", 3.0, 100.0),
        budget_row("day", 0.06, 1.0, user="u1"),
    )

    watched.guard.forecasts.add_to_budgets([day, month, of_user], NOON)

    assert (day["forecast"], day["exhausts_at"][:16]) == ("weekly", "2026-11-23T17:15")
    assert (month["forecast"], month["exhausts_at"]) == ("weekly", None)
    assert month["expected"] == pytest.approx(3.0 + (12 + 7 * 24) * 0.006, abs=0.02)
    assert (of_user["forecast"], of_user["expected"]) == ("linear", 0.12)


def test_a_limit_that_will_run_out_is_announced_once_and_not_again_after_a_restart(url: str) -> None:
    watched = Watched(url)
    watched.watch.look()
    watched.clock.advance(60)
    watched.watch.look()

    (event,) = watched.bus.of(ExhaustionForeseen)
    assert (event.provider, event.dimension, event.model) == ("openai", "rpd", None)
    assert event.reset_at == MONDAY + DAY
    assert event.exhausts_at == pytest.approx(MONDAY + 18 * HOUR, abs=HOUR / 4)
    assert event.exhausts_at - event.at > HOUR

    note(url, event)
    restarted = Watched(url, NOON + HOUR)
    restarted.watch.look()
    assert not restarted.bus.of(ExhaustionForeseen)


def test_budgets_that_will_run_out_are_announced_once_and_not_again_after_a_restart(url: str) -> None:
    rows = [
        budget_row("day", 0.072, 0.108),  # in six hours
        budget_row("month", 3.0, 3.5),  # on Thursday
        budget_row("day", 0.06, 0.07, user="u1"),
        {**budget_row("day", 0.144, 0.2), "feature": None},
    ]
    watched = Watched(url)
    watched.budgets = rows
    for _ in range(2):
        watched.watch.look()
        watched.clock.advance(60)

    events = [event for event in watched.bus.of(ExhaustionForeseen) if event.dimension != "rpd"]
    day, month, of_all = events
    assert (day.provider, day.dimension, day.reset_at) == ("feature:chat", "daily_usd", MONDAY + DAY)
    assert day.exhausts_at == pytest.approx(MONDAY + 18 * HOUR, abs=HOUR)
    assert (month.provider, month.dimension, month.reset_at) == ("feature:chat", "monthly_usd", MONDAY + 8 * DAY)
    assert month.exhausts_at == pytest.approx(NOON + 0.5 / 0.006 * HOUR, abs=HOUR)
    assert (of_all.provider, of_all.dimension) == ("", "daily_usd")
    facts = [FactSelector().of(event) for event in (day, of_all)]
    assert [fact.type for fact in facts if fact] == ["budget.forecast"] * 2
    assert ["`feature:chat` `daily_usd` ends 18:" in facts[0].text, "`daily_usd` of all requests" in facts[1].text]

    note(url, *events)
    restarted = Watched(url, NOON + HOUR)
    restarted.budgets = rows
    restarted.watch.look()
    assert {event.dimension for event in restarted.bus.of(ExhaustionForeseen)} == {"rpd"}


def test_what_is_reported_from_outside_counts_and_the_next_day_begins_its_own(url: str) -> None:
    at = MONDAY + 3 * HOUR
    before = Watched(url)
    before.watch.look()
    note(url, UsageReported(new_id(at), at, "openai", Demand(250_000, 0, 0, 0), "update_usage"))
    after = Watched(url)
    after.watch.look()

    assert after.quota()["expected_high"] > before.quota()["expected_high"] * 1.2
    after.clock.advance(DAY)
    after.watch.look()
    tuesday = after.quota()
    assert tuesday["expected"] == pytest.approx(1_200_000 / 2, rel=0.35)  # half of a Tuesday is left


def test_a_ledger_that_cannot_be_read_leaves_forecasts_as_they_are(url: str) -> None:
    watched = Watched(url)
    watched.watch.look()
    Path(url.removeprefix("sqlite:///")).write_bytes(b"not a database" * 100)

    watched.watch.look()

    assert watched.quota()["forecast"] == "weekly"


@pytest.fixture
def opened(url: str) -> Iterator[Guard]:
    guard = open_guard(
        config_of(url, telemetry={"spool": f"{Path(url[10:]).parent}/spool"}), clock=FakeClock(wall=NOON)
    )
    yield guard
    guard.close()


def test_an_application_reads_its_ledger_by_itself_and_puts_the_alert_on_record(opened: Guard, url: str) -> None:
    """From open_guard on: its limits continue from the ledger, and so do its forecasts."""

    def recorded() -> list[Any]:
        opened.bus.flush_blocking(10)

        async def read() -> list[Any]:
            engine = open_engine(url)
            async with engine.connect() as connection:
                rows = await connection.execute(
                    text("SELECT model, level, detail FROM wallie_alerts WHERE type = 'forecast'")
                )
                found = [tuple(row) for row in rows]
            await engine.dispose()
            return found

        return asyncio.run(read())

    wait_until(lambda: len(recorded()) == 2)
    of_all, of_model = sorted(recorded())
    assert of_all[:2] == ("", "warning")
    assert of_all[2].startswith("ends 18:")
    assert of_all[2].endswith("resets 00:00 UTC")
    assert of_model[0] == "gpt-4o"
    assert opened.status()["providers"]["openai"]["quota"]["rpd"]["forecast"] == "weekly"
