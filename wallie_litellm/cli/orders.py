"""The commands that give an operator's orders: to a running proxy or dashboard, or through Redis to a whole fleet."""

from __future__ import annotations

import asyncio
import getpass
import logging
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import quote

import click

from wallie_litellm.cli.fleet_report import named_by_models
from wallie_litellm.cli.remote import FAILED, UNUSABLE, refuse, running, say, url_options
from wallie_litellm.errors import ConfigError

if TYPE_CHECKING:
    from wallie_litellm.cli.http_client import Client
    from wallie_litellm.config import RouterConfig, WallieConfig
    from wallie_litellm.guard import Guard
    from wallie_litellm.limiter.redis.watch import ActionMarks

_PATIENCE: Final = 3.0  # seconds that Redis is given to answer, and then to have the order
_RECORDED: Final = 3.0  # seconds that the ledger is given
_LONGEST: Final = 200  # characters of an actor or a reason
_PLAIN: Final = "".join(map(chr, range(32, 127))).replace("%", "")  # what stays as it is in the header
_PER_PROCESS: Final = "wallie.store.url is memory: limits are per process; name a running one with --url or WALLIE_URL"

T = TypeVar("T")


@dataclass(frozen=True)
class _Action:
    """``path`` is the API's; ``ending`` the breaker's state once it is done, ``None`` if it is about something else."""

    name: str
    path: str
    question: str
    ending: str | None
    help: str

    @property
    def method(self) -> str:
        """Of the guard."""
        return self.name.replace("-", "_")


ORDERS: Final = (
    _Action(
        "reset-quota",
        "quota/reset",
        "Forget what {} has used of its limits, and any pause?",
        None,
        "Forget what PROVIDER has used of its limits, and any pause.",
    ),
    _Action(
        "close-circuit",
        "circuit/close",
        "Let requests through to {} again?",
        "closed",
        "Let requests through to PROVIDER again, whatever its breaker thought; it counts anew.",
    ),
    _Action(
        "open-circuit",
        "circuit/open",
        "Let no request through to {} any more?",
        "forced_open",
        "Let no request through to PROVIDER until close-circuit or release-circuit.",
    ),
    _Action(
        "release-circuit",
        "circuit/release",
        "Leave {}'s circuit to its rules again?",
        "half_open",
        "End open-circuit carefully: the next request to PROVIDER is a probe, and what comes of it decides.",
    ),
)


def action_commands() -> list[click.Command]:
    """One for each order."""
    return [_command(order) for order in ORDERS]


def _command(order: _Action) -> click.Command:
    note = "\n\nThe exit code is 0, 1 if it could not be done, and 2 if the configuration or PROVIDER is wrong."

    @click.command(order.name, help=order.help + note)
    @click.argument("provider")
    @url_options
    @click.option("--config", metavar="FILE", help="Instead of $WALLIE_CONFIG, else router_config.yaml here.")
    @click.option("--reason", metavar="TEXT", help="Why; it goes on record.")
    @click.option("--actor", metavar="NAME", help="Who; it goes on record. user@host unless given.")
    @click.option("--yes", is_flag=True, help="Do not ask.")
    def command(
        provider: str,
        url: str | None,
        insecure: bool,
        config: str | None,
        reason: str | None,
        actor: str | None,
        yes: bool,
    ) -> None:
        who = _printable(actor) or _default_actor()
        client = running(url, insecure, config)
        loaded = _load(config, provider) if client is None else None
        _confirm(order.question.format(provider), yes=yes)
        if client is not None:
            sys.exit(_tell_running(client, order, provider, who, _printable(reason)))
        assert loaded is not None, "there is one or the other"  # noqa: S101 - narrows the type
        sys.exit(_tell_fleet(loaded, order, provider, who, _printable(reason)))

    return command


def _printable(text: str | None) -> str | None:
    return "".join(filter(str.isprintable, text or "")).strip()[:_LONGEST] or None


def _default_actor() -> str:
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container may have no name for who it runs as
        user = "cli"
    return f"{user}@{socket.gethostname()}"[:_LONGEST]


