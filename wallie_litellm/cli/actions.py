"""The commands of an operator's actions: on a running proxy or dashboard, or on a whole fleet through Redis."""

from __future__ import annotations

import asyncio
import getpass
import logging
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar
from urllib.parse import quote

import click

from wallie_litellm.cli.exits import DONE, FAILED, UNUSABLE, echo_error, load_or_refuse, refuse, say
from wallie_litellm.cli.remote import running_client, url_options
from wallie_litellm.core.provider_names import is_account
from wallie_litellm.core.scopes import model_in
from wallie_litellm.core.scrubbing import one_line
from wallie_litellm.errors import ConfigError

if TYPE_CHECKING:
    from wallie_litellm.cli.http_client import Client
    from wallie_litellm.config import LedgerSettings, RouterConfig
    from wallie_litellm.guard import Guard
    from wallie_litellm.limiter.redis.watch import ActionMarks

_REDIS_TIMEOUT: Final = 3.0  # seconds for Redis to answer, and again for it to show the action
_REPLICA_TIMEOUT: Final = 1.0  # seconds for this process to receive the breaker's state
_LEDGER_TIMEOUT: Final = 3.0  # seconds for the ledger to record the action
_LONGEST: Final = 200  # characters of an actor or a reason
_PLAIN: Final = "".join(map(chr, range(32, 127))).replace("%", "")  # characters that stay as they are in the header
_ACTOR: Final = "On whose behalf; it goes on record. user@host unless given."
_PER_PROCESS: Final = "wallie.store.url is memory: limits are per process; name a running one with --url or WALLIE_URL"

_Found = TypeVar("_Found")
_Command = TypeVar("_Command", bound=Callable[..., Any])


@dataclass(frozen=True)
class _Action:
    """One action of an operator.

    ``path`` is the API's. ``breaker`` is the breaker's state once the action is done, ``None`` if it is about quota.
    """

    name: str
    path: str
    question: str
    breaker: str | None
    help: str

    @property
    def method(self) -> str:
        """The guard's method."""
        return self.name.replace("-", "_")


ACTIONS: Final = (
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
        "Resume: let requests through to {} again?",
        "closed",
        "Resume: let requests through to PROVIDER again, whatever its breaker's state; it counts anew.",
    ),
    _Action(
        "open-circuit",
        "circuit/open",
        "Stop traffic: let no request through to {} any more?",
        "forced_open",
        "Stop traffic: let no request through to PROVIDER until close-circuit or release-circuit.",
    ),
    _Action(
        "release-circuit",
        "circuit/release",
        "Resume with one probe: the next request to {}?",
        "half_open",
        "Resume with one probe: the next request to PROVIDER, whose result decides.",
    ),
)


class _Target(NamedTuple):
    """What an action is on: a provider, or an account, or one model there."""

    provider: str
    model: str | None

    def __str__(self) -> str:
        return self.provider if self.model is None else f"{self.provider} {self.model}"


def action_commands() -> list[click.Command]:
    """One command for each action."""
    return [_command(action) for action in ACTIONS]


def _command(action: _Action) -> click.Command:
    note = "\n\nThe exit code is 0, 1 if it could not be done, and 2 if the configuration or PROVIDER is wrong."

    @click.command(action.name, help=action.help + note)
    @click.argument("provider")
    @url_options
    @click.option("--model", metavar="NAME", help="Of that model of PROVIDER's alone.")
    @click.option("--config", metavar="FILE", help="Instead of $WALLIE_CONFIG, else router_config.yaml here.")
    @signature_options
    @click.option("--yes", is_flag=True, help="Do not ask.")
    def command(
        provider: str,
        url: str | None,
        insecure: bool,
        model: str | None,
        config: str | None,
        reason: str | None,
        actor: str | None,
        yes: bool,
    ) -> None:
        signature, target = signature_of(actor, reason), _Target(provider, model)
        if (client := running_client(url, insecure, config)) is not None:
            confirm(action.question.format(target), yes=yes)
            sys.exit(_act_on_server(client, action, target, *signature))
        loaded = _load_fleet(config, provider)
        confirm(action.question.format(target), yes=yes)
        sys.exit(_act_on_fleet(loaded, action, target, *signature))

    return command


def signature_options(command: _Command) -> _Command:
    """The options that :func:`signature_of` takes."""
    command = click.option("--actor", metavar="NAME", help=_ACTOR)(command)
    return click.option("--reason", metavar="TEXT", help="Why; it goes on record.")(command)


