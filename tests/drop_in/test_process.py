"""What routers leave in the process, and what they do not change there."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Awaitable, Callable
from typing import Any, Final

import litellm
import pytest

from drop_in.actions import PROMPT, until
from drop_in.callbacks import EventLog, registered
from drop_in.litellm_state import LISTS
from drop_in.routers import our_router, pointed
from drop_in.row import deployment
from drop_in.upstream import Upstream, failing
from wallie_litellm import build_router
from wallie_litellm.config import WallieConfig, parse_config
from wallie_litellm.guard import Guard
from wallie_litellm.guard.router import WallieRouter

MANY: Final = 60  # routers
SOME: Final = 12  # routers
KEPT: Final = 2  # routers, with a thread each: LiteLLM keeps the last call's objects, with plain routers too
POOLS: Final = ("AnyIO worker", "asyncio_", "aws-signing", "litellm-", "ThreadPoolExecutor")  # threads
MODELS: Final = [
    {"model_name": "m", "litellm_params": {"model": "openai/x", "mock_response": "made up", "api_key": "sk-a"}}
]
ONE: Final = [deployment("m", "a", mock_response="made up")]
SHORTLY: Final = failing(500, retry_after_ms="1")
OWN_CALLS: Final = 3  # OpenAI's client asks twice more after a 500


def new_router() -> WallieRouter:
    """A router with a guard that is its own alone."""
    return WallieRouter(model_list=MODELS, guard=Guard(WallieConfig.model_validate({"ledger": None})))


def router_of_litellms_arguments() -> WallieRouter:
    """A router as LiteLLM's proxy builds it."""
    return WallieRouter(model_list=MODELS)


def router_of_file() -> WallieRouter:
    """A router as an application builds it."""
    return build_router(parse_config({"model_list": MODELS, "wallie": {"ledger": None}}))


async def use(router: WallieRouter) -> None:
    await router.acompletion(model="m", messages=PROMPT)


async def dropped(router: WallieRouter) -> None:
    await use(router)


async def discarded(router: WallieRouter) -> None:
    await use(router)
    router.discard()


async def closed(router: WallieRouter) -> None:
    await use(router)
    await router.aclose()


async def entered(router: WallieRouter) -> None:
    async with router:
        await use(router)


async def guard_closed(router: WallieRouter) -> None:
    await use(router)
    await router.guard.aclose()


async def unused(_router: WallieRouter) -> None:
    pass


async def streamed_and_dropped(router: WallieRouter) -> None:
    stream = await router.acompletion(model="m", messages=PROMPT, stream=True)
    await anext(aiter(stream))


async def blocking_use(router: WallieRouter) -> None:
    await asyncio.to_thread(router.completion, model="m", messages=PROMPT)


End = Callable[[WallieRouter], Awaitable[None]]
ENDS: Final = [dropped, discarded, closed, entered, guard_closed, unused, streamed_and_dropped, blocking_use]


def callbacks() -> dict[str, int]:
    return {name: len(getattr(litellm, name, [])) for name in LISTS}


def too_many(before: dict[str, int]) -> dict[str, int]:
    return {name: count for name, count in callbacks().items() if count > before[name] + KEPT}


def threads() -> set[threading.Thread]:
    """All but those of pools, which are the process's."""
    return {thread for thread in threading.enumerate() if not thread.name.startswith(POOLS)}


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
async def test_a_router_leaves_no_thread_no_callback_and_no_reference(end: End) -> None:
    await assert_nothing_is_left(new_router, end, MANY if end is dropped else SOME)


@pytest.mark.parametrize("build", [router_of_litellms_arguments, router_of_file], ids=lambda build: build.__name__)
async def test_a_dropped_router_leaves_nothing_however_it_was_built(build: Callable[[], WallieRouter]) -> None:
    await assert_nothing_is_left(build, dropped, SOME)


async def assert_nothing_is_left(build: Callable[[], WallieRouter], end: End, count: int) -> None:
    for _ in range(2):
        await end(build())  # what LiteLLM and the interpreter keep for themselves is there from now on
    await until(lambda: not gc.collect(), 1)
    before, registered_before = threads(), callbacks()
    alive = []
    for _ in range(count):
        router = build()
        alive.append(weakref.ref(router))
        await end(router)
        del router
    gc.collect()
    await until(lambda: len(threads() - before) <= KEPT and not too_many(registered_before), 20)
    assert too_many(registered_before) == {}
    assert sum(reference() is not None for reference in alive) <= KEPT
    assert len(threads() - before) <= KEPT


def settings_of_litellm() -> dict[str, Any]:
    plain = (bool, int, float, str, type(None), list, dict, set)
    found = {name: value for name, value in vars(litellm).items() if isinstance(value, plain) and name not in LISTS}
    large = {"model_cost"}  # LiteLLM itself enters a router's deployments there
    return {name: repr(value) for name, value in found.items() if name not in large and not name.startswith("__")}


async def test_a_router_changes_no_setting_of_litellm(upstream: Upstream) -> None:
    await use(new_router())
    before = settings_of_litellm()
    async with our_router(pointed(upstream, [deployment("m", "a")])) as router:
        await use(router)
        during = settings_of_litellm()
    after = settings_of_litellm()
    for found in (during, after):
        assert {name: (value, found[name]) for name, value in before.items() if found.get(name) != value} == {}


@pytest.mark.parametrize("call", ["aembedding", "acompletion", "atext_completion"])
async def test_the_applications_own_calls_are_as_without_a_router(upstream: Upstream, call: str) -> None:
    upstream.prepare({"own": [SHORTLY, SHORTLY], "a": [SHORTLY]})
    async with our_router(pointed(upstream, [deployment("m", "a")])) as router:
        for _ in range(2):
            await asyncio.gather(router.acompletion(model="m", messages=PROMPT), return_exceptions=True)
        arguments: dict[str, Any] = {"api_base": upstream.base("own") + "/v1", "api_key": "sk-own"}
        asked = {
            "aembedding": {"model": "openai/text-embedding-3-small", "input": "one"},
            "acompletion": {"model": "openai/gpt-4o-mini", "messages": PROMPT},
            "atext_completion": {"model": "text-completion-openai/gpt-3.5-turbo-instruct", "prompt": "one"},
        }[call]
        await getattr(litellm, call)(**asked, **arguments)
    assert [request.account for request in upstream.requests].count("own") == OWN_CALLS


async def test_the_applications_own_callback_hears_its_own_calls_once(upstream: Upstream) -> None:
    log = EventLog("own call")
    with registered(log):
        async with our_router(pointed(upstream, ONE)) as router:
            await use(router)
            await litellm.acompletion(
                model="openai/gpt-4o-mini",
                messages=PROMPT,
                mock_response="made up",
                metadata={"observation": "own call"},
            )
            await until(lambda: log.payloads, 20)
            await asyncio.sleep(0.02)
    assert len(log.payloads) == 1
