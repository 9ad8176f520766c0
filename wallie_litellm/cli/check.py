"""``wallie-litellm check``: what the check of a configuration found, as lines and tables."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import click

from wallie_litellm.cli.exits import DONE, FAILED, echo_error
from wallie_litellm.cli.tables import aligned
from wallie_litellm.core.scrubbing import one_line

if TYPE_CHECKING:
    from wallie_litellm.check.report import DeploymentRow, LimitsRow, ProviderRow
    from wallie_litellm.config import Dimension

MOST_ENTRIES: Final = 8  # of a provider's models, in the table


@click.command("check")
@click.argument("file", required=False)
@click.option("--config", metavar="FILE", help="The same as FILE.")
@click.option("--ignore-keys", is_flag=True, help="Do not ask whether the environment holds the API keys.")
@click.option("--library", is_flag=True, help="FILE is for build_router alone: leave out what only the proxy needs.")
def check_command(file: str | None, config: str | None, ignore_keys: bool, library: bool) -> None:
    """Check FILE: its settings, models, prices, chains, keys, the proxy's callback, and the packages that it needs.

    FILE is $WALLIE_CONFIG, else router_config.yaml in the working directory, unless given. The exit code is 0 if
    all is right and 1 if anything is wrong.
    """
    from wallie_litellm.check.report import check_file  # late: `--help` stays quick

    if file and config and file != config:
        raise click.UsageError("give FILE or --config, not both")
    report = check_file(file or config, ignore_keys=ignore_keys, library=library)
    if report.ok:
        for line in summary_lines(report.deployments, report.providers):
            click.echo(line)
    for note in report.notes:
        click.echo(f"note: {note}")
    for problem in report.problems:
        echo_error(problem)
    sys.exit(DONE if report.ok else FAILED)


def summary_lines(deployments: Sequence[DeploymentRow], providers: Sequence[ProviderRow]) -> Iterator[str]:
    """Two tables: the deployments with their prices and chains, and the providers with their limits."""
    yield from aligned(
        [
            ("GROUP", "MODEL", "$ PER 1M TOKENS IN / OUT", "THEN"),
            *((one.group, one.model, _prices(one), ", ".join(one.chain) or "-") for one in deployments),
        ]
    )
    yield ""
    yield from aligned([("PROVIDER", "MODELS", "LIMITS"), *(row for one in providers for row in _limit_rows(one))])


def _limit_rows(provider: ProviderRow) -> Iterator[tuple[str, str, str]]:
    """The account's limits, and below them those of models, the first few of many."""
    yield provider.name, "all", _limits(provider)
    shown = list(provider.models.items())
    if len(shown) > MOST_ENTRIES:
        shown = shown[: MOST_ENTRIES - 1]
    for pattern, own in shown:
        yield "", one_line(pattern), _limits(own)
    if left := len(provider.models) - len(shown):
        yield "", f"and {left} more", "wallie-litellm limits shows all"


def _prices(row: DeploymentRow) -> str:
    prices = (row.input_price, row.output_price)
    return " / ".join("-" if price is None else f"{price * 1e6:.3f}".removesuffix("0") for price in prices)


def _limits(row: LimitsRow) -> str:
    numbers = {dimension: limit for dimension, limit in row.limits.items() if dimension not in row.autos}
    parts = [_amounts(numbers), f"auto: {_amounts(row.autos)}" if row.autos else ""]
    return "; ".join(filter(None, parts)) or "none"


def _amounts(limits: Mapping[Dimension, int]) -> str:
    return ", ".join(f"{dimension} {limit:,}" if limit else dimension for dimension, limit in limits.items())
