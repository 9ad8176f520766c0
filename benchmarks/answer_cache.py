"""Answers from the cache against calls: what a hit costs, and how often the same question reaches the provider."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count, repeat
from typing import Any, Final

from benchmarks import harness, routers
from benchmarks.harness import Report, Side
from wallie_litellm import build_router
from wallie_litellm.config import parse_config
from wallie_litellm.simulator import SimulatedProvider

_FEATURES: Final = {"cached": {"cache": {"ttl": "1h", "per": "all"}}}
_ASKED: Final = 100  # times, the same question


def run(quick: bool) -> Report:
    report = Report(
        "An answer from the cache against a call over HTTP to a local server",
        ("request", "/ call without a cache, CPU", "CPU", "wall"),
    )
    with SimulatedProvider("openai", in_process=False, text=routers.ANSWER) as provider, _opened(provider) as router:
        asyncio.run(_measure(report, provider, router, 10 if quick else 60))
    return report


async def _measure(report: Report, provider: SimulatedProvider, router: Any, rounds: int) -> None:
    samples = await harness.interleave(list(_sides(router)), rounds, 40)
    for name in samples:
        ratio = harness.ratio(samples, name, "call without a cache", "cpu")
        cpu, wall = (harness.median(samples, name, what) for what in ("cpu", "wall"))
        report.rows.append((name, f"{ratio:.3f}", f"{cpu * 1e6:,.0f} µs", f"{wall * 1e6:,.0f} µs"))
        report.data[name] = {"ratio": ratio.as_dict(), "cpu": cpu, "wall": wall}
    for name, ask in (("in a row", _in_a_row), ("at once", _at_once)):
        provider.reset()
        took = await ask(router)
        calls = provider.counts().received
        report.notes.append(f"The same question {_ASKED} times {name}: {calls} call upstream, {took * 1e3:.0f} ms.")
        report.data[name] = {"calls": calls, "seconds": took}


@contextmanager
def _opened(provider: SimulatedProvider) -> Iterator[Any]:
    params = {"model": "openai/gpt-4o-mini", "api_base": provider.api_base, "api_key": "sk-simulated"}
    models = [{"model_name": "g", "litellm_params": params}]
    router = build_router(parse_config({"model_list": models, "wallie": {"features": _FEATURES, "ledger": None}}))
    try:
        yield router
    finally:
        router.guard.close()


def _sides(router: Any) -> Iterator[Side]:
    numbers = count()
    for name, feature, question in (
        ("call without a cache", "plain", lambda: "the same"),
        ("first of its kind: looked up, called and kept", "cached", lambda: f"question {next(numbers)}"),
        ("from the cache", "cached", lambda: "the same"),
    ):
        yield Side(name, _work(router, feature, question, stream=False), finish=routers.background_done)
    yield Side(
        "from the cache, as a stream",
        _work(router, "cached", lambda: "the same", stream=True),
        finish=routers.background_done,
    )


def _work(router: Any, feature: str, question: Callable[[], str], *, stream: bool) -> harness.Work:
    async def work(operations: int) -> None:
        for _ in repeat(None, operations):
            await _ask(router, feature, question(), stream=stream)

    return work


async def _ask(router: Any, feature: str, question: str, *, stream: bool = False) -> None:
    messages = [{"role": "user", "content": question}]
    answer = await router.acompletion("g", messages, stream=stream, metadata={"feature": feature})
    if stream:
        async for _ in answer:
            pass


async def _in_a_row(router: Any) -> float:
    began = time.perf_counter()
    for _ in range(_ASKED):
        await _ask(router, "cached", "in a row")
    return time.perf_counter() - began


async def _at_once(router: Any) -> float:
    began = time.perf_counter()
    await asyncio.gather(*(_ask(router, "cached", "at once") for _ in range(_ASKED)))
    return time.perf_counter() - began
