"""Budgets under 10,000 concurrent requests: by how much they are overspent, against what was in flight; and their time.

The requests are those of ``execute_ai_request`` with a call of the application's own, which waits as a provider would:
over HTTP the machine would be measured. Prices are LiteLLM's. Four processes share a Redis, or one is alone.
"""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple

from benchmarks.harness import Report, percentile

REPOSITORY = Path(__file__).parent.parent
sys.path.insert(0, str(REPOSITORY / "tests"))

from redis_support import RedisServer  # noqa: E402 - found through the line above

from wallie_litellm import WallieRouter, build_router, execute_ai_request  # noqa: E402 - as above
from wallie_litellm.config import parse_config  # noqa: E402 - as above
from wallie_litellm.errors import BudgetExhausted  # noqa: E402 - as above

_REQUESTS: Final = 10_000
_PROCESSES: Final = 4
_TOKENS: Final = 1_000  # of a prompt, as estimated
_USD: Final = 0.15e-6 * _TOKENS  # a call as estimated: gpt-4o-mini takes 0.15 US dollars for a million tokens
_LIMIT: Final = 2_000 * _USD  # a fifth of what is asked for
_CALL: Final = 0.2  # seconds, of a call on average
_START: Final = 20.0  # seconds that processes are given to begin
_GROUP: Final = "gpt-4o-mini"
_ROUNDS: Final = 2_000  # reservations that are timed
_NO_LIMITS: Final = {"rpm": 100_000_000, "tpm": 10**14, "rpd": 10**12}


class _Call(NamedTuple):
    """A call that was made: when it began and ended, in seconds, and what it cost, in US dollars."""

    began: float
    ended: float
    usd: float


class _Side(NamedTuple):
    """What all processes saw."""

    calls: list[_Call]
    refused: int
    rows: list[dict[str, Any]]


def _router(url: str, limit: float) -> WallieRouter:
    budget = {"daily_usd": limit, "on_exhausted": "refuse"}
    wallie = {
        "providers": {"openai": _NO_LIMITS},
        "ledger": None,
        "store": {"url": url, "timeout": "5s"},
        "features": {"chat": {"budget": budget}, "free": {}},
    }
    model = {"model_name": _GROUP, "litellm_params": {"model": "openai/gpt-4o-mini", "api_key": "sk"}}
    return build_router(parse_config({"model_list": [model], "wallie": wallie}, env={}))


async def _load(router: WallieRouter, requests: int, factor: float, start_at: float) -> _Side:
    """All requests at once; a call uses from nothing to twice ``factor`` times what was estimated."""
    calls: list[_Call] = []
    drawn = random.Random(start_at)
    refused = 0
    await asyncio.sleep(max(0.0, start_at - time.monotonic()))

    async def call(_: Any) -> Any:
        began = time.monotonic()
        tokens = 1 + int(_TOKENS * drawn.uniform(0, 2) * factor)
        await asyncio.sleep(_CALL * drawn.uniform(0.5, 1.5))
        calls.append(_Call(began, time.monotonic(), tokens * _USD / _TOKENS))
        usage = {"prompt_tokens": tokens, "completion_tokens": 0, "total_tokens": tokens}
        return {"choices": [{"message": {"content": ""}}], "usage": usage}

    async def request() -> None:
        nonlocal refused
        try:
            await execute_ai_request(router, _GROUP, execute=call, feature="chat", estimated_tokens=_TOKENS)
        except BudgetExhausted:
            refused += 1

    await asyncio.gather(*(request() for _ in range(requests)))
    await asyncio.sleep(8.0)  # all processes have ended, and their last messages arrived
    return _Side(calls, refused, router.guard.status()["budgets"])


def _work(url: str, requests: int, factor: float, start_at: float) -> None:
    """One process: prints what it saw as JSON."""

    async def work() -> _Side:
        async with _router(url, _LIMIT) as router:
            return await _load(router, requests, factor, start_at)

    print(json.dumps(asyncio.run(work())))


