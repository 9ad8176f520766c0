"""``wallie-litellm reload``: a running proxy or dashboard takes up its changed configuration."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

import click

from wallie_litellm.cli.actions import header_value, signature_of, signature_options
from wallie_litellm.cli.exits import DONE, FAILED, UNUSABLE, echo_error, refuse, say
from wallie_litellm.cli.remote import running_client, url_options

if TYPE_CHECKING:
    from wallie_litellm.cli.http_client import Client

_NO_SERVER: Final = "name a running proxy or dashboard by --url or WALLIE_URL; with Redis one is enough for all"
_EACH_FOR_ITSELF: Final = (
    "Set reload: watch, which has each take up the file by itself, or share a Redis (WALLIE_REDIS_URL); or send SIGHUP "
    "to their parent, which restarts them one by one."
)


@click.command("reload")
@url_options
@signature_options
def reload_command(url: str | None, insecure: bool, reason: str | None, actor: str | None) -> None:
    """Have a running proxy take up its changed router_config.yaml; no request ends for it.

    With limits in Redis all workers do so, each with its own file; else the process that answers. What only a restart
    takes up is named.

    The exit code is 0, 1 if it could not be done, and 2 if the file is refused, and with it nothing changed, or no
    running proxy is named.
    """
    client = running_client(url, insecure, None)
    if client is None:
        refuse(_NO_SERVER)
    sys.exit(_on_server(client, *signature_of(actor, reason)))


def _on_server(client: Client, actor: str, reason: str | None) -> int:
    from wallie_litellm.cli.http_client import ServerUnavailable

    try:
        with client:
            done = client.post("api/config/reload", {} if reason is None else {"reason": reason}, header_value(actor))
    except ServerUnavailable as error:
        echo_error(str(error))
        if error.unclear:
            echo_error("whether it was carried out is not known: see `wallie-litellm status --json`")
        return UNUSABLE if error.status == 422 and error.code else FAILED
    for key in done.get("changed", ()):
        say(f"changed: {key}")
    if not done.get("changed"):
        say("Nothing that can be taken up has changed.")
    for key in done.get("restart_needed", ()):
        say(f"needs a restart: {key}")
    if others := done.get("unreached"):
        say(f"The {others} other worker{'' if others == 1 else 's'} of it did not hear of this. {_EACH_FOR_ITSELF}")
    say(f"Done by {done.get('actor') or actor}.")
    return DONE
