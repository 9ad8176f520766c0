"""Event loops, threads and many routers: one limit, and nothing left behind."""

from __future__ import annotations

import asyncio
import gc
import threading
from concurrent.futures import ThreadPoolExecutor

import litellm
import pytest
from fake_clock import FakeClock
from support import assert_nothing_leaked, messages, shipped_config, until

from wallie_litellm import execute_ai_request, execute_ai_request_sync
from wallie_litellm.guard.router import WallieRouter

CALLBACK_LISTS = (
    "callbacks",
    "input_callback",
    "success_callback",
    "failure_callback",
    "service_callback",
    "_async_success_callback",
    "_async_failure_callback",
)


def callbacks():
    return {name: list(getattr(litellm, name)) for name in CALLBACK_LISTS}


def test_event_loops_threads_and_plain_calls_share_one_limit(make_router, fleet):
    clock = FakeClock()
    router = make_router(clock=clock, providers={"openai": {"rpm": 60, "burst": {"rpm": 20}}})
    done = []

    async def plain():
        await router.acompletion("gpt-4o-mini", messages())
        done.append("async")

    async def several():
        await asyncio.gather(*(plain() for _ in range(10)))

    def blocking(number):
        if number % 2:
            router.completion("gpt-4o-mini", messages())
        else:
            execute_ai_request_sync(router, "gpt-4o-mini", messages())
        done.append("sync")

    loops = [threading.Thread(target=asyncio.run, args=(several(),)) for _ in range(2)]
    with ThreadPoolExecutor(10) as pool:
        for thread in loops:
            thread.start()
        calls = [pool.submit(blocking, number) for number in range(10)]

        async def drive():
            state = lambda: router.guard.status()["providers"]["openai"]  # noqa: E731
            await until(lambda: len(done) == 20 and state()["waiting"] == 10)
            assert fleet["openai"].counts().received == 20
            for count in range(21, 31):
                clock.advance(1)
                await until(lambda count=count: len(done) == count)
                assert fleet["openai"].counts().received == count

        asyncio.run(drive())
        for thread in loops:
            thread.join()
        for call in calls:
            call.result()
    assert_nothing_leaked(router)


async def test_a_waiter_whose_loop_is_closed_does_not_hold_up_the_others(make_router):
    clock = FakeClock()
    router = make_router(clock=clock, providers={"openai": {"rpm": 60, "burst": {"rpm": 1}}})
    await router.acompletion("gpt-4o-mini", messages())

    async def abandon():
        asyncio.get_running_loop().create_task(router.acompletion("gpt-4o-mini", messages()))
        await until(lambda: router.guard.status()["providers"]["openai"]["waiting"] == 1)

    await asyncio.to_thread(asyncio.run, abandon())
    waiting = asyncio.create_task(execute_ai_request(router, "gpt-4o-mini", messages()))
    await until(lambda: router.guard.status()["providers"]["openai"]["waiting"] == 1)
    clock.advance(1)
    await waiting
    assert_nothing_leaked(router)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # LiteLLM's, of tasks without a loop
async def test_hundreds_of_waiters_whose_loop_is_closed_leave_the_queue(make_router):
    clock = FakeClock()
    router = make_router(clock=clock, providers={"openai": {"rpm": 60_000, "burst": {"rpm": 1}}})
    await router.acompletion("gpt-4o-mini", messages())

    async def abandon():
        for _ in range(400):
            asyncio.get_running_loop().create_task(router.acompletion("gpt-4o-mini", messages()))
        await until(lambda: router.guard.status()["providers"]["openai"]["waiting"] == 400)

    loop = asyncio.new_event_loop()
    await asyncio.to_thread(loop.run_until_complete, abandon())
    loop.close()  # without cancelling its tasks, as a loop that is killed
    clock.advance(60)
    assert_nothing_leaked(router)
    gc.collect()


async def test_a_stream_opened_by_another_task_and_dropped_settles_when_collected(make_router):
    router = make_router()
    stream = await asyncio.create_task(router.acompletion("gpt-4o-mini", messages(), stream=True))
    del stream

    def settled():
        gc.collect()
        return router.guard.status()["providers"]["openai"]["in_flight"] == 0

    await until(settled)


async def test_a_hundred_routers_built_and_closed_leave_litellm_as_it_was(make_router):
    data = shipped_config()
    data["model_list"] = [entry for entry in data["model_list"] if entry["model_name"] == "gpt-4o-mini"]
    data["router_settings"]["fallbacks"] = []
    make_router(data=data)  # the first of a process leaves its filter of deployments, which later ones share
    before = callbacks()
    for _ in range(100):
        router = make_router(data=data)
        await router.acompletion("gpt-4o-mini", messages(), mock_response="hi")
        await router.guard.aclose()
        await router.guard.aclose()
    assert before == callbacks()
    await until(lambda: not any(thread.name == "wallie-timers" for thread in threading.enumerate()))


def test_a_router_without_a_config_has_the_default_limits():
    router = WallieRouter(
        model_list=[{"model_name": "a", "litellm_params": {"model": "openai/gpt-4o-mini", "api_key": "sk-fake"}}]
    )
    assert router.guard.status()["providers"]["openai"]["quota"]["rpm"]["limit"] == 500
    router.guard.close()


async def test_a_cancelled_waiter_leaves_the_queue(make_router):
    clock = FakeClock()
    router = make_router(clock=clock, providers={"openai": {"rpm": 60, "burst": {"rpm": 1}}})
    await router.acompletion("gpt-4o-mini", messages())
    first, second = (asyncio.create_task(router.acompletion("gpt-4o-mini", messages())) for _ in range(2))
    await until(lambda: router.guard.status()["providers"]["openai"]["waiting"] == 2)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    clock.advance(1)
    await second
    assert_nothing_leaked(router)
