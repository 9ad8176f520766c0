"""Whether an operator's action has reached Redis, seen from the process that it was given in."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final, NamedTuple

from wallie_litellm.limiter.redis.connection import Client, connect
from wallie_litellm.limiter.redis.layout import key_of

LOOK_TIMEOUT: Final = 1.0  # seconds that one look may take

# The state, and two numbers that only grow: any change of the breaker or reset of the quota is seen.
_MARKS_SCRIPT: Final = """
local stored = redis.call('GET', KEYS[1])
if not stored then return 'null' end
local S = cmsgpack.unpack(stored)
return cjson.encode({S.breaker.state, S.breaker.generation, S.quota_resets})
"""


class ActionMarks(NamedTuple):
    """A provider's breaker, how often its state has changed, and how often its quota was reset."""

    state: str
    generation: int
    resets: int


NO_STATE: Final = ActionMarks("closed", -1, -1)  # of a model that has not been in trouble

Look = Callable[[], Awaitable[ActionMarks | None]]


@asynccontextmanager
async def watch_marks(url: str, provider: str) -> AsyncIterator[Look]:
    """A function that looks; what it finds is ``None`` while Redis has no state of ``provider`` or does not answer."""
    client: Client = connect(url, LOOK_TIMEOUT)

    async def look() -> ActionMarks | None:
        with suppress(Exception):  # any error: nothing was seen
            found = json.loads(await asyncio.wait_for(client.eval(_MARKS_SCRIPT, 1, key_of(provider)), LOOK_TIMEOUT))
            return None if found is None else ActionMarks(*found)
        return None

    try:
        yield look
    finally:
        with suppress(Exception):
            await asyncio.wait_for(client.aclose(), LOOK_TIMEOUT)
