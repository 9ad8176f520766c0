"""``wallie-litellm playbook``: what to do when an alert comes."""

from __future__ import annotations

import click

from wallie_litellm.cli.exits import refuse
from wallie_litellm.telemetry.playbook import COMMAND, sections


@click.command("playbook")
@click.argument("section", required=False)
def playbook_command(section: str | None) -> None:
    """What to do when an alert comes: SECTION, or what sections there are.

    The exit code is 2 if there is no such section.
    """
    found = sections()
    if section:
        if section not in found:
            refuse(f"no section {section!r}: choose from {', '.join(filter(None, found))}")
        click.echo(f"# {section}\n\n{found[section]}")
        return
    for name, text in found.items():
        if name:
            click.echo(f"{COMMAND} {name:18} {text.partition(chr(10))[0]}")
