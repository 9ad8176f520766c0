"""The commands that read the ledger: ``wallie-litellm export`` and ``wallie-litellm kpis``."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import aclosing, contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal

import click

from wallie_litellm.cli.exits import DONE, FAILED, echo_error, load_or_refuse, refuse, say
from wallie_litellm.cli.export_file import ExportFile, open_export_file
from wallie_litellm.cli.remote import one_line_errors, running_client, url_options
from wallie_litellm.cli.tables import aligned
from wallie_litellm.errors import ConfigError

if TYPE_CHECKING:
    from wallie_litellm.cli.http_client import Client
    from wallie_litellm.config import RouterConfig, WallieConfig
    from wallie_litellm.ledger.kpis import Kpi

_KINDS: Final = ("attempt", "request", "alert", "transition", "action", "outside_usage", "feedback", "experiment")


class Time(click.ParamType[float]):
    """Unix seconds from an ISO 8601 date or time, UTC unless it says otherwise, or from an age such as 24h or 7d."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The time that ``value`` names."""
        from wallie_litellm.config import parse_duration

        if isinstance(value, float):
            return value
        with suppress(ValueError):
            return time.time() - parse_duration(value)
        try:
            when = datetime.fromisoformat(value)
            return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError):
            self.fail(f"found {value!r}, expected a date or time such as 2026-11-23 or 2026-11-23T08:00, or 24h, 7d")


@click.command("export")
@url_options
@click.option("--config", metavar="FILE", help="Instead of $WALLIE_CONFIG, else router_config.yaml here.")
@click.option("--format", "form", type=click.Choice(["csv", "jsonl"]), default="csv", show_default=True)
@click.option("--kind", "kinds", multiple=True, type=click.Choice(_KINDS), help="May be repeated; all unless given.")
@click.option("--since", metavar="T", type=Time(), help="From then on: 2026-11-23, 2026-11-23T08:00, 24h or 7d ago.")
@click.option("--until", metavar="T", type=Time(), help="Before then, given in the same way.")
@click.option("--output", metavar="FILE", help="Instead of standard output; it appears when it is complete.")
def export_command(
    url: str | None,
    insecure: bool,
    config: str | None,
    form: Literal["csv", "jsonl"],
    kinds: tuple[str, ...],
    since: float | None,
    until: float | None,
    output: str | None,
) -> None:
    """Write the ledger's records as CSV or JSON Lines, in order of time within each kind.

    Times are UTC unless they say otherwise. With --url, they are those of a running proxy or dashboard, as CSV. The
    exit code is 1 if the output cannot be written, or the database or the server at --url fails on the way, and 2 if
    there is no ledger to read.
    """
    if since is not None and until is not None and until < since:
        raise click.UsageError("--until is before --since")
    client = running_client(url, insecure, config)
    if client is not None:
        if form != "csv":
            raise click.UsageError("with --url there is only --format csv")
        _export_of_server(client, kinds or _KINDS, since, until, output)
        return
    place = ledger_url(load_or_refuse(config))
    with ledger_errors(), open_export_file(output) as file:
        count = asyncio.run(_export(place, form, kinds or _KINDS, since, until, file))
    if output not in (None, "-"):
        echo_error(f"{count} records written to {output}")


@click.command("kpis")
@url_options
@click.option("--config", metavar="FILE", help="Instead of $WALLIE_CONFIG, else router_config.yaml here.")
@click.option("--since", metavar="T", type=Time(), help="From then on: 2026-11-23, 24h or 7d ago; 30d unless given.")
@click.option("--json", "as_json", is_flag=True, help="JSON instead of a table.")
def kpis_command(url: str | None, insecure: bool, config: str | None, since: float | None, as_json: bool) -> None:
    """Compare the key figures with their targets, wallie.kpis; with --url those of a running proxy or dashboard.

    The exit code is 0 if none fails, 1 if one does or the server at --url does not answer, and 2 if there is no ledger
    to read.
    """
    from wallie_litellm.ledger.kpis import PERIOD

    client = running_client(url, insecure, config)
    start = time.time() - PERIOD if since is None else since
    if client is not None:
        figures = _measured_by_server(client, start)
    else:
        loaded = load_or_refuse(config)
        place, wallie = ledger_url(loaded), loaded.wallie
        with ledger_errors():
            figures = asyncio.run(_measure(place, wallie, start))
    shown = datetime.fromtimestamp(start, UTC)
    if as_json:
        report = {"since": shown.isoformat(timespec="seconds"), "kpis": [asdict(kpi) for kpi in figures]}
        click.echo(json.dumps(report, indent=2))
    else:
        click.echo(f"Since {shown:%Y-%m-%d %H:%M} UTC")
        for line in _table(figures):
            say(line)
    sys.exit(FAILED if any(kpi.passed is False for kpi in figures) else DONE)


