"""``wallie-litellm experiments``: how the arms compare, the end of an experiment, and a stopped arm that goes on."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import click

from wallie_litellm.cli.actions import confirm, signature_of, signature_options
from wallie_litellm.cli.exits import FAILED, load_or_refuse, refuse, say
from wallie_litellm.cli.experiment_actions import (
    conclude_in_ledger,
    conclude_on_server,
    resume_in_ledger,
    resume_on_server,
)
from wallie_litellm.cli.ledger import ledger_errors, ledger_url
from wallie_litellm.cli.remote import one_line_errors, running_client, url_options
from wallie_litellm.cli.tables import aligned, moment

if TYPE_CHECKING:
    from wallie_litellm.config import ExperimentSettings

_CONFIG: Final = "Instead of $WALLIE_CONFIG, else router_config.yaml here."
_HEAD: Final = ("arm", "share", "units", "requests", "answered", "by others", "p50", "p95", "cost", "feedback")
_UNITS: Final = {"user": "users", "session": "sessions", "request": "requests"}


class _Experiments(click.Group):
    """A group whose first word may be the name of an experiment instead of a command."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        known = args and (args[0] in self.commands or args[0] in ctx.help_option_names)
        return super().parse_args(ctx, args if known else ["show", *args])


@click.group("experiments", cls=_Experiments, subcommand_metavar="[NAME | conclude NAME | resume NAME ARM]")
def experiments_command() -> None:
    """How the arms of experiments compare, by what the ledger has on record.

    Intervals are of the difference from the first arm, and hold at every look: an arm may be called better as soon as
    one says so.
    """


@experiments_command.command("show")
@click.argument("name", required=False)
@url_options
@click.option("--config", metavar="FILE", help=_CONFIG)
@click.option("--json", "as_json", is_flag=True, help="JSON instead of tables.")
def show_command(name: str | None, url: str | None, insecure: bool, config: str | None, as_json: bool) -> None:
    """The experiments of the configuration, or that of NAME; with --url those of a running proxy or dashboard.

    The exit code is 0, 1 if the database or the server at --url fails, and 2 if there is no such experiment, or no
    ledger to read.
    """
    client = running_client(url, insecure, config)
    if client is not None:
        with one_line_errors(), client:
            found = client.get("api/experiments", []).get("experiments", ())
    else:
        loaded = load_or_refuse(config)
        with ledger_errors():
            found = asyncio.run(_measure(ledger_url(loaded), loaded.wallie.experiments))
    try:
        names = [str(one["name"]) for one in found]
        chosen = [one for one in found if name in (None, one["name"])]
        lines = [line for one in chosen for line in ("", *_described(one))][1:]
    except (LookupError, TypeError, ValueError, AttributeError):
        say(f"{url}: this version of Wallie cannot read the answer", err=True)
        sys.exit(FAILED)
    if name is not None and not chosen:
        refuse(_unknown(name, names))
    if as_json:
        click.echo(json.dumps({"experiments": chosen}, indent=2))
        return
    for line in lines or ["No experiments: wallie.experiments is empty."]:
        say(line)


@experiments_command.command("conclude")
@click.argument("name")
@url_options
@click.option("--config", metavar="FILE", help=_CONFIG)
@click.option(
    "--winner", metavar="ARM", help="The arm that has won, instead of the one that is better than all others."
)
@signature_options
@click.option("--yes", is_flag=True, help="Do not ask.")
def conclude_command(
    name: str,
    url: str | None,
    insecure: bool,
    config: str | None,
    winner: str | None,
    reason: str | None,
    actor: str | None,
    yes: bool,
) -> None:
    """End the experiment NAME: its winner serves all its requests from now on, in every worker within seconds.

    It goes on record in the ledger, and holds until the file has another experiment. Of one that was concluded before
    nothing changes. The exit code is 0, 1 if no arm is better yet and none is named, another arm has won before, or it
    could not be done, and 2 if there is no such experiment or arm.
    """
    by, why = signature_of(actor, reason)
    client = running_client(url, insecure, config)
    loaded = None if client is not None else load_or_refuse(config)
    if loaded is not None and name not in loaded.wallie.experiments:
        refuse(_unknown(name, loaded.wallie.experiments))
    won = f"{winner} has won" if winner else "the better arm has won"
    confirm(f"End {name}: {won}, and serves all its requests?", yes=yes)
    if client is not None:
        sys.exit(conclude_on_server(client, name, winner, by, why))
    if loaded is not None:
        with ledger_errors():
            sys.exit(asyncio.run(conclude_in_ledger(loaded, name, winner, by, why)))


