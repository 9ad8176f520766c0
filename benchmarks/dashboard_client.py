"""One kind of client of a proxy, as a process: ``calls`` at a steady rate, or ``viewers`` of the dashboard.

For each line of its standard input, a number of seconds, it works for so long and prints its figures as JSON.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp

CALLS = 20.0  # a second
VIEWERS = 50
OPENED_WITHIN = 5.0  # seconds in which all of them open the page
PAUSE = 0.5  # seconds between an answer and the next question, as live.js has it

Figures = dict[str, list[float]]


async def calls(session: aiohttp.ClientSession, seconds: float) -> Figures:
    """Chat completions, each begun when it is due, whether or not the last one has come back. Latencies in ms."""
    took: list[float] = []
    failed: list[float] = []

    async def call() -> None:
        body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello there"}], "max_tokens": 16}
        began = time.perf_counter()
        async with session.post("/v1/chat/completions", json=body) as answer:
            await answer.read()
            (took if answer.status == 200 else failed).append((time.perf_counter() - began) * 1e3)

    count = int(seconds * CALLS)
    begin = asyncio.get_running_loop().time()
    tasks = []
    for number in range(count):
        await asyncio.sleep(max(0.0, begin + number / CALLS - asyncio.get_running_loop().time()))
        tasks.append(asyncio.create_task(call()))
    await asyncio.gather(*tasks)
    return {"calls": took, "failed": failed}


async def viewers(session: aiohttp.ClientSession, seconds: float) -> Figures:
    """``VIEWERS`` pages that are opened and stay open.

    Latencies in ms: of the page and of the first refresh, which are answered at once, and of later ones, which wait.
    """
    figures: Figures = {"at once": [], "held": [], "failed": []}
    end = time.perf_counter() + seconds

    async def get(path: str) -> str:
        began = time.perf_counter()
        async with session.get(path) as answer:
            await answer.read()
            took = (time.perf_counter() - began) * 1e3
            kind = "failed" if answer.status not in (200, 204) else "held" if path[-1] != "=" else "at once"
            figures[kind].append(took)
            return answer.headers.get("x-wallie-version", "")

    async def view(chosen: str) -> None:
        await asyncio.sleep(random.random() * OPENED_WITHIN)
        await get(f"/wallie/?range={chosen}&x=")
        version = ""
        while time.perf_counter() < end:
            await asyncio.sleep(PAUSE)
            version = await get(f"/wallie/panels?range={chosen}&after={version}")

    ranges = ("1h", "24h", "24h", "7d", "30d")
    await asyncio.gather(*(view(ranges[number % len(ranges)]) for number in range(VIEWERS)))
    return figures


async def _serve(work: Callable[[aiohttp.ClientSession, float], Awaitable[Figures]], base: str, key: str) -> None:
    headers: dict[str, Any] = {"authorization": f"Bearer {key}"}
    while line := await asyncio.to_thread(sys.stdin.readline):
        # New connections: the server may be about to close those that were idle.
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(base, connector=connector, headers=headers) as session:
            print(json.dumps(await work(session, float(line))), flush=True)


if __name__ == "__main__":
    asyncio.run(_serve({"calls": calls, "viewers": viewers}[sys.argv[1]], sys.argv[2], sys.argv[3]))
