"""Where an export is written: standard output, or a file that gets its name when it is complete."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Literal

import click

from wallie_litellm.cli.exits import DONE, FAILED


class _Unwritable(click.ClickException):
    exit_code = FAILED


class ExportFile:
    """The open file of an export; its errors are distinct from those of the database."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        self._file = file
        self._name = name

    def write(self, text: str) -> None:
        """Append ``text``."""
        with _writing_to(self._name):
            self._file.write(text.encode())

    def flush(self) -> None:
        """Pass on what is buffered."""
        with _writing_to(self._name):
            self._file.flush()


@contextmanager
def _writing_to(name: str) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise _ReaderGone from None
    except OSError as error:
        raise _Unwritable(f"{name} cannot be written: {error.strerror or error}") from None


class _ReaderGone(Exception):  # noqa: N818 - it says what happened, which is no error
    """The program that reads the export, such as ``head``, has closed its end."""


@contextmanager
def open_export_file(output: str | None) -> Iterator[ExportFile]:
    """Standard output, or a file that gets its name when it is complete.

    An error of writing ends the command with :data:`FAILED`.
    """
    if output is None or output == "-":
        with _standard_output() as file:
            yield file
        return
    final = Path(output).resolve()  # a link stays one
    if final.exists() and not final.is_file():  # a device or a pipe cannot be put in place of
        with _writing(final, "wb", output) as file:
            yield file
        return
    partial = final.with_name(f".{final.name}.{os.getpid()}.partial")
    try:
        with _writing(partial, "xb", output) as file:
            yield file
        with _writing_to(output):
            partial.replace(final)
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


@contextmanager
def _writing(path: Path, mode: Literal["wb", "xb"], name: str) -> Iterator[ExportFile]:
    with _writing_to(name):
        file = path.open(mode)
    try:
        yield ExportFile(file, name)
    except BaseException:
        with suppress(OSError):  # closing writes what is buffered, which fails again
            file.close()
        raise
    with _writing_to(name):
        file.close()


@contextmanager
def _standard_output() -> Iterator[ExportFile]:
    stdout = ExportFile(sys.stdout.buffer, "standard output")
    try:
        yield stdout
        stdout.flush()
    except (_ReaderGone, _Unwritable) as error:
        # What is left in the buffer goes nowhere, rather than failing once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, _Unwritable):
            raise
        sys.exit(DONE)
