"""``wallie-litellm status``: of a running proxy or dashboard, or without one, of the fleet as Redis has it."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import click

from wallie_litellm.cli.exits import DONE, FAILED, INTERRUPTED, echo_error, load_or_refuse
from wallie_litellm.cli.fleet_report import FleetUnavailable, fleet_lines, fleet_report, nothing
from wallie_litellm.cli.ledger_forecasts import add_forecasts
from wallie_litellm.cli.option_types import NumberRange
from wallie_litellm.cli.remote import running_client, url_options
from wallie_litellm.cli.tables import aligned, ends, moment, next_probe, percent, text
from wallie_litellm.core.provider_names import account_name
from wallie_litellm.telemetry.sink import backlogs_of

if TYPE_CHECKING:
    from wallie_litellm.cli.http_client import Client
    from wallie_litellm.config import RouterConfig

_NO_BREAKER: Final = {
    "state": "closed",
    "reason": None,
    "next_probe_in": None,
}  # of a model against which nothing is known
_FAR_ABOVE: Final = 2.0  # tokens reserved of those used, above which the reason is said
_PER_PROCESS: Final = (
    "Limits and breakers are per process: WALLIE_REDIS_URL (or wallie.store.url) shares them, and a running process's "
    "own numbers are its guard.status(), or at --url."
)
_LONGEST_WATCH: Final = 86_400.0  # seconds between two looks of --watch


@dataclass
class _View:
    """What was found: as JSON, as lines of a table, and what goes to standard error."""

    report: dict[str, Any] | None = None
    lines: list[str] = field(default_factory=list)
    problem: str = ""
    code: int = DONE


@click.command("status")
@url_options
@click.option("--config", metavar="FILE", help="Instead of $WALLIE_CONFIG, else router_config.yaml here.")
@click.option("--json", "as_json", is_flag=True, help="JSON instead of tables.")
@click.option(
    "--watch",
    metavar="[SECONDS]",
    is_flag=False,
    flag_value=2.0,
    type=NumberRange(0.1, _LONGEST_WATCH),
    help="Again every so many seconds, 2 unless given, until Ctrl-C; with --json one line each time.",
)
def status_command(url: str | None, insecure: bool, config: str | None, as_json: bool, watch: float | None) -> None:
    """Show limits, breakers and workers, and what was used in the last 24 hours.

    With --url as a running proxy or dashboard has them; else as the Redis has them that the workers share, and as the
    ledger has them, which also says when limits per day run out. First whether callers are hurt, in one sentence:
    without Redis and --url from what is on record. Limits per minute have no forecast without --url.

    The exit code is 0, 1 if the server at --url or Redis cannot be read, and 2 if the configuration is wrong.
    """
    client = running_client(url, insecure, config)
    if client is None:
        loaded = load_or_refuse(config)

        def look() -> _View:
            return _from_store(loaded, as_json=as_json)
    else:

        def look() -> _View:
            return _from_server(client)

    if watch is None:
        sys.exit(_show(look(), as_json=as_json))
    try:
        _watch(look, watch, as_json=as_json)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _show(view: _View, *, as_json: bool) -> int:
    if view.problem:
        echo_error(view.problem)
    if not as_json:
        for line in view.lines:
            click.echo(line)
    elif view.report is not None:
        click.echo(json.dumps(view.report, indent=2))
    return view.code


def _watch(look: Callable[[], _View], seconds: float, *, as_json: bool) -> None:
    first = True
    while True:
        view = look()
        if as_json:
            report = view.report if view.report is not None else {"error": view.problem}
            click.echo(json.dumps(report))
        else:
            if sys.stdout.isatty():
                click.clear()
            elif not first:
                click.echo()
            click.echo(f"{time.strftime('%Y-%m-%d %H:%M:%S')}, every {seconds:g} s; Ctrl-C ends")
            click.echo()
            _show(view, as_json=False)
        first = False
        time.sleep(seconds)


# From Redis and the ledger


def _from_store(loaded: RouterConfig, *, as_json: bool) -> _View:
    from wallie_litellm.cli.impact_report import add_sentence
    from wallie_litellm.config.values import mask_url
    from wallie_litellm.core.scrubbing import one_line

    url = loaded.wallie.store.url
    if url == "memory":
        report = nothing("process", "ok", None)
        view = _View(report, [_PER_PROCESS], problem=_PER_PROCESS if as_json else "")
    else:
        try:
            report = fleet_report(loaded)
        except FleetUnavailable as error:
            problem = f"wallie.store.url: {mask_url(url)} cannot be read: {error}"
            return _View(nothing("redis", "down", str(error)), problem=problem, code=FAILED)
        missing = add_forecasts(report, loaded)
        view = _View(report, list(fleet_lines(report, mask_url(url))))
        if missing:
            view.lines.append(one_line(missing))
    if said := add_sentence(report, loaded):
        view.lines.insert(0, one_line(said))
    _add_usage(view, report, loaded)
    return view


def _add_usage(view: _View, report: dict[str, Any], loaded: RouterConfig) -> None:
    from wallie_litellm.cli.usage_report import UsageUnavailable, usage_lines, usage_of_ledger
    from wallie_litellm.core.scrubbing import one_line

    usage, ledger = None, loaded.wallie.ledger
    try:
        usage = usage_of_ledger(ledger.url) if ledger is not None else None
    except UsageUnavailable as error:
        view.problem = "\n".join(filter(None, (view.problem, f"no figures of the last 24 h: {error}")))
    report["usage"] = usage
    if usage is not None:
        view.lines += ["", *map(one_line, usage_lines(usage))]


# From a running proxy or dashboard


def _from_server(client: Client) -> _View:
    from wallie_litellm.cli.http_client import ServerUnavailable
    from wallie_litellm.cli.usage_report import RANGE, usage_lines
    from wallie_litellm.core.scrubbing import one_line

    try:
        status = client.get("api/status")
    except ServerUnavailable as error:
        return _View(problem=str(error), code=FAILED)
    usage, problem = None, ""
    try:
        usage = client.get("api/usage", [("range", RANGE), ("by", "provider")])
    except ServerUnavailable as error:
        problem = f"no figures of the last {RANGE}: {error}"
    summary = None
    with suppress(ServerUnavailable):  # an earlier version has none
        summary = client.get("api/summary")
    try:
        lines = [] if summary is None else [summary["sentence"]]
        lines += [f"{client.base}: {_store_line(status['store'])}", "", *_provider_lines(status)]
        lines += _alert_lines(status.get("alerts", ()))
        lines += _sink_lines(status["sinks"])
        lines += _config_lines(status.get("config") or {})
        if usage is not None:
            lines += ["", *usage_lines(usage)]
        lines += _budget_lines(status.get("budgets", ()))
    except (LookupError, TypeError, ValueError, AttributeError):
        return _View(problem=f"{client.base}: this version of Wallie cannot read the answer", code=FAILED)
    return _View(
        {**status, "usage": usage, **({} if summary is None else {"summary": summary})},
        list(map(one_line, lines)),
        problem,
    )


def _store_line(store: Mapping[str, Any]) -> str:
    """What the limits are shared by."""
    scope, state = store["scope"], store["state"]
    if scope == "redis":
        workers = store.get("workers", 0)
        line = f"limits shared through Redis by {workers} worker{'' if workers == 1 else 's'}, {state}"
    elif scope == "ledger":
        line = f"limits as the ledger's records add up, {state}"
    else:
        processes = store.get("processes", 1)
        line = "limits of this process" if processes == 1 else f"limits of one of {processes} processes"
    return line + (f": {store['error']}" if store.get("error") else "")


def _provider_lines(status: Mapping[str, Any]) -> Iterator[str]:
    rows: list[tuple[str, ...]] = [
        ("", "health", "breaker", "in flight", "waiting", "limit", "used", "%", "left", "ends (UTC)", "reset (UTC)"),
    ]
    described = [(name, state) for name, state in status["providers"].items()]
    described += [(f"feature:{name}", state) for name, state in status["features"].items()]
    for name, state in described:
        rows += _rows(name, state)
        for model, own in state.get("models", {}).items():
            if own.get("quota"):
                rows += _model_rows(model, own)
    yield from aligned(rows, right=(3, 4, 7, 8))
    accounts = [
        (account_name(name, digest), own)
        for name, state in described
        for digest, own in state.get("accounts", {}).items()
    ]
    for name, state in (*described, *accounts):
        if remark := "; ".join(_remarks(state)):
            yield f"{name}: {remark}"


def _rows(name: str, state: Mapping[str, Any]) -> Iterable[tuple[str, ...]]:
    own = (name, state["health"], state["breaker"]["state"], text(state["in_flight"]), text(state["waiting"]))
    if not state["quota"]:
        yield (*own, "-", "", "", "", "", "")
    yield from _quota_rows(own, state["quota"])


def _model_rows(model: str, state: Mapping[str, Any]) -> Iterable[tuple[str, ...]]:
    """Those of a model's own limits, below its provider's."""
    health, breaker = state.get("health", ""), state.get("breaker", {}).get("state", "")
    yield from _quota_rows((f"  {model}", health, breaker, "", text(state["waiting"])), state["quota"])


def _quota_rows(own: tuple[str, ...], quotas: Mapping[str, Any]) -> Iterable[tuple[str, ...]]:
    for dimension, quota in quotas.items():
        used = f"{quota['used']:g} / {quota['limit']:g}"
        # Calls in flight are free again when they end.
        reset = "-" if dimension == "concurrency" else moment(quota["reset_at"])
        yield (*own, dimension, used, percent(quota), text(quota.get("left")), ends(quota), reset)
        own = ("",) * len(own)


def _sink_lines(sinks: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    """The sinks that do not get their records written at the moment, or have lost some."""
    for name, (wait, on_disk, lost) in backlogs_of(sinks):
        yield f"{name}: {wait:,} records wait, {on_disk:,} of them on disk; {lost:,} are lost"


def _config_lines(config: Mapping[str, Any]) -> Iterator[str]:
    """The file, where it is another one than what is in force."""
    if config.get("refused"):
        yield f"{config['file']} has changed, and cannot be used: what was loaded before is in force"
    elif config.get("changed"):
        yield f"{config['file']} has changed: `wallie-litellm reload` takes it up"
    if keys := config.get("restart_needed"):
        yield f"a restart is needed for {', '.join(keys)}"


def _alert_lines(alerts: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """What goes on that an alert was about."""
    for one in alerts:
        since = f"since {moment(one['since'])} UTC"
        if one["type"] == "error_rate":
            whose = f"the requests for {one['model']}" if one["model"] else f"the attempts at {one['provider']}"
            yield f"alert: {one['value']:.0%} of {whose} fail (limit {one['limit']:.0%}), {since}"
        else:
            yield f"alert: {one['value']:.0f} requests wait for {one['provider']} (limit {one['limit']:.0f}), {since}"


def _budget_lines(budgets: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if not budgets:
        return
    yield ""
    rows: list[tuple[str, ...]] = [("budget", "user", "by", "spent", "reserved", "%", "once used up", "reset (UTC)")]
    rows += [
        (
            f"key {key}" if (key := row.get("key")) else row["feature"] or "all features",
            row["user"] or "-",
            row["window"],
            f"${row['spent_usd']:,.2f} / ${row['limit_usd']:,.2f}",
            f"${row['reserved_usd']:,.2f}",
            f"{100 * row['spent_usd'] / row['limit_usd']:.0f}",
            row["on_exhausted"] + ("" if row["state"] == "ok" else f" ({row['state']})"),
            moment(row["reset_at"]),
        )
        for row in budgets
    ]
    yield from aligned(rows, right=(3, 4, 5))


def _remarks(state: Mapping[str, Any]) -> Iterator[str]:
    breaker = state["breaker"]
    if breaker["reason"]:
        yield f"{breaker['state']}: {breaker['reason']}"
    if breaker["next_probe_in"] is not None:
        yield next_probe(breaker["next_probe_in"])
    if state["paused_for"]:
        yield f"paused for {state['paused_for']:.1f} s"
    for name, quota in state.get("quota", {}).items():
        if quota.get("learned") is not None:
            yield f"{name} is {quota['learned']:g} as the vendor says"
    for model, own in state.get("models", {}).items():
        if remark := ", ".join(_remarks({"breaker": _NO_BREAKER, **own})):
            yield f"{model} {remark}"
    estimates = state.get("estimates") or {}
    if estimates.get("ratio") is not None:
        yield _ratio_of_estimates(estimates)


def _ratio_of_estimates(estimates: Mapping[str, Any]) -> str:
    ratio, of_prompts = estimates["ratio"], (estimates.get("prompt") or {}).get("mean_error")
    said = f"calls reserve {ratio:.{2 if ratio < 10 else 0}f} times what they use"
    if ratio > _FAR_ABOVE:
        said += " (max_tokens is far above their answers)"
    return said if of_prompts is None else f"{said}, prompts off by {100 * of_prompts:.0f} % on average"
