"""Scenarios about limits: which requests pass at once, which wait, and which fall back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo

from wallie_litellm.demo.findings import Findings
from wallie_litellm.demo.stage import AT_ONCE, SMALL_ACCOUNT, SMALL_LIMITS, SMALL_MODELS, Stage, ask, refusal, until
from wallie_litellm.errors import DeadlineExceeded, RateLimited, RequestTooLarge

if TYPE_CHECKING:
    from wallie_litellm.guard.api import AIRequestResult
    from wallie_litellm.guard.router import WallieRouter

PROMPT: Final = "Say hello..."  # three tokens by every estimate
WAITS: Final = 51  # tokens of the prompt that has to wait for them
_ZONE: Final = "America/Los_Angeles"


async def rate_limit(stage: Stage, found: Findings) -> None:
    """A minute's worth of requests and a fifth more at once: the rest waits and is served in order."""
    limit = stage.config.wallie.providers["openai"].rpm or 0
    total, rate = limit + limit // 5, limit / 60
    finished: list[tuple[int, float, AIRequestResult]] = []
    async with stage.router() as router:

        async def one(index: int) -> None:
            with suppress(Exception):  # a request that does not finish has failed
                result = await ask(router, "gpt-4o-mini")
                finished.append((index, time.monotonic(), result))

        started = time.monotonic()
        async with asyncio.TaskGroup() as requests:
            for index in range(total):
                requests.create_task(one(index))
            sending = await until(lambda: _seen_by(router) >= total, 30)
        seconds = time.monotonic() - started
    waited = _in_order_of_admission(finished)
    at_once = len(finished) - len(waited)
    most = limit + int(rate * sending) + 1
    found.note(
        f"{total} at once: passed at once",
        f"{limit} to {most} (refilled in {sending:.1f} s)",
        str(at_once),
        limit <= at_once <= most,
    )
    found.same(
        "the others waited, served in order",
        f"{total - at_once}, yes",
        f"{len(waited)}, {'yes' if waited == sorted(waited) else 'no'}",
    )
    _note_provider(stage, found, limit, total, rate)
    found.within("until the last answer", seconds, (total - limit) / rate - 0.5, (total - limit) / rate + 1.5)
    found.same(
        "failed, fell back", (0, 0), (total - len(finished), sum(result.used_fallback for *_, result in finished))
    )


def _seen_by(router: WallieRouter) -> int:
    openai = router.guard.status()["providers"]["openai"]
    return int(openai["waiting"] + openai["quota"]["rpm"]["reserved"])


def _in_order_of_admission(finished: Sequence[tuple[int, float, AIRequestResult]]) -> list[int]:
    """The indices of those that waited; a request was admitted when its last attempt began."""
    admitted = [
        (end - result.attempts[-1].latency_ms / 1000, index) for index, end, result in finished if result.waited_ms
    ]
    return [index for _, index in sorted(admitted)]


