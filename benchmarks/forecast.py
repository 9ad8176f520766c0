"""How good day forecasts and their alerts are, over the last four of eight simulated weeks; also through a ledger."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness import Report

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from event_samples import settled
from forecast_simulation import (
    NOON,
    AlertScores,
    Scores,
    Traffic,
    alert_scores,
    last_score,
    limit_of,
    mean_of,
    scores_at,
    simulate,
)

from wallie_litellm.core.demand import Demand
from wallie_litellm.core.local_day import QUARTER
from wallie_litellm.events import new_id
from wallie_litellm.forecast.forecasts import Forecasts
from wallie_litellm.forecast.limits import DayLimit
from wallie_litellm.ledger.daily_use import read_record
from wallie_litellm.ledger.engine import open_engine, writing
from wallie_litellm.ledger.insert import insert_records
from wallie_litellm.ledger.migrations import migrate
from wallie_litellm.ledger.records import record_of

MONDAY = 1_789_948_800.0  # 2026-09-21, midnight UTC
DAY = 86_400.0
LIMIT = DayLimit("openai", "", "rpd")
FORECASTS = 100  # of one limit, timed

KINDS = (
    Traffic("weekday shape, 4 % growth a week, noise"),
    Traffic("the same without growth", growth=0.0),
    Traffic("the same with 10 % growth a week", growth=0.10),
    Traffic("more noise: days 10 %, quarters 25 %", day_noise=0.10, noise=0.25),
    Traffic("a batch job on 8 % of the days", batches=0.08),
)


def run(quick: bool) -> Report:
    seeds = range(2 if quick else 20)
    report = Report(
        f"Forecasts of a limit per day: {len(seeds)} runs of each kind, the last four of eight weeks",
        (
            "traffic",
            "within 10 % at noon",
            "mean error at noon",
            "of a line",
            "interval held the day",
            "run out, alert an hour before",
            "false alerts a week",
        ),
    )
    for traffic in KINDS:
        scores, alerts = _noon(traffic, seeds), _alerts(traffic, seeds)
        false = alerts.false / (alerts.days / 7)
        in_time = alerts.in_time / max(1, alerts.exhausted)
        report.rows.append(
            (
                traffic.name,
                f"{scores.close:.0%}",
                f"{scores.error:.1%}",
                f"{scores.linear_error:.1%}",
                f"{scores.covered:.0%}",
                f"{in_time:.1%} of {alerts.exhausted}",
                f"{false:.2f}",
            )
        )
        report.data[traffic.name] = {**scores._asdict(), "alerts_in_time": in_time, "false_alerts_a_week": false}
    report.notes += [
        "Goals: within 10 % at noon in at least 80 %; half the error of a line through the day so far; the interval "
        "holds 80 to 95 % of the days; an alert at least an hour before in 95 %; at most one false alert a week.",
        "Days have noise of 6 %, quarters of an hour of 20 % that lasts (0.8 of one is in the next), and 2 % of the "
        "days half the use. The limit is reached on a fifth to a half of the days, and then cuts what is on record.",
        _batch_note(seeds),
        _through_ledger(simulate(KINDS[0], 0)),
    ]
    return report


def _noon(traffic: Traffic, seeds: range) -> Scores:
    return mean_of([scores_at(simulate(traffic, seed)) for seed in seeds])


def _alerts(traffic: Traffic, seeds: range) -> AlertScores:
    total = AlertScores(0, 0, 0, 0)
    for seed in seeds:
        days = simulate(traffic, seed)
        total = total.plus(alert_scores(days, limit_of(days, seed)))
    return total


def _batch_note(seeds: range) -> str:
    """What a job of half a day's use before noon does to the forecasts of that day."""
    usual, batch = [], []
    for seed in seeds:
        days = simulate(KINDS[0], seed)[: 7 * 7 + 2]  # to a Tuesday
        usual.append(last_score(days))
        days[-1] = [units + (2_500 if 36 <= slot < 40 else 0) for slot, units in enumerate(days[-1])]
        batch.append(last_score(days))
    plain, widened = mean_of(usual), mean_of(batch)
    return (
        f"A job of 10,000 requests at 09:00 on a day of 27,000: at noon the interval is {widened.width:.0%} of the "
        f"day wide instead of {plain.width:.0%} and holds it in {widened.covered:.0%}; the mean error is "
        f"{widened.error:.1%}."
    )


def _through_ledger(days: Sequence[Sequence[float]]) -> str:
    """The same forecast from a SQLite ledger, and what reading it takes."""
    noon = MONDAY + (len(days) - 1) * DAY + NOON * QUARTER
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/wallie.db"
        asyncio.run(_fill(url, days))
        forecasts = Forecasts({})
        began = time.perf_counter()
        since = {LIMIT: forecasts.needed_since(LIMIT, 1e9, noon)}
        found = read_record(url, dict, since, noon)
        forecasts.learn(LIMIT, 1e9, since[LIMIT], found.quarters[LIMIT], noon)
        took = time.perf_counter() - began
    used = sum(days[-1][:NOON])
    forecast = forecasts.of(LIMIT, used, 1e9 - used, noon)
    began = time.perf_counter()
    for second in range(FORECASTS):
        forecasts.of(LIMIT, used, 1e9 - used, noon + second)
    each = (time.perf_counter() - began) / FORECASTS
    total = sum(days[-1])
    return (
        f"Through a SQLite ledger of eight weeks the last noon's forecast is {forecast.end:,.0f} "
        f"({forecast.low:,.0f} to {forecast.high:,.0f}) of {total:,.0f}; the weeks are read in {took * 1000:.0f} ms, "
        f"once a day, and a forecast takes {each * 1000:.1f} ms."
    )


async def _fill(url: str, days: Sequence[Sequence[float]]) -> None:
    engine = open_engine(url)
    async with writing(engine) as connection:
        await connection.run_sync(migrate)
    for number, day in enumerate(days):
        records = []
        for slot, units in enumerate(day[:NOON] if number == len(days) - 1 else day):
            at = MONDAY + number * DAY + slot * QUARTER
            event = settled(id=new_id(at), at=at, charged=Demand(int(units), 0, 0, 0))
            records.append(record_of(event, "w"))
        async with writing(engine) as connection:
            await connection.run_sync(insert_records, records)
    await engine.dispose()
