import asyncio
import time

import aiohttp
import pytest
from aiohttp import web

from wallie_litellm.rehearse import virtual_time
from wallie_litellm.rehearse.virtual_time import LoopClock, VirtualLoop, VirtualTime

DAY = 86_400.0


@pytest.fixture
def virtual() -> VirtualTime:
    return VirtualTime(1_000.0)


def run(virtual, work):
    loop = VirtualLoop(virtual)
    try:
        return loop.run_until_complete(work(loop))
    finally:
        loop.close()


def test_a_day_of_waiting_takes_no_time_and_a_day_has_passed(virtual):
    async def wait(loop):
        await asyncio.sleep(DAY)
        return loop.time()

    began = time.monotonic()
    assert run(virtual, wait) == DAY
    assert virtual.wall() == 1_000.0 + DAY
    assert time.monotonic() - began < 60


def test_time_stands_still_while_an_exchange_over_http_is_under_way(virtual):
    async def answer(request):
        await asyncio.sleep(2.5)
        return web.Response(text=await request.text() * 1_000)

    async def exchange(loop):
        runner = web.AppRunner(app := web.Application())
        app.router.add_post("/", answer)
        await runner.setup()
        await (site := web.TCPSite(runner, "127.0.0.1", 0)).start()
        port = site._server.sockets[0].getsockname()[1]
        loop.call_later(DAY, print)  # a timer for which time could jump too far
        async with aiohttp.ClientSession() as session:
            answers = await asyncio.gather(*(ask(session, port) for _ in range(10)))
        await runner.cleanup()
        return answers

    async def ask(session, port):
        begin = virtual.monotonic()
        async with session.post(f"http://127.0.0.1:{port}/", data="x" * 500) as response:
            text = await response.text()
        return len(text), virtual.monotonic() - begin

    assert run(virtual, exchange) == [(500_000, 2.5)] * 10


def test_a_timeout_comes_before_an_answer_that_is_later(virtual):
    async def wait(loop):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.sleep(31), 30)
        return loop.time()

    assert run(virtual, wait) == 30


def test_work_for_threads_is_done_in_order_and_its_errors_are_the_callers(virtual):
    async def work(loop):
        done = [await loop.run_in_executor(None, lambda number=number: number) for number in range(3)]
        with pytest.raises(ZeroDivisionError):
            await loop.run_in_executor(None, lambda: 1 / 0)
        return done

    assert run(virtual, work) == [0, 1, 2]


def test_the_guards_timers_come_at_their_virtual_time_unless_they_are_cancelled(virtual):
    async def wait(loop):
        clock, seen = LoopClock(loop, virtual), []
        clock.call_at(5.0, lambda: seen.append(clock.now()))
        clock.call_at(6.0, lambda: seen.append("cancelled"))()
        await asyncio.sleep(10)
        return seen

    assert run(virtual, wait) == [5.0]


def test_a_loop_that_waits_for_nothing_is_given_up(virtual, monkeypatch):
    monkeypatch.setattr(virtual_time, "STUCK_AFTER", 0.05)

    async def wait(loop):
        await loop.create_future()

    with pytest.raises(TimeoutError, match="no timer is set"):
        run(virtual, wait)
