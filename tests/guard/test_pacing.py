"""Requests that start together pass the pacer a few in one round of the event loop, and in order."""

from __future__ import annotations

import asyncio

from wallie_litellm.guard.pacing import PACED_PER_ROUND, AdmissionPacer, pacer


async def enter(gate: AdmissionPacer) -> None:
    if not gate.passes():
        await gate.wait()


async def test_those_that_start_together_pass_in_order_a_few_in_each_round():
    gate, passed = AdmissionPacer(), []

    async def begin(number: int) -> None:
        await enter(gate)
        passed.append(number)

    tasks = [asyncio.create_task(begin(number)) for number in range(3 * PACED_PER_ROUND)]
    most, before = 0, 0
    while len(passed) < len(tasks):
        await asyncio.sleep(0)
        most, before = max(most, len(passed) - before), len(passed)
    assert passed == list(range(3 * PACED_PER_ROUND))
    assert most <= PACED_PER_ROUND


async def test_one_that_is_cancelled_before_its_turn_keeps_no_other_from_passing():
    gate = AdmissionPacer()
    tasks = [asyncio.create_task(enter(gate)) for _ in range(PACED_PER_ROUND + 2)]
    await asyncio.sleep(0)
    tasks[PACED_PER_ROUND].cancel()
    _, pending = await asyncio.wait(tasks, timeout=5)
    assert not pending
    assert [task.cancelled() for task in tasks].count(True) == 1


def test_each_event_loop_has_a_pacer_of_its_own_and_keeps_it():
    async def two() -> tuple[AdmissionPacer, AdmissionPacer]:
        return pacer(), pacer()

    first, second = asyncio.run(two()), asyncio.run(two())
    assert first[0] is first[1]
    assert second[0] is second[1]
    assert first[0] is not second[0]
