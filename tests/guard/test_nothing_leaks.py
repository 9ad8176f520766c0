"""Ten thousand requests that end in every possible way, and accounting that balances to the token."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import sys

import litellm
import pytest
from litellm.caching.caching import Cache
from support import assert_nothing_leaked, messages, until

from wallie_litellm import stream_ai_request

# Seconds: ends the requests that meet a hang. On a busy machine the hundred that share this process's loop take so long
# that with two seconds every breaker would soon be open, and almost no request be sent.
PATIENCE = 10
REQUESTS_PER_COLLECTION = 250
TAGS = {"feature": "chat"}
GROUPS = ("gpt-4o", "gpt-4o-mini", "claude-opus-4", "claude-sonnet-4", "llama-3.1-8b", "deepseek-chat")
FAULTS = {
    "openai": lambda provider: (
        provider.fail(500, times=300),
        provider.cut_stream(1, times=200),
        provider.error_in_200(503, times=40, after_chunks=1),
        provider.omit_finish(times=20),
    ),
    "anthropic": lambda provider: (
        provider.fail(529, times=200),
        provider.hang(times=20),
        provider.slow(0.05, times=300),
        provider.error_in_200(529, times=30),
        provider.truncate_stream(1, times=30),
    ),
    "gemini": lambda provider: (
        provider.malformed(times=100),
        provider.cut_stream(0, times=100),
        provider.omit_end(times=30),
    ),
    "groq": lambda provider: (
        provider.rate_limit(0.05, times=200),
        provider.fail(400, times=100),
        provider.malformed(times=20, after_chunks=1),
        provider.context_window(times=20),
    ),
    "deepseek": lambda provider: (
        provider.omit_usage(times=200),
        provider.fail(401, times=100),
        provider.reset_connection(times=20),
    ),
}


async def finish(router, group, dice):
    await router.acompletion(group, messages(f"hello {dice.randrange(50)}"), timeout=PATIENCE, metadata=dict(TAGS))


async def finish_stream(router, group, dice):
    async for _ in await router.acompletion(group, messages(), stream=True, timeout=PATIENCE, metadata=dict(TAGS)):
        pass


async def break_off(router, group, dice):
    async with stream_ai_request(router, group, messages(), feature="chat", timeout=PATIENCE) as stream:
        async for _ in stream:
            break


async def drop(router, group, dice):
    stream = await router.acompletion(group, messages(), stream=True, timeout=PATIENCE, metadata=dict(TAGS))
    if dice.random() < 0.5:
        await anext(stream)


async def embed(router, group, dice):
    await router.aembedding("text-embedding-3-small", input=[f"text {dice.randrange(20)}"], timeout=PATIENCE)


WAYS = (finish, finish, finish_stream, break_off, drop, embed)


async def one(router, dice, groups):
    task = asyncio.create_task(dice.choice(WAYS)(router, dice.choice(groups), dice))
    if dice.random() < 1 / 3:
        await asyncio.sleep(dice.random() * 0.15)
        task.cancel()
    with contextlib.suppress(Exception, asyncio.CancelledError):
        await task


EVERYTHING = {
    "features": {
        "chat": {"first_token": "auto", "hedge": {"after": "100ms", "budget": 1}, "cache": "1h", "prompt_cache": True}
    },
    "routing": {
        "order": "latency",
        "warm_prefix": True,
        "tiers": {"small": ["gpt-4o-mini", "claude-sonnet-4"], "large": ["gpt-4o", "claude-opus-4"]},
        "auto": {"simple": "small", "medium": "small", "complex": "large"},
    },
    "experiments": {"sizes": {"feature": "chat", "arms": {"small": 0.5, "large": 0.5}, "metric": "latency"}},
}


@pytest.mark.parametrize(("requests", "decided"), [(10_000, {}), (1_000, EVERYTHING)], ids=["plain", "everything on"])
async def test_thousands_of_requests_leave_nothing_behind(make_router, fleet, monkeypatch, tmp_path, requests, decided):
    monkeypatch.setattr(litellm, "cache", Cache(type="local"))
    # LiteLLM would format a traceback for each of the thousands that fail, and search all that it logs for secrets.
    monkeypatch.setattr(sys, "tracebacklimit", 1, raising=False)
    monkeypatch.setattr("litellm._logging._ENABLE_SECRET_REDACTION", False)
    wide = {"rpm": 60_000, "tpm": 10_000_000, "itpm": 10_000_000, "otpm": 10_000_000, "rpd": 1_000_000, "tpd": 10**9}
    router = make_router(
        providers={name: {**wide, "concurrency": 40} for name in fleet},
        retry={"max_retries": 2, "initial": "1ms", "max": "5ms"},
        breaker={"open_for": "50ms", "max_open_for": "100ms", **({"slow_call": "2s", "ramp": "1s"} if decided else {})},
        admission={"max_wait": "2s"},
        arguments={"cache_responses": True},
        **({**decided, "ledger": {"url": f"sqlite:///{tmp_path}/wallie.db"}} if decided else {}),
    )
    for name, set_faults in FAULTS.items():
        set_faults(fleet[name])
    dice = random.Random(7)
    slots = asyncio.Semaphore(100)

    async def in_a_slot(number):
        async with slots:
            await one(router, dice, (*GROUPS, "small", "auto") if decided else GROUPS)
            if number % REQUESTS_PER_COLLECTION == 0:
                gc.collect()
            if number == REQUESTS_PER_COLLECTION:
                gc.freeze()  # LiteLLM has imported what it needs, at which the later collections need not look

    await asyncio.gather(*(in_a_slot(number) for number in range(requests)))
    gc.unfreeze()
    state = router.guard.status

    def all_settled() -> bool:
        # LiteLLM's logging queue may hold a dropped stream for a while: it is collected once that lets go.
        gc.collect()
        return not any(provider["in_flight"] for provider in state()["providers"].values())

    await until(all_settled)
    assert_nothing_leaked(router)
    assert sum(provider["quota"]["rpm"]["reserved"] for provider in state()["providers"].values()) > 0.45 * requests * (
        not decided
    )