def _spend(url: str, processes: int, factor: float) -> _Side:
    start_at = time.monotonic() + _START
    share = _REQUESTS // processes
    code = f"from benchmarks.budgets import _work; _work({url!r}, {share}, {factor}, {start_at})"
    started = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=REPOSITORY)
        for _ in range(processes)
    ]
    found = [json.loads(process.communicate(timeout=300)[0].splitlines()[-1]) for process in started]
    calls = [_Call(*call) for calls, _, _ in found for call in calls]
    return _Side(calls, sum(refused for _, refused, _ in found), found[-1][2])


def _in_flight(calls: list[_Call]) -> float:
    """US dollars of the calls that were being made when the limit was reached, with the one that reached it."""
    spent = 0.0
    for call in sorted(calls, key=lambda call: call.ended):
        spent += call.usd
        if spent >= _LIMIT:
            at = call.ended
            return sum(one.usd for one in calls if one.began <= at <= one.ended)
    return 0.0


def _row(name: str, side: _Side) -> tuple[tuple[str, ...], dict[str, Any]]:
    spent = sum(call.usd for call in side.calls)
    over, in_flight = max(0.0, spent - _LIMIT), _in_flight(side.calls)
    (status,) = side.rows
    held = "yes" if over <= in_flight + 1e-9 else "NO"
    exact = abs(status["spent_usd"] - spent) < 1e-9 and status["reserved_usd"] == 0
    figures = {
        "made": len(side.calls), "refused": side.refused, "spent_usd": spent, "over_usd": over,
        "in_flight_usd": in_flight, "status_is_exact": exact, "held": held == "yes",
    }  # fmt: skip
    row = (
        name, f"{len(side.calls):,}", f"{side.refused:,}", f"${spent:.4f}", f"${over:.4f}", f"${in_flight:.4f}", held,
        "exact" if exact else f"${status['spent_usd']:.4f}",
    )  # fmt: skip
    return row, figures


async def _times(url: str, rounds: int) -> tuple[float, float]:
    """Seconds of a reservation with its settlement, the median and p95, in a process that does nothing else."""
    async with _router(url, 1_000.0) as router:
        budgets = router.guard.budgets
        spending, entries = budgets.spending, budgets.entries("chat", None)
        assert spending is not None
        taken: list[float] = []
        for _ in range(rounds):
            began = time.perf_counter()
            hold = spending.hold_of(entries, 1_000)
            spending.admit(hold)
            if hold.answer is not None:
                await asyncio.wrap_future(hold.answer)
            hold.settle(router.guard.clock.wall(), 1e-6)
            taken.append(time.perf_counter() - began)
        return median(taken), percentile(taken, 0.95)


def run(quick: bool) -> Report:
    report = Report(
        f"Budgets: {_REQUESTS:,} requests at once, of which {_LIMIT:.2f} USD pay for about {_LIMIT / _USD:,.0f}",
        ("", "made", "refused", "spent", "over", "in flight at the limit", "over ≤ in flight", "status says"),
    )
    with RedisServer() as server:
        sides = [
            ("in memory, one process", "memory", 1, 1.0),
            ("four processes on a Redis", server.url, _PROCESSES, 1.0),
        ]
        for name, url, processes, factor in sides:
            server.flush()
            row, figures = _row(name, _spend(url, processes, factor))
            report.rows.append(row)
            report.data[name] = figures
        server.flush()
        rounds = _ROUNDS // 10 if quick else _ROUNDS
        times = {name: asyncio.run(_times(url, rounds)) for name, url in (("memory", "memory"), ("Redis", server.url))}
    report.data["seconds"] = times
    for name, (usual, slow) in times.items():
        report.notes.append(f"Reserving and settling, {name}: p50 {usual * 1e6:,.1f} µs, p95 {slow * 1e6:,.1f} µs.")
    report.notes.append(
        "Over: what was spent beyond the budget. In flight: what the calls cost that were being made when all was "
        f"spent. The estimate of a call is {_USD:.6f} USD; it costs from nothing to twice that."
    )
    return report
