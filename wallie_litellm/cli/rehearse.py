"""``wallie-litellm rehearse``: one's own file against simulated providers, and what would become of its requests."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

import click

from wallie_litellm.cli.exits import DONE, FAILED, load_or_refuse, refuse
from wallie_litellm.cli.ledger import ledger_errors, ledger_url

if TYPE_CHECKING:
    from wallie_litellm.config import RouterConfig
    from wallie_litellm.rehearse.plan import FaultKind, PlannedFault, RehearsalPlan

MIDNIGHT: Final = 1_767_571_200.0  # Unix time at which simulated time begins: Monday 2026-01-05, 00:00 UTC
USUAL_TRAFFIC: Final = "2/s"
KINDS: Final[tuple[FaultKind, ...]] = ("outage", "silent", "slow", "tier")


@click.command("rehearse")
@click.option("--config", metavar="FILE", help="Instead of $WALLIE_CONFIG, else router_config.yaml here.")
@click.option("--outage", multiple=True, metavar="PROVIDER:10m[@5m]", help="It answers 503, from @ on.")
@click.option("--silent", multiple=True, metavar="PROVIDER:10m[@5m]", help="It takes requests and says nothing.")
@click.option("--slow", multiple=True, metavar="PROVIDER:5x[:10m][@5m]", help="It takes so many times as long.")
@click.option(
    "--tier", multiple=True, metavar="PROVIDER:0.2[:10m][@5m]", help="The account has that share of its limits."
)
@click.option(
    "--traffic", multiple=True, metavar="[FEATURE=]5/s", help=f"Requests; not given: {USUAL_TRAFFIC} of all features."
)
@click.option("--from-ledger", metavar="24h", help="The requests that the ledger has of so long, instead.")
@click.option(
    "--tokens", default="600+200", show_default=True, metavar="IN+OUT", help="Medians of prompts and answers."
)
@click.option(
    "--streams", default=0.0, type=click.FloatRange(0, 1), metavar="SHARE", help="The share that is streamed."
)
@click.option(
    "--for", "length", default=None, metavar="1h", help="How long; not given: 1h, or what --from-ledger says."
)
@click.option("--seed", default=1, show_default=True, help="The same seed makes the same report.")
@click.option("--real-time", is_flag=True, help="By the machine's clock: an hour takes an hour.")
@click.option("--expect", multiple=True, metavar="'answered>=99.5%'", help="The exit code is 1 where it is not met.")
@click.option("--json", "as_json", is_flag=True, help="The report as JSON.")
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="And as one HTML file.")
def rehearse_command(
    config: str | None, *, expect: tuple[str, ...], as_json: bool, html: Path | None, **given: Any
) -> None:
    """Play an outage, a slow provider or a smaller account against the file, on simulated providers.

    Router, chains, limits and breakers are the real ones; no other machine is reached, and no ledger, Redis or sink of
    the file. Time is simulated, so that an hour takes about a minute.

    The exit code is 0, 1 where an expectation is not met, and 2 where an option or the file is wrong.
    """
    from wallie_litellm.errors import ConfigError
    from wallie_litellm.rehearse.expectations import parse_expectation
    from wallie_litellm.rehearse.plan import OptionError
    from wallie_litellm.rehearse.run import rehearse

    loaded = load_or_refuse(config)
    if html is not None and not html.absolute().parent.is_dir():
        refuse(f"--html {html}: there is no folder {html.parent}")
    try:
        expectations = [parse_expectation(text) for text in expect]
        with TemporaryDirectory(prefix="wallie-rehearse-") as folder:
            report = rehearse(_with_ledger(loaded, _plan(loaded, given), given["from_ledger"], Path(folder)))
        judgements = report.judge(expectations)
    except OptionError as error:
        refuse(str(error))
    except ConfigError as error:
        refuse(*error.problems)
    _show(report, judgements, as_json=as_json, html=html)
    sys.exit(DONE if all(one.met for one in judgements) else FAILED)


def _show(report: Any, judgements: list[Any], *, as_json: bool, html: Path | None) -> None:
    from wallie_litellm.rehearse.terminal import lines_of

    if html is not None:
        from wallie_litellm.rehearse.html import page_of

        html.write_text(page_of(report, judgements), encoding="utf-8")
    if as_json:
        click.echo(json.dumps(report.to_json(judgements), indent=2))
        return
    for line in lines_of(report, judgements):
        click.echo(line)


def _plan(loaded: RouterConfig, given: dict[str, Any]) -> RehearsalPlan:
    """The plan of the options.

    Raises:
        OptionError: one of them is wrong.
    """
    from wallie_litellm.rehearse.plan import (
        OptionError,
        RehearsalPlan,
        parse_fault,
        parse_length,
        parse_rate,
        parse_tokens,
    )

    if given["from_ledger"] and given["traffic"]:
        raise OptionError("give --traffic or --from-ledger, not both")
    faults = [(kind, text) for kind in KINDS for text in given[kind]]
    length = parse_length(given["length"] or given["from_ledger"] or "1h")
    rates = tuple(map(parse_rate, given["traffic"] or (USUAL_TRAFFIC,)))
    return RehearsalPlan(
        config=str(loaded.path),
        length=length,
        seed=given["seed"],
        start=MIDNIGHT,
        faults=tuple(_known(loaded, parse_fault(kind, text, length)) for kind, text in faults),
        rates=rates,
        tokens=parse_tokens(given["tokens"]),
        streams=given["streams"],
        real_time=given["real_time"],
    )


def _with_ledger(loaded: RouterConfig, plan: RehearsalPlan, since: str | None, folder: Path) -> RehearsalPlan:
    """The plan with the requests that the ledger has of the last so long, which are written into ``folder``.

    Raises:
        ConfigError: there is no ledger to read.
        OptionError: it has no such request.
    """
    if since is None:
        return plan
    from wallie_litellm.config.tiers import AUTO
    from wallie_litellm.rehearse.from_ledger import ledger_traffic
    from wallie_litellm.rehearse.plan import OptionError, parse_length
    from wallie_litellm.rehearse.traffic import write_requests

    until = time.time()
    start = until - parse_length(since)
    routing = loaded.wallie.routing
    names = {*loaded.groups, *routing.tiers, *([AUTO] if routing.auto is not None else [])}
    with ledger_errors():
        found = asyncio.run(ledger_traffic(ledger_url(loaded), names, start, until, plan.tokens))
    if not found.arrivals:
        raise OptionError(f"--from-ledger {since}: the ledger has no chat of that time for a model of the file")
    write_requests(found.arrivals, requests := folder / "requests.jsonl")
    return replace(plan, start=start, requests=str(requests), left_out=found.left_out)


def _known(loaded: RouterConfig, fault: PlannedFault) -> PlannedFault:
    """The fault, of a provider that the file may have: the run itself knows those of models without a prefix.

    Raises:
        OptionError: the file has no such provider.
    """
    from wallie_litellm.config.used_providers import used_models
    from wallie_litellm.rehearse.plan import OptionError

    used = used_models(loaded)
    known = sorted({destination.provider for destination, _, _ in used})
    if len(used) == len(loaded.model_list) and fault.provider not in known:
        raise OptionError(f"--{fault.kind}: {fault.provider} is no provider of the file: {', '.join(known)}")
    return fault
