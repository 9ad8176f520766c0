"""What the commands have in common that can ask a running proxy or dashboard: `--url`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

if TYPE_CHECKING:
    from wallie_litellm.cli.http_client import Client

FAILED = 1
UNUSABLE = 2  # as click's own for wrong options

_Command = TypeVar("_Command", bound=Callable[..., Any])


def url_options(command: _Command) -> _Command:
    """The options that :func:`running` wants."""
    insecure = click.option("--insecure", is_flag=True, help="Send the token over plain http to another machine.")
    url = click.option(
        "--url",
        metavar="URL",
        envvar="WALLIE_URL",
        help="Ask a running proxy or dashboard, e.g. http://127.0.0.1:4000; $WALLIE_URL unless given. Its token is "
        "$WALLIE_ADMIN_TOKEN, else $LITELLM_MASTER_KEY.",
    )
    return url(insecure(command))


def running(url: str | None, insecure: bool, config: str | None) -> Client | None:
    """Whom to ask; ``None`` if the configuration says where to look instead. A file that is named beats $WALLIE_URL."""
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
    """No answer ends the command with one line and 1."""
    from wallie_litellm.cli.http_client import ServerUnavailable

    try:
        yield
    except ServerUnavailable as error:
        click.echo(str(error), err=True)
        sys.exit(FAILED)


def say(line: str, *, err: bool = False) -> None:
    """Print ``line``, whatever somebody else may have put into it."""
    from wallie_litellm.core.scrubbing import one_line

    click.echo(one_line(line), err=err)


def refuse(*problems: str) -> NoReturn:
    """End the command: it, or its configuration, cannot be used so."""
    for problem in problems:
        click.echo(problem, err=True)
    sys.exit(UNUSABLE)