def _confirm(question: str, *, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        refuse("nobody can be asked, as standard input is no terminal: say --yes")
    if not click.confirm("".join(filter(str.isprintable, question))):
        click.echo("Nothing was done.", err=True)
        sys.exit(FAILED)


# To a running proxy or dashboard


def _tell_running(client: Client, order: _Action, provider: str, actor: str, reason: str | None) -> int:
    from wallie_litellm.cli.http_client import ServerUnavailable

    path, body = f"api/providers/{quote(provider, safe='')}/{order.path}", {} if reason is None else {"reason": reason}
    try:
        with client:
            done = client.post(path, body, {"X-Wallie-Actor": quote(actor, safe=_PLAIN)})
    except ServerUnavailable as error:
        click.echo(str(error), err=True)
        if error.unclear:
            click.echo("whether it was carried out is not known: see `wallie-litellm status`", err=True)
        return UNUSABLE if error.status in (404, 422) and error.code else FAILED
    message = str(done.get("message") or f"{provider}: {order.name} done").rstrip(".")
    say(f"{message}. Ordered by {done.get('actor') or actor}.")
    return 0


# To a fleet, through Redis


def _load(config: str | None, provider: str) -> RouterConfig:
    """The configuration of a fleet that has this provider."""
    from wallie_litellm.config import load_config

    try:
        loaded = load_config(config)
    except ConfigError as error:
        refuse(*error.problems)
    if loaded.wallie.store.url == "memory":
        refuse(_PER_PROCESS)
    known = {*loaded.wallie.providers, *named_by_models(loaded)}
    if provider not in known:
        refuse(f"unknown provider {provider!r}; known: {', '.join(sorted(known))}")
    return loaded


class _Failed(Exception):  # noqa: N818 - it says what happened
    """It could not be done; the message says why."""


def _tell_fleet(loaded: RouterConfig, order: _Action, provider: str, actor: str, reason: str | None) -> int:
    """Join the fleet for as long as it takes to give the order, and see that Redis has it."""
    logging.getLogger("wallie_litellm").addHandler(logging.NullHandler())  # what matters of it is said here
    try:
        guard, is_recorded, created = _join(loaded.wallie, provider)
    except ConfigError as error:
        refuse(*error.problems)
    try:
        message = asyncio.run(_give(guard, order, provider, actor, reason))
        recorded = is_recorded and guard.bus.flush_blocking(_RECORDED)
    except _Failed as error:
        say(str(error), err=True)
        return FAILED
    finally:
        guard.close()
    if recorded:
        message += f" On record as {actor}."
    say(message)
    if created is not None and recorded:
        click.echo(f"note: there was no ledger yet; it is {created}", err=True)
    elif is_recorded and not recorded:
        click.echo("note: not on record yet, as the ledger cannot be written to; it waits in the spool", err=True)
    elif not is_recorded:
        click.echo("note: not on record, as no ledger is kept", err=True)
    return 0


def _join(config: WallieConfig, provider: str) -> tuple[Guard, bool, Path | None]:
    """A guard that tells nobody but the ledger, whether there is one, and its file, if that is new."""
    from wallie_litellm.bootstrap import ledger_sink
    from wallie_litellm.guard import Guard
    from wallie_litellm.telemetry.bus import Bus

    bus = Bus()
    guard = Guard(config, bus=bus, others_announce=True)
    created = None
    try:
        guard.limiter(provider)  # one without limits has a breaker all the same
        make = ledger_sink(config)
        if make is not None:
            created = _new_file(config)
            bus.add(make)
    except BaseException:
        guard.close()
        raise
    return guard, make is not None, created


def _new_file(config: WallieConfig) -> Path | None:
    from sqlalchemy.engine import make_url

    assert config.ledger is not None, "asked only then"  # noqa: S101 - narrows the type
    place = make_url(config.ledger.url)
    file = Path(place.database or "")
    return file.resolve() if place.drivername == "sqlite" and not file.exists() else None


async def _give(guard: Guard, order: _Action, provider: str, actor: str, reason: str | None) -> str:
    """What has come of it, in a sentence.

    Raises:
        _Failed: Redis does not have it.
    """
    from wallie_litellm.config.values import mask_url
    from wallie_litellm.limiter.redis.watch import watch_marks

    url = guard.config.store.url
    if not await _within(_PATIENCE, lambda: _is_connected(guard)):
        error = guard.status()["store"]["error"] or f"no answer within {_PATIENCE:g} s"
        raise _Failed(f"wallie.store.url: {mask_url(url)} cannot be used: {error}")
    async with watch_marks(url, provider) as look:
        before = await _within(_PATIENCE, look)
        if before is None:
            raise _Failed(f"wallie.store.url: {mask_url(url)} does not take in {provider}'s state")
        # What is recorded of the change begins with what this process knows.
        await _within(1.0, lambda: _knows(guard, provider, before.state))
        getattr(guard, order.method)(provider, actor, reason)
        after = await _within(_PATIENCE, lambda: _done(look, order, before))
    if after is None:
        raise _Failed(f"{provider}: the order was given, but Redis does not show it; see `wallie-litellm status`")
    return _sentence(order, provider, before.state, after.state)


async def _is_connected(guard: Guard) -> bool:
    return bool(guard.status()["store"]["state"] == "ok")


async def _knows(guard: Guard, provider: str, state: str) -> bool:
    return bool(guard.status()["providers"][provider]["breaker"]["state"] == state)


async def _done(
    look: Callable[[], Awaitable[ActionMarks | None]], order: _Action, before: ActionMarks
) -> ActionMarks | None:
    """The marks once they show the order; others may have changed the breaker meanwhile, too."""
    marks = await look()
    if marks is None:
        return None
    if order.ending is None:
        return marks if marks.resets > before.resets else None
    if order.method == "release_circuit":
        held = {"forced_open", "disabled"}
        return marks if before.state not in held or marks.generation > before.generation else None
    return marks if marks.generation > before.generation and marks.state == order.ending else None


async def _within(seconds: float, look: Callable[[], Awaitable[T]]) -> T | None:
    """What ``look`` finds, once it is true; ``None`` if it is not within so many seconds."""
    end = time.monotonic() + seconds
    while True:
        found = await look()
        if found:
            return found
        if time.monotonic() >= end:
            return None
        await asyncio.sleep(0.02)


def _sentence(order: _Action, provider: str, before: str, after: str) -> str:
    was, now = before.replace("_", " "), after.replace("_", " ")
    if order.ending is None:
        return f"{provider}: quota reset."
    if order.method != "release_circuit":
        return f"{provider}: circuit {now} (was {was})."
    if before not in ("forced_open", "disabled"):
        return f"{provider}: circuit {now}; no order held it."
    tail = ": the next request is a probe" if after == "half_open" else ""
    return f"{provider}: circuit {now} (was {was}){tail}."
