"""A process that forks: the child is a worker of its own."""

from __future__ import annotations

import asyncio
import os
import time

import pytest
from redis_support import RedisServer

from wallie_litellm.config import WallieConfig
from wallie_litellm.errors import RateLimited
from wallie_litellm.guard import Guard


def admitted(guard: Guard, most: int) -> int:
    """How many of ``most`` requests are admitted at once."""

    async def take() -> int:
        count = 0
        while count < most:
            try:
                (await guard.wait_for_capacity("openai")).settle()
            except RateLimited as refused:
                if "store" not in str(refused):
                    break
                await asyncio.sleep(0.01)  # Redis had no processor for a moment
            else:
                count += 1
        return count

    return asyncio.run(take())


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_child_does_not_spend_the_leases_of_its_parent() -> None:
    with RedisServer() as server:
        config = WallieConfig(
            providers={"openai": {"rpm": 2, "burst": {"rpm": 40}}},
            store={"url": server.url, "on_store_error": "closed", "timeout": "5s"},
            admission={"max_wait": 0},
            ledger=None,
        )
        began = time.monotonic()
        guard = Guard(config)
        ours = admitted(guard, 10)
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            os.write(writing, str(admitted(guard, 50)).encode())
            os._exit(0)
        os.waitpid(child, 0)
        theirs = int(os.read(reading, 20))
        time.sleep(0.1)
        ours += admitted(guard, 50)
        assert (ours >= 10, theirs > 0) == (True, True)
        assert ours + theirs <= 41 + (time.monotonic() - began) / 30
        guard.close()
