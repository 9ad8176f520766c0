"""The session: requests are made as planned, faults come and go, and the limits' use is looked at now and then."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from wallie_litellm.core.limit_keys import limit_key
from wallie_litellm.guard.api import execute_ai_request, stream_ai_request
from wallie_litellm.rehearse.answers import prompt_of
from wallie_litellm.rehearse.plan import RehearsalPlan
from wallie_litellm.rehearse.traffic import Arrival
from wallie_litellm.rehearse.world import World

LOOKS: Final = 720  # at the limits in a rehearsal, at most
OFTEN: Final = 5.0  # seconds between two looks, at least
LAST_ANSWERS: Final = 300.0  # seconds after its end that a rehearsal waits for what is still under way


@dataclass
class Played:
    """What a session leaves: the Unix time at which it began, and at each look the use of every provider's limits."""

    began: float
    looks: list[tuple[float, dict[str, Any]]] = field(default_factory=list)
    unanswered: int = 0  # requests that were still under way when it was ended
    late: float = 0.0  # seconds by which a request began too late, at most: the machine was busy


async def play(plan: RehearsalPlan, world: World, arrivals: Sequence[Arrival]) -> Played:
    """Play ``plan`` in ``world``, which is open."""
    loop = asyncio.get_running_loop()
    begin, session = loop.time(), Played(time.time())
    for provider in {one.provider for one in world.deployed}:
        world.engine(provider).reset()
        world.engine(provider).answers = [arrival.answer for arrival in arrivals]
    world.schedule(plan.faults, begin)
    looking = asyncio.create_task(_look(world, session, begin, max(OFTEN, plan.length / LOOKS)))
    requests: set[asyncio.Task[None]] = set()
    for number, arrival in enumerate(arrivals):
        if (wait := begin + arrival.at - loop.time()) > 0:
            await asyncio.sleep(wait)
        session.late = max(session.late, loop.time() - begin - arrival.at)
        task = asyncio.create_task(_request(world, number, arrival))
        requests.add(task)
        task.add_done_callback(requests.discard)
    await asyncio.sleep(max(0.0, begin + plan.length - loop.time()))
    if requests:
        _, late = await asyncio.wait(requests, timeout=LAST_ANSWERS)
        session.unanswered = len(late)
        for task in late:
            task.cancel()
    looking.cancel()
    return session


async def _request(world: World, number: int, arrival: Arrival) -> None:
    router = world.workers[number % len(world.workers)].router
    messages = [{"role": "user", "content": prompt_of(number, arrival.prompt_tokens)}]
    with suppress(Exception):  # the events have what became of it
        if not arrival.stream:
            await execute_ai_request(router, arrival.group, messages, feature=arrival.feature)
            return
        async for _ in stream_ai_request(router, arrival.group, messages, feature=arrival.feature):
            pass


async def _look(world: World, session: Played, begin: float, every: float) -> None:
    loop = asyncio.get_running_loop()
    number = 0
    while True:
        number += 1
        await asyncio.sleep(max(0.0, begin + number * every - loop.time()))
        found: dict[str, Any] = {}
        for worker in world.workers:
            _note_use(worker.guard.status()["providers"], found)
        session.looks.append((number * every, found))


def _note_use(providers: dict[str, Any], found: dict[str, Any]) -> None:
    """Note for each provider the used amount of each limit, by its key: the highest that a worker knows."""
    for name, provider in providers.items():
        scopes = {"": provider, **provider.get("models", {})}
        noted = found.setdefault(name, {})
        for scope, own in scopes.items():
            for dimension, quota in (own.get("quota") or {}).items():
                key = limit_key(dimension, scope)
                noted[key] = max(noted.get(key, (0, 0)), (quota["used"], quota["limit"]))
