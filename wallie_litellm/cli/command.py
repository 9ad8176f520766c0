"""The `wallie-litellm` command."""

from __future__ import annotations

import sys

import click

from wallie_litellm.cli.dashboard import dashboard_command
from wallie_litellm.cli.ledger import export_command, kpis_command
from wallie_litellm.cli.orders import action_commands
from wallie_litellm.cli.status import status_command
from wallie_litellm.errors import ConfigError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="wallie-litellm")
def main() -> None:
    """Waiting rate limits, circuit breakers and fallback chains for LiteLLM."""


for command in (dashboard_command, export_command, kpis_command, status_command, *action_commands()):
    main.add_command(command)


@main.command()
@click.argument("file", required=False)
@click.option("--config", metavar="FILE", help="The same as FILE.")
@click.option("--ignore-keys", is_flag=True, help="Do not ask whether the environment holds the API keys.")
def check(file: str | None, config: str | None, ignore_keys: bool) -> None:
    """Check FILE: its settings, models, prices, chains and keys.

    FILE is $WALLIE_CONFIG, else router_config.yaml in the working directory, unless given. The exit code is 0 if
    all is right and 1 if anything is wrong.
    """
    from wallie_litellm.check.models import check_file  # late: `--help` stays quick

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


@main.command()
@click.option("--config", metavar="FILE", help="Instead of $WALLIE_CONFIG, else router_config.yaml here.")
@click.option("--live", is_flag=True, help="One small request to each real provider whose key is set, instead.")
@click.option("--no-serve", is_flag=True, help="End after the table; so it does where there is no terminal.")
@click.option("--port", type=click.IntRange(0, 65535), help="The dashboard's. Not given: 4100, or a free one.")
def demo(config: str | None, live: bool, no_serve: bool, port: int | None) -> None:
    """Play the specification's scenarios against simulated providers, in real time; about a minute.

    Then the dashboard is served over what they have left, until Ctrl-C.

    The exit code is 0 if everything seen is as expected and 1 if anything differs.
    """
    if live:
        from wallie_litellm.demo.live import run_live

        sys.exit(run_live(config, click.echo, _echo_error))
    from wallie_litellm.demo.demo import run_demo

    serve = sys.stdout.isatty() and not no_serve
    sys.exit(run_demo(config, click.echo, _echo_error, serve=serve, port=port))


@main.command(context_settings={"ignore_unknown_options": True})
@click.option("--config", metavar="FILE", help="Instead of $WALLIE_CONFIG, else router_config.yaml here.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen; others need LITELLM_MASTER_KEY.")
@click.option("--port", default=4000, show_default=True, type=click.IntRange(1, 65535), help="The port to listen on.")
@click.argument("litellm_arguments", nargs=-1, type=click.UNPROCESSED)
def proxy(config: str | None, host: str, port: int, litellm_arguments: tuple[str, ...]) -> None:
    """Start the guarded LiteLLM proxy. Further options go to `litellm`."""
    from wallie_litellm.proxy.launch import run_proxy

    try:
        run_proxy(config, host, port, litellm_arguments)
    except ConfigError as error:
        _echo_error(str(error))
        sys.exit(1)


def _echo_error(line: str) -> None:
    click.echo(line, err=True)