def signature_of(actor: str | None, reason: str | None) -> tuple[str, str | None]:
    """Who acts, user@host unless given, and why, as it goes on record."""
    return _printable(actor) or _default_actor(), _printable(reason)


def header_value(actor: str) -> dict[str, str]:
    """The header that tells a server who acts."""
    return {"X-Wallie-Actor": quote(actor, safe=_PLAIN)}


def _printable(text: str | None) -> str | None:
    return one_line(text or "", "").strip()[:_LONGEST] or None


def _default_actor() -> str:
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container may have no name for its user id
        user = "cli"
    return f"{user}@{socket.gethostname()}"[:_LONGEST]


def confirm(question: str, *, yes: bool) -> None:
    """Ask ``question`` unless ``yes``; the answer no ends the command."""
    if yes:
        return
    if not sys.stdin.isatty():
        refuse("standard input is no terminal, so the question cannot be asked: say --yes")
    if not click.confirm(one_line(question, "")):
        echo_error("Nothing was done.")
        sys.exit(FAILED)


# On a running proxy or dashboard


def _act_on_server(client: Client, action: _Action, target: _Target, actor: str, reason: str | None) -> int:
    from wallie_litellm.cli.http_client import ServerUnavailable

    path = f"api/providers/{quote(target.provider, safe='')}/{action.path}"
    body = {key: value for key, value in (("reason", reason), ("model", target.model)) if value is not None}
    try:
        with client:
            done = client.post(path, body, header_value(actor))
    except ServerUnavailable as error:
        echo_error(str(error))
        if error.unclear:
            echo_error("whether it was carried out is not known: see `wallie-litellm status`")
        return UNUSABLE if error.status in (404, 422) and error.code else FAILED
    message = str(done.get("message") or f"{target}: {action.name} done").rstrip(".")
    say(f"{message}. Done by {done.get('actor') or actor}.")
    return DONE


# On a fleet, through Redis


def _load_fleet(config: str | None, provider: str) -> RouterConfig:
    """The configuration of a fleet that has this provider; any other ends the command."""
    loaded = load_or_refuse(config)
    if loaded.wallie.store.url == "memory":
        refuse(_PER_PROCESS)
    from wallie_litellm.config.used_providers import used_providers  # late: `--help` stays quick

    known = set(filter(loaded.wallie.states_limits_of, loaded.wallie.providers))
    known.update(name for used in used_providers(loaded) for name in (used.provider, used.account))
    if provider not in known | set(loaded.wallie.providers):
        refuse(f"unknown provider {provider!r}; known: {', '.join(sorted(known))}")
    return loaded


class _Failed(Exception):  # noqa: N818 - it says what happened
    """The action could not be done; the message says why."""


def _act_on_fleet(loaded: RouterConfig, action: _Action, target: _Target, actor: str, reason: str | None) -> int:
    """Join the fleet for as long as the action takes, and see that Redis has it."""
    logging.getLogger("wallie_litellm").addHandler(logging.NullHandler())  # the command's own lines say what matters
    try:
        guard, is_recorded, created = _join(loaded, target.provider)
    except ConfigError as error:
        refuse(*error.problems)
    try:
        message = asyncio.run(_perform(guard, action, target, actor, reason))
        recorded = is_recorded and guard.bus.flush_blocking(_LEDGER_TIMEOUT)
    except _Failed as error:
        say(str(error), err=True)
        return FAILED
    except ValueError as error:  # there is no such model
        refuse(str(error))
    finally:
        guard.close()
    if recorded:
        message += f" On record as {actor}."
    say(message)
    if created is not None and recorded:
        echo_error(f"note: there was no ledger before; it is {created}")
    elif is_recorded and not recorded:
        echo_error("note: not on record yet, as the ledger cannot be written to; it waits in the spool")
    elif not is_recorded:
        echo_error("note: not on record, as no ledger is kept")
    return DONE


def _join(loaded: RouterConfig, provider: str) -> tuple[Guard, bool, Path | None]:
    """A guard whose only sink is the ledger; whether there is a ledger, and its file, if that is new."""
    from wallie_litellm.bootstrap import ledger_sink
    from wallie_litellm.config.used_providers import used_models
    from wallie_litellm.guard import Guard
    from wallie_litellm.telemetry.bus import Bus

    config, bus = loaded.wallie, Bus()
    guard = Guard(config, bus=bus, others_announce=True)
    try:
        for used, scope, group in used_models(loaded):
            if provider in (used.provider, used.account):
                guard.meet(*used, scope, group)
        if not is_account(provider):
            guard.limiter(provider)  # a provider without limits has a breaker all the same
        make, created = ledger_sink(config), None
        if make is not None and config.ledger is not None:
            created = _new_file(config.ledger)
            bus.add(make)
    except BaseException:
        guard.close()
        raise
    return guard, make is not None, created


