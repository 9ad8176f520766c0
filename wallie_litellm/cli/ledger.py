"""The commands that read the ledger: `wallie-litellm export` and `wallie-litellm kpis`."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import aclosing, contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, Literal

import click

from wallie_litellm.cli.remote import FAILED, one_line_errors, refuse, running, say, url_options
from wallie_litellm.cli.tables import aligned
from wallie_litellm.errors import ConfigError

if TYPE_CHECKING:
    from wallie_litellm.cli.http_client import Client
    from wallie_litellm.config import RouterConfig, WallieConfig
    from wallie_litellm.ledger.kpis import Kpi

_KINDS: Final = ("attempt", "request", "alert", "transition", "action", "outside_usage")


class _Time(click.ParamType[float]):
    """Unix seconds from an ISO 8601 date or time, UTC unless it says otherwise, or from an age such as 24h or 7d."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
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
@click.option("--since", metavar="T", type=_Time(), help="From then on: 2026-11-23, 2026-11-23T08:00, 24h or 7d ago.")
@click.option("--until", metavar="T", type=_Time(), help="Before then, given in the same way.")
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
    exit code is 1 if the output cannot be written, or the database or the one at --url fails on the way, and 2 if
    there is no ledger to read.
    """
    if since is not None and until is not None and until < since:
        raise click.UsageError("--until is before --since")
    client = running(url, insecure, config)
    if client is not None:
        if form != "csv":
            raise click.UsageError("with --url there is only --format csv")
        _export_of_running(client, kinds or _KINDS, since, until, output)
        return
    place = _ledger_url(_load(config))
    with _ledger_errors(), _opened(output) as file:
        count = asyncio.run(_export(place, form, kinds or _KINDS, since, until, file))
    if output not in (None, "-"):
        click.echo(f"{count} records written to {output}", err=True)


@click.command("kpis")
@url_options
@click.option("--config", metavar="FILE", help="Instead of $WALLIE_CONFIG, else router_config.yaml here.")
@click.option("--since", metavar="T", type=_Time(), help="From then on: 2026-11-23, 24h or 7d ago; 30d unless given.")
@click.option("--json", "as_json", is_flag=True, help="JSON instead of a table.")
def kpis_command(url: str | None, insecure: bool, config: str | None, since: float | None, as_json: bool) -> None:
    """Compare the key figures with their targets, `wallie.kpis`; with --url those of a running proxy or dashboard.

    The exit code is 0 if none fails, 1 if one does or the one at --url does not answer, and 2 if there is no ledger to
    read.
    """
    from wallie_litellm.ledger.kpis import PERIOD

    client = running(url, insecure, config)
    start = time.time() - PERIOD if since is None else since
    if client is not None:
        figures = _measured_by_running(client, start)
    else:
        loaded = _load(config)
        place, wallie = _ledger_url(loaded), loaded.wallie
        with _ledger_errors():
            figures = asyncio.run(_measure(place, wallie, start))
    shown = datetime.fromtimestamp(start, UTC)
    if as_json:
        report = {"since": shown.isoformat(timespec="seconds"), "kpis": [asdict(kpi) for kpi in figures]}
        click.echo(json.dumps(report, indent=2))
    else:
        click.echo(f"Since {shown:%Y-%m-%d %H:%M} UTC")
        for line in _table(figures):
            say(line)
    sys.exit(FAILED if any(kpi.passed is False for kpi in figures) else 0)


async def _export(
    url: str,
    form: Literal["csv", "jsonl"],
    kinds: Sequence[str],
    since: float | None,
    until: float | None,
    file: _Output,
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


def _export_of_running(
    client: Client, kinds: Sequence[str], since: float | None, until: float | None, output: str | None
) -> None:
    parameters = [("since", repr(since or 0.0)), *(("kind", kind) for kind in kinds)]
    if until is not None:
        parameters.append(("until", repr(until)))
    for_people = output in (None, "-") and sys.stdout.isatty()
    with one_line_errors(), client, _opened(output) as file:
        for text in client.text("api/export.csv", parameters, "text/csv"):
            file.write(_harmless(text) if for_people else text)
    if output not in (None, "-"):
        click.echo(f"records written to {output}", err=True)


def _harmless(text: str) -> str:
    """Without what a terminal would take for a command."""
    return "".join(character if character.isprintable() or character in "\r\n\t" else "�" for character in text)


def _measured_by_running(client: Client, since: float) -> list[Kpi]:
    from wallie_litellm.ledger.kpis import Kpi

    with one_line_errors(), client:
        found = client.get("api/kpis", [("since", repr(since))])
    try:
        return [
            Kpi(
                str(one["name"]),
                float(one["target"]),
                None if one["actual"] is None else float(one["actual"]),
                None if one["passed"] is None else bool(one["passed"]),
                str(one.get("note") or ""),
            )
            for one in found["kpis"]
        ]
    except (LookupError, TypeError, ValueError, AttributeError):
        say(f"{client.base}: the answer is none of a Wallie of this version", err=True)
        sys.exit(FAILED)


def _load(config: str | None) -> RouterConfig:
    from wallie_litellm.config import load_config

    try:
        return load_config(config)
    except ConfigError as error:
        refuse(*error.problems)


def _ledger_url(config: RouterConfig) -> str:
    ledger = config.wallie.ledger
    if ledger is None:
        refuse(f"{config.path}: wallie.ledger is null: no ledger is kept, so there is nothing to read")
    return ledger.url


@contextmanager
def _ledger_errors() -> Iterator[None]:
    """No ledger to read ends the command with 2, a database that fails while it is read with 1."""
    from sqlalchemy.exc import SQLAlchemyError

    from wallie_litellm.ledger.reader import reason

    try:
        yield
    except ConfigError as error:
        refuse(*error.problems)
    except (SQLAlchemyError, ConnectionError, TimeoutError) as error:
        click.echo(f"wallie.ledger.url: the database failed while it was read: {reason(error)}", err=True)
        sys.exit(FAILED)


class _Unwritable(click.ClickException):
    exit_code = FAILED


class _Output:
    """Where an export goes; what is wrong with it is told apart from what is wrong with the database."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        self._file = file
        self._name = name

    def write(self, text: str) -> None:
        with _writing_to(self._name):
            self._file.write(text.encode())

    def flush(self) -> None:
        with _writing_to(self._name):
            self._file.flush()


