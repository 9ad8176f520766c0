"""``wallie-litellm dashboard``: the operator's view beside applications that use the library."""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress

import click

from wallie_litellm.cli.exits import exit_code
from wallie_litellm.errors import ConfigError


@click.command("dashboard")
@click.option("--config", metavar="FILE", help="Instead of $WALLIE_CONFIG, else router_config.yaml here.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen; others need WALLIE_ADMIN_TOKEN.")
@click.option("--port", default=4100, show_default=True, type=click.IntRange(0, 65535), help="0 is any free port.")
def dashboard_command(config: str | None, host: str, port: int) -> None:
    """Serve the dashboard of applications that use the same configuration: its ledger, and its Redis if it has one.

    A LiteLLM proxy with our callback serves its own under /wallie/.
    """

    def serve() -> bool:
        from wallie_litellm.check.sinks import ledger_problems  # late: `--help` stays quick
        from wallie_litellm.config import load_config

        try:
            from wallie_litellm.dashboard.server import serve_config
        except ImportError as error:
            raise ConfigError([f"{error.name} is not installed; install wallie-litellm[dashboard]"]) from error
        loaded = load_config(config)
        if problems := list(ledger_problems(loaded)):
            raise ConfigError(problems)
        with suppress(KeyboardInterrupt):  # the usual end
            asyncio.run(serve_config(loaded, host, port, ready=_print_address))
        return True

    if code := exit_code(serve):
        sys.exit(code)


def _print_address(address: str) -> None:
    click.echo(f"Dashboard: {address}  (Ctrl-C ends)")