def _new_file(ledger: LedgerSettings) -> Path | None:
    """SQLite's file, if it does not exist."""
    from wallie_litellm.ledger.engine import missing_file

    return missing_file(ledger.url)


async def _perform(guard: Guard, action: _Action, target: _Target, actor: str, reason: str | None) -> str:
    """What the action has changed, in a sentence.

    Raises:
        _Failed: Redis does not have it.
        ValueError: there is no such model.
    """
    from wallie_litellm.config.values import mask_url
    from wallie_litellm.limiter.redis.watch import NO_STATE, watch_marks

    url = guard.config.store.url
    if not await _within(_REDIS_TIMEOUT, lambda: _is_connected(guard)):
        error = guard.status()["store"]["error"] or f"no answer within {_REDIS_TIMEOUT:g} s"
        raise _Failed(f"wallie.store.url: {mask_url(url)} cannot be used: {error}")
    async with AsyncExitStack() as looks:
        # Models that are in trouble are known once there is a connection.
        names = guard.reached_by(action.method, target.provider, target.model)
        watched = {name: await looks.enter_async_context(watch_marks(url, name)) for name in names}
        befores = {name: await _before(look, name) for name, look in watched.items()}
        if missing := [name for name, found in befores.items() if found is None and not model_in(name)]:
            raise _Failed(f"wallie.store.url: {mask_url(url)} does not take in {missing[0]}'s state")
        known = {name: found or NO_STATE for name, found in befores.items()}
        if target.model is None:  # a model whose breaker is closed is not acted on
            known = {name: found for name, found in known.items() if not model_in(name) or found.state != "closed"}
        # The recorded transition begins with the state that this process has of the breaker.
        await _within(_REPLICA_TIMEOUT, lambda: _have_states(guard, known))
        getattr(guard, action.method)(target.provider, actor, reason, model=target.model)
        afters = [
            await _within(_REDIS_TIMEOUT, partial(_done, watched[name], action, found)) for name, found in known.items()
        ]
    if (after := afters[0]) is None or None in afters:
        raise _Failed(f"{target}: Redis does not show that it was carried out; see `wallie-litellm status`")
    return _sentence(action, target, next(iter(known.values())).state, after.state)


async def _before(look: Callable[[], Awaitable[ActionMarks | None]], name: str) -> ActionMarks | None:
    """The marks before an action: Redis need not have a state of a model."""
    return await look() if model_in(name) else await _within(_REDIS_TIMEOUT, look)


async def _is_connected(guard: Guard) -> bool:
    return bool(guard.status()["store"]["state"] == "ok")


async def _have_states(guard: Guard, marks: Mapping[str, ActionMarks]) -> bool:
    own = {limiter.name: limiter.breaker_state()[0].value for limiter in guard.limiters()}
    return all(own.get(name, "closed") == found.state for name, found in marks.items())


async def _done(
    look: Callable[[], Awaitable[ActionMarks | None]], action: _Action, before: ActionMarks
) -> ActionMarks | None:
    """The marks once they show the action; other processes may have changed the breaker meanwhile, too."""
    marks = await look()
    if marks is None:
        return None
    if action.breaker is None:
        return marks if marks.resets > before.resets else None
    if action.method == "release_circuit":
        return marks if before.state != "forced_open" or marks.generation > before.generation else None
    return marks if marks.generation > before.generation and marks.state == action.breaker else None


async def _within(seconds: float, look: Callable[[], Awaitable[_Found]]) -> _Found | None:
    """What ``look`` finds, once it is true; ``None`` if it is not within so many seconds."""
    end = time.monotonic() + seconds
    while True:
        found = await look()
        if found:
            return found
        if time.monotonic() >= end:
            return None
        await asyncio.sleep(0.02)


def _sentence(action: _Action, target: _Target, before: str, after: str) -> str:
    was, now = before.replace("_", " "), after.replace("_", " ")
    if action.breaker is None:
        return f"{target}: quota reset."
    if action.method != "release_circuit":
        return f"{target}: circuit {now} (was {was})."
    if before != "forced_open":
        return f"{target}: circuit {now}; it was not forced open."
    tail = ": the next request is a probe" if after == "half_open" else ""
    return f"{target}: circuit {now} (was {was}){tail}."
