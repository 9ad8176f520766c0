"""``wallie-litellm init``: the files to begin with, in a folder of the user's, and what comes next."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click

from wallie_litellm.cli.exits import FAILED, echo_error

CONFIG: Final = "router_config.yaml"
SCHEMA: Final = "router_config.schema.json"  # the configuration names it in its first line, for editors
# The callback is in a folder beside the configuration, where LiteLLM's proxy looks.
FILES: Final = (CONFIG, "callbacks/wallie.py", SCHEMA)
STARTER: Final = "starter"  # folder of the package into which a wheel is built with FILES
_PACKAGE: Final = Path(__file__).parent.parent
_KEY: Final = re.compile(r"os\.environ/(\w+)")


@click.command("init")
@click.argument("folder", metavar="[DIR]", default=".", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Replace files that exist.")
def init_command(folder: Path, force: bool) -> None:
    """Write the files to begin with into DIR, the working directory unless given: router_config.yaml with five
    providers and their limits, callbacks/wallie.py, which LiteLLM's proxy loads, and router_config.schema.json, by
    which editors know the keys.

    A file that exists is kept, unless --force is given. The exit code is 1 if a file cannot be written.
    """
    try:
        written = [name for name in FILES if _write(folder, name, force=force)]
    except OSError as error:
        echo_error(f"{error.filename or folder}: cannot be written: {error.strerror or error}")
        sys.exit(FAILED)
    for name in FILES:
        click.echo(f"wrote {folder / name}" if name in written else f"kept  {folder / name}: --force replaces it")
    click.echo()
    for line in _next_steps(folder, _keys() if CONFIG in written else ()):
        click.echo(line)


def source_of(name: str) -> Path:
    """The file that is written as ``name``: the package's, or in a checkout, from which wheels are built, its own."""
    packaged = _PACKAGE / STARTER / name
    return packaged if packaged.is_file() else _PACKAGE.parent / name


def _write(folder: Path, name: str, *, force: bool) -> bool:
    """Write one file; whether it was.

    Raises:
        OSError: it cannot be written.
    """
    target = folder / name
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with target.open("wb" if force else "xb") as file:
            file.write(source_of(name).read_bytes())
    except FileExistsError:
        if not target.is_file():
            raise
        return False
    return True


def _keys() -> tuple[str, ...]:
    """The variables that the configuration names."""
    return tuple(dict.fromkeys(_KEY.findall(source_of(CONFIG).read_text(encoding="utf-8"))))


def _next_steps(folder: Path, keys: tuple[str, ...]) -> Iterator[str]:
    yield "Next:"
    if folder.resolve() != Path.cwd():
        yield f"  cd {folder}"
    if keys:
        yield f"  export {keys[0]}=...  # and {', '.join(keys[1:])};"
        yield "                             # delete the models for which there is no key, there and in chains"
    yield "  wallie-litellm check       # says what is still missing or wrong"
    yield "  wallie-litellm proxy       # serves http://127.0.0.1:4000, and for operators /wallie/ there"
    yield f'In an application, instead of the proxy: build_router("{CONFIG}").'