@contextmanager
def _writing_to(name: str) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise _ReaderGone from None
    except OSError as error:
        raise _Unwritable(f"{name} cannot be written: {error.strerror or error}") from None


class _ReaderGone(Exception):  # noqa: N818 - it says what happened, which is no error
    """Whoever read the export, such as `head`, has seen enough."""


@contextmanager
def _opened(output: str | None) -> Iterator[_Output]:
    """Standard output, or a file that gets its name when it is complete."""
    if output is None or output == "-":
        with _standard_output() as file:
            yield file
        return
    final = Path(output).resolve()  # a link stays one
    if final.exists() and not final.is_file():  # a device or a pipe cannot be put in place of
        with _writing(final, "wb", output) as file:
            yield file
        return
    partial = final.with_name(f".{final.name}.{os.getpid()}.partial")
    try:
        with _writing(partial, "xb", output) as file:
            yield file
        with _writing_to(output):
            partial.replace(final)
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


@contextmanager
def _writing(path: Path, mode: Literal["wb", "xb"], name: str) -> Iterator[_Output]:
    with _writing_to(name):
        file = path.open(mode)
    try:
        yield _Output(file, name)
    except BaseException:
        with suppress(OSError):  # closing tries once more to write what could not be written
            file.close()
        raise
    with _writing_to(name):
        file.close()


@contextmanager
def _standard_output() -> Iterator[_Output]:
    stdout = _Output(sys.stdout.buffer, "standard output")
    try:
        yield stdout
        stdout.flush()
    except (_ReaderGone, _Unwritable) as error:
        # What is left in the buffer goes nowhere, rather than failing once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, _Unwritable):
            raise
        sys.exit(0)


def _table(figures: Sequence[Kpi]) -> Iterator[str]:
    rows = [("", "target", "actual", "", "")]
    for kpi in figures:
        sign = {"uptime": "> ", "critical_alerts": ""}.get(kpi.name, "< ")
        verdict = {True: "pass", False: "FAIL", None: "no data"}[kpi.passed]
        actual = "-" if kpi.actual is None else _shown(kpi.name, kpi.actual)
        rows.append((kpi.name, sign + _shown(kpi.name, kpi.target), actual, verdict, kpi.note))
    yield from aligned(rows)


def _shown(name: str, value: float) -> str:
    if name == "monthly_cost":
        return f"${value:,.2f}"
    if name == "critical_alerts":
        return f"{value:.0f}"
    return f"{value:.3g} s" if name == "p95_latency" else f"{round(value * 100, 3):g} %"
