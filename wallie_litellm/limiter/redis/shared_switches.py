"""The switches that are off in a fleet, as Redis keeps them: they outlive the workers that have set them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from math import inf
from typing import Final

from wallie_litellm.limiter.redis.layout import CHANNEL, SWITCHED_OFF
from wallie_litellm.limiter.redis.paused_models import Command
from wallie_litellm.limiter.redis.shared_reloads import SharedReloads

KEPT: Final = "@kept"  # a field of the hash that is always there: without it Redis has lost what it had
NEW_FOR: Final = 10.0  # seconds for which a process leaves it to those that know, to tell Redis: each does within 4 s
CHANGED: Final = "@switches"  # in a broadcast, in the place of a provider's name, which has no such character


class SharedSwitches:
    """This process's changes that Redis does not have yet, and what is to be called with all that are off.

    ``send`` is called once there is a change: it has :meth:`exchange` called soon.
    """

    def __init__(self, send: Callable[[], object]) -> None:
        self._send = send
        self._take_in: Callable[[Iterable[str]], object] | None = None
        self._unsent: dict[str, bool] = {}
        self._off: frozenset[str] = frozenset()  # as Redis has said last
        self._knows_from = inf  # when this process may tell it to Redis, in seconds of the monotonic clock
        self.reloads = SharedReloads()
        self.exchanged = 0  # times that Redis had all changes, and said what is off

    def share(self, take_in: Callable[[Iterable[str]], object]) -> Callable[[str, bool], object]:
        """Have ``take_in`` called with all that are off; what is returned takes a change, and whether it is on now."""
        self._take_in = take_in
        return self._set

    def ask_for_reload(self) -> None:
        """Have the other workers reload their configuration."""
        self.reloads.ask()
        self._send()

    def _set(self, name: str, on: bool) -> None:
        self._unsent[name] = on
        self._send()

    async def exchange(self, command: Command, worker: str) -> None:
        """Write what was switched here, and take in what is off; what fails is left to the next time."""
        if self._take_in is None:
            return
        with suppress(Exception):
            if await self.reloads.exchange(command):
                await command("publish", CHANNEL, f"{worker} {CHANGED}")
            for name, on in list(self._unsent.items()):
                await (command("hdel", SWITCHED_OFF, name) if on else command("hset", SWITCHED_OFF, name, worker))
                await command("publish", CHANNEL, f"{worker} {CHANGED}")
                if self._unsent.get(name) is on:  # and has not been switched again meanwhile
                    del self._unsent[name]
            off = {name.decode() for name in await command("hkeys", SWITCHED_OFF)}
            if KEPT in off:
                self._knows_from = -inf
            elif time.monotonic() >= self._knows_from:
                off |= await self._restore(command, worker)
            elif self._knows_from == inf:
                self._knows_from = time.monotonic() + NEW_FOR
            off.discard(KEPT)
            self._off = frozenset(off)
            for name, on in list(self._unsent.items()):
                (off.discard if on else off.add)(name)
            self._take_in(off)
            self.exchanged += not self._unsent

    async def _restore(self, command: Command, worker: str) -> frozenset[str]:
        """Redis is new, or has lost its data: have it keep what was off.

        In one command: a worker that found :data:`KEPT` alone would take all switches for on.
        """
        await command("hset", SWITCHED_OFF, mapping=dict.fromkeys((KEPT, *self._off), worker))
        return self._off
