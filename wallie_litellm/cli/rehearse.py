"""``wallie-litellm rehearse``: one's own file against simulated providers, and what would become of its requests."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

import click

from wallie_litellm.cli.exits import DONE, FAILED, echo_error, load_or_refuse, refuse
from wallie_litellm.cli.ledger import ledger_errors, ledger_url
from wallie_litellm.cli.option_types import NumberRange

if TYPE_CHECKING:
    from wallie_litellm.config import RouterConfig
    from wallie_litellm.rehearse.plan import FaultKind, PlannedFault, RehearsalPlan

MIDNIGHT: Final = 1_767_571_200.0  # Unix time at which simulated time begins: Monday 2026-01-05, 00:00 UTC
USUAL_TRAFFIC: Final = "2/s"
KINDS: Final[tuple[FaultKind, ...]] = ("outage", "silent", "slow", "tier", "redis_away")
USUAL_WORKERS: Final = 4  # where Redis is away
MOST_WORKERS: Final = 32


@click.command("rehearse")
@click.option("--config", metavar="FILE", help="Instead of $WALLIE_CONFIG, else router_config.yaml here.")
@click.option("--outage", multiple=True, metavar="PROVIDER:10m[@5m]", help="It answers 503, from @ on.")
@click.option("--silent", multiple=True, metavar="PROVIDER:10m[@5m]", help="It takes requests and says nothing.")
@click.option("--slow", multiple=True, metavar="PROVIDER:5x[:10m][@5m]", help="It takes so many times as long.")
@click.option(
    "--tier", multiple=True, metavar="PROVIDER:0.2[:10m][@5m]", help="The account has that share of its limits."
)
@click.option("--redis-away", multiple=True, metavar="5m[@5m]", help="The Redis of the file cannot be reached.")
@click.option(
    "--workers",
    type=click.IntRange(1, MOST_WORKERS),
    metavar="4",
    help=f"Processes that share the limits through Redis; not given: 1, and {USUAL_WORKERS} with --redis-away.",
)
@click.option(
    "--traffic", multiple=True, metavar="[FEATURE=]5/s", help=f"Requests; not given: {USUAL_TRAFFIC} of all features."
)
@click.option("--from-ledger", metavar="24h", help="The requests that the ledger has of so long, instead.")
@click.option(
    "--tokens", default="600+200", show_default=True, metavar="IN+OUT", help="Medians of prompts and answers."
)
@click.option("--streams", default=0.0, type=NumberRange(0, 1), metavar="SHARE", help="The share that is streamed.")
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
    """Play an outage, a slow provider, a smaller account or an absent Redis against the file, on simulated providers.

    Router, chains, limits and breakers are the real ones; no other machine is reached, and no ledger, Redis or sink of
    the file. Time is simulated, so that an hour takes about a minute.

    The exit code is 0, 1 where an expectation is not met or the report cannot be written, and 2 where an option or the
    file is wrong.
    """
    from wallie_litellm.errors import ConfigError
    from wallie_litellm.rehearse.expectations import check_features, parse_expectation
    from wallie_litellm.rehearse.plan import OptionError
    from wallie_litellm.rehearse.run import rehearse
    from wallie_litellm.rehearse.traffic import features_of

    loaded = load_or_refuse(config)
    try:
        expectations = [parse_expectation(text) for text in expect]
        _check_writable(html)
        with TemporaryDirectory(prefix="wallie-rehearse-") as folder:
            plan = _plan(loaded, given)
            if not given["from_ledger"]:
                check_features(expectations, features_of(loaded, plan.rates))
            report = rehearse(_with_ledger(loaded, plan, given["from_ledger"], Path(folder)))
        judgements = report.judge(expectations)
    except OptionError as error:
        refuse(str(error))
    except ConfigError as error:
        refuse(*error.problems)
    _show(report, judgements, as_json=as_json, html=html)
    sys.exit(DONE if all(one.met for one in judgements) else FAILED)


def _check_writable(html: Path | None) -> None:
    """Find out before the runs, which take minutes, that the file cannot be written after them.

    Raises:
        OptionError: it cannot be.
    """
    from wallie_litellm.rehearse.plan import OptionError

    if html is not None:
        try:
            html.open("a", encoding="utf-8").close()
        except OSError as error:
            raise OptionError(f"--html {html}: cannot be written ({error.strerror})") from None


def _show(report: Any, judgements: list[Any], *, as_json: bool, html: Path | None) -> None:
    from wallie_litellm.rehearse.terminal import lines_of

    if html is not None:
        from wallie_litellm.rehearse.html import page_of

        try:
            html.write_text(page_of(report, judgements), encoding="utf-8")
        except OSError as error:
            echo_error(f"--html {html}: cannot be written ({error.strerror})")
            sys.exit(FAILED)
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
        check_amount,
        check_faults,
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
    if not given["from_ledger"]:
        check_amount(rates, length)
    played = tuple(_known(loaded, parse_fault(kind, text, length)) for kind, text in faults)
    check_faults(played)
    return RehearsalPlan(
        config=str(loaded.path),
        length=length,
        seed=given["seed"],
        start=MIDNIGHT,
        faults=played,
        rates=rates,
        tokens=parse_tokens(given["tokens"]),
        streams=given["streams"],
        real_time=given["real_time"],
        workers=_workers(loaded, given["workers"], is_away=bool(given["redis_away"])),
    )


def _workers(loaded: RouterConfig, given: int | None, *, is_away: bool) -> int:
    """How many processes share the limits.

    Raises:
        OptionError: they have no Redis to share them through.
    """
    from wallie_litellm.rehearse.plan import OptionError

    workers = given or (USUAL_WORKERS if is_away else 1)
    if is_away and workers == 1:
        raise OptionError("--redis-away: one worker shares its limits with no other; give --workers 2 or more")
    if workers > 1 and loaded.wallie.store.url == "memory":
        option = "--redis-away" if is_away else "--workers"
        raise OptionError(
            f"{option}: the file has no Redis through which workers share their limits; set wallie.store.url or "
            "WALLIE_REDIS_URL as where it is used (a rehearsal does not reach it)"
        )
    if workers > 1 and not all(map(find_spec, ("redis", "hiredis"))):
        raise OptionError("several workers speak to a simulated Redis by Redis' client; install wallie-litellm[redis]")
    return workers


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
    if fault.kind != "redis_away" and len(used) == len(loaded.model_list) and fault.provider not in known:
        raise OptionError(f"--{fault.kind}: {fault.provider} is no provider of the file: {', '.join(known)}")
    return fault
