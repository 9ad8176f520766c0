"""A request that is cancelled or dropped at any of its steps: nothing stays reserved, and it ends once as that."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import Iterator
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from simulated_groups import EXAMPLES, Call, Group, VirtualLoop, World, waiting_on

from wallie_litellm.core.demand import NOTHING, ONE_REQUEST
from wallie_litellm.events import Ended, Settled
from wallie_litellm.litellm_adapter.endpoints import ASYNC, SYNC

GROUPS = {
    "a": Group([("a0", "p", None), ("a1", "q", None)]),
    "b": Group([("b0", "r", None)]),
    "c": Group([("c0", "s", None)], allowed=False),
    "d": Group([("d0", "s", None)]),
}
KINDS = ("500", "429", "timeout", "success", "stream", "stream broken", "stream cut", "content policy")
FEATURE = "chat"
bounded = settings(deadline=None, max_examples=EXAMPLES)
scripts = st.lists(
    st.builds(Call, st.sampled_from(KINDS), st.sampled_from((0.0, 1.0)), st.sampled_from((None, 2))), max_size=6
)


def busy_world(script: list[Call], recovery: str = "error") -> World:
    """A chain whose first provider is paused and whose second is full, for a feature with a limit of its own."""
    wallie = {
        "providers": {"p": {"rpm": 60, "burst": {"rpm": 1}}, "q": {"concurrency": 1}},
        "features": {FEATURE: {"limits": {"rpm": 600}, "stream_recovery": recovery}},
        "retry": {"max_retries": 2},
    }
    fallbacks = {"fallbacks": [{"a": ["b", "c", "d"]}], "content_policy_fallbacks": [{"a": ["d"]}]}
    world = World(GROUPS, script, fallbacks, tuple(sorted(wallie.items())))
    for name in "pq":
        taken = world.guard.limiter(name).reserve(ONE_REQUEST)
        world.clock.call_at(
            world.clock.now() + 2.0, lambda name=name, taken=taken: world.guard.limiter(name).settle(taken, NOTHING)
        )
    return world


def assert_nothing_left(world: World) -> None:
    if len(world.made) > 1:  # the error of an attempt that failed keeps its stream until a collection
        gc.collect()
    world.clock.advance(3.0)  # what is left to the clock's thread, and the ends of the other requests
    world.assert_settled_once()


class Stepped(VirtualLoop):
    """An event loop that is stopped, or whose task is cancelled, at the start of one of its rounds."""

    def cancel(self, task: asyncio.Task[Any], at: int) -> None:
        self.on_round = lambda count: task.cancel() if count == at else None

    def stop_at(self, at: int) -> None:
        self.on_round = lambda count: self.stop() if count == at else None


@contextlib.contextmanager
def stepped(world: World) -> Iterator[Stepped]:
    loop = Stepped()
    loop.restart(world.clock)
    loop.set_exception_handler(lambda *_: None)  # a task that is destroyed while it is pending
    try:
        yield loop
    finally:
        loop.close()


def cancelled_at(world: World, loop: Stepped, at: int, *, stream: bool) -> bool:
    """Make the world's request, and cancel it in this round of the loop; whether that ended it."""
    task = loop.create_task(world.ask(stream=stream))
    loop.cancel(task, at)
    with contextlib.suppress(asyncio.CancelledError):
        loop.run_until_complete(task)
    return task.cancelled()


def assert_cancelled_at_most(world: World, cancelled: bool) -> None:
    """The request has ended, as cancelled if it was, and has left nothing; or it has not begun."""
    if cancelled and not world.bus.of(Ended):  # before its first step
        assert not world.made
        return
    assert_nothing_left(world)
    if cancelled:
        assert (world.ended.success, world.ended.error, world.ended.by_caller) == (False, "cancelled", True)


def dropped_at(world: World, loop: Stepped, at: int, *, stream: bool) -> bool:
    """Make the world's request, and drop its coroutine in this round of the loop; whether it had ended before."""
    task = loop.create_task(world.ask(stream=stream))
    task._log_destroy_pending = False
    task.add_done_callback(lambda _: loop.stop())
    loop.stop_at(at)
    loop.run_forever()
    before = len(world.made)
    ended = task.done()
    task.get_coro().close()
    assert len(world.made) == before, "a call was made by a request that was dropped"
    return ended


