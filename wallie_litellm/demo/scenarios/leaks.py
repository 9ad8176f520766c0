"""The scenario that nothing is lost: no capacity, no slot, no reservation."""

from __future__ import annotations

import asyncio
import gc
import random
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from wallie_litellm.demo.findings import Findings
from wallie_litellm.demo.stage import Stage, ask, until

if TYPE_CHECKING:
    from wallie_litellm.guard.router import WallieRouter

REQUESTS: Final = 300  # requests of the whole scenario
RATE: Final = 120  # requests begun per second
CANCELLED_WITHIN: Final = 0.4  # seconds after its start in which a request is cancelled, if it is one of those
GROUPS: Final = ("gpt-4o-mini", "gpt-4o", "claude-opus-4")
STREAM_ENDS: Final = ("finished", "broken off", "dropped")

# Tight enough that some wait, quick enough to see retries and breakers at work within seconds.
_SETTINGS: Mapping[str, Any] = {
    "admission": {"max_wait": "3s"},
    "breaker": {"open_for": "500ms"},
    "retry": {"initial": "100ms", "max": "400ms"},
    "providers": {"openai": {"rpm": 3000, "tpm": 60_000, "rpd": 10_000, "burst": {"rpm": 20}}},
}


async def nothing_leaks(stage: Stage, found: Findings, count: int = REQUESTS) -> None:
    """Requests of every kind, with faults, a third of them cancelled: all that was reserved is settled or refunded."""
    _set_faults(stage, count)
    chance = random.Random(20)  # noqa: S311 - the same moments in every run, not a secret
    async with stage.router(**_SETTINGS) as router:
        outcomes = Counter(await asyncio.gather(*(_one(router, index, chance) for index in range(count))))
        gc.collect()  # the dropped streams
        await until(lambda: _live(router) == (0, 0), 3)
        live, providers = _live(router), router.guard.status()["providers"]
    story = ", ".join(f"{number} {outcome}" for outcome, number in sorted(outcomes.items()))
    found.note("requests that ended", str(count), f"{outcomes.total()} ({story})", outcomes.total() == count)
    faults = sum(
        stage.providers[name].counts().failed + stage.providers[name].counts().rejected_429 for name in stage.providers
    )
    found.note("faults they met", f"at least {count // 20}", str(faults), faults >= count // 20)
    found.same("in flight, waiting", (0, 0), live)
    _note_balances(found, providers)


def _set_faults(stage: Stage, count: int) -> None:
    """A tenth of the requests fails at openai, some at the others; whatever is left is slow enough to be cancelled."""
    providers, some = stage.providers, max(2, count // 30)
    for _ in range(3):
        providers["openai"].fail(500, times=some // 2)
        providers["openai"].cut_stream(1, times=some // 2)
        providers["openai"].omit_usage(times=some // 2)
    providers["openai"].rate_limit(0.5, times=2)
    providers["anthropic"].fail(529, times=some)
    providers["anthropic"].cut_stream(2, times=some)
    providers["gemini"].malformed(times=2)
    for name in ("openai", "anthropic", "gemini"):
        providers[name].slow(CANCELLED_WITHIN / 2)


async def _one(router: WallieRouter, index: int, chance: random.Random) -> str:
    """One request, begun in its turn; returns how it ended."""
    moment = chance.random() * CANCELLED_WITHIN if index % 3 == 0 else None
    group = GROUPS[index // 3 % len(GROUPS)]
    await asyncio.sleep(index / RATE)
    request = asyncio.create_task(_stream(router, group, index) if index % 2 else _plain(router, group))
    try:
        await asyncio.wait([request], timeout=moment)
    finally:
        request.cancel()
    await asyncio.wait([request])
    if request.cancelled():
        return "cancelled"
    return "failed" if request.exception() is not None else "answered"


async def _plain(router: WallieRouter, group: str) -> None:
    await ask(router, group)


async def _stream(router: WallieRouter, group: str, index: int) -> None:
    from wallie_litellm.guard.api import stream_ai_request

    end = STREAM_ENDS[index // 2 % len(STREAM_ENDS)]
    stream = stream_ai_request(router, group, [{"role": "user", "content": "Say hello."}], max_tokens=16)
    async for _ in stream:
        if end == "broken off":
            await stream.aclose()
        if end != "finished":
            return


def _live(router: WallieRouter) -> tuple[int, int]:
    providers = router.guard.status()["providers"].values()
    return sum(provider["in_flight"] for provider in providers), sum(provider["waiting"] for provider in providers)


def _note_balances(found: Findings, providers: Mapping[str, Any]) -> None:
    """Per provider and dimension: what was reserved has been settled or refunded, exactly."""
    balances = {
        f"{name} {dimension}": (quota["reserved"], quota["settled"] + quota["refunded"])
        for name, provider in providers.items()
        for dimension, quota in provider["quota"].items()
    }
    off = [
        f"{name}: {reserved} reserved, {ended} settled or refunded"
        for name, (reserved, ended) in balances.items()
        if reserved != ended
    ]
    right = f"{len(balances)} of {len(balances)}"
    found.same("reserved = settled + refunded, dimensions", right, "; ".join(off) or right)
    reserved = sum(reserved for reserved, _ in balances.values())
    found.note("  reserved in all of them", "above 0", str(reserved), reserved > 0)
