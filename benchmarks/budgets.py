"""Budgets under 10,000 requests: by how much they are overspent, against what was in flight; and their time.

The requests are those of ``execute_ai_request`` with a call of the application's own, which waits as a provider would:
over HTTP the machine would be measured. Prices are LiteLLM's. Four processes share a Redis, or one is alone. In flight
is what was admitted and not yet counted as spent when the last request was admitted, at its real cost.
"""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple

from benchmarks.harness import Report, percentile

REPOSITORY = Path(__file__).parent.parent
sys.path.insert(0, str(REPOSITORY / "tests"))

from redis_support import RedisServer  # noqa: E402 - found through the line above

from wallie_litellm import WallieRouter, build_router, execute_ai_request  # noqa: E402 - as above
from wallie_litellm.config import parse_config  # noqa: E402 - as above
from wallie_litellm.core.spending import NANO  # noqa: E402 - as above
from wallie_litellm.errors import BudgetExhausted  # noqa: E402 - as above

_REQUESTS: Final = 10_000
_PROCESSES: Final = 4
_TOKENS: Final = 1_000  # of a prompt, as estimated
_USD: Final = 0.15e-6 * _TOKENS  # a call as estimated: gpt-4o-mini takes 0.15 US dollars for a million tokens
_LIMIT: Final = 2_000 * _USD  # a fifth of what is asked for
_CALL: Final = 0.2  # seconds, of a call on average
_START: Final = 20.0  # seconds that processes are given to begin
_GROUP: Final = "gpt-4o-mini"
_DEARER: Final = 3.0  # times its estimate, of a call in the mean
_SPREAD: Final = 20.0  # seconds over which requests come that do not come at once
_ROUNDS: Final = 2_000  # reservations that are timed
_NO_LIMITS: Final = {"rpm": 100_000_000, "tpm": 10**14, "rpd": 10**12}


class _Call(NamedTuple):
    """A call that was made: when it was admitted, and when its cost was counted at the latest, in seconds.

    Redis admits at some moment between a message and its answer, which are both kept. The cost is in US dollars.
    """

    admitted_from: float
    admitted_until: float
    counted_at: float
    usd: float


class _Watch:
    """Notes when holds are admitted and when their costs are counted: in this process, or by the answers of Redis."""

    def __init__(self, spending: Any) -> None:
        self._admitted: dict[Any, tuple[float, float]] = {}
        self._costs: dict[Any, int] = {}  # nano-dollars
        self._counted: dict[Any, float] = {}
        self._untold: list[Any] = []  # settled, and not in a message to Redis
        self._told: list[Any] = []
        self._sent_at: float | None = None
        self._is_shared = hasattr(spending, "_build")
        for name in ("_take", "settle", "_build", "_take_in"):
            if hasattr(spending, name):
                setattr(spending, name, partial(getattr(self, name), getattr(spending, name)))

    def calls(self) -> list[_Call]:
        """All calls that were made; a hold that cost nothing was none."""
        return [
            _Call(*self._admitted[hold], self._counted[hold], cost / NANO) for hold, cost in self._costs.items() if cost
        ]

    def _take(self, do: Any, hold: Any, accounts: Any) -> None:
        now = time.monotonic()
        self._admitted[hold] = (now if self._sent_at is None else self._sent_at, now)
        do(hold, accounts)

    def settle(self, do: Any, hold: Any, at: float, cost: int) -> None:
        if hold not in self._costs:
            self._costs[hold] = cost
            do(hold, at, cost)
            self._counted[hold] = time.monotonic()
            self._untold.append(hold)

    def _build(self, do: Any) -> Any:
        self._told, self._untold = self._untold, []
        self._sent_at = time.monotonic()
        return do()

    def _take_in(self, do: Any, *arguments: Any) -> Any:
        found = do(*arguments)
        self._counted.update(dict.fromkeys(self._told, time.monotonic()))
        return found


class _Load(NamedTuple):
    """What calls cost of their estimates in the mean, and the seconds over which all requests come."""

    factor: float = 1.0
    seconds: float = 0.0


class _Side(NamedTuple):
    """What all processes saw."""

    calls: list[_Call]
    spent: float  # US dollars, as the calls say themselves
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


