"""The guarantees of limits and settlement over HTTP with all that decides where requests go turned on at once."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from recording import RecordingBus
from support import assert_nothing_leaked, messages

from wallie_litellm.events import Ended, Settled
from wallie_litellm.routing.switches import SWITCHES

BURST, RATE = 20, 10  # requests at once, and a second
EVERYTHING: dict[str, Any] = {
    "providers": {"openai": {"rpm": 60 * RATE, "burst": {"rpm": BURST}, "concurrency": 12}},
    "admission": {"max_wait": "2s", "patience": "100ms"},
    "retry": {"max_retries": 1, "initial": "10ms"},
    "breaker": {"open_for": "200ms", "slow_call": "5s", "ramp": "1s"},
    "routing": {
        "order": "latency",
        "warm_prefix": True,
        "tiers": {"flash": ["gpt-4o-mini", "claude-sonnet-4"], "premium": ["claude-opus-4", "gpt-4o"]},
        "auto": {"simple": "flash", "medium": "flash", "complex": "premium"},
    },
    "features": {
        "chat": {
            "tier": "auto",
            "cache": "1h",
            "first_token": "auto",
            "hedge": {"after": "50ms", "budget": 1, "max_usd_day": 5},
            "prompt_cache": True,
            "limits": {"rpm": 6_000},
            "budget": {"daily_usd": 1_000},
        },
        "trial": {},
    },
    "experiments": {
        "m": {"feature": "trial", "arms": {"gpt-4o-mini": 0.5, "claude-sonnet-4": 0.5}, "metric": "success"},
    },
}


async def ask(router: Any, rng: random.Random) -> None:
    """One request, which may be left or cancelled at any moment."""
    feature, stream = rng.choice(("chat", "chat", "trial")), rng.random() < 0.5
    model = None if feature == "chat" else "gpt-4o-mini"
    metadata = {"feature": feature, "user_id": f"u{rng.randrange(2)}", "session_id": f"s{rng.randrange(2)}"}
    leaves = rng.random() < 0.2

    async def call() -> None:
        answer = await router.acompletion(model, messages(f"{rng.randrange(15)}"), stream=stream, metadata=metadata)
        if stream:
            async for _ in answer:
                if leaves:
                    await answer.aclose()
                    return

    with suppress(Exception):  # a refusal, or the provider's error: how it ended is on record
        if rng.random() < 0.15:
            await asyncio.wait_for(call(), rng.uniform(0.0, 0.1))
        else:
            await call()


@pytest.mark.parametrize("seed", range(2))
async def test_limits_hold_and_every_request_and_call_is_settled_once(
    make_router: Any, fleet: Any, tmp_path: Path, seed: int
) -> None:
    rng, bus = random.Random(seed), RecordingBus()
    router = make_router(bus=bus, ledger={"url": f"sqlite:///{tmp_path}/wallie.db"}, **EVERYTHING)
    assert set(router.guard.status()["routing"]["turned_on"]) == set(SWITCHES)
    for group in ("gpt-4o-mini", "claude-sonnet-4"):  # what LiteLLM loads with its first call is no provider's time
        await router.acompletion(group, messages("first"), experiment=False)
    fleet["openai"].slow(0.15, times=8)
    fleet["openai"].fail(status=500, times=5)
    fleet["anthropic"].fail(status=429, times=2)
    began = time.monotonic()
    await asyncio.gather(*(ask(router, rng) for _ in range(80)))
    lasted = time.monotonic() - began
    assert fleet["openai"].counts().received <= 1 + BURST + RATE * lasted + 1
    assert_nothing_leaked(router)
    ended, settled = bus.of(Ended), bus.of(Settled)
    assert len(ended) == 82
    assert len({one.request_id for one in ended}) == 82
    assert sorted(one.id for one in settled) == sorted(one.id for end in ended for one in end.settled)
