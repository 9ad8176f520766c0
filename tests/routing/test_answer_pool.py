"""Answers that are kept for a time, and calls whose answers others wait for."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from fake_clock import FakeClock

from wallie_litellm.routing.answer_pool import AnswerPool, KeptAnswer, Lookup

TTL = 60.0


class Kept:
    """A store that counts what it is asked; with ``is_local`` off, as one elsewhere."""

    name = "memory"
    is_away = False

    def __init__(self, *, is_local: bool = True) -> None:
        self.is_local = is_local
        self.texts: dict[str, str] = {}
        self.asked = 0

    async def get(self, key: str) -> str | None:
        self.asked += 1
        if not self.is_local:
            await asyncio.sleep(0)
        return self.texts.get(key)

    async def put(self, key: str, text: str, ttl: float) -> None:
        self.texts[key] = text


@pytest.fixture
def pool(clock: FakeClock) -> AnswerPool:
    pool = AnswerPool(clock)
    pool.store = Kept()
    return pool


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def lookup(pool: AnswerPool, key: str = "k", **settings: Any) -> Lookup:
    return Lookup(pool, key, **{"ttl": TTL, "max_age": TTL, "reads": True, **settings})


def answer(pool: AnswerPool, text: str = "hello") -> KeptAnswer:
    return KeptAnswer(pool.clock.wall(), "openai/m", 0.5, {"text": text})


async def put(pool: AnswerPool, kept: KeptAnswer) -> None:
    first = lookup(pool)
    assert await first.answer(1) is None
    await first.keep(kept.as_text())


async def test_an_answer_is_given_until_it_is_too_old(pool: AnswerPool, clock: FakeClock) -> None:
    await put(pool, answer(pool))
    clock.advance(TTL)
    found = await lookup(pool).answer(1)
    assert found is not None
    assert found.answer == {"text": "hello"}
    assert found.cost_usd == 0.5
    assert await lookup(pool, max_age=TTL / 2).answer(1) is None
    clock.advance(1)
    assert await lookup(pool).answer(1) is None


async def test_each_request_has_an_object_of_its_own(pool: AnswerPool) -> None:
    await put(pool, answer(pool))
    one, another = [await lookup(pool).answer(1) for _ in range(2)]
    assert one == another
    assert one is not None
    assert another is not None
    one.answer["text"] = "changed"
    assert another.answer == {"text": "hello"}


@pytest.mark.parametrize("is_local", [True, False])
async def test_those_who_ask_meanwhile_wait_for_the_one_call(clock: FakeClock, is_local: bool) -> None:
    pool = AnswerPool(clock)
    pool.store = store = Kept(is_local=is_local)
    first = lookup(pool)
    assert await first.answer(9) is None
    others = [lookup(pool) for _ in range(20)]
    waiting = [asyncio.ensure_future(one.answer(9)) for one in others]
    await asyncio.sleep(0)
    asked = store.asked
    await first.keep(answer(pool).as_text())
    assert [one is not None and one.answer for one in await asyncio.gather(*waiting)] == [{"text": "hello"}] * 20
    assert all(one.joined for one in others)
    assert store.asked == asked


@pytest.mark.parametrize("how", ["abandon", "keep nothing"])
async def test_no_answer_sends_those_who_wait_on_their_own_way(pool: AnswerPool, how: str) -> None:
    first = lookup(pool)
    assert await first.answer(9) is None
    waiting = asyncio.ensure_future(lookup(pool).answer(9))
    await asyncio.sleep(0)
    if how == "abandon":
        first.abandon()
    else:
        await first.keep(None)
    assert await waiting is None
    after = lookup(pool)
    assert await after.answer(9) is None
    assert not after.joined  # nothing is left of the call


async def test_one_of_those_who_wait_makes_the_call_for_all_where_its_caller_has_left(pool: AnswerPool) -> None:
    first = lookup(pool)
    assert await first.answer(9) is None
    others = [lookup(pool) for _ in range(3)]
    waiting = {asyncio.ensure_future(one.answer(9)): one for one in others}
    await asyncio.sleep(0)
    first.abandon(left=True)
    [second], _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    assert second.result() is None
    await waiting.pop(second).keep(answer(pool).as_text())
    assert all(await asyncio.gather(*waiting))


async def test_a_call_that_takes_too_long_is_waited_for_by_no_later_request(pool: AnswerPool, clock: FakeClock) -> None:
    first = lookup(pool)
    assert await first.answer(9) is None
    clock.advance(9)
    second = lookup(pool)
    assert await second.answer(9) is None
    assert not second.joined
    await second.keep(answer(pool, "second").as_text())
    await first.keep(answer(pool, "first").as_text())  # late, and no harm
    assert await lookup(pool).answer(9) is not None


async def test_a_request_that_is_cancelled_while_it_waits_ends_nothing_of_the_call(pool: AnswerPool) -> None:
    first = lookup(pool)
    assert await first.answer(9) is None
    one, another = (asyncio.ensure_future(lookup(pool).answer(9)) for _ in range(2))
    await asyncio.sleep(0)
    one.cancel()
    await asyncio.wait([one])
    await first.keep(answer(pool).as_text())
    assert await another is not None


async def test_a_call_in_another_thread_is_waited_for(pool: AnswerPool) -> None:
    first = lookup(pool)
    assert await first.answer(9) is None
    waiting = asyncio.ensure_future(lookup(pool).answer(9))
    await asyncio.sleep(0)
    thread = threading.Thread(target=lambda: asyncio.run(first.keep(answer(pool).as_text())))
    thread.start()
    assert await waiting is not None
    thread.join()


async def test_a_request_that_wants_no_kept_answer_neither_reads_nor_is_waited_for(pool: AnswerPool) -> None:
    await put(pool, answer(pool))
    fresh = lookup(pool, reads=False)
    assert await fresh.answer(9) is None
    await fresh.keep(answer(pool, "new").as_text())
    found = await lookup(pool).answer(9)
    assert found is not None
    assert found.answer == {"text": "new"}
    unkept = lookup(pool, ttl=0.0, key="other")
    assert await unkept.answer(9) is None
    await unkept.keep(answer(pool).as_text())
    assert await lookup(pool, key="other").answer(9) is None


async def test_what_cannot_be_read_is_no_answer(pool: AnswerPool) -> None:
    assert isinstance(pool.store, Kept)
    for text in ("", "{", "[]", "null", '{"at": 1}', '{"at": "x", "deployment": "", "cost_usd": 0, "answer": {}}'):
        pool.store.texts["k"] = text
        found = lookup(pool)
        assert await found.answer(9) is None
        found.abandon()


def test_the_figures_say_how_much_was_answered_and_saved(pool: AnswerPool) -> None:
    assert pool.describe() == {
        "store": "memory", "state": "ok", "hits": 0, "joined": 0, "misses": 0, "kept": 0, "saved_usd": 0, "unpriced": 0,
        "share": None, "features": {},
    }  # fmt: skip

    def hit(figures: Any) -> None:
        figures.hits += 1
        figures.saved_usd += 0.25

    def miss(figures: Any) -> None:
        figures.misses += 1

    for feature, change in (("a", hit), ("a", hit), ("a", miss), ("b", hit)):
        pool.count(feature, change)
    described = pool.describe()
    assert (described["hits"], described["misses"], described["share"], described["saved_usd"]) == (3, 1, 0.75, 0.75)
    assert described["features"]["a"]["share"] == pytest.approx(2 / 3)