def _note_provider(stage: Stage, found: Findings, limit: int, total: int, rate: float) -> None:
    counts = stage.providers["openai"].counts()
    found.same("the provider's 200s and 429s", (total, 0), (counts.succeeded, counts.rejected_429))
    last = sorted(counts.arrivals)[-(total - limit) // 3 :]  # by then the burst has left this machine
    measured = (len(last) - 1) / (last[-1] - last[0]) if len(last) > 1 else 0.0
    found.within("rate of those that waited, at the provider", measured, rate * 0.95, rate * 1.05, "/s")


async def tokens_and_days(stage: Stage, found: Findings) -> None:
    """A small account: the second request waits for tokens, the third finds the day's requests used up."""
    account = {SMALL_ACCOUNT: {**SMALL_LIMITS, "reset_timezone": _ZONE}}
    async with stage.router(SMALL_MODELS, providers=account) as router:
        error, _ = await refusal(router, "gemini-2.0-flash", prompt=PROMPT * (SMALL_LIMITS["tpm"] // 3 + 1))
        found.same("larger than the whole tpm limit", RequestTooLarge.__name__, type(error).__name__)
        first = await ask(router, "gemini-2.0-flash", PROMPT * ((SMALL_LIMITS["tpm"] - 30) // 3))
        found.below("fits the idle bucket: waited", first.waited_ms, 1)
        second = await ask(router, "gemini-2.0-flash", PROMPT * (WAITS // 3))
        expected = wait_after(first.prompt_tokens, first.attempts[-1].latency_ms / 1000)
        found.within("then waited for tokens", second.waited_ms / 1000, max(0.0, expected - 0.25), expected + 0.1)
        await _note_exhausted_day(router, found)
    counts = stage.providers[SMALL_ACCOUNT].counts()
    found.same("the provider's 200s and 429s", (SMALL_LIMITS["rpd"], 0), (counts.succeeded, counts.rejected_429))


def wait_after(used: int, refilled_for: float) -> float:
    """Seconds that the second request waits after one of ``used`` tokens, which took so many seconds.

    Gemini's limits count prompts alone.
    """
    lacking = WAITS - (SMALL_LIMITS["tpm"] - used)
    return max(0.0, lacking / (SMALL_LIMITS["tpm"] / 60) - refilled_for)


async def _note_exhausted_day(router: WallieRouter, found: Findings) -> None:
    error, seconds = await refusal(router, "gemini-2.0-flash")
    found.same("the day is used up", RateLimited.__name__, type(error).__name__)
    retry_after, midnight = getattr(error, "retry_after", 0.0), _until_midnight()
    found.within("  it refuses after", seconds, 0, AT_ONCE)
    found.note(
        "  it may be tried again in",
        f"{timedelta(seconds=round(midnight))} (midnight in Los Angeles)",
        str(timedelta(seconds=round(retry_after))),
        abs(retry_after - midnight) < 2,
    )
    served = await ask(router, "gemini-2.0-flash", fallbacks=["llama-3.1-8b"])
    found.same("  with a chain, served at once by", "llama-3.1-8b, True", f"{served.model}, {_quick(served)}")


def _until_midnight() -> float:
    now = datetime.now(UTC)
    tomorrow = now.astimezone(ZoneInfo(_ZONE)).date() + timedelta(days=1)
    midnight = datetime(tomorrow.year, tomorrow.month, tomorrow.day, tzinfo=ZoneInfo(_ZONE))
    return midnight.timestamp() - now.timestamp()


def _quick(result: AIRequestResult) -> bool:
    return result.latency_ms < AT_ONCE * 1000


async def wait_or_fall_back(stage: Stage, found: Findings) -> None:
    """With a patience of 2 s: a short wait is waited, a long one is not, unless no other provider could serve."""
    async with _impatient(stage, rpm=60) as router:
        await ask(router, "gpt-4o-mini", feature="wallie-chat")
        result = await ask(router, "gpt-4o-mini", feature="wallie-chat")
        found.note("a wait of 1 s", "openai after 1.0 s", _served(result), _as_planned(result, "openai", 1))
    async with _impatient(stage, rpm=6) as router:
        await ask(router, "gpt-4o-mini", feature="wallie-chat")
        result = await ask(router, "gpt-4o-mini", feature="wallie-chat")
        planned = _as_planned(result, "anthropic", 0) and _quick(result)
        found.note("a wait of 10 s", "anthropic after 0.0 s", _served(result), planned)
    async with _impatient(stage, rpm=20) as router:
        for provider in ("anthropic", "gemini", "groq"):
            router.guard.open_circuit(provider)
        await ask(router, "gpt-4o-mini", feature="wallie-chat")
        result = await ask(router, "gpt-4o-mini", feature="wallie-chat")
        found.note("3 s, no other provider up", "openai after 3.0 s", _served(result), _as_planned(result, "openai", 3))
    await _keep_deadline(stage, found)


def _impatient(stage: Stage, rpm: int) -> AbstractAsyncContextManager[WallieRouter]:
    """A router on which openai serves one request at a time, ``rpm`` a minute, and the chat has little patience."""
    openai = {"rpm": rpm, "burst": {"rpm": 1}}
    return stage.router(providers={"openai": openai}, features={"wallie-chat": {"patience": "2s"}})


def _served(result: AIRequestResult) -> str:
    return f"{result.provider} after {result.waited_ms / 1000:.1f} s"


def _as_planned(result: AIRequestResult, provider: str, waited: float) -> bool:
    return result.provider == provider and waited - 0.1 <= result.waited_ms / 1000 <= waited + 0.2


async def _keep_deadline(stage: Stage, found: Findings) -> None:
    async with stage.router() as router:
        stage.providers["openai"].slow(3)
        error, seconds = await refusal(router, "gpt-4o-mini", deadline=1.0)
        found.same("an answer too late for the deadline", DeadlineExceeded.__name__, type(error).__name__)
        found.within("  a deadline of 1 s ends after", seconds, 0.95, 1.1)
