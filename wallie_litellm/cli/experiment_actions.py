"""What ``wallie-litellm experiments`` does to an experiment: on a running proxy, or in the ledger."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from wallie_litellm.cli.actions import header_value
from wallie_litellm.cli.exits import DONE, FAILED, UNUSABLE, echo_error, refuse, say
from wallie_litellm.cli.ledger import ledger_url
from wallie_litellm.cli.tables import moment
from wallie_litellm.core.iso_time import iso_time

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from wallie_litellm.cli.http_client import Client
    from wallie_litellm.config import ExperimentSettings, RouterConfig
    from wallie_litellm.routing.experiments import Standing


def conclude_on_server(client: Client, name: str, winner: str | None, actor: str, reason: str | None) -> int:
    """End an experiment of a running proxy; returns the exit code."""
    done = _post(client, name, "conclude", {"winner": winner, "reason": reason}, actor)
    if isinstance(done, int):
        return done
    if done.get("before"):
        say(_before(name, str(done.get("winner")), done.get("at")))
    else:
        say(f"{name} is concluded: {done.get('winner')} has won. Done by {done.get('actor') or actor}.")
    return DONE


def resume_on_server(client: Client, name: str, arm: str, actor: str, reason: str | None) -> int:
    """Have a stopped arm of a running proxy's experiment go on; returns the exit code."""
    done = _post(client, name, "resume", {"arm": arm, "reason": reason}, actor)
    if isinstance(done, int):
        return done
    say(f"{arm} of {name} goes on. Done by {done.get('actor') or actor}.")
    return DONE


def _post(client: Client, name: str, what: str, body: Mapping[str, Any], actor: str) -> Mapping[str, Any] | int:
    """The server's answer to an action on an experiment, or the exit code after an error."""
    from wallie_litellm.cli.http_client import ServerUnavailable

    stated = {key: value for key, value in body.items() if value is not None}
    try:
        with client:
            return client.post(f"api/experiments/{quote(name, safe='')}/{what}", stated, header_value(actor))
    except ServerUnavailable as error:
        echo_error(str(error))
        return UNUSABLE if error.status in (404, 422) and error.code else FAILED


async def conclude_in_ledger(
    loaded: RouterConfig, name: str, winner: str | None, actor: str, reason: str | None
) -> int:
    """End an experiment by its record; returns the exit code."""
    from wallie_litellm.ledger.queries import LedgerQueries
    from wallie_litellm.ledger.reader import open_reader
    from wallie_litellm.routing.experiments import CONCLUDED

    settings = loaded.wallie.experiments[name]
    async with open_reader(ledger_url(loaded)) as engine:
        (found,) = await LedgerQueries(engine).experiments({name: settings})
        standing = found.standing
        won = winner or standing.winner or found.leader
        if won is not None:
            _require_arm(name, won, settings)
        if standing.winner is not None:
            said = _before(name, standing.winner, iso_time(standing.concluded_at or 0.0))
            (say if won == standing.winner else echo_error)(said)
            return DONE if won == standing.winner else FAILED
        _require_start(name, standing)
        if won is None:
            echo_error(f"no arm of {name} is better than the others yet; --winner says which has won")
            return FAILED
        said = f"{won} has won"
        change = name, settings.definition, CONCLUDED, won
        await _record(engine, change, standing.since or 0.0, (actor, "conclude_experiment", said), reason)
    say(f"{name} is concluded: {said}. Done by {actor}; workers follow within seconds.")
    return DONE


async def resume_in_ledger(loaded: RouterConfig, name: str, arm: str, actor: str, reason: str | None) -> int:
    """Have a stopped arm go on by its record; returns the exit code."""
    from wallie_litellm.ledger.experiments import read_changes
    from wallie_litellm.ledger.reader import open_reader
    from wallie_litellm.routing.experiments import RESUMED, standing_of

    settings = loaded.wallie.experiments[name]
    _require_arm(name, arm, settings)
    async with open_reader(ledger_url(loaded)) as engine:
        async with engine.connect() as connection:
            changes = (await read_changes(connection, [name]))[name]
        standing = standing_of(changes, settings.definition)
        _require_start(name, standing)
        if standing.winner is not None:
            refuse(_before(name, standing.winner, iso_time(standing.concluded_at or 0.0)))
        if arm not in standing.stopped:
            refuse(f"{arm} of {name} is not stopped")
        change, last = (name, settings.definition, RESUMED, arm), max(one.at for one in changes)
        await _record(engine, change, last, (actor, "resume_arm", f"{arm} goes on"), reason)
    say(f"{arm} of {name} goes on. Done by {actor}; workers follow within seconds.")
    return DONE


async def _record(
    engine: AsyncEngine,
    change: tuple[str, str, str, str],
    after: float,
    action: tuple[str, str, str],
    reason: str | None,
) -> None:
    """Put a change (experiment, definition, kind, arm) on record, and the operator's action (actor, name, effect).

    ``after`` is the Unix time of an earlier change, by a clock that may be ahead of this one.
    """
    from wallie_litellm.events import ExperimentChanged, OperatorActed, new_id
    from wallie_litellm.ledger.engine import writing
    from wallie_litellm.ledger.insert import insert_records
    from wallie_litellm.ledger.records import record_of
    from wallie_litellm.routing.experiments import AFTER

    now, (actor, name, effect) = max(time.time(), after + AFTER), action
    done = (
        ExperimentChanged(new_id(now), now, *change, actor, reason),
        OperatorActed(new_id(now), now, actor, name, change[0], effect + (f": {reason}" if reason else "")),
    )
    async with writing(engine) as connection:
        await connection.run_sync(insert_records, [record_of(event, "cli") for event in done])


def _before(name: str, winner: str, at: object) -> str:
    return f"{name} was concluded before, at {moment(at)} UTC: {winner} has won. Nothing has changed."


def _require_arm(name: str, arm: str, settings: ExperimentSettings) -> None:
    if arm not in settings.arms:
        refuse(f"unknown arm {arm!r}; the arms of {name}: {', '.join(settings.arms)}")


def _require_start(name: str, standing: Standing) -> None:
    if standing.since is None:
        refuse(f"{name} is not started: no worker has started it yet")
