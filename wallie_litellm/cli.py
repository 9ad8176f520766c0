"""The `wallie-litellm` command."""

from __future__ import annotations

import sys

import click


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="wallie-litellm")
def main() -> None:
    """Waiting rate limits, circuit breakers and fallback chains for LiteLLM."""


@main.command()
@click.argument("file", required=False)
@click.option("--config", metavar="FILE", help="The same as FILE.")
@click.option("--ignore-keys", is_flag=True, help="Do not ask whether the environment holds the API keys.")
def check(file: str | None, config: str | None, ignore_keys: bool) -> None:
    """Check FILE: its settings, models, prices, chains and keys.

    FILE is $WALLIE_CONFIG, else router_config.yaml in the working directory, unless given. The exit code is 0 if
    all is right and 1 if anything is wrong.
    """
    from wallie_litellm.check import check_file  # late: `--help` stays quick

    if file and config and file != config:
        raise click.UsageError("give FILE or --config, not both")
    report = check_file(file or config, ignore_keys=ignore_keys)
    for line in report.summary if report.ok else ():
        click.echo(line)
    for note in report.notes:
        click.echo(f"note: {note}")
    for problem in report.problems:
        click.echo(problem, err=True)
    sys.exit(0 if report.ok else 1)
