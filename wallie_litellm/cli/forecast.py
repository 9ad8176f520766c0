"""``wallie-litellm forecast``: when limits run out, and how good such forecasts have been."""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import click

from wallie_litellm.cli.exits import DONE, echo_error, load_or_refuse, say
from wallie_litellm.cli.ledger import ledger_errors, ledger_url
from wallie_litellm.cli.ledger_forecasts import learn_from_ledger
from wallie_litellm.cli.remote import one_line_errors, running_client, url_options
from wallie_litellm.cli.tables import aligned, ends, moment, text

if TYPE_CHECKING:
    from wallie_litellm.forecast.backtest import HourScore
    from wallie_litellm.forecast.configured import StatedLimit
    from wallie_litellm.forecast.forecasts import Forecasts
    from wallie_litellm.forecast.limits import DayLimit

_SHOWN_HOURS: Final = (6, 9, 12, 15, 18, 21)  # of a backtest's table


@click.command("forecast")
@url_options
@click.option("--config", metavar="FILE", help="Instead of $WALLIE_CONFIG, else router_config.yaml here.")
@click.option("--backtest", is_flag=True, help="How good the forecasts of the last four weeks would have been.")
@click.option("--json", "as_json", is_flag=True, help="JSON instead of a table.")
def forecast_command(url: str | None, insecure: bool, config: str | None, backtest: bool, as_json: bool) -> None:
    """Say when limits run out before they reset, with the interval of that.

    Limits per day are forecast from the ledger: by the shape of the weeks before, or with less than a week by a line
    through the day so far. With --url a running proxy or dashboard is asked, which knows its limits per minute too.
    With --backtest, by hour of the day: the mean error, that of a line, and the share of days that intervals held.

    The exit code is 0, 1 if the server at --url does not answer, and 2 if there is no ledger to read.
    """
    client = running_client(url, insecure, config)
    lines: Iterator[str]
    if client is not None:
        if backtest:
            raise click.UsageError("--backtest reads the ledger: give --config instead of --url")
        with one_line_errors():
            status = client.get("api/status")
        report: dict[str, Any] = {"limits": list(_rows_of_status(status)), "budget": status["budget"]}
        lines = itertools.chain(_table(report["limits"]), _budget_lines(report))
    else:
        loaded = load_or_refuse(config)
        now, amount = time.time(), loaded.wallie.kpis.monthly_cost
        with ledger_errors():
            forecasts, stated, spent = asyncio.run(learn_from_ledger(ledger_url(loaded), loaded, now))
        if backtest:
            scores = list(_backtests(forecasts, stated))
            report, lines = {"limits": scores}, _backtest_table(scores)
        else:
            budget = {} if amount <= 0 else {"budget": forecasts.budget(spent, amount, now)}
            report = {"limits": list(_rows_of_ledger(forecasts, stated, now)), **budget}
            lines = itertools.chain(_table(report["limits"]), _budget_lines(report))
    if as_json:
        click.echo(json.dumps(report, indent=2))
    else:
        for line in lines:
            say(line)
    sys.exit(DONE)


# Where they come from


def _rows_of_ledger(forecasts: Forecasts, stated: Iterable[StatedLimit], now: float) -> Iterator[dict[str, Any]]:
    from wallie_litellm.core.daily_quota import next_midnight
    from wallie_litellm.core.iso_time import iso_time
    from wallie_litellm.forecast.forecasts import described_forecast

    for one in stated:
        used = forecasts.history(one.limit).used
        forecast = forecasts.of(one.limit, used, max(0.0, one.full - used), now)
        reset_at = iso_time(next_midnight(now, forecasts.zone(one.limit)), "milliseconds")
        amounts = {"used": round(used), "limit": one.full, "reset_at": reset_at}
        yield {**_named(one.limit), **amounts, **described_forecast(forecast)}


