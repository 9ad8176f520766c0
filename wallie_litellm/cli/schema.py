"""``wallie-litellm schema``: the configuration in JSON Schema."""

from __future__ import annotations

import click


@click.command("schema")
def schema_command() -> None:
    """Print the JSON Schema of router_config.yaml, by which editors complete and check it while it is written.

    init writes it beside that file, as router_config.schema.json. After an upgrade, replace that with what this prints.
    """
    from wallie_litellm.config.json_schema import schema_text  # late: `--help` stays quick

    click.echo(schema_text(), nl=False)
