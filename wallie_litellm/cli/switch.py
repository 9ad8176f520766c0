"""``wallie-litellm switch``: a decision of routing is switched off at run time, or on again."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import click

from wallie_litellm.cli.actions import header_value, signature_of, signature_options
from wallie_litellm.cli.exits import DONE, FAILED, UNUSABLE, echo_error, refuse, say
from wallie_litellm.cli.remote import running_client, url_options
from wallie_litellm.routing.switches import SWITCHES

if TYPE_CHECKING:
    from wallie_litellm.cli.http_client import Client

_NO_SERVER: Final = "name a running proxy or dashboard by --url or WALLIE_URL; with Redis one is enough for all"


@click.command("switch")
@click.argument("name", type=click.Choice(SWITCHES), metavar="NAME")
@click.argument("state", type=click.Choice(("on", "off")), metavar="on|off")
@url_options
@signature_options
def switch_command(
    name: str, state: str, url: str | None, insecure: bool, reason: str | None, actor: str | None
) -> None:
    """Switch a decision of a running proxy off, or on again: NAME is order, hedge, cache, experiments, auto, and so on.

    Off, all is as without its key in the file. With limits in Redis it holds for all workers, until it is switched on
    again; else until the process ends. `wallie-litellm status --json` shows the switches.

    The exit code is 0, 1 if it could not be done, and 2 if NAME is wrong or no running proxy is named.
    """
    client = running_client(url, insecure, None)
    if client is None:
        refuse(_NO_SERVER)
    sys.exit(_on_server(client, name, *signature_of(actor, reason), on=state == "on"))


def _on_server(client: Client, name: str, actor: str, reason: str | None, *, on: bool) -> int:
    from wallie_litellm.cli.http_client import ServerUnavailable

    body = {"on": on, **({} if reason is None else {"reason": reason})}
    try:
        with client:
            done = client.post(f"api/routing/{quote(name, safe='')}", body, header_value(actor))
    except ServerUnavailable as error:
        echo_error(str(error))
        if error.unclear:
            echo_error("whether it was carried out is not known: see `wallie-litellm status --json`")
        return UNUSABLE if error.status in (404, 422) and error.code else FAILED
    say(f"{name} is switched {'on' if on else 'off'}. Done by {done.get('actor') or actor}.")
    if done.get("turned_on") is False:
        echo_error(f"note: the file does not turn {name} on, so that it makes no difference")
    return DONE