async def _export(
    url: str,
    form: Literal["csv", "jsonl"],
    kinds: Sequence[str],
    since: float | None,
    until: float | None,
    file: ExportFile,
) -> int:
    from wallie_litellm.ledger.export import export
    from wallie_litellm.ledger.reader import open_reader

    count = 0
    async with open_reader(url) as engine, aclosing(export(engine, form, kinds, since, until)) as chunks:
        async for chunk in chunks:
            file.write(chunk.text)
            count += chunk.rows
    return count


async def _measure(url: str, wallie: WallieConfig, since: float) -> list[Kpi]:
    from wallie_litellm.ledger.kpis import measure_kpis
    from wallie_litellm.ledger.queries import LedgerQueries
    from wallie_litellm.ledger.reader import open_reader

    async with open_reader(url) as engine:
        return await measure_kpis(LedgerQueries(engine), wallie.kpis, since)


def _export_of_server(
    client: Client, kinds: Sequence[str], since: float | None, until: float | None, output: str | None
) -> None:
    parameters = [("since", repr(since or 0.0)), *(("kind", kind) for kind in kinds)]
    if until is not None:
        parameters.append(("until", repr(until)))
    at_terminal = output in (None, "-") and sys.stdout.isatty()
    with one_line_errors(), client, open_export_file(output) as file:
        for text in client.text("api/export.csv", parameters, "text/csv"):
            file.write(_harmless(text) if at_terminal else text)
    if output not in (None, "-"):
        echo_error(f"records written to {output}")


def _harmless(text: str) -> str:
    """Without control characters, which a terminal would carry out."""
    return "".join(character if character.isprintable() or character in "\r\n\t" else "�" for character in text)


def _measured_by_server(client: Client, since: float) -> list[Kpi]:
    from wallie_litellm.ledger.kpis import Kpi

    with one_line_errors(), client:
        found = client.get("api/kpis", [("since", repr(since))])
    try:
        return [
            Kpi(
                str(one["name"]),
                None if one["target"] is None else float(one["target"]),
                None if one["actual"] is None else float(one["actual"]),
                None if one["passed"] is None else bool(one["passed"]),
                str(one.get("note") or ""),
            )
            for one in found["kpis"]
        ]
    except (LookupError, TypeError, ValueError, AttributeError):
        say(f"{client.base}: this version of Wallie cannot read the answer", err=True)
        sys.exit(FAILED)


def ledger_url(config: RouterConfig) -> str:
    """Where the ledger is; without one the command ends."""
    ledger = config.wallie.ledger
    if ledger is None:
        refuse(f"{config.path}: wallie.ledger is null: no ledger is kept, so there is nothing to read")
    return ledger.url


@contextmanager
def ledger_errors() -> Iterator[None]:
    """End the command where reading fails: with 2 if there is no ledger, with 1 if the database fails on the way."""
    from sqlalchemy.exc import SQLAlchemyError

    from wallie_litellm.ledger.reader import reason

    try:
        yield
    except ConfigError as error:
        refuse(*error.problems)
    except (SQLAlchemyError, ConnectionError, TimeoutError) as error:
        echo_error(f"wallie.ledger.url: the database failed while it was read: {reason(error)}")
        sys.exit(FAILED)


def _table(figures: Sequence[Kpi]) -> Iterator[str]:
    rows = [("", "target", "actual", "", "")]
    for kpi in figures:
        sign = {"uptime": "> ", "critical_alerts": ""}.get(kpi.name, "< ")
        verdict = {True: "pass", False: "FAIL", None: "no data" if kpi.target is not None else ""}[kpi.passed]
        target = "" if kpi.target is None else sign + _shown(kpi.name, kpi.target)
        actual = "-" if kpi.actual is None else _shown(kpi.name, kpi.actual)
        rows.append((kpi.name, target, actual, verdict, kpi.note))
    yield from aligned(rows)


def _shown(name: str, value: float) -> str:
    if name in ("auto_saved_usd", "monthly_cost"):
        return f"${value:,.2f}"
    if name == "critical_alerts":
        return f"{value:.0f}"
    return f"{value:.3g} s" if name == "p95_latency" else f"{round(value * 100, 3):g} %"
