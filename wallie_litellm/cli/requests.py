"""``wallie-litellm requests``: the log of requests, and one of them with its attempts in order."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import click

from wallie_litellm.cli.exits import FAILED, load_or_refuse, refuse, say
from wallie_litellm.cli.ledger import Time, ledger_errors, ledger_url
from wallie_litellm.cli.remote import one_line_errors, running_client, url_options
from wallie_litellm.cli.tables import aligned, moment, text

if TYPE_CHECKING:
    from wallie_litellm.cli.http_client import Client
    from wallie_litellm.ledger.request_log import RequestFilter

_MOST: Final = 500  # requests that are shown at once; the API has the same bound
_LONGEST: Final = 60  # characters of an error in the table; JSON, and a single request, have all of it
_DAY: Final = 86_400.0  # seconds


@click.command("requests")
@click.argument("request_id", metavar="[ID]", required=False)
@url_options
@click.option("--config", metavar="FILE", help="Instead of $WALLIE_CONFIG, else router_config.yaml here.")
@click.option("--feature", default="", metavar="NAME", help="Of this feature.")
@click.option("--user", default="", metavar="ID", help="Of this user.")
@click.option("--key", default="", metavar="NAME", help="That came with this virtual key of the proxy's.")
@click.option("--provider", default="", metavar="NAME", help="That served, else was tried last.")
@click.option("--model", default="", metavar="NAME", help="The group, or the name that was asked for.")
@click.option("--error", default="", metavar="TEXT", help="Whose error contains this, in any case.")
@click.option("--failed", is_flag=True, help="Only those without an answer.")
@click.option("--since", metavar="T", type=Time(), help="From then on: 2026-11-23, 24h or 7d ago; 24h unless given.")
@click.option("--until", metavar="T", type=Time(), help="Before then, given in the same way.")
@click.option("--before", default="", metavar="ROW", help="Earlier ones than a page's last, by the id of its row.")
@click.option("--limit", type=click.IntRange(1, _MOST), default=20, show_default=True, help="How many at most.")
@click.option("--json", "as_json", is_flag=True, help="JSON instead of a table, in the shape of the API's.")
def requests_command(
    request_id: str | None,
    url: str | None,
    insecure: bool,
    config: str | None,
    since: float | None,
    until: float | None,
    limit: int,
    as_json: bool,
    **wanted: Any,
) -> None:
    """List the requests on record, the latest first; or show the one with this ID, with its attempts in order.

    An answer has its ID as x-wallie-request-id. Prompts and answers are not on record. With --url a running proxy or
    dashboard is asked, without it the ledger.

    The exit code is 0, 1 if there is no request with this ID or the server at --url does not answer, and 2 if there is
    no ledger to read.
    """
    from wallie_litellm.ledger.request_log import RequestFilter

    start = time.time() - _DAY if since is None else since
    if until is not None and until < start:
        raise click.UsageError("--until is before --since")
    client = running_client(url, insecure, config)
    if request_id is not None:
        found = _one_of_server(client, request_id) if client is not None else _one_of_ledger(config, request_id)
        _show(found, _described, as_json=as_json)
        return
    chosen = RequestFilter(start, until, **wanted)
    log = _log_of_server(client, chosen, limit) if client is not None else _log_of_ledger(config, chosen, limit)
    _show(log, _listed, as_json=as_json)


def _show(found: Mapping[str, Any], lines: Any, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    try:
        shown = list(lines(found))
    except (LookupError, TypeError, ValueError):
        say("this version of Wallie cannot read the server's answer", err=True)
        sys.exit(FAILED)
    for line in shown:
        say(line)


# Where they come from


def _log_of_server(client: Client, wanted: RequestFilter, limit: int) -> dict[str, Any]:
    parameters = [
        (name, value)
        for name in ("feature", "user", "key", "provider", "model", "error", "before")
        if (value := getattr(wanted, name))
    ]
    parameters += [("since", repr(wanted.since)), ("limit", str(limit))]
    if wanted.failed:
        parameters.append(("failed", "true"))
    if wanted.until is not None:
        parameters.append(("until", repr(wanted.until)))
    with one_line_errors(), client:
        return client.get("api/requests", parameters)


def _one_of_server(client: Client, request_id: str) -> dict[str, Any]:
    from urllib.parse import quote

    with one_line_errors(), client:
        return client.get(f"api/requests/{quote(request_id, safe='')}")


def _log_of_ledger(config: str | None, wanted: RequestFilter, limit: int) -> dict[str, Any]:
    rows = _ask(config, lambda queries: queries.latest_requests(wanted, limit))
    return {"requests": list(map(_timed, rows)), "before": rows[-1]["id"] if len(rows) == limit else None}


def _one_of_ledger(config: str | None, request_id: str) -> dict[str, Any]:
    try:
        found = _ask(config, lambda queries: queries.request(request_id))
    except ValueError as wrong:
        refuse(f"ID: {wrong}")
    if found is None:
        say(f"no request {request_id} is on record", err=True)
        sys.exit(FAILED)
    one, attempts = found
    return {"request": None if one is None else _timed(one), "attempts": list(map(_timed, attempts))}


def _ask(config: str | None, question: Any) -> Any:
    from wallie_litellm.ledger.queries import LedgerQueries
    from wallie_litellm.ledger.reader import open_reader

    place = ledger_url(load_or_refuse(config))

    async def ask() -> Any:
        async with open_reader(place) as engine:
            return await question(LedgerQueries(engine))

    with ledger_errors():
        return asyncio.run(ask())


def _timed(row: Mapping[str, Any]) -> dict[str, Any]:
    from wallie_litellm.core.iso_time import iso_time

    return {**row, "at": iso_time(row["at"])}


# How they are shown


def _listed(log: Mapping[str, Any]) -> Iterator[str]:
    if not log["requests"]:
        yield "No request on record fits."
        return
    rows: list[tuple[str, ...]] = [
        ("ended (UTC)", "ID", "outcome", "feature", "user", "model", "provider", "calls", "took", "waited", "USD", "")
    ]
    rows += [
        (
            moment(one["at"]),
            one["request_id"],
            _outcome(one),
            *(one[name] or "-" for name in ("feature", "user_id")),
            one["requested"] or one["model"],
            one["provider"] or "-",
            str(one["attempts"]),
            *_seconds(one, "latency_ms", "waited_ms"),
            _money(one["cost_usd"]),
            _shortened(one["error"] or ""),
        )
        for one in log["requests"]
    ]
    yield from aligned(rows, right=(7, 8, 9, 10))
    if log["before"]:
        yield f"Earlier ones: --before {log['before']}"


def _described(found: Mapping[str, Any]) -> Iterator[str]:
    one = found["request"]
    if one is None:
        yield "This request is under way, or its process ended before it did: its attempts so far."
        yield ""
        yield from _called(found["attempts"])
        return
    opened = datetime.fromtimestamp(int(one["request_id"][:12], 16) / 1000, UTC)
    facts = {
        "request": one["request_id"],
        "opened, ended": f"{opened:%Y-%m-%d %H:%M:%S}, {moment(one['at'])} UTC",
        "outcome": _outcome(one) + (f": {one['error']}" if one["error"] else ""),
        "model": f"{one['requested'] or one['model']}, {one['operation']}{', stream' if one['stream'] else ''}",
        "feature": one["feature"],
        "user": one["user_id"],
        "key": one.get("proxy_key"),
        "took, waited": ", ".join(_seconds(one, "latency_ms", "waited_ms")),
        "cost": f"{_money(one['cost_usd'])} USD",
        "why": one["why"],
    }
    yield from aligned([(name, str(value)) for name, value in facts.items() if value])
    if not found["attempts"]:
        yield "No call was made."
        return
    yield ""
    yield from _called(found["attempts"])


def _called(attempts: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    rows: list[tuple[str, ...]] = [
        ("", "ended (UTC)", "outcome", "provider", "deployment", "took", "first", "waited", "tokens", "USD", "")
    ]
    rows += [
        (
            str(one["number"]),
            moment(one["at"]),
            one["outcome"] + (" (hedge)" if one["hedge"] else ""),
            one["provider"],
            one["deployment"],
            *_seconds(one, "latency_ms", "first_token_ms", "waited_ms"),
            f"{one['prompt_tokens']:,} + {one['completion_tokens']:,}",
            _money(one["cost_usd"]),
            text(one["error"]) if one["error"] else "",
        )
        for one in attempts
    ]
    yield from aligned(rows, right=(0, 5, 6, 7, 8, 9))


def _outcome(one: Mapping[str, Any]) -> str:
    if not one["success"]:
        return "ended by caller" if one["by_caller"] else "failed"
    if one["cache_hit"]:
        return "from the cache"
    return "by a fallback" if one["used_fallback"] else "answered"


def _seconds(one: Mapping[str, Any], *names: str) -> tuple[str, ...]:
    return tuple("-" if one[name] is None else f"{one[name] / 1000:.2f} s" for name in names)


def _money(cost: float | None) -> str:
    return "-" if cost is None else f"{cost:,.4f}"


def _shortened(error: str) -> str:
    return error if len(error) <= _LONGEST else f"{error[: _LONGEST - 1]}…"
