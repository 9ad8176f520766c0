"""The models that any worker has paused or whose breakers are not closed, as Redis lists them.

Those have a limiter, and a state, of their own. Workers that start later learn of them by these lists.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from wallie_litellm.limiter.redis.layout import CHANNEL, PAUSED_MODELS, STATE_TTL, TROUBLED_MODELS

Command = Callable[..., Awaitable[Any]]  # a command of Redis', and its arguments


async def announce(command: Command, worker: str, scope: str, until: float) -> None:
    """List a model as paused until this Unix time, and broadcast it."""
    await command("hset", PAUSED_MODELS, scope, until)
    await command("expire", PAUSED_MODELS, STATE_TTL)
    await command("publish", CHANNEL, f"{worker} {scope}")


async def list_troubled(command: Command, scope: str, *, is_troubled: bool) -> None:
    """List a model whose breaker is not closed, or no longer. The exchange that has changed it has broadcast it."""
    await command("sadd" if is_troubled else "srem", TROUBLED_MODELS, scope)
    if is_troubled:
        await command("expire", TROUBLED_MODELS, STATE_TTL)


async def listed_models(command: Command, now: float) -> list[str]:
    """The scopes of the models that are listed; those whose pause is over at ``now`` are removed."""
    listed = {name.decode(): float(until) for name, until in (await command("hgetall", PAUSED_MODELS)).items()}
    over = [scope for scope, until in listed.items() if until < now]
    if over:
        await command("hdel", PAUSED_MODELS, *over)
    troubled = {name.decode() for name in await command("smembers", TROUBLED_MODELS)}
    return sorted(troubled.union(listed).difference(set(over) - troubled))