@experiments_command.command("resume")
@click.argument("name")
@click.argument("arm")
@url_options
@click.option("--config", metavar="FILE", help=_CONFIG)
@signature_options
@click.option("--yes", is_flag=True, help="Do not ask.")
def resume_command(
    name: str,
    arm: str,
    url: str | None,
    insecure: bool,
    config: str | None,
    reason: str | None,
    actor: str | None,
    yes: bool,
) -> None:
    """Have ARM of the experiment NAME, which its guardrail has stopped, go on, in every worker within seconds.

    Its units come back to it, and the guardrail looks at the requests after that alone. The exit code is 0, 1 if it
    could not be done, and 2 if there is no such experiment or arm, or it is not stopped.
    """
    by, why = signature_of(actor, reason)
    client = running_client(url, insecure, config)
    loaded = None if client is not None else load_or_refuse(config)
    if loaded is not None and name not in loaded.wallie.experiments:
        refuse(_unknown(name, loaded.wallie.experiments))
    confirm(f"Have {arm} of {name} go on?", yes=yes)
    if client is not None:
        sys.exit(resume_on_server(client, name, arm, by, why))
    if loaded is not None:
        with ledger_errors():
            sys.exit(asyncio.run(resume_in_ledger(loaded, name, arm, by, why)))


def _unknown(name: str, known: Mapping[str, Any] | list[str]) -> str:
    return f"unknown experiment {name!r}; known: {', '.join(sorted(known)) or 'none'}"


async def _measure(url: str, experiments: Mapping[str, ExperimentSettings]) -> list[dict[str, Any]]:
    from wallie_litellm.ledger.experiments import as_json
    from wallie_litellm.ledger.queries import LedgerQueries
    from wallie_litellm.ledger.reader import open_reader

    async with open_reader(url) as engine:
        return [as_json(one) for one in await LedgerQueries(engine).experiments(experiments)]


def _described(one: Mapping[str, Any]) -> Iterator[str]:
    yield f"{one['name']}: {one['feature']}, {one['metric']} by {one['unit']}, {_state(one)}"
    first, *_ = one["arms"]
    rows: list[tuple[str, ...]] = [(*_HEAD, f"{one['metric']}, from {first['arm']}")]
    rows += [_row(arm, one["metric"]) for arm in one["arms"]]
    yield from (f"  {line}" for line in aligned(rows, right=range(1, len(_HEAD))))
    split = one["split"]
    if split["is_wrong"]:
        yield f"  The {_UNITS[one['unit']]} are not divided as stated (p = {split['p']:.2g}): do not trust the figures."
    if one["state"] == "running":
        yield f"  {_verdict(one)}"


def _state(one: Mapping[str, Any]) -> str:
    if one["state"] == "not_started":
        return "not started by any worker yet"
    since = f"since {moment(one['since'])} UTC"
    if one["state"] == "running":
        return f"running {since}"
    why = f" ({one['reason']})" if one["reason"] else ""
    return f"{since} until {moment(one['concluded_at'])} UTC: {one['winner']} has won{why}"


def _verdict(one: Mapping[str, Any]) -> str:
    if one["leader"] is None:
        return "No arm is better than the others yet."
    return f"{one['leader']} is better than the others; `wallie-litellm experiments conclude {one['name']}` ends it."


def _row(arm: Mapping[str, Any], metric: str) -> tuple[str, ...]:
    return (
        arm["arm"] + (" (stopped)" if arm["stopped"] else ""),
        f"{arm['share']:.0%}",
        f"{arm['units']:,}",
        f"{arm['requests']:,}",
        _or_dash(arm["error_rate"], lambda share: f"{1 - share:.1%}"),
        _or_dash(arm["fallback_rate"], lambda share: f"{share:.1%}"),
        _or_dash(arm["p50_ms"], _seconds),
        _or_dash(arm["p95_ms"], _seconds),
        _or_dash(arm["cost_usd"], lambda cost: f"${cost:.6f}"),
        _or_dash(arm["feedback"], lambda value: f"{value:.3f}"),
        _effect(arm["effect"], metric),
    )


def _effect(effect: Mapping[str, float] | None, metric: str) -> str:
    if effect is None:
        return "-"
    low, estimate, high = (_amount(effect[key], metric) for key in ("low", "estimate", "high"))
    return f"{estimate} ({low} … {high})"


def _amount(value: float, metric: str) -> str:
    if metric == "cost":
        return f"{'-' if value < 0 else '+'}${abs(value):.6f}"
    return f"{value * 100:+.1f} {'points' if metric == 'success' else '%'}" if metric != "feedback" else f"{value:+.3f}"


def _seconds(milliseconds: float) -> str:
    return f"{milliseconds / 1000:.2f} s"


def _or_dash(value: Any, shown: Any) -> str:
    return "-" if value is None else str(shown(value))
