"""The models that any worker has paused, as Redis lists them: only those have a limiter, and a state, of their own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from wallie_litellm.limiter.redis.layout import CHANNEL, PAUSED_MODELS, STATE_TTL

Command = Callable[..., Awaitable[Any]]  # a command of Redis', and its arguments


async def announce(command: Command, worker: str, scope: str, until: float) -> None:
    """List a model as paused until this Unix time, and broadcast it."""
    await command("hset", PAUSED_MODELS, scope, until)
    await command("expire", PAUSED_MODELS, STATE_TTL)
    await command("publish", CHANNEL, f"{worker} {scope}")


async def paused_models(command: Command, now: float) -> list[str]:
    """The scopes of models whose pause is not over at ``now``; those of others are removed."""
    listed = {name.decode(): float(until) for name, until in (await command("hgetall", PAUSED_MODELS)).items()}
    over = [scope for scope, until in listed.items() if until < now]
    if over:
        await command("hdel", PAUSED_MODELS, *over)
    return [scope for scope in listed if scope not in over]
