"""The workers of a fleet, as Redis lists them."""

from __future__ import annotations

import json
import os
import socket
import time
from contextlib import suppress
from typing import Final

from wallie_litellm.limiter.redis.layout import WORKERS
from wallie_litellm.limiter.redis.paused_models import Command

KEPT_FOR: Final = 86_400.0  # seconds that a killed worker is listed in Redis; clocks may differ


async def register(command: Command, worker: str, started_at: float) -> None:
    """List this process, with the Unix times of its start and of now."""
    about = {"pid": os.getpid(), "host": socket.gethostname(), "since": started_at, "seen": time.time()}
    await command("hset", WORKERS, worker, json.dumps(about))


async def remove_dead(command: Command) -> None:
    """Remove workers that were killed long ago."""
    with suppress(Exception):  # the next one that starts will try again
        for name, text in (await command("hgetall", WORKERS)).items():
            if time.time() - json.loads(text)["seen"] > KEPT_FOR:
                await command("hdel", WORKERS, name)
