"""What a shared Redis costs, and whether a fleet keeps to one limit: processes here, on a Redis of their own."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.harness import Report

REPOSITORY = Path(__file__).parent.parent
sys.path.insert(0, str(REPOSITORY / "tests"))

from fleet_support import Plan, Worker, over_admitted  # noqa: E402 - found through the line above
from redis_support import RedisServer  # noqa: E402 - as above

from wallie_litellm.clock import SystemClock  # noqa: E402 - as above
from wallie_litellm.config import WallieConfig  # noqa: E402 - as above
from wallie_litellm.core.circuit_breaker import Verdict  # noqa: E402 - as above
from wallie_litellm.core.demand import Demand  # noqa: E402 - as above
from wallie_litellm.guard import Guard  # noqa: E402 - as above
from wallie_litellm.limiter.limiter import Limiter  # noqa: E402 - as above
from wallie_litellm.limiter.store import Denial, Reservation  # noqa: E402 - as above
from wallie_litellm.limiter.waiter import Waiter  # noqa: E402 - as above

DEMAND = Demand(1, 190, 100, 90)
HOT = {"rpm": 10_000_000, "tpm": 10_000_000_000, "rpd": 2_000_000_000}
SCOPED = {**HOT, "models": {"gpt-4o*": HOT}}  # two scopes for each call
_LONGEST = 3.0  # seconds that an admission may wait
START = 4.0  # seconds that processes are given to begin


def _guard(url: str, limits: dict[str, Any], clock: SystemClock | None = None) -> Guard:
    return Guard(WallieConfig(providers={"openai": limits}, store={"url": url}, ledger=None), clock=clock)


def _admit(url: str, seconds: float, start_at: float, scoped: bool) -> None:
    """Reserve and settle as often as possible; prints how often a second, and the exchanges with Redis."""
    guard = _guard(url, SCOPED if scoped else HOT)
    limiter = guard.limiter("openai")
    scope = limiter.scope_of("gpt-4o") if scoped else ""
    time.sleep(max(0.0, start_at - time.monotonic()))
    count, began = 0, time.monotonic()
    while time.monotonic() - began < seconds:
        for _ in range(100):
            result = limiter.reserve(DEMAND, 0, scope)
            if not isinstance(result, Reservation):
                result = _wait(limiter, guard.clock.now(), scope)
            if isinstance(result, Reservation):
                limiter.settle(result, DEMAND, Verdict.SUCCESS)
                count += 1
    store = guard.status()["store"]
    print(json.dumps([count / seconds, store.get("exchanges", {}).get("openai", 0), count]))
    guard.close()


def _wait(limiter: Limiter, now: float, scope: str) -> Reservation | Denial | None:
    """Wait in the limiter's queue, as a call does."""
    woken = threading.Event()
    waiter = Waiter(DEMAND, 0, now + _LONGEST, lambda _: woken.set(), scope)
    limiter.enqueue(waiter)
    woken.wait(2 * _LONGEST)
    return waiter.result


def _admits(url: str, processes: int, seconds: float, *, scoped: bool = False) -> tuple[float, float]:
    """Admits a second of ``processes`` together, and exchanges an admit."""
    start_at = time.monotonic() + START
    code = f"from benchmarks.fleet import _admit; _admit({url!r}, {seconds}, {start_at}, {scoped})"
    started = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=REPOSITORY)
        for _ in range(processes)
    ]
    results = [json.loads(process.communicate(timeout=60)[0]) for process in started]
    return sum(one[0] for one in results), sum(one[1] for one in results) / max(1, sum(one[2] for one in results))


