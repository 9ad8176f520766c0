"""Admit and settle of three dimensions, uncontended, in memory: ours, aiolimiter's, and the least it can cost."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Callable
from itertools import repeat

from aiolimiter import AsyncLimiter

from benchmarks import harness
from benchmarks.harness import Report, Side, Work
from wallie_litellm.clock import SystemClock
from wallie_litellm.core.circuit_breaker import BreakerRules, Verdict
from wallie_litellm.core.demand import Demand
from wallie_litellm.limiter.limiter import Limiter
from wallie_litellm.limiter.limits import AccountLimits
from wallie_litellm.limiter.memory_store import MemoryStore

_PLENTY = 10**12  # per minute and per day: no request ever waits
_TOKENS = 190
_USED = 160

OURS = "ours: reserve + settle, usage as estimated"
OURS_USAGE = "ours: reserve + settle, usage differs"
OURS_AGAIN = "ours again (control)"
AIOLIMITER = "aiolimiter: three limiters in sequence"
BARE = "a bare three-bucket function"
BARE_LOCKED = "the same behind a lock"


def run(quick: bool) -> Report:
    works = {
        OURS: _ours(_TOKENS),
        OURS_USAGE: _ours(_USED),
        OURS_AGAIN: _ours(_TOKENS),
        AIOLIMITER: _aiolimiter(),
        BARE: _repeated(_three_buckets()),
        BARE_LOCKED: _repeated(_locked(_three_buckets())),
    }
    samples = asyncio.run(_measure([Side(name, work) for name, work in works.items()], 20 if quick else 200))
    report = Report(
        "Admit and settle three dimensions (rpm, tpm, rpd), uncontended, in memory",
        ("what", "µs a pair", "over aiolimiter"),
        notes=[
            "CPU time, medians; the ratios with their 95 % interval. aiolimiter and the bare functions only admit: "
            "they have no settlement, no breaker and no day that ends. Goal: at most 1 µs, and less than aiolimiter."
        ],
    )
    for name in works:
        took = harness.median(samples, name, "cpu") * 1e6
        over = harness.ratio(samples, name, AIOLIMITER, "cpu")
        report.rows.append((name, f"{took:.2f}", f"{over:.2f}"))
        report.data[name] = {"us": took, "over_aiolimiter": over.as_dict()}
    return report


async def _measure(sides: list[Side], rounds: int) -> dict[str, list[harness.Sample]]:
    await harness.interleave(sides, 2, 5000)
    gc.collect()
    gc.freeze()
    try:
        return await harness.interleave(sides, rounds, 5000)
    finally:
        gc.unfreeze()


def _ours(used: int) -> Work:
    limits = AccountLimits({"rpm": _PLENTY, "tpm": _PLENTY, "rpd": _PLENTY})
    clock = SystemClock()
    limiter = Limiter("openai", MemoryStore("openai", limits, BreakerRules(), clock.wall), clock, 600.0)
    demand, charged = Demand(1, _TOKENS, 40, 150), Demand(1, used, 40, used - 40)
    reserve, settle, success = limiter.reserve, limiter.settle, Verdict.SUCCESS

    async def work(operations: int) -> None:
        for _ in repeat(None, operations):
            settle(reserve(demand), charged, success)

    return work


def _aiolimiter() -> Work:
    limiters: list[AsyncLimiter] = []

    async def work(operations: int) -> None:
        if not limiters:  # they belong to the loop they are first used in
            limiters.extend([AsyncLimiter(_PLENTY, 60), AsyncLimiter(_PLENTY, 60), AsyncLimiter(_PLENTY, 86_400)])
        requests, tokens, days = limiters
        for _ in repeat(None, operations):
            await requests.acquire()
            await tokens.acquire(_TOKENS)
            await days.acquire()

    return work


def _three_buckets() -> Callable[[int, int], bool]:
    full_at, cost, depth = [0.0, 0.0, 0.0], 60.0 / _PLENTY, 60.0
    now = time.monotonic

    def admit(requests: int, tokens: int) -> bool:
        at = now()
        first, second, third = full_at
        first = (first if first > at else at) + requests * cost
        second = (second if second > at else at) + tokens * cost
        third = (third if third > at else at) + requests * cost
        if first - at > depth or second - at > depth or third - at > depth:
            return False
        full_at[:] = first, second, third
        return True

    return admit


def _locked(admit: Callable[[int, int], bool]) -> Callable[[int, int], bool]:
    lock = threading.Lock()

    def locked(requests: int, tokens: int) -> bool:
        with lock:
            return admit(requests, tokens)

    return locked


def _repeated(admit: Callable[[int, int], bool]) -> Work:
    async def work(operations: int) -> None:
        for _ in repeat(None, operations):
            admit(1, _TOKENS)

    return work
