"""One side of the benchmarks of limits and breakers per model, as a process: a router, and a steady load of requests.

A side is forked from a process that has imported LiteLLM, which takes most of a start.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

import litellm

from benchmarks.routers import background_done
from wallie_litellm import Guard, WallieConfig, WallieRouter
from wallie_litellm.events import Event
from wallie_litellm.telemetry.bus import Bus

_FORK = multiprocessing.get_context("fork")
_KEY = "sk-benchmark"
_WARM_UP = 2  # calls of each group: the first ones import modules and make HTTP clients


@dataclass(frozen=True)
class Plan:
    """``rates`` are requests a second by model group, offered for ``seconds``; ``grace`` is how long answers may take.

    ``wallie`` is the section of the configuration; without it the router is LiteLLM's own. ``groups`` are LiteLLM's
    names of models by model group, all of one provider at ``api_base``.
    """

    api_base: str
    groups: Mapping[str, str]
    rates: Mapping[str, float]
    seconds: float
    grace: float
    wallie: Mapping[str, Any] | None = None
    chains: Mapping[str, Sequence[str]] = field(default_factory=dict)
    warms_router: bool = True


@dataclass(frozen=True)
class Call:
    """One request: when it was due and when it ended, in seconds from the beginning, and its result."""

    group: str
    due: float
    ended: float
    served_by: str  # the model on the wire; empty for an error
    error: str = ""


@dataclass(frozen=True)
class SideReport:
    """What a side did. ``alerts`` are the names of the events that it published beside those of calls."""

    calls: Sequence[Call]
    status: Mapping[str, Any]
    alerts: Sequence[Mapping[str, Any]]
    lag: float  # seconds that a request was offered late, at worst

    def within(self, begin: float, end: float) -> list[Call]:
        """Those that were due in this time."""
        return [call for call in self.calls if begin <= call.due < end]

    def succeeded(self, begin: float, end: float) -> int:
        """Successes that ended in this time."""
        return sum(not call.error and begin <= call.ended < end for call in self.calls)


class RunningSide:
    """A side from outside, through the other end of its pipe."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def wait_until_ready(self) -> None:
        """Return once its router is built and warm."""
        self._receive()

    def begin(self, at: float) -> None:
        """Begin the load at this time of the monotonic clock."""
        self._pipe.send(at)

    def report(self) -> SideReport:
        """Wait for its end."""
        report: SideReport = self._receive()
        return report

    def _receive(self) -> Any:
        try:
            return self._pipe.recv()
        except EOFError:
            raise RuntimeError("a side of the benchmark ended early") from None


@contextmanager
def running(plan: Plan) -> Iterator[RunningSide]:
    """A side that will carry out ``plan``, ended with the block."""
    ours, theirs = _FORK.Pipe()
    process = _FORK.Process(target=_carry_out, args=(plan, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        yield RunningSide(ours)
    finally:
        process.kill()
        process.join()


def begin_together(sides: Collection[RunningSide], notice: float = 0.3) -> float:
    """Have all of them begin ``notice`` seconds after all are ready; returns when, on the monotonic clock."""
    for side in sides:
        side.wait_until_ready()
    at = time.monotonic() + notice
    for side in sides:
        side.begin(at)
    return at


def sleep_until(at: float) -> None:
    """Until this time of the monotonic clock."""
    time.sleep(max(0.0, at - time.monotonic()))


class _Alerts:
    """A sink that keeps every event that is about no call."""

    name = "alerts"

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []

    def handle(self, events: Sequence[Event]) -> None:
        for event in events:
            if type(event).__name__ not in ("Settled", "Ended", "FellBack"):
                facts = {key: value for key, value in event._asdict().items() if isinstance(value, str | float | int)}
                self.seen.append({"event": type(event).__name__, **facts})

    def flush(self, timeout: float) -> bool:
        return True

    def close(self, timeout: float) -> None:
        """Nothing to release."""

    def stats(self) -> dict[str, int]:
        return {}


def _router(plan: Plan, alerts: _Alerts) -> Any:
    where = {"api_base": plan.api_base, "api_key": _KEY}
    models = [
        {"model_name": group, "litellm_params": {"model": model, **where}} for group, model in plan.groups.items()
    ]
    fallbacks = [{group: list(others)} for group, others in plan.chains.items()]
    if plan.wallie is None:
        return litellm.Router(model_list=models, fallbacks=fallbacks, num_retries=3)
    bus = Bus()
    bus.add(lambda: alerts)
    guard = Guard(WallieConfig.model_validate({"ledger": None, **plan.wallie}), bus=bus)
    return WallieRouter(guard=guard, model_list=models, fallbacks=fallbacks)


class _OpenLoop:
    """Offers requests at a steady rate, without waiting for earlier ones."""

    def __init__(self, router: Any, plan: Plan) -> None:
        self._router = router
        self._plan = plan
        self.calls: list[Call] = []
        self.lag = 0.0
        self.started = 0.0

    def _now(self) -> float:
        return time.monotonic() - self.started

    def _due(self) -> list[tuple[float, str]]:
        """When each request is due, and its group; groups with the same rate take turns."""
        plan = self._plan
        return sorted(
            ((number + share) / rate, group)
            for share, (group, rate) in zip(_shares(len(plan.rates)), plan.rates.items(), strict=True)
            for number in range(int(plan.seconds * rate))
        )

    async def offer(self) -> None:
        running: list[asyncio.Task[None]] = []
        for due, group in self._due():
            await asyncio.sleep(max(0.0, due - self._now()))
            self.lag = max(self.lag, self._now() - due)
            running.append(asyncio.create_task(self.call(group, due)))
        await asyncio.sleep(max(0.0, self._plan.seconds - self._now()))
        _, left = await asyncio.wait(running, timeout=self._plan.grace)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def call(self, group: str, due: float) -> None:
        served_by = error = ""
        try:
            answer = await self._router.acompletion(
                model=group, messages=[{"role": "user", "content": "Hello!"}], max_tokens=16
            )
            served_by = str(answer.model)
        except asyncio.CancelledError:
            error = "unfinished"
            raise
        except Exception as caught:  # noqa: BLE001 - every failure is counted
            error = type(caught).__name__
        finally:
            self.calls.append(Call(group, due, self._now(), served_by, error))


def _shares(number: int) -> Iterable[float]:
    return ((index + 1) / number for index in range(number))


async def _warm_up(plan: Plan, load: _OpenLoop) -> None:
    """Have modules imported and HTTP clients made; without the router where it must not learn of the account yet."""
    if not plan.warms_router:
        model = next(iter(plan.groups.values()))
        messages = [{"role": "user", "content": "Hello!"}]
        await litellm.acompletion(model, messages, api_base=plan.api_base, api_key=_KEY)
        return
    for group in plan.groups:
        for _ in range(_WARM_UP):
            await load.call(group, 0.0)
    load.calls.clear()


async def _run(plan: Plan, pipe: Connection) -> None:
    alerts = _Alerts()
    router = _router(plan, alerts)
    load = _OpenLoop(router, plan)
    await _warm_up(plan, load)
    pipe.send("ready")
    load.started = await asyncio.to_thread(pipe.recv)
    await asyncio.sleep(max(0.0, load.started - time.monotonic()))
    await load.offer()
    status: Any = {}
    if plan.wallie is not None:
        await router.guard.flush()
        status = router.guard.status()
    await background_done()
    pipe.send(SideReport(load.calls, status, alerts.seen, load.lag))


def _carry_out(plan: Plan, pipe: Connection) -> None:
    logging.disable(logging.CRITICAL)
    asyncio.run(_run(plan, pipe))
