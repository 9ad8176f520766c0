"""The time inside this package's code in one guarded call, with LiteLLM's parts taken out.

The methods of LiteLLM's Router that ``WallieRouter`` overrides are replaced by the smallest coroutines that keep the
order of calls; both routers are timed like that, and the difference is reported.
"""

from __future__ import annotations

import asyncio
import cProfile
import pstats
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import repeat
from pathlib import Path
from typing import Any
from unittest.mock import patch

import litellm

import wallie_litellm
from benchmarks import harness, routers
from benchmarks.harness import Report, Side
from wallie_litellm import execute_ai_request

_GOAL_US = 60
_OUR_FILES = str(Path(wallie_litellm.__file__).parent)


def run(quick: bool) -> Report:
    report = Report(
        "Time inside our own code, per guarded call",
        ("call", "our code", "the stubs alone", "control: the stubs again"),
        notes=[f"Median and 95 % interval in µs of CPU; the stubs alone are subtracted. Goal: at most {_GOAL_US} µs."],
    )
    asyncio.run(_measure(report, 30 if quick else 200))
    asyncio.run(_profile(report, 300 if quick else 1000))
    return report


async def _measure(report: Report, rounds: int) -> None:
    response = await _real_response()
    config = routers.roomy_config()
    ours, theirs = routers.guarded(config), routers.bare(config)
    tags = {"feature": "wallie-chat", "conversationId": "123"}

    async def helper(router: Any) -> Any:
        return await execute_ai_request(
            router, routers.MODEL, routers.MESSAGES, feature="wallie-chat", user_id="u1", metadata=tags
        )

    async def plain(router: Any) -> Any:
        return await router.acompletion(model=routers.MODEL, messages=routers.MESSAGES, metadata={})

    try:
        with _stubbed_litellm(response):
            for name, call in (("router.acompletion", plain), ("execute_ai_request", helper)):
                sides = [
                    Side("ours", _repeated(call, ours.router)),
                    Side("stubs", _repeated(plain, theirs.router)),
                    Side("stubs again", _repeated(plain, theirs.router)),
                ]
                await harness.interleave(sides, 3, 100)
                samples = await harness.interleave(sides, rounds, 100)
                _add(report, name, samples)
    finally:
        ours.close()
        theirs.close()


def _add(report: Report, name: str, samples: Any) -> None:
    own = harness.difference(samples, "ours", "stubs", "cpu").scaled(1e6)
    control = harness.difference(samples, "stubs again", "stubs", "cpu").scaled(1e6)
    stubs = harness.median(samples, "stubs", "cpu") * 1e6
    report.rows.append((name, f"{own:.1f} µs", f"{stubs:.1f} µs", f"{control:.1f} µs"))
    report.data[name] = {"own_us": own.as_dict(), "stubs_us": stubs, "control_us": control.as_dict()}


def _repeated(call: Callable[[Any], Awaitable[Any]], router: Any) -> harness.Work:
    async def work(operations: int) -> None:
        for _ in repeat(None, operations):
            await call(router)

    return work


async def _real_response() -> Any:
    return await litellm.acompletion("openai/gpt-4o-mini", routers.MESSAGES, mock_response=routers.ANSWER)


@contextmanager
def _stubbed_litellm(response: Any) -> Iterator[None]:
    """LiteLLM's Router reduced to the order in which it calls itself."""

    async def acompletion(self: Any, model: str, messages: Any, **kwargs: Any) -> Any:
        kwargs["metadata"]["model_group"] = model
        kwargs |= {"model": model, "messages": messages, "original_function": self._acompletion}
        return await self.async_function_with_fallbacks(**kwargs)

    async def fallbacks(self: Any, *args: Any, **kwargs: Any) -> Any:
        return await self.async_function_with_retries(*args, **kwargs)

    async def retries(self: Any, *args: Any, **kwargs: Any) -> Any:
        return await self.make_call(kwargs.pop("original_function"), *args, **kwargs)

    async def make_call(self: Any, original_function: Any, *args: Any, **kwargs: Any) -> Any:
        answer = await original_function(*args, **kwargs)
        await self.increment_deployment_usage_for_response(response=answer, request_kwargs=kwargs)
        return answer

    async def _acompletion(self: Any, model: str, messages: Any, **kwargs: Any) -> Any:
        await self.async_get_available_deployment(model=model, messages=messages, request_kwargs=kwargs)
        return response

    async def choose(self: Any, model: str, request_kwargs: Any, messages: Any = None, *_: Any, **__: Any) -> Any:
        found = self.get_model_list(model_name=model)
        return self._filter_blocked_deployments(found)[0]

    async def count_usage(self: Any, response: Any, request_kwargs: Any) -> None:
        pass

    stubs = {
        "acompletion": acompletion,
        "async_function_with_fallbacks": fallbacks,
        "async_function_with_retries": retries,
        "make_call": make_call,
        "_acompletion": _acompletion,
        "async_get_available_deployment": choose,
        "_filter_blocked_deployments": lambda self, deployments: deployments,
        "increment_deployment_usage_for_response": count_usage,
    }
    with ExitStack() as stack:
        for name, stub in stubs.items():
            stack.enter_context(patch.object(litellm.Router, name, stub))
        yield


async def _profile(report: Report, calls: int) -> None:
    """The cross-check: real calls under cProfile, whose own cost is included and is most of the figure."""
    contender = routers.guarded(routers.roomy_config())
    contender.take_turn()
    profile = cProfile.Profile()

    async def work(operations: int) -> None:
        for _ in repeat(None, operations):
            await contender.router.acompletion(
                model=routers.MODEL, messages=routers.MESSAGES, mock_response=routers.ANSWER
            )
        await routers.background_done()

    try:
        await work(100)
        with profile:
            await work(calls)
    finally:
        contender.close()
    entries = pstats.Stats(profile).stats.items()  # type: ignore[attr-defined] # there, but not in typeshed
    own = sum(entry[2] for (file, *_), entry in entries if file.startswith(_OUR_FILES)) / calls * 1e6
    total = sum(entry[2] for (file, _, name), entry in entries if "poll" not in name) / calls * 1e6
    report.notes.append(
        f"Cross-check: under cProfile, our functions take {own:.0f} of {total:.0f} µs of a real call "
        f"({own / total:.1%}), profiler included."
    )
    report.data["profile"] = {"own_us": own, "total_us": total}
