"""A share of failures and a queue that stands are announced once when that begins, and once when it is over."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import pytest
from event_samples import ended, failed, settled
from fake_clock import FakeClock
from recording import RecordingBus
from support import wait_until

from wallie_litellm.alerts.watch import AlertWatch
from wallie_litellm.clock import Repeating
from wallie_litellm.config import WallieConfig
from wallie_litellm.config.alerts import AlertSettings
from wallie_litellm.core.attempt_result import AttemptResult
from wallie_litellm.core.circuit_breaker import Verdict
from wallie_litellm.core.demand import ONE_REQUEST, Outcome
from wallie_litellm.events import ErrorRateCrossed, QueueCrossed
from wallie_litellm.guard import Guard
from wallie_litellm.guard.context import Attempt

LOOK = 5.0  # seconds
RATES = AlertSettings(error_rate=0.2, window=60.0, min_requests=10)
QUEUES = AlertSettings(error_rate=None, queue=4, queue_for=10.0)

# Of how many requests for a group how many failed, before each look; and after which look what was announced.
GOOD, BAD, FEW, NONE = (10, 0), (10, 5), (3, 3), (0, 0)
BEGAN, OVER = False, True


class Watched:
    """A watch that looks whenever a test has it look, every five seconds of its clock."""

    def __init__(self, settings: AlertSettings) -> None:
        self.clock = FakeClock()
        self.bus = RecordingBus()
        self.waiting: dict[str, int] = {}
        self.down: set[str] = set()
        self.elsewhere: set[str] = set()  # announced by another worker of the fleet
        self.watch = AlertWatch(
            settings, self.clock, lambda: self.waiting, self.down.__contains__, self._once, self.bus.publish
        )
        self.watch.listen()

    def _once(self, key: str, _seconds: float, action: Callable[[], object]) -> None:
        if key not in self.elsewhere:
            action()

    def look(self, *lot: Any) -> list[bool]:
        """What is announced, by whether it is over, once ``lot`` has ended."""
        assert self.watch.ended is not None or not lot
        if self.watch.ended is not None:
            self.watch.ended.extend(lot)
        before = len(self.bus.events)
        self.clock.advance(LOOK)
        self.watch.look()
        return [event.resolved for event in self.bus.events[before:]]


def requests(calls: int, failures: int, **changes: Any) -> list[Any]:
    return [ended(failed(), **changes) if number < failures else ended(settled(), **changes) for number in range(calls)]


@pytest.mark.parametrize(
    ("lots", "announced"),
    [
        ([GOOD, BAD, BAD], {1: [BEGAN]}),
        ([GOOD] * 12 + [BAD], {}),  # five of 115
        ([FEW, FEW, FEW], {}),  # nine are too few to judge
        ([FEW, FEW, FEW, FEW], {3: [BEGAN]}),
        # Half of the limit ends it; what moves about the limit is one episode.
        ([(10, 2), (10, 1), (10, 3), (10, 2), *[GOOD] * 4], {0: [BEGAN], 7: [OVER]}),
        ([BAD, *[GOOD] * 4, BAD, BAD, BAD], {0: [BEGAN], 4: [OVER], 6: [BEGAN]}),
        ([BAD, *[NONE] * 12], {0: [BEGAN], 12: [OVER]}),  # nothing is asked for any more
    ],
)
def test_a_share_of_failures_is_announced_once_and_its_end_once(
    lots: Sequence[tuple[int, int]], announced: dict[int, list[bool]]
) -> None:
    watched = Watched(RATES)
    seen = {look: found for look, lot in enumerate(lots) if (found := watched.look(*requests(*lot)))}
    assert seen == announced


def test_an_alert_says_whose_share_how_large_of_how_many_and_its_end_how_long_it_lasted() -> None:
    watched = Watched(RATES)
    watched.look(*requests(10, 5), *[failed(provider="groq")] * 12, *[settled(provider="openai")] * 12)
    of_group, of_provider = sorted(watched.bus.of(ErrorRateCrossed), key=lambda event: event.provider)
    assert of_group[2:] == ("", "gpt-4o-mini", 0.5, 0.2, 5, 10, 60.0, False, 0.0)
    assert of_provider[2:] == ("groq", None, 1.0, 0.2, 12, 12, 60.0, False, 0.0)
    assert [(row["provider"], row["model"], row["value"]) for row in watched.watch.going_on()] == [
        ("", "gpt-4o-mini", 0.5),
        ("groq", None, 1.0),
    ]
    for _ in range(12):
        watched.look()
    assert [(event.resolved, event.lasted) for event in watched.bus.of(ErrorRateCrossed)[2:]] == [(True, 60.0)] * 2
    assert watched.watch.going_on() == []


def test_what_callers_end_themselves_counts_neither_as_a_failure_nor_as_a_request() -> None:
    watched = Watched(RATES)
    assert not watched.look(
        *requests(12, 12, by_caller=True),
        *[failed(status_code=400, error="HTTP 400")] * 12,
        *[failed(status_code=None, error="cancelled")] * 12,
        *requests(9, 9),
    )


def test_a_provider_that_is_down_has_an_alert_of_its_own() -> None:
    watched = Watched(RATES)
    watched.down.add("openai")
    assert not watched.look(*[failed()] * 30)
    watched.down.clear()
    assert watched.look(*[failed()] * 30) == [BEGAN]


def test_what_another_worker_has_announced_is_its_to_end() -> None:
    watched = Watched(RATES)
    watched.elsewhere.add("error_rate::gpt-4o-mini")
    assert not watched.look(*requests(*BAD))
    assert len(watched.watch.going_on()) == 1
    assert not [found for _ in range(13) for found in watched.look()]
    assert watched.watch.going_on() == []


@pytest.mark.parametrize(
    ("lengths", "announced"),
    [
        ([9, 9, 9, 9], {2: [BEGAN]}),  # ten seconds are three looks
        ([9, 0, 9, 9, 3, 9, 9], {}),  # a burst is what a queue is for
        ([4, 5, 4, 3, 3, 3, 3, 4], {2: [BEGAN]}),  # more than half of it still wait
        ([4, 4, 4, 2, 3, 2, 2, 2], {2: [BEGAN], 7: [OVER]}),
        ([4, 4, 4, 0, 0, 0], {2: [BEGAN], 5: [OVER]}),
    ],
)
def test_a_queue_that_stands_is_announced_once_and_its_end_once(
    lengths: Sequence[int], announced: dict[int, list[bool]]
) -> None:
    watched = Watched(QUEUES)
    seen = {}
    for look, length in enumerate(lengths):
        watched.waiting = {"openai": length, "feature:nightly": 1}
        if found := watched.look():
            seen[look] = found
    assert seen == announced
    assert [event[2:6] for event in watched.bus.of(QueueCrossed)][:1] == [
        ("openai", min(lengths[:3]), 4, 10.0) for _ in announced
    ][:1]


async def test_a_guard_has_its_requests_and_its_queues_looked_at_and_takes_up_other_alerts() -> None:
    clock, bus = FakeClock(), RecordingBus()
    wallie = {"providers": {"openai": {"rpm": 1}}, "ledger": None, "admission": {"max_wait": "5m"}}
    alerts = {"error_rate": 0.5, "min_requests": 1, "queue": 2, "queue_for": "1s"}
    guard = Guard(WallieConfig.model_validate({**wallie, "alerts": alerts}), clock=clock, bus=bus)
    watch = guard.reporter.alerts
    assert watch.ended is None, "kept where nothing looks at it"
    watch.listen()

    def call() -> tuple[Any, Attempt]:
        return guard.open_context("gpt-4o"), Attempt(group="gpt-4o", provider="openai")

    context, attempt = call()
    await guard.admit(context, attempt, ONE_REQUEST)
    guard.settle(context, attempt, AttemptResult(Outcome.REJECTED, Verdict.IGNORED, reason="HTTP 503", status_code=503))
    waiting = [asyncio.ensure_future(guard.admit(*call(), ONE_REQUEST)) for _ in range(3)]
    await asyncio.sleep(0)
    for _ in range(2):
        watch.look()
        clock.lag(1.0)
    kinds = {row["type"]: (row["provider"], row["value"]) for row in guard.status()["alerts"]}
    assert kinds == {"error_rate": ("openai", 1.0), "queue": ("openai", 3)}
    assert len(bus.of(ErrorRateCrossed)) == len(bus.of(QueueCrossed)) == 1

    guard.configure(WallieConfig.model_validate({**wallie, "alerts": {"error_rate": None}}))
    watch.look()
    assert guard.status()["alerts"] == []
    assert watch.ended is None
    guard.close()
    await asyncio.gather(*waiting, return_exceptions=True)


def test_a_forked_child_looks_by_itself() -> None:
    seen: list[int] = []
    looks = Repeating(lambda: seen.append(os.getpid()), 0.01, "test")
    looks.start()
    wait_until(lambda: seen)
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        with suppress(BaseException):
            wait_until(lambda: os.getpid() in seen)
            os.write(writes, b"looked")
        os._exit(0)
    os.close(writes)
    looks.close()
    with os.fdopen(reads, "rb") as told:
        assert told.read() == b"looked"
    os.waitpid(child, 0)
