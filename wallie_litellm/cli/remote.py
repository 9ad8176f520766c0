"""What commands share that can ask a running proxy or dashboard: ``--url``, its token, its errors."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

from wallie_litellm.cli.exits import FAILED, echo_error, refuse

if TYPE_CHECKING:
    from wallie_litellm.cli.http_client import Client

_Command = TypeVar("_Command", bound=Callable[..., Any])


def url_options(command: _Command) -> _Command:
    """The options that :func:`running_client` reads."""
    insecure = click.option("--insecure", is_flag=True, help="Send the token over plain http to another machine.")
    url = click.option(
        "--url",
        metavar="URL",
        envvar="WALLIE_URL",
        help="Ask a running proxy or dashboard, e.g. http://127.0.0.1:4000; $WALLIE_URL unless given. Its token is "
        "$WALLIE_ADMIN_TOKEN, else $LITELLM_MASTER_KEY.",
    )
    return url(insecure(command))


def running_client(url: str | None, insecure: bool, config: str | None) -> Client | None:
    """A client for ``url``; ``None`` if the configuration is to be read instead. ``--config`` beats ``$WALLIE_URL``."""
    if not url:
        return None
    if config is not None:
        source = click.get_current_context().get_parameter_source("url")
        if source is click.core.ParameterSource.ENVIRONMENT:
            return None
        raise click.UsageError("give --url or --config, not both")
    from wallie_litellm.cli.http_client import Client, WrongAddress  # late: `--help` stays quick

    token = os.environ.get("WALLIE_ADMIN_TOKEN") or os.environ.get("LITELLM_MASTER_KEY")
    try:
        return Client(url, token, insecure=insecure)
    except WrongAddress as error:
        refuse(str(error))


@contextmanager
def one_line_errors() -> Iterator[None]:
    """A server that does not answer ends the command with one line and :data:`FAILED`."""
    from wallie_litellm.cli.http_client import ServerUnavailable

    try:
        yield
    except ServerUnavailable as error:
        echo_error(str(error))
        sys.exit(FAILED)
