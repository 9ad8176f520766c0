"""The ``wallie-litellm`` command: the list of its subcommands, and the two short ones ``demo`` and ``proxy``."""

from __future__ import annotations

import sys

import click

from wallie_litellm.cli.actions import action_commands
from wallie_litellm.cli.check import check_command
from wallie_litellm.cli.dashboard import dashboard_command
from wallie_litellm.cli.exits import Commands, exit_code
from wallie_litellm.cli.experiments import experiments_command
from wallie_litellm.cli.forecast import forecast_command
from wallie_litellm.cli.init import init_command
from wallie_litellm.cli.ledger import export_command, kpis_command
from wallie_litellm.cli.limits import limits_command
from wallie_litellm.cli.playbook import playbook_command
from wallie_litellm.cli.rehearse import rehearse_command
from wallie_litellm.cli.reload import reload_command
from wallie_litellm.cli.requests import requests_command
from wallie_litellm.cli.route import route_command
from wallie_litellm.cli.schema import schema_command
from wallie_litellm.cli.status import status_command
from wallie_litellm.cli.switch import switch_command


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="wallie-litellm")
def main() -> None:
    """Waiting rate limits, circuit breakers and fallback chains for LiteLLM."""


@click.command("demo")
@click.argument("scenarios", metavar="[SCENARIO]...", nargs=-1)
@click.option("--config", metavar="FILE", help="Instead of $WALLIE_CONFIG, else router_config.yaml here.")
@click.option("--live", is_flag=True, help="One small request to each real provider whose key is set, instead.")
@click.option("--no-serve", is_flag=True, help="End after the table; so it does where there is no terminal.")
@click.option("--port", type=click.IntRange(0, 65535), help="The dashboard's. Not given: 4100, or a free one.")
def demo_command(scenarios: tuple[str, ...], config: str | None, live: bool, no_serve: bool, port: int | None) -> None:
    """Play the specification's scenarios against simulated providers, in real time; about a minute.

    Named ones alone, such as tokens-and-days, if any is. Then the dashboard is served over what they have left, until
    Ctrl-C.

    The exit code is 0 if everything seen is as expected and 1 if anything differs.
    """
    if live:
        from wallie_litellm.demo.live import run_live

        sys.exit(exit_code(lambda: run_live(config, click.echo)))
    from wallie_litellm.demo.demo import run_demo
    from wallie_litellm.demo.scenarios import named

    try:
        played = named(scenarios)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    serve = sys.stdout.isatty() and not no_serve
    sys.exit(exit_code(lambda: run_demo(config, click.echo, played, serve=serve, port=port)))


@click.command("proxy", context_settings={"ignore_unknown_options": True})
@click.option("--config", metavar="FILE", help="Instead of $WALLIE_CONFIG, else router_config.yaml here.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen; others need LITELLM_MASTER_KEY.")
@click.option("--port", default=4000, show_default=True, type=click.IntRange(1, 65535), help="The port to listen on.")
@click.argument("litellm_arguments", nargs=-1, type=click.UNPROCESSED)
def proxy_command(config: str | None, host: str, port: int, litellm_arguments: tuple[str, ...]) -> None:
    """Start the guarded LiteLLM proxy. Further options go to litellm."""
    from wallie_litellm.proxy.launch import run_proxy

    sys.exit(exit_code(lambda: run_proxy(config, host, port, litellm_arguments)))


for command in (
    check_command,
    dashboard_command,
    demo_command,
    experiments_command,
    rehearse_command,
    reload_command,
    requests_command,
    route_command,
    switch_command,
    export_command,
    forecast_command,
    init_command,
    kpis_command,
    limits_command,
    playbook_command,
    proxy_command,
    schema_command,
    status_command,
    *action_commands(),
):
    main.add_command(command)
