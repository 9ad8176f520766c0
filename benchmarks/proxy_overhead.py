"""The guard in a LiteLLM proxy against the same proxy without it: one worker, 20 requests at a time."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import ExitStack
from itertools import repeat
from pathlib import Path
from typing import Any, Final

import aiohttp

from benchmarks import harness, proxies, routers
from benchmarks.harness import Report, Side
from wallie_litellm.simulator import SimulatedProvider

_CONCURRENCY: Final = 20
_CALLS: Final = 5 * _CONCURRENCY  # in one round
_WARM_UP: Final = 2  # rounds
_SETTLED: Final = 0.3  # seconds after a round in which the proxy's logging and the ledger's writer end
_ROOMY: Final = {"rpm": 10_000_000, "tpm": 10_000_000_000, "rpd": 1_000_000_000}
SIDES: Final = ("guarded", "guarded, ledger", "bare", "bare again")


def run(quick: bool) -> Report:
    report = Report(
        f"A guarded LiteLLM proxy against a bare one, {_CONCURRENCY} at a time",
        ("proxy", "over bare, CPU", "over bare, wall", "CPU per request"),
    )
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        provider = stack.enter_context(SimulatedProvider("openai", in_process=False, text=routers.ANSWER))
        running = {}
        for name in SIDES:
            place = folder / name.replace(", ", "_").replace(" ", "_")
            place.mkdir()
            config = _config(name, place, provider.api_base)
            running[name] = stack.enter_context(proxies.started(place, config, "litellm"))
        samples = asyncio.run(_compare(running, 10 if quick else 60))
    for name in SIDES:
        ratios = {what: harness.ratio(samples, name, "bare", what) for what in ("cpu", "wall")}
        cpu = harness.median(samples, name, "cpu") * 1e6
        report.rows.append((name, *(f"{found:.3f}" for found in ratios.values()), f"{cpu:,.0f} µs"))
        report.data[name] = {**{what: found.as_dict() for what, found in ratios.items()}, "cpu_us": cpu}
    report.notes.append(
        "Median of the rounds' ratios and its 95 % interval. CPU is that of the proxy's process, its threads and the "
        "ledger's writer included. Goal: guarded, with the ledger, at most 0.97 of bare."
    )
    return report


def _config(name: str, folder: Path, api_base: str) -> dict[str, Any]:
    config = proxies.one_model(api_base)
    if name.startswith("bare"):
        return config
    return {
        **config,
        "litellm_settings": {"callbacks": ["callbacks.wallie.handler"]},
        "wallie": {
            "providers": {"openai": _ROOMY},
            "ledger": {"url": f"sqlite:///{folder}/wallie.db"} if "ledger" in name else None,
            "telemetry": {"spool": str(folder / "spool")},
        },
    }


async def _compare(running: dict[str, proxies.Proxy], rounds: int) -> Any:
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), headers={"authorization": f"Bearer {proxies.KEY}"}
    ) as session:
        sides = [_side(name, proxy, session) for name, proxy in running.items()]
        await harness.interleave(sides, _WARM_UP, _CALLS)
        return await harness.interleave(sides, rounds, _CALLS)


def _side(name: str, proxy: proxies.Proxy, session: aiohttp.ClientSession) -> Side:
    body = {"model": proxies.MODEL, "messages": routers.MESSAGES, "user": "u1", "metadata": {"feature": "wallie-chat"}}

    async def client(calls: int) -> None:
        for _ in repeat(None, calls):
            async with session.post(f"{proxy.url}/v1/chat/completions", json=body) as answer:
                await answer.read()
                answer.raise_for_status()

    async def work(operations: int) -> None:
        await asyncio.gather(*(client(operations // _CONCURRENCY) for _ in range(_CONCURRENCY)))

    async def finish() -> None:
        await asyncio.sleep(_SETTLED)

    return Side(name, work, finish=finish, cpu=proxy.cpu)
