"""A tail of one call in twenty, through the real router and guard in simulated time: what hedges make of it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from typing import Any

from simulated_groups import Call, Group, VirtualLoop, World

from wallie_litellm.events import Ended, Settled
from wallie_litellm.litellm_adapter.endpoints import ASYNC

RATE = 60.0  # requests a second
TAIL = 10.0  # seconds that one call in twenty takes
GROUPS = {"a": Group([("a0", "p", None)]), "b": Group([("b0", "q", None)])}
FEATURE = "chat"


class Calls:
    """How long each call takes, in order."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)
        self.hangs = False

    def __iter__(self) -> Iterator[Call]:
        return self

    def __next__(self) -> Call:
        if self.hangs:
            return Call("success", 1e6)
        return Call("success", TAIL if self._dice.random() < 0.05 else self._dice.uniform(0.3, 0.6))


async def load(world: World, requests: int, deadline: float | None = None) -> list[float]:
    """The seconds of each answer; requests come one after the other, whether or not those before are answered."""
    loop, taken = asyncio.get_running_loop(), list[float]()

    async def ask() -> None:
        begun = loop.time()
        context = world.open(deadline, feature=FEATURE)
        arguments: dict[str, Any] = {"messages": []}
        try:
            await world.router.request(ASYNC["acompletion"], "a", arguments, context)
        except Exception:  # noqa: BLE001 - what the outage makes of it
            return
        taken.append(loop.time() - begun)

    asked = []
    for _ in range(requests):
        asked.append(loop.create_task(ask()))
        await asyncio.sleep(1 / RATE)
    await asyncio.gather(*asked)
    return sorted(taken)


def test_a_tail_is_cut_within_the_budget_and_in_an_outage_of_everything_no_hedge_is_sent():
    calls = Calls(seed=5)
    hedge = {"after": "p95", "budget": 0.05}
    wallie = {"features": {FEATURE: {"hedge": hedge}}, "breaker": {"failures": 10**6}}
    world = World(GROUPS, calls, {"fallbacks": [{"a": ["b"]}]}, tuple(sorted(wallie.items())))
    del world.guard.settle  # which watches one request
    loop = VirtualLoop()
    loop.restart(world.clock)
    loop.longest = 10**9

    def run(requests: int, **more: Any) -> list[float]:
        return loop.run_until_complete(load(world, requests, **more))

    world.guard.switch("hedge", on=False)
    bare = run(1_500)
    world.guard.switch("hedge", on=True)
    begun = len(world.made)
    hedged = run(1_500)
    extra = len(world.made) - begun - len(hedged)
    hedges = [one for one in world.bus.of(Settled) if one.hedge]
    assert (len(bare), len(hedged)) == (1_500, 1_500)
    assert bare[-16] >= TAIL  # p99
    assert hedged[-16] <= 0.3 * TAIL
    assert 0 < extra == len(hedges) <= 0.05 * 1_500
    lost = [one for one in world.bus.of(Settled) if one.error == "hedged"]
    assert len(lost) == extra
    assert sum(one.hedged for one in world.bus.of(Ended)) == extra
    calls.hangs = True
    run(300, deadline=12.0)
    assert len([one for one in world.bus.of(Settled) if one.hedge]) == extra
    assert world.guard.status()["routing"]["hedge"][FEATURE]["suppressed"]["outage"] > 0
    loop.close()
