"""Processes that are idle for a while and then all want everything at once: is anything over the limit admitted?

Each round: four processes on one Redis, one provider of 120 requests a minute at a simulated upstream that allows one
second of the rate more. Each makes six calls, is idle, and then makes 80 calls at once through ``router.acompletion``,
with a patience of 3 s and no retries.
"""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.harness import Report, module_process, read_line, write_line

REPOSITORY = Path(__file__).parent.parent
sys.path.insert(0, str(REPOSITORY / "tests"))

from fleet_support import over_admitted  # noqa: E402 - found through the line above
from redis_support import RedisServer  # noqa: E402 - as above

from wallie_litellm import build_router  # noqa: E402 - as above
from wallie_litellm.config import parse_config  # noqa: E402 - as above
from wallie_litellm.errors import Refused  # noqa: E402 - as above
from wallie_litellm.limiter.store import Reservation  # noqa: E402 - as above
from wallie_litellm.simulator.providers import SimulatedProviders  # noqa: E402 - as above

PER_MINUTE = 120
PROCESSES = 4
BEFORE, CROWD = 6, 80  # calls of each process
PATIENCE = 3.0  # seconds
START = 1.0  # seconds


def _config(store: str, base: str, ledger: str) -> dict[str, Any]:
    model = {"model": "openai/gpt-4o-mini", "api_key": "sk-simulated", "api_base": base}
    return {
        "model_list": [{"model_name": "m", "litellm_params": model}],
        "wallie": {
            "providers": {"openai": {"rpm": PER_MINUTE}},
            "admission": {"max_wait": PATIENCE, "patience": PATIENCE},
            "retry": {"max_retries": 0},
            "store": {"url": store},
            "ledger": {"url": f"sqlite:///{ledger}"},
        },
    }


async def _process(store: str, base: str, ledger: str) -> None:
    """One of the processes: for each line of (begin, idle), the results of its calls, and when they were admitted."""
    logging.disable(logging.ERROR)
    router = build_router(parse_config(_config(store, base, ledger)))
    limiter = router.guard.limiter("openai")
    admitted: list[float] = []
    reserve = limiter._store.reserve

    def recorded(now: float, *demanded: Any) -> Any:
        result = reserve(now, *demanded)
        if isinstance(result, Reservation):
            admitted.append(now)
        return result

    limiter._store.reserve = recorded  # type: ignore[method-assign]

    async def call() -> str:
        try:
            await router.acompletion("m", [{"role": "user", "content": "hi"}])
        except Refused:
            return "refused here"
        except Exception:  # noqa: BLE001 - of any class: the upstream has refused it
            return "refused upstream"
        return "served"

    await call()
    await asyncio.sleep(1)  # it has registered with Redis
    print("ready", flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        start_at, idle = map(float, line.split())
        router.guard.reset_quota("openai")
        admitted.clear()
        await asyncio.sleep(max(0.0, start_at - time.monotonic()))
        ends = [await call() for _ in range(BEFORE)]
        await asyncio.sleep(max(0.0, start_at + 1 + idle - time.monotonic()))
        ends += await asyncio.gather(*(call() for _ in range(CROWD)))
        print(json.dumps({"refused": ends.count("refused upstream"), "admitted": admitted}), flush=True)
    await router.guard.aclose()


def _round(started: Sequence[subprocess.Popen[str]], idle: float) -> dict[str, float]:
    start_at = time.monotonic() + START
    for process in started:
        write_line(process, f"{start_at} {idle}")
    results = [json.loads(read_line(process)) for process in started]
    every_admission = [at for one in results for at in one["admitted"]]
    crowd = sum(at >= start_at + 1 + idle for at in every_admission)
    refilled = (1 + idle) * PER_MINUTE / 60
    allowed = min(PER_MINUTE, PER_MINUTE - BEFORE * PROCESSES + refilled) + PATIENCE * PER_MINUTE / 60
    return {
        "over": over_admitted(every_admission, PER_MINUTE, PER_MINUTE),
        "upstream 429s": sum(one["refused"] for one in results),
        "used": crowd / allowed,
    }


def run(quick: bool) -> Report:
    """Forty rounds with 12 s of idleness, and some with less; about fifteen minutes, three if ``quick``."""
    report = Report("Idle, and then everything at once", ["idle", "rounds", "over, at worst", "429s upstream", "used"])
    with ExitStack() as stack:
        limits = {"openai": {"rpm": PER_MINUTE, "slack": 1.0}}
        upstream = stack.enter_context(SimulatedProviders(limits, in_process=False))
        server = stack.enter_context(RedisServer())
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        base = upstream.point([{"model_name": "m", "litellm_params": {"model": "openai/gpt-4o-mini"}}])
        arguments = (server.url, base[0]["litellm_params"]["api_base"])
        started = [
            stack.enter_context(module_process("fleet_bursts", *arguments, f"{folder}/{number}.db"))
            for number in range(PROCESSES)
        ]
        for process in started:
            read_line(process)
        for idle, rounds in ((12.0, 5 if quick else 40), (4.0, 2 if quick else 10), (1.0, 2 if quick else 10)):
            seen = []
            for _ in range(rounds):
                upstream["openai"].reset()
                seen.append(_round(started, idle))
            report.data[f"{idle:g} s"] = seen
            over, refused = max(one["over"] for one in seen), sum(one["upstream 429s"] for one in seen)
            used = median(one["used"] for one in seen)
            report.rows.append([f"{idle:g} s", f"{rounds}", f"{over:.3f}", f"{refused:g}", f"{used:.3f}"])
        for process in started:
            assert process.stdin is not None
            process.stdin.close()
    return report


if __name__ == "__main__":
    asyncio.run(_process(*sys.argv[1:4]))