async def _load(router: WallieRouter, requests: int, load: _Load, start_at: float) -> _Side:
    """A call uses from nothing to twice ``load.factor`` times what was estimated."""
    watch = _Watch(router.guard.budgets.spending)
    drawn = random.Random(start_at)
    refused, spent = 0, 0.0
    await asyncio.sleep(max(0.0, start_at - time.monotonic()))

    async def call(_: Any) -> Any:
        nonlocal spent
        tokens = 1 + int(_TOKENS * drawn.uniform(0, 2) * load.factor)
        await asyncio.sleep(_CALL * drawn.uniform(0.5, 1.5))
        spent += tokens * _USD / _TOKENS
        usage = {"prompt_tokens": tokens, "completion_tokens": 0, "total_tokens": tokens}
        return {"choices": [{"message": {"content": ""}}], "usage": usage}

    async def request(number: int) -> None:
        nonlocal refused
        await asyncio.sleep(load.seconds * number / requests)
        try:
            await execute_ai_request(router, _GROUP, execute=call, feature="chat", estimated_tokens=_TOKENS)
        except BudgetExhausted:
            refused += 1

    await asyncio.gather(*map(request, range(requests)))
    await asyncio.sleep(8.0)  # all processes have ended, and their last messages arrived
    return _Side(watch.calls(), spent, refused, router.guard.status()["budgets"])


def _work(url: str, requests: int, load: tuple[float, float], start_at: float) -> None:
    """One process: prints what it saw as JSON."""

    async def work() -> _Side:
        async with _router(url, _LIMIT) as router:
            return await _load(router, requests, _Load(*load), start_at)

    print(json.dumps(asyncio.run(work())))


def _spend(url: str, processes: int, load: _Load) -> _Side:
    start_at = time.monotonic() + _START
    share = _REQUESTS // processes
    code = f"from benchmarks.budgets import _work; _work({url!r}, {share}, {tuple(load)}, {start_at})"
    started = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=REPOSITORY)
        for _ in range(processes)
    ]
    found = [_Side(*json.loads(process.communicate(timeout=300)[0].splitlines()[-1])) for process in started]
    calls = [_Call(*call) for side in found for call in side.calls]
    spent, refused = sum(side.spent for side in found), sum(side.refused for side in found)
    return _Side(calls, spent, refused, found[-1].rows)


def _in_flight(calls: list[_Call]) -> float:
    """US dollars of the calls that were admitted and not yet counted when the last one was admitted, with that one."""
    last = max(calls, key=lambda call: call.admitted_until)
    return sum(
        one.usd for one in calls if one.admitted_from <= last.admitted_until and one.counted_at >= last.admitted_from
    )


def _row(name: str, side: _Side) -> tuple[tuple[str, ...], dict[str, Any]]:
    spent = side.spent
    over, in_flight = max(0.0, spent - _LIMIT), _in_flight(side.calls)
    (status,) = side.rows
    held = "yes" if over <= in_flight + 1e-9 else "NO"
    exact = (
        abs(status["spent_usd"] - spent) < 1e-9
        and abs(status["over_usd"] - over) < 1e-9
        and status["reserved_usd"] == 0
    )
    figures = {
        "made": len(side.calls), "refused": side.refused, "spent_usd": spent, "over_usd": over,
        "in_flight_usd": in_flight, "status_is_exact": exact, "held": held == "yes",
    }  # fmt: skip
    row = (
        name, f"{len(side.calls):,}", f"{side.refused:,}", f"${spent:.4f}", f"${over:.4f}", f"${in_flight:.4f}", held,
        "exact" if exact else f"${status['spent_usd']:.4f}, ${status['over_usd']:.4f} over",
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
        f"Budgets: {_REQUESTS:,} requests; {_LIMIT:.2f} USD pay for about {_LIMIT / _USD:,.0f} as estimated",
        ("", "made", "refused", "spent", "over", "in flight at the last", "over ≤ in flight", "status says"),
    )
    with RedisServer() as server:
        sides = [
            ("in memory, one process", "memory", 1, _Load()),
            ("four processes on a Redis", server.url, _PROCESSES, _Load()),
            ("... calls cost 3 times their estimates", server.url, _PROCESSES, _Load(_DEARER)),
            (f"... the same over {_SPREAD:g} s", server.url, _PROCESSES, _Load(_DEARER, _SPREAD)),
        ]
        for name, url, processes, load in sides:
            server.flush()
            row, figures = _row(name, _spend(url, processes, load))
            report.rows.append(row)
            report.data[name] = figures
        server.flush()
        rounds = _ROUNDS // 10 if quick else _ROUNDS
        times = {name: asyncio.run(_times(url, rounds)) for name, url in (("memory", "memory"), ("Redis", server.url))}
    report.data["seconds"] = times
    for name, (usual, slow) in times.items():
        report.notes.append(f"Reserving and settling, {name}: p50 {usual * 1e6:,.1f} µs, p95 {slow * 1e6:,.1f} µs.")
    report.notes.append(
        "Over: what was spent beyond the budget. In flight: what the calls cost that were admitted and not yet counted "
        "as spent when the last one was admitted (by Redis: between its message and the answer). The estimate of a "
        f"call is {_USD:.6f} USD; it costs from nothing to twice that, or that times 3."
    )
    return report