def _named(limit: DayLimit) -> dict[str, Any]:
    return {"provider": limit.name, "model": limit.scope or None, "dimension": limit.dimension}


def _rows_of_status(status: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    described = {**status["providers"], **{f"feature:{name}": own for name, own in status["features"].items()}}
    for name, own in described.items():
        for model, scope in {None: own, **own.get("models", {})}.items():
            for dimension, quota in scope.get("quota", {}).items():
                if dimension != "concurrency":
                    yield {"provider": name, "model": model, "dimension": dimension, **quota}


def _backtests(forecasts: Forecasts, stated: Iterable[StatedLimit]) -> Iterator[dict[str, Any]]:
    from wallie_litellm.forecast.backtest import backtest

    for one in stated:
        shape = forecasts.history(one.limit).shape
        scores = backtest(shape) if shape is not None else []
        yield {**_named(one.limit), "hours": [score._asdict() for score in scores], "mean": _mean(scores)}


def _mean(scores: list[HourScore]) -> dict[str, float] | None:
    """Over all hours."""
    if not scores:
        return None
    names = ("days", "error", "linear_error", "close", "covered")
    return {name: sum(getattr(score, name) for score in scores) / len(scores) for name in names}


# How they are shown


def _table(limits: list[dict[str, Any]]) -> Iterator[str]:
    rows: list[tuple[str, ...]] = [
        ("", "models", "limit", "used", "expected", "interval", "ends (UTC)", "reset (UTC)", "by")
    ]
    shown = None
    for one in limits:
        expected = one.get("expected")
        interval = "-" if expected is None else f"{one['expected_low']:g}-{one['expected_high']:g}"
        name = "" if one["provider"] == shown else one["provider"]
        used = f"{one['used']:g} / {one['limit']:g}"
        amounts = ("-" if expected is None else f"{expected:g}", interval)
        end = (ends(one), moment(one["reset_at"]), text(one.get("forecast")))
        rows.append((name, one["model"] or "all", one["dimension"], used, *amounts, *end))
        shown = one["provider"]
    if len(rows) == 1:
        yield "no limits"
        return
    yield from aligned(rows, right=(3, 4, 5))


def _budget_lines(report: Mapping[str, Any]) -> Iterator[str]:
    """The month's budget, where it has a forecast."""
    budget = report.get("budget", {})
    if budget.get("forecast") is None:
        return
    ends_at = "not used up" if budget["exhausts_at"] is None else f"used up {moment(budget['exhausts_at'])} UTC"
    yield (
        f"month's budget: ${budget['spent_usd']:,.2f} of ${budget['limit_usd']:,.2f}, ${budget['expected']:,.2f} "
        f"({budget['expected_low']:,.2f}-{budget['expected_high']:,.2f}) expected, {ends_at}, by {budget['forecast']}"
    )


def _backtest_table(limits: list[dict[str, Any]]) -> Iterator[str]:
    rows: list[tuple[str, ...]] = [
        ("", "models", "limit", "at", "days", "mean error", "of a line", "within 10 %", "interval held")
    ]
    for one in limits:
        own: tuple[str, ...] = (one["provider"], one["model"] or "all", one["dimension"])
        for score in one["hours"]:
            if score["hour"] in _SHOWN_HOURS:
                rows.append((*own, f"{score['hour']:02}:00", *_figures(score)))
                own = ("", "", "")
        if one["mean"] is not None:
            rows.append((*own, "mean", *_figures(one["mean"])))
        else:
            echo_error(f"{one['provider']} {one['dimension']}: less than a week of days on record, nothing to judge")
    if len(rows) > 1:
        yield from aligned(rows, right=(4, 5, 6, 7, 8))


def _figures(score: Mapping[str, float]) -> tuple[str, ...]:
    shares = (score["error"], score["linear_error"], score["close"], score["covered"])
    return (f"{score['days']:.0f}", *(f"{100 * share:.1f} %" for share in shares))
