"""Worker processes that share a Redis, and what their admissions add up to."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from wallie_litellm.core.token_bucket import TokenBucket

REPOSITORY = Path(__file__).parent.parent
HUNG = 30.0  # seconds beyond the longest wait after which a request hangs, on the busiest machine too


@dataclass
class Report:
    """What one worker did: when its requests were admitted (seconds of the machine's monotonic clock), and the rest."""

    admitted: list[float] = field(default_factory=list)
    refused: int = 0
    exchanges: int = 0
    longest: float = 0.0  # seconds until a request was admitted or refused, beyond the longest wait
    errors: list[str] = field(default_factory=list)


@dataclass
class Plan:
    """What a worker does: phases of (seconds, requests a second, waiters at most)."""

    url: str
    limits: dict[str, Any]
    phases: Sequence[tuple[float, float]]
    max_wait: float = 3.0
    skew: float = 0.0  # seconds that its wall clock is wrong
    start_at: float = 0.0  # on the monotonic clock
    on_store_error: str = "local"
    timeout: str = "250ms"  # without an answer of Redis, after which that holds
    waits_for_begin: bool = False  # for :meth:`Worker.begin`, whatever ``start_at`` is


class Worker:
    """A process that carries out a plan; :meth:`report` waits for its end."""

    def __init__(self, plan: Plan) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, json.dumps(plan.__dict__)],
            stdin=subprocess.PIPE if plan.waits_for_begin else None,
            stdout=subprocess.PIPE,
            cwd=REPOSITORY,
            env={"PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'tests'}", "PATH": "/usr/bin:/bin"},
            text=True,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def begin(self, at: float) -> None:
        """Have a worker that waits for it begin at ``at``."""
        assert self._process.stdin is not None
        print(at, file=self._process.stdin)
        self._process.stdin.close()

    def wait_until_ready(self) -> None:
        """Return once a worker that waits to begin is connected."""
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def kill(self) -> Report:
        """SIGKILL; returns what was admitted by then."""
        self._process.kill()
        return self.report()

    def report(self) -> Report:
        assert self._process.stdout is not None
        report = Report()
        for line in self._process.stdout.read().splitlines():
            kind, _, rest = line.partition(" ")
            if kind == "in":
                report.admitted.append(float(rest))
            elif kind == "end":
                for name, value in json.loads(rest).items():
                    setattr(report, name, value)
        self._process.wait()
        return report


def over_admitted(admitted: Sequence[float], per_minute: float, capacity: float) -> float:
    """By how many requests ``admitted`` exceed what a bucket allows, at worst."""
    bucket, worst = TokenBucket(per_minute, capacity), 0.0
    for at in sorted(admitted):
        bucket.take(at, 1)
        worst = max(worst, (bucket.full_at - at - bucket.depth) / bucket.cost)
    return worst


def longest_gap(admitted: Sequence[float]) -> float:
    """The longest time, in seconds, in which no request was admitted."""
    return max((late - early for early, late in pairwise(sorted(admitted))), default=0.0)


async def _work(plan: Plan) -> None:
    from wallie_litellm.clock import SystemClock
    from wallie_litellm.config import WallieConfig
    from wallie_litellm.errors import WallieError
    from wallie_litellm.guard import Guard

    class Skewed(SystemClock):
        @staticmethod
        def wall() -> float:
            return time.time() + plan.skew

    config = WallieConfig(
        providers={"openai": plan.limits},
        store={"url": plan.url, "on_store_error": plan.on_store_error, "timeout": plan.timeout},
        admission={"max_wait": plan.max_wait},
        ledger=None,
    )
    guard = Guard(config, clock=Skewed())
    report, running = Report(), set()

    async def call() -> None:
        asked = time.monotonic()
        try:
            lease = await guard.wait_for_capacity("openai")
        except WallieError:
            report.refused += 1
        except Exception as error:
            report.errors.append(repr(error))
        else:
            print("in", lease._reservation.at, flush=False)
            lease.settle()
        report.longest = max(report.longest, time.monotonic() - asked - plan.max_wait)

    if plan.waits_for_begin:
        guard.limiter("openai")
        while guard.status()["store"]["state"] != "ok":  # noqa: ASYNC110 - which another thread brings about
            await asyncio.sleep(0.01)
        print("ready", flush=True)
        plan.start_at = float(sys.stdin.readline())
    await asyncio.sleep(max(0.0, plan.start_at - time.monotonic()))
    for seconds, rate in plan.phases:
        began, made = time.monotonic(), 0
        while (elapsed := time.monotonic() - began) < seconds:
            for _ in range(min(int(elapsed * rate) + bool(rate) - made, 2000)):
                made += 1
                task = asyncio.ensure_future(call())
                running.add(task)
                task.add_done_callback(running.discard)
            sys.stdout.flush()
            await asyncio.sleep(min(0.005, seconds))
    if running:
        await asyncio.wait(list(running), timeout=plan.max_wait + HUNG)
    report.errors += ["hung"] * len(running)
    report.exchanges = guard.status()["store"]["exchanges"].get("openai", 0)
    await guard.aclose()
    summary = {name: value for name, value in report.__dict__.items() if name != "admitted"}
    print("end", json.dumps(summary))


if __name__ == "__main__":
    asyncio.run(_work(Plan(**json.loads(sys.argv[1]))))
