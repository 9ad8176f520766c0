"""The time inside this package's code in one guarded call, with LiteLLM's parts taken out.

LiteLLM's call is replaced by the smallest coroutine; its pick is asked for once, as the group has one deployment. The
request, its loop, the attempt, the estimate, admission, settlement, the events and the answer's headers are left. The
coroutine alone is timed too, and the difference is reported.
"""

from __future__ import annotations

import asyncio
import cProfile
import pstats
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from itertools import count, repeat
from pathlib import Path
from typing import Any
from unittest.mock import patch

import litellm

import wallie_litellm
from benchmarks import harness, routers
from benchmarks.harness import Report, Side
from wallie_litellm import execute_ai_request
from wallie_litellm.config.tiers import AUTO
from wallie_litellm.litellm_adapter import calls
from wallie_litellm.simulator import DEFAULT_LIMITS, SimulatedProvider

_GOAL_US = 60
_GOAL_OF_EVERYTHING_US = 80
_OUR_FILES = str(Path(wallie_litellm.__file__).parent)


def run(quick: bool) -> Report:
    report = Report(
        "Time inside our own code, per guarded call",
        ("call", "our code", "over the first", "the stub alone", "control: the stub again"),
        notes=[
            f"Median and 95 % interval in µs of CPU; the stub alone is subtracted. Goal: at most {_GOAL_US} µs with "
            "limits of the model beside the account's, and limits learned from the answer's headers; at most "
            f"{_GOAL_OF_EVERYTHING_US} µs with everything on that decides where requests go: tiers, auto, an "
            "experiment, order by latency, first_token: auto, slow calls, a ramp, hedging, the cache of answers (never "
            "hit), marks for the vendor's cache, warm prefixes."
        ],
    )
    asyncio.run(_measure(report, 30 if quick else 200))
    asyncio.run(_profile(report, 300 if quick else 1000))
    return report


async def _measure(report: Report, rounds: int) -> None:
    response = await _real_response()
    configs = routers.roomy_config(), routers.scoped_config(), routers.everything_config()
    plain, scoped, everything = map(routers.guarded, configs)
    tags = {"feature": routers.FEATURE, "conversationId": "123"}
    numbers = count()

    async def helper() -> Any:
        return await execute_ai_request(
            plain.router, routers.MODEL, routers.MESSAGES, feature=routers.FEATURE, user_id="u1", metadata=tags
        )

    def call(contender: routers.Contender) -> Callable[[], Awaitable[Any]]:
        router = contender.router
        return lambda: router.acompletion(model=routers.MODEL, messages=routers.MESSAGES, metadata={})

    async def decided() -> Any:
        """A call whose tier, order and key are decided, and whose answer is looked up, and kept; each asks another.

        Its experiment leaves it alone, as it names ``auto``: an arm would take the place of the order by latency.
        """
        question = {"role": "user", "content": f"Hello! This is question {next(numbers)}. When do you open?"}
        messages = [routers.MESSAGES[0], question]
        return await everything.router.acompletion(model=AUTO, messages=messages, user="u1", metadata=dict(tags))

    calls = {
        "router.acompletion": (plain, call(plain)),
        "the same with two scopes, learning": (scoped, call(scoped)),
        "execute_ai_request": (plain, helper),
        "router.acompletion, everything on": (everything, decided),
    }
    try:
        with _stubbed_litellm(response) as stub:
            sides = [Side(name, _repeated(one), contender.take_turn) for name, (contender, one) in calls.items()]
            sides += [Side("stub", _repeated(stub)), Side("stub again", _repeated(stub))]
            await harness.interleave(sides, 3, 100)
            samples = await harness.interleave(sides, rounds, 100)
            for name in calls:
                _add(report, name, samples)
    finally:
        for contender in (plain, scoped, everything):
            contender.close()


def _add(report: Report, name: str, samples: Any) -> None:
    own = harness.difference(samples, name, "stub", "cpu").scaled(1e6)
    control = harness.difference(samples, "stub again", "stub", "cpu").scaled(1e6)
    stub = harness.median(samples, "stub", "cpu") * 1e6
    ratio = harness.ratio(samples, name, "router.acompletion", "cpu")
    report.rows.append((name, f"{own:.1f} µs", f"{ratio:.2f}", f"{stub:.1f} µs", f"{control:.1f} µs"))
    report.data[name] = {"own_us": own.as_dict(), "ratio": ratio.as_dict(), "stub_us": stub}


def _repeated(call: Callable[[], Awaitable[Any]]) -> harness.Work:
    async def work(operations: int) -> None:
        for _ in repeat(None, operations):
            await call()

    return work


async def _real_response() -> Any:
    """An answer over HTTP, with the headers that tell a vendor's limits."""
    room = {name: limit * 10_000 for name, limit in DEFAULT_LIMITS["openai"].items()}
    with SimulatedProvider("openai", in_process=False, text=routers.ANSWER, **room) as provider:
        return await litellm.acompletion(
            "openai/gpt-4o-mini", routers.MESSAGES, api_base=provider.api_base, api_key="sk-benchmark"
        )


@contextmanager
def _stubbed_litellm(response: Any) -> Iterator[Callable[[], Awaitable[Any]]]:
    """LiteLLM reduced to a call that has its answer; yields that call without the guard."""

    async def call(**_: Any) -> Any:
        return response

    async def stub() -> Any:
        return await call(model=routers.MODEL, messages=routers.MESSAGES, metadata={})

    with patch.dict(calls._DIRECT, {"acompletion": call}):
        yield stub


async def _profile(report: Report, operations: int) -> None:
    """The cross-check: real calls under cProfile, whose own cost is included and is most of the figure."""
    contender = routers.guarded(routers.roomy_config())
    contender.take_turn()
    profile = cProfile.Profile()

    async def work(times: int) -> None:
        for _ in repeat(None, times):
            await contender.router.acompletion(
                model=routers.MODEL, messages=routers.MESSAGES, mock_response=routers.ANSWER
            )
        await routers.background_done()

    try:
        await work(100)
        with profile:
            await work(operations)
    finally:
        contender.close()
    entries = pstats.Stats(profile).stats.items()  # type: ignore[attr-defined] # there, but not in typeshed
    own = sum(entry[2] for (file, *_), entry in entries if file.startswith(_OUR_FILES)) / operations * 1e6
    total = sum(entry[2] for (file, _, name), entry in entries if "poll" not in name) / operations * 1e6
    report.notes.append(
        f"Cross-check: under cProfile, our functions take {own:.0f} of {total:.0f} µs of a real call "
        f"({own / total:.1%}), profiler included."
    )
    report.data["profile"] = {"own_us": own, "total_us": total}
