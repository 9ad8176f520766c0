"""One side of the sustained load, as a process: it offers requests at a steady rate and prints their results."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from collections import Counter
from typing import Any

PER_SECOND = 10.0
BURST = 50
_OFFERED = 2 * PER_SECOND
_WARM_UP = 5  # requests: the first ones import modules and make HTTP clients

SIDES = {  # by name, the title in the table
    "wallie": "ours",
    "wallie_patient": "ours, max_wait 2m",
    "bare": "LiteLLM, num_retries=3",
    "enforce": "LiteLLM, enforce_model_rate_limits",
    "usage_v2": "LiteLLM, usage-based-routing-v2",
}


def _router(side: str, api_base: str) -> Any:
    import litellm

    from wallie_litellm import Guard, WallieConfig, WallieRouter

    rpm = round(PER_SECOND * 60)
    params: dict[str, Any] = {"model": "openai/gpt-4o-mini", "api_base": api_base, "api_key": "sk-benchmark"}
    deployment = {"model_name": "gpt-4o-mini", "litellm_params": params}
    if side.startswith("wallie"):
        section: dict[str, Any] = {"providers": {"openai": {"rpm": rpm, "burst": {"rpm": BURST}}}}
        if side == "wallie_patient":
            section["admission"] = {"max_wait": "2m"}
        return WallieRouter(guard=Guard(WallieConfig.model_validate(section)), model_list=[deployment])
    if side == "bare":
        return litellm.Router(model_list=[deployment], num_retries=3)
    params["rpm"] = rpm
    if side == "enforce":
        checks: Any = ["enforce_model_rate_limits"]
        return litellm.Router(model_list=[deployment], num_retries=3, optional_pre_call_checks=checks)
    return litellm.Router(model_list=[deployment], num_retries=3, routing_strategy="usage-based-routing-v2")


class _Load:
    def __init__(self, router: Any) -> None:
        self.router = router
        self.successes: list[tuple[float, float]] = []
        self.failed: Counter[str] = Counter()
        self.unfinished = 0
        self.lag = 0.0
        self.started = 0.0

    def _now(self) -> float:
        return time.monotonic() - self.started

    async def offer(self, load: float, grace: float) -> int:
        """Offer requests open loop, without waiting for earlier ones; cancel the unfinished ones after ``grace``."""
        self.started = time.monotonic()
        calls: list[asyncio.Task[None]] = []
        for number in range(round(load * _OFFERED)):
            due = number / _OFFERED
            await asyncio.sleep(max(0.0, due - self._now()))
            self.lag = max(self.lag, self._now() - due)
            calls.append(asyncio.create_task(self.call(due)))
        await asyncio.sleep(max(0.0, load - self._now()))
        _, left = await asyncio.wait(calls, timeout=grace)
        for call in left:
            call.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        return len(calls)

    async def call(self, offered: float) -> None:
        try:
            await self.router.acompletion(model="gpt-4o-mini", messages=[{"role": "user", "content": "Hello!"}])
        except asyncio.CancelledError:
            self.unfinished += 1
            raise
        except Exception as error:  # noqa: BLE001 - every failure is counted
            self.failed[type(error).__name__] += 1
        else:
            self.successes.append((offered, self._now()))


async def _run(side: str, api_base: str, load: float, grace: float) -> None:
    router = _router(side, api_base)
    running = _Load(router)
    for _ in range(_WARM_UP):
        await running.call(0.0)
    assert not running.failed, f"the warm-up failed: {dict(running.failed)}"
    running.successes.clear()
    await asyncio.sleep(2 * _WARM_UP / PER_SECOND)  # until the burst that the warm-up used has refilled
    offered = await running.offer(load, grace)
    result = {
        "offered": offered,
        "successes": running.successes,
        "failed": dict(running.failed),
        "unfinished": running.unfinished,
        "lag": running.lag,
    }
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    asyncio.run(_run(sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4])))
