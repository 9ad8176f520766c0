"""Scenarios about failures: the breaker, the chains, and the retries."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from wallie_litellm.demo.findings import Findings
from wallie_litellm.demo.stage import AT_ONCE, Stage, ask, ask_many, refusal, until
from wallie_litellm.errors import ChainExhausted

if TYPE_CHECKING:
    from wallie_litellm.guard.api import AIRequestResult
    from wallie_litellm.guard.router import WallieRouter

OPEN_FOR: Final = 2.0  # seconds that the demo's breaker stays open at first
CROWD: Final = 50  # requests at once while the breaker is half-open
SAMPLES: Final = 15  # requests of which a median is taken


async def breaker(stage: Stage, found: Findings) -> None:
    """openai fails until its breaker opens, is probed once in time, and comes back by itself."""
    openai = stage.providers["openai"]
    openai.fail(500)
    settings: dict[str, Any] = {"breaker": {"open_for": OPEN_FOR}, "retry": {"max_retries": 0}}
    async with stage.router(**settings) as router:
        await _open_by_errors(stage, found, router)
        await _note_added_time(stage, found, router)
        await until(lambda: _next_probe_in(router) <= 0, OPEN_FOR)
        reopens_in = await _crowd(stage, found, router, f"{CROWD} at once after {OPEN_FOR:g} s")
        found.within("  the probe failed: open for", reopens_in, OPEN_FOR * 1.5, OPEN_FOR * 2)
        await until(lambda: _next_probe_in(router) <= 0, OPEN_FOR * 2)
        openai.heal()
        openai.slow(0.5, times=1)  # the probe takes longer than the crowd needs to be sent on its way
        await _crowd(stage, found, router, f"{CROWD} at once after {OPEN_FOR * 2:g} s, openai well")
        result = await ask(router, "gpt-4o-mini")
        found.same("  the probe succeeded", "closed, openai", f"{_state(router)}, {result.provider}")


async def _open_by_errors(stage: Stage, found: Findings, router: WallieRouter) -> None:
    states = []
    failures = stage.config.wallie.breaker.failures
    for _ in range(failures):
        await ask(router, "gpt-4o-mini")
        states.append(_state(router))
    found.same(f"breaker after {failures - 1} errors, {failures}", "closed, open", ", ".join(states[-2:]))


async def _note_added_time(stage: Stage, found: Findings, router: WallieRouter) -> None:
    """The latency of falling back from a dead provider, against calling the next one directly: medians, interleaved."""
    before = stage.providers["openai"].counts().received
    around, direct = [], []
    for _ in range(SAMPLES):
        around.append(await ask(router, "gpt-4o-mini"))
        direct.append(await ask(router, "claude-sonnet-4"))
    reached = stage.providers["openai"].counts().received - before
    servers = ", ".join(sorted({result.provider for result in around}))
    found.same("the next requests go to, openai sees", "anthropic, 0", f"{servers}, {reached}")
    found.below("  time added by that", _median_ms(around) - _median_ms(direct), 20)


async def _crowd(stage: Stage, found: Findings, router: WallieRouter, what: str) -> float:
    """Many requests at once; returns the longest time to the next probe, in seconds, that was seen meanwhile."""
    before = stage.providers["openai"].counts().received
    reopens_in = 0.0
    async with asyncio.TaskGroup() as group:
        crowd = group.create_task(ask_many(router, "gpt-4o-mini", CROWD))
        while not crowd.done():
            reopens_in = max(reopens_in, _next_probe_in(router))
            await asyncio.wait([crowd], timeout=0.02)
    results = crowd.result()
    probes = stage.providers["openai"].counts().received - before
    answered = sum(not isinstance(result, BaseException) for result in results)
    found.same(what, f"1 probe, {CROWD} answered", f"{probes} probe{'s' * (probes != 1)}, {answered} answered")
    return reopens_in


def _median_ms(results: Sequence[AIRequestResult]) -> float:
    return median(result.latency_ms for result in results)


def _state(router: WallieRouter) -> str:
    return str(router.guard.status()["providers"]["openai"]["breaker"]["state"])


def _next_probe_in(router: WallieRouter) -> float:
    return float(router.guard.status()["providers"]["openai"]["breaker"]["next_probe_in"] or 0.0)


async def chains(stage: Stage, found: Findings) -> None:
    """openai goes down, then the others one after the other along each chain, until none is left."""
    for group, members in stage.config.chains.items():
        if group in stage.config.groups:
            async with stage.router() as router:
                await _walk(found, router, (group, *members))
    await _note_all_paused(stage, found)


async def _walk(found: Findings, router: WallieRouter, members: Sequence[str]) -> None:
    """Ask the first of ``members`` while openai, then each further provider of the chain, is forced open."""
    in_chain = [provider for member in members for provider in sorted(router.providers_of(member))]
    down: set[str] = set()
    for provider in dict.fromkeys(["openai", *in_chain]):
        router.guard.open_circuit(provider)
        what = f"  {provider} too" if down else f"{members[0]}: openai down"
        down.add(provider)
        up = [member for member in members if not router.providers_of(member) <= down]
        expected = up[0] if up else f"error naming {len(set(in_chain))} providers"
        found.same(what, expected, await _serving_group(router, members[0]))


async def _serving_group(router: WallieRouter, group: str) -> str:
    try:
        return (await ask(router, group)).model
    except ChainExhausted as error:
        return f"error naming {len({failure.provider for failure in error.failures})} providers"


async def _note_all_paused(stage: Stage, found: Findings) -> None:
    """Every provider answers 429 with a Retry-After longer than a request may wait."""
    longest = stage.config.wallie.admission.max_wait
    pauses = {"openai": 90, "anthropic": 60, "gemini": 10, "groq": 30}
    async with stage.router() as router:
        for name, pause in pauses.items():
            stage.providers[name].rate_limit(longest + pause, times=1)
        error, _ = await refusal(router, "gpt-4o-mini")
        failures = error.failures if isinstance(error, ChainExhausted) else ()
        named = ", ".join(failure.provider for failure in failures)
        found.same("all paused (Retry-After): the error names", ", ".join(pauses), named or repr(error))
        soonest = getattr(error, "retry_after", None) or 0.0
        found.within("  its retry_after is the soonest", soonest, longest + 9, longest + 10)


async def retries(stage: Stage, found: Findings) -> None:
    """One error, four errors, and a 429 that asks for two minutes."""
    async with stage.router() as router:
        stage.providers["openai"].fail(500, times=1)
        result = await ask(router, "gpt-4o-mini")
        found.same("one 500: served by", "openai", result.provider)
        _note_waits(stage, found, 1)
    stage.clear()
    async with stage.router() as router:
        most = stage.config.wallie.retry.max_retries
        stage.providers["openai"].fail(500, times=most + 1)
        started = time.monotonic()
        result = await ask(router, "gpt-4o-mini")
        seconds = time.monotonic() - started
        found.same(f"{most + 1} 500s: served by", "anthropic", result.provider)
        _note_waits(stage, found, most)
        arrivals = stage.providers["openai"].counts().arrivals
        found.below("  then without a wait", (seconds - (arrivals[-1] - arrivals[0])) * 1000, AT_ONCE * 1000)
    stage.clear()
    await _note_pause(stage, found)


def _note_waits(stage: Stage, found: Findings, count: int) -> None:
    """The waits between attempts, as the provider saw them, against the configured ones."""
    retry = stage.config.wallie.retry
    arrivals = stage.providers["openai"].counts().arrivals
    seen = [later - earlier for earlier, later in pairwise(arrivals)]
    wanted = [min(retry.max, retry.initial * retry.multiplier**index) for index in range(count)]
    bounds = [(wait * (1 - retry.jitter), wait * (1 + retry.jitter) + 0.15) for wait in wanted]
    ok = len(seen) == count and all(low <= wait <= high for wait, (low, high) in zip(seen, bounds, strict=True))
    expected = ", ".join(f"{wait:g}" for wait in wanted) + f" s, within {retry.jitter:.0%}"
    found.note("  waits between attempts", expected, ", ".join(f"{wait:.2f}" for wait in seen) + " s", ok)


async def _note_pause(stage: Stage, found: Findings) -> None:
    async with stage.router() as router:
        stage.providers["openai"].rate_limit(120, times=1)
        first = await ask(router, "gpt-4o-mini")
        crowd = await asyncio.gather(*(ask(router, "gpt-4o-mini") for _ in range(5)))
        models = router.guard.status()["providers"]["openai"].get("models", {})
        paused = max((model["paused_for"] for model in models.values()), default=0.0)
        found.within("429 with Retry-After 120: the model at openai is paused", paused, 118, 120)
        servers = {result.provider for result in (first, *crowd)}
        received = stage.providers["openai"].counts().received
        found.same("  6 requests: served by, openai sees", "anthropic, 1", f"{', '.join(sorted(servers))}, {received}")
        found.below("  the slowest took", max(result.latency_ms for result in (first, *crowd)), AT_ONCE * 1000)
