"""What ledger and telemetry add to a guarded call, 50 at a time."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import repeat
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks import harness, routers
from benchmarks.harness import Report, Side
from wallie_litellm import Guard, WallieRouter
from wallie_litellm.config import RouterConfig
from wallie_litellm.ledger.writer import LedgerSink
from wallie_litellm.simulator import SimulatedProvider
from wallie_litellm.simulator.posthog_endpoint import PostHogEndpoint
from wallie_litellm.telemetry.bus import Bus
from wallie_litellm.telemetry.sink import Sink
from wallie_litellm.telemetry.sinks.posthog import PostHogSink

_CONCURRENCY = 50
_WARM_UP = 200
_METADATA = {"conversationId": "123", "hasRAG": True}


def run(quick: bool) -> Report:
    report = Report(
        "Ledger and telemetry on, against off, 50 at a time over HTTP",
        ("on", "on / off, wall", "on / off, CPU", "off / off, wall", "off / off, CPU", "CPU per call, on / off"),
    )
    rounds = 30 if quick else 150
    with (
        tempfile.TemporaryDirectory() as folder,
        SimulatedProvider("openai", in_process=False, text=routers.ANSWER) as provider,
        _posthog() as host,
    ):
        directory = Path(folder)
        for name, makers in (
            ("ledger (SQLite)", [lambda: _ledger(directory / "one.db")]),
            (
                "ledger and PostHog",
                [lambda: _ledger(directory / "two.db"), lambda: PostHogSink("phc_simulated", host, directory)],
            ),
        ):
            _add(report, name, asyncio.run(_compare(provider.api_base, makers, rounds)))
    report.notes.append(
        "Median of the rounds' ratios and its 95 % interval. CPU is the whole process's, all of the sinks' work "
        "included. Goal: on / off at most 1.05."
    )
    return report


def _ledger(file: Path) -> Sink:
    return LedgerSink(f"sqlite:///{file}", file.parent / "spool", retention=86_400.0, worker="benchmark")


async def _compare(api_base: str, makers: list[Callable[[], Sink]], rounds: int) -> Any:
    config = routers.roomy_config()
    contenders = {
        "on": _guarded(config, api_base, makers),
        "off": _guarded(config, api_base, []),
        "off again": _guarded(config, api_base, []),
    }
    sides = [_side(name, contender) for name, contender in contenders.items()]
    await harness.interleave(sides, 2, _WARM_UP)
    gc.collect()
    gc.freeze()
    try:
        return await harness.interleave(sides, rounds, 4 * _CONCURRENCY)
    finally:
        gc.unfreeze()
        for contender in contenders.values():
            contender.close()


def _guarded(config: RouterConfig, api_base: str, makers: list[Callable[[], Sink]]) -> routers.Contender:
    arguments = routers.router_arguments(config, api_base)
    bus = Bus()
    for make in makers:
        bus.add(make)
    return routers.Contender(lambda: WallieRouter(guard=Guard(config.wallie, bus=bus), **arguments))


def _side(name: str, contender: routers.Contender) -> Side:
    router = contender.router

    async def client(calls: int) -> None:
        for _ in repeat(None, calls):
            await router.acompletion(
                model=routers.MODEL,
                messages=routers.MESSAGES,
                user="u1",
                metadata={"feature": "wallie-chat", **_METADATA},
            )

    async def work(operations: int) -> None:
        await asyncio.gather(*(client(operations // _CONCURRENCY) for _ in range(_CONCURRENCY)))

    async def finish() -> None:
        await routers.background_done()
        await router.guard.flush()

    return Side(name, work, contender.take_turn, finish)


def _add(report: Report, name: str, samples: Mapping[str, Any]) -> None:
    ratios = {
        (side, what): harness.ratio(samples, side, "off", what)
        for side in ("on", "off again")
        for what in ("wall", "cpu")
    }
    cpu = {side: harness.median(samples, side, "cpu") * 1e6 for side in ("on", "off")}
    report.rows.append(
        (name, *(f"{found:.3f}" for found in ratios.values()), f"{cpu['on']:,.0f} / {cpu['off']:,.0f} µs")
    )
    report.data[name] = {
        **{f"{side}, {what}": found.as_dict() for (side, what), found in ratios.items()},
        "cpu_us": cpu,
    }


@contextmanager
def _posthog() -> Iterator[str]:
    """A PostHog-compatible endpoint in a process of its own; its address."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there,), daemon=True)
    process.start()
    try:
        yield here.recv()
    finally:
        here.send(None)
        process.join(10)
        process.terminate()


def _serve(pipe: Connection) -> None:
    with PostHogEndpoint() as endpoint:
        pipe.send(endpoint.url)
        pipe.recv()
