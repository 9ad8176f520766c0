"""Reloads of the configuration that an operator has asked for in the whole fleet: each worker reads its own file."""

from __future__ import annotations

from collections.abc import Callable

from wallie_litellm.limiter.redis.layout import RELOADS
from wallie_litellm.limiter.redis.paused_models import Command


class SharedReloads:
    """Counts the fleet's reloads in Redis; ``reload`` is called once for those that another worker has asked for."""

    def __init__(self) -> None:
        self.reload: Callable[[], object] = lambda: None
        self._is_asked = False  # here, and Redis does not have it yet
        self._seen: int | None = None  # as Redis has counted last; None before it has been asked

    def ask(self) -> None:
        """Have the other workers reload with the next exchange."""
        self._is_asked = True

    async def exchange(self, command: Command) -> bool:
        """Count what was asked here, and see to what was asked elsewhere; whether others are to learn of it."""
        before, found = self._seen, int(await command("get", RELOADS) or 0)
        if before is not None and found > before:
            self.reload()
        is_asked, self._is_asked = self._is_asked, False
        try:
            self._seen = int(await command("incr", RELOADS)) if is_asked else found
        except BaseException:
            self._is_asked = is_asked
            raise
        return is_asked
