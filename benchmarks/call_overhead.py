"""A guarded call against the same call on LiteLLM's own Router."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Mapping, Sequence
from itertools import repeat
from typing import Any

from benchmarks import harness, routers
from benchmarks.harness import Report, Sample, Side
from wallie_litellm.simulator import SimulatedProvider

_WARM_UP = 200


def run(quick: bool) -> Report:
    report = Report(
        "A guarded call against a bare litellm.Router",
        (
            "call",
            "guarded / bare, CPU",
            "bare / bare, CPU",
            "no router / bare, CPU",
            "guarded / bare, wall",
            "bare / bare, wall",
            "CPU per call",
        ),
    )
    config = routers.roomy_config()
    rounds = 30 if quick else 150
    with SimulatedProvider("openai", in_process=False, text=routers.ANSWER) as provider:
        for name, concurrency, api_base, operations in (
            ("mock response, 1 at a time", 1, None, 20),
            ("mock response, 50 at a time", 50, None, 50),
            ("HTTP to a local server, 1 at a time", 1, provider.api_base, 15),
            ("HTTP to a local server, 50 at a time", 50, provider.api_base, 50),
        ):
            samples = asyncio.run(_compare(config, concurrency, api_base, rounds, operations))
            _add(report, name, samples)
    report.notes.append(
        "Median of the rounds' ratios and its 95 % interval. Goal: guarded / bare at most 0.70. "
        "No router: `litellm.acompletion` with the deployment's parameters."
    )
    return report


async def _compare(config: Any, concurrency: int, api_base: str | None, rounds: int, operations: int) -> Any:
    contenders = {
        "guarded": routers.guarded(config, api_base),
        "bare": routers.bare(config, api_base),
        "bare again": routers.bare(config, api_base),
        "no router": routers.direct(config, api_base),
    }
    extra = {} if api_base else {"mock_response": routers.ANSWER}
    sides = [_side(name, contender, concurrency, extra) for name, contender in contenders.items()]
    await harness.interleave(sides, 2, _WARM_UP)
    gc.collect()
    gc.freeze()
    try:
        return await harness.interleave(sides, rounds, operations)
    finally:
        gc.unfreeze()
        for contender in contenders.values():
            contender.close()


def _side(name: str, contender: routers.Contender, concurrency: int, extra: Mapping[str, Any]) -> Side:
    router = contender.router

    async def client(calls: int) -> None:
        for _ in repeat(None, calls):
            await router.acompletion(model=routers.MODEL, messages=routers.MESSAGES, **extra)

    async def work(operations: int) -> None:
        if concurrency == 1:
            await client(operations)
        else:
            await asyncio.gather(*(client(operations // concurrency) for _ in range(concurrency)))

    return Side(name, work, contender.take_turn, routers.background_done)


def _add(report: Report, name: str, samples: Mapping[str, Sequence[Sample]]) -> None:
    ratios = {
        (side, what): harness.ratio(samples, side, "bare", what)
        for what in ("cpu", "wall")
        for side in ("guarded", "bare again", "no router")
        if (side, what) != ("no router", "wall")
    }
    cpu = {side: harness.median(samples, side, "cpu") * 1e6 for side in ("guarded", "bare")}
    report.rows.append(
        (name, *(f"{found:.3f}" for found in ratios.values()), f"{cpu['guarded']:,.0f} / {cpu['bare']:,.0f} µs")
    )
    report.data[name] = {
        **{f"{side}, {what}": found.as_dict() for (side, what), found in ratios.items()},
        "cpu_us": cpu,
    }