@bounded
@given(scripts, st.integers(1, 60), st.booleans(), st.sampled_from(("error", "hold", "continue")))
def test_a_request_that_is_cancelled_at_any_step_leaves_nothing_behind(script, at, stream, recovery):
    world = busy_world(script, recovery)
    world.open(stream=stream, feature=FEATURE)
    with stepped(world) as loop:
        cancelled = cancelled_at(world, loop, at, stream=stream)
    assert_cancelled_at_most(world, cancelled)


@bounded
@given(scripts, st.integers(2, 60), st.booleans(), st.sampled_from(("error", "hold", "continue")))
def test_a_request_whose_coroutine_is_dropped_at_any_step_leaves_nothing_behind(script, at, stream, recovery):
    world = busy_world(script, recovery)
    world.open(stream=stream, feature=FEATURE)
    with stepped(world) as loop:
        ended = dropped_at(world, loop, at, stream=stream)
    assert_nothing_left(world)
    if not ended:
        assert (world.ended.success, world.ended.error, world.ended.by_caller) == (False, "cancelled", True)


def test_a_request_that_is_dropped_with_its_call_under_way_was_cancelled_and_makes_no_other():
    world = World(GROUPS, [Call("success", takes=9.0)], {"fallbacks": [{"a": ["b"]}]})
    world.open()
    with stepped(world) as loop:
        task = loop.create_task(world.ask())
        task._log_destroy_pending = False
        loop.call_later(1.0, loop.stop)
        loop.run_forever()
        task.get_coro().close()  # as a collection does, in a context that is not the task's
    assert_nothing_left(world)
    assert [one.error for one in world.bus.of(Settled)] == ["cancelled"]
    assert world.ended.error == "cancelled"


@bounded
@given(
    scripts, st.integers(0, 4), st.sampled_from(("closed", "dropped")), st.sampled_from(("error", "hold", "continue"))
)
def test_a_stream_that_is_closed_or_dropped_after_any_chunk_leaves_nothing_behind(script, chunks, how, recovery):
    world = busy_world(script, recovery)
    context = world.open(stream=True, feature=FEATURE)
    read = []

    async def consume() -> None:
        arguments = {"messages": [], "stream": True}
        stream = await world.router.request(ASYNC["acompletion"], "a", arguments, context)
        if isinstance(stream, dict):
            return
        for _ in range(chunks):
            read.append(await anext(stream, None))
        if how == "closed":
            await stream.aclose()

    with stepped(world) as loop:
        failed = None
        try:
            loop.run_until_complete(consume())
        except Exception as error:  # noqa: BLE001 - whatever the caller receives
            failed = error
            error.__traceback__ = None
            del error
    assert_nothing_left(world)
    finished = failed is None and (not world.made or world.made[-1].ended == "success")
    assert world.ended.success or failed is not None or world.ended.by_caller
    if finished and None in read:
        assert world.ended.success


@bounded
@given(scripts, st.integers(0, 4), st.sampled_from(("closed", "dropped")))
def test_a_blocking_stream_that_is_closed_or_dropped_after_any_chunk_leaves_nothing_behind(script, chunks, how):
    world = busy_world(script)
    world.context = None
    begun = world.guard.begin

    def begin(*given: Any, **settings: Any) -> Any:
        world.context = begun(*given, **settings)
        world.context.estimated_tokens = 7
        return world.context

    world.guard.begin = begin
    stream = None
    with waiting_on(world.clock, world.log), contextlib.suppress(Exception):
        arguments = {"messages": [], "stream": True, "metadata": {"feature": FEATURE}}
        stream = world.router.request_blocking(SYNC["completion"], "a", arguments)
        if not isinstance(stream, dict):
            for _ in range(chunks):
                next(stream, None)
            if how == "closed":
                stream.close()
    del stream
    assert_nothing_left(world)
