"""How a command ends: its exit codes, and the errors that lead to them."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click

from wallie_litellm.errors import ConfigError

if TYPE_CHECKING:
    from wallie_litellm.config import RouterConfig

DONE: Final = 0  # exit code: all is as it should be
FAILED: Final = 1  # exit code: something is wrong, or a server does not answer
UNUSABLE: Final = 2  # exit code: wrong options or configuration, as click's own
INTERRUPTED: Final = 130  # exit code: Ctrl-C, as shells give it


class Commands(click.Group):
    """Subcommands for which Ctrl-C, and a standard output that is full, is one line and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the subcommand."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            echo_error("interrupted")
            sys.exit(INTERRUPTED)
        except OSError as error:
            if error.errno != errno.ENOSPC or error.filename is not None:
                raise
            # What is left in the buffer goes nowhere, rather than failing once more at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            echo_error(f"Error: standard output cannot be written: {error.strerror}")
            sys.exit(FAILED)


def say(line: str, *, err: bool = False) -> None:
    """Print ``line``, which may hold text from elsewhere, without its control characters."""
    from wallie_litellm.core.scrubbing import one_line

    click.echo(one_line(line), err=err)


def echo_error(line: str) -> None:
    """Print ``line`` to standard error."""
    click.echo(line, err=True)


def refuse(*problems: str) -> NoReturn:
    """End the command: its options or its configuration are wrong."""
    for problem in problems:
        echo_error(problem)
    sys.exit(UNUSABLE)


def load_or_refuse(config: str | None) -> RouterConfig:
    """The configuration at ``config``, the usual one if that is ``None``; one that is wrong ends the command."""
    from wallie_litellm.config import load_config

    try:
        return load_config(config)
    except ConfigError as error:
        refuse(*error.problems)


def exit_code(work: Callable[[], bool], write_error: Callable[[str], None] = echo_error) -> int:
    """The exit code of ``work``, which returns whether all is as it should be; its errors are lines, no tracebacks."""
    try:
        return DONE if work() else FAILED
    except ConfigError as error:
        for problem in error.problems:
            write_error(problem)
        return FAILED
    except KeyboardInterrupt:
        write_error("interrupted")
        return INTERRUPTED