def _plain(url: str, seconds: float) -> dict[int, float]:
    """Admits a second of one EVALSHA an admit, in sequence, by number of processes."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rivals.json"
        command = [sys.executable, "benchmarks/rivals.py", "--url", url, "--json", str(file)]
        command += ["--seconds", str(seconds), "--only", "one EVALSHA an admit"]
        subprocess.run(command, check=True, cwd=REPOSITORY, stdout=subprocess.DEVNULL, timeout=300)
        rivals = {rival["name"]: rival["figures"] for rival in json.loads(file.read_text())["rivals"]}
        figures = rivals["one EVALSHA an admit"]
        return {one["processes"]: one["admits_per_second"] for one in figures if one["in_flight"] == 1}


def _crowd(report: Report, name: str, limits: dict[str, Any], seconds: float, share: float) -> None:
    """Four processes at ``share`` of the limit."""
    per_second = limits["rpm"] / 60
    capacity = limits.get("burst", {}).get("rpm", limits["rpm"])
    with RedisServer() as server:
        start_at = time.monotonic() + START
        plan = Plan(server.url, limits, [(seconds, share * per_second / 4)], start_at=start_at)
        reports = [worker.report() for worker in [Worker(plan) for _ in range(4)]]
    every_admission = [at for one in reports for at in one.admitted]
    within = sum(at < start_at + seconds for at in every_admission)
    allowed = min(capacity + per_second * seconds, share * per_second * seconds)
    fairest = min(len(one.admitted) for one in reports) / (len(every_admission) / 4)
    figures = {
        "used": within / allowed,
        "over": over_admitted(every_admission, limits["rpm"], capacity),
        "smallest share": fairest,
        "exchanges an admit": sum(one.exchanges for one in reports) / len(every_admission),
        "errors": sum(len(one.errors) for one in reports),
    }
    report.data[name] = figures
    report.rows.append([name, "; ".join(f"{key} {value:.3f}" for key, value in figures.items())])


def _bursts(report: Report, name: str, limits: dict[str, Any], seconds: float, idle: float) -> None:
    """Four processes at twice the limit, three times, each time after being idle until the bucket is full again."""
    per_second, capacity = limits["rpm"] / 60, limits["burst"]["rpm"]
    busy, still = (seconds, per_second / 2), (idle, 0.0)
    with RedisServer() as server:
        start_at = time.monotonic() + START
        plan = Plan(server.url, limits, [busy, still, busy, still, busy], start_at=start_at)
        reports = [worker.report() for worker in [Worker(plan) for _ in range(4)]]
    every_admission = [at for one in reports for at in one.admitted]
    begins = [start_at + number * (seconds + idle) for number in range(3)]
    within = sum(any(begin <= at < begin + seconds for begin in begins) for at in every_admission)
    figures = {
        "used": within / (3 * (capacity + per_second * seconds)),
        "over": over_admitted(every_admission, limits["rpm"], capacity),
        "exchanges an admit": sum(one.exchanges for one in reports) / len(every_admission),
        "errors": sum(len(one.errors) for one in reports),
    }
    report.data[name] = figures
    report.rows.append([name, "; ".join(f"{key} {value:.3f}" for key, value in figures.items())])


async def _trips(rounds: int) -> list[float]:
    """Seconds from a trip in one guard until the last of four has it."""
    took = []
    with RedisServer() as server:
        guards = [_guard(server.url, HOT) for _ in range(4)]
        await asyncio.sleep(1)
        for number in range(rounds):
            first, others = guards[number % 4], [one for one in guards if one is not guards[number % 4]]
            lease = await first.wait_for_capacity("openai")
            lease.settle()
            began = time.monotonic()
            first.open_circuit("openai")
            while not all(one.limiter("openai").is_open() for one in others):  # noqa: ASYNC110 - it is what is timed
                await asyncio.sleep(0.0005)
            took.append(time.monotonic() - began)
            first.close_circuit("openai")
            await asyncio.sleep(0.3)
        for guard in guards:
            guard.close()
    return took


def run(quick: bool) -> Report:
    """All of it; about three minutes, one if ``quick``."""
    seconds = 1.0 if quick else 3.0
    report = Report("A fleet on one Redis", ["what", "seen"])
    os.environ.pop("WALLIE_REDIS_URL", None)
    with RedisServer() as server:
        plain = _plain(server.url, seconds)
        for processes in (1, 2, 4):
            server.flush()
            ours, exchanges = _admits(server.url, processes, seconds)
            ratio = ours / plain[processes] if plain.get(processes) else float("nan")
            base = plain.get(processes, float("nan"))
            report.data[f"admits {processes}"] = {"ours": ours, "plain": base, "ratio": ratio, "exchanges": exchanges}
            line = (
                f"{ours:,.0f}/s; one EVALSHA each {base:,.0f}/s; ratio {ratio:.1f}; {exchanges:.4f} exchanges an admit"
            )
            report.rows.append([f"admits, {processes} process{'es' * (processes > 1)}", line])
            server.flush()
            both, twice = _admits(server.url, processes, seconds, scoped=True)
            report.data[f"admits {processes}, two scopes"] = {"ours": both, "exchanges": twice}
            line = f"{both:,.0f}/s; over one scope {both / ours:.2f}; {twice:.4f} exchanges an admit"
            report.rows.append(["... with two scopes", line])
        shared, alone = _admits(server.url, 1, seconds)[0], _admits("memory", 1, seconds)[0]
        report.data["own time"] = {"shared": 1e6 / shared, "memory": 1e6 / alone}
        line = f"{1e6 / shared:.1f} µs; in memory {1e6 / alone:.1f} µs; ratio {alone / shared:.2f}"
        report.rows.append(["an admit and its settlement", line])
    long = 8.0 if quick else 30.0
    _crowd(report, "4 processes, twice 100/s", {"rpm": 6000, "burst": {"rpm": 100}}, long, 2.0)
    _crowd(report, "4 processes, twice 1,000/s", {"rpm": 60_000, "burst": {"rpm": 1000}}, long, 2.0)
    _crowd(report, "4 processes, half of 1,000/s", {"rpm": 60_000}, long, 0.5)
    _crowd(report, "4 processes, twice 10/s", {"rpm": 600, "burst": {"rpm": 60}}, long, 2.0)
    bursts = {"rpm": 6000, "burst": {"rpm": 100}}
    _bursts(report, "4 processes, twice 100/s after 12 s of nothing, three times", bursts, 4.0 if quick else 8.0, 12.0)
    trips = asyncio.run(_trips(5 if quick else 20))
    report.data["trip propagated"] = trips
    line = f"median {median(trips) * 1000:.1f} ms, longest {max(trips) * 1000:.1f} ms"
    report.rows.append(["from a trip until the last of four guards has it", line])
    return report
