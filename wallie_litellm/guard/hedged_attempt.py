"""An attempt and its hedge: the next member of the chain is asked beside it where no token comes, and the first wins.

The one that loses is settled at what has been seen of it, before its call is cancelled: so it is on record before the
one that serves, which is the last of the request's attempts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Protocol

from wallie_litellm.core.attempt_result import CANCELLED, HEDGED, NO_CONTENT, AttemptResult
from wallie_litellm.core.demand import Outcome
from wallie_litellm.core.recent_pace import WatchedCall
from wallie_litellm.errors import CircuitOpen, Refused, WallieError
from wallie_litellm.guard.attempt_stream import AttemptStream
from wallie_litellm.guard.context import Attempt, estimated_cost
from wallie_litellm.guard.guard import Guard
from wallie_litellm.guard.request import Request
from wallie_litellm.guard.request_loop import Step
from wallie_litellm.litellm_adapter.errors import special_of
from wallie_litellm.routing.hedging import CAPACITY, CIRCUIT, NO_MEMBER, HedgePolicy

_hedges: Final[set[asyncio.Task[Any]]] = set()  # under way; event loops keep weak references only


class AttemptMaker(Protocol):
    """What makes attempts."""

    async def make(self, request: Request, step: Step, attempt: Attempt) -> Any:
        """One attempt, from the pick to its answer or its stream."""

    async def may_fall_back(self, request: Request, step: Step) -> bool:
        """Whether the caller may use the group of ``step``."""

    def fail(self, request: Request, attempt: Attempt, error: BaseException) -> None:
        """Settle an attempt that has ended with ``error``."""


class _NotSent(Exception):  # noqa: N818 - no error: the attempt goes on alone
    """The hedge was not sent."""


@dataclass(slots=True, eq=False)
class _Side:
    """One of the two: ``stream`` is its answer so far, ``task`` makes it, and ``over`` is set when it has ended."""

    attempt: Attempt
    task: asyncio.Task[Any]
    stream: AttemptStream | None = None
    over: bool = False


class HedgedAttempt:
    """Makes an attempt in the caller's task, and its hedge in another one.

    ``last`` is the attempt whose error :meth:`run` raises: the hedge, where both have failed, whatever the order.
    """

    __slots__ = (
        "_call", "_cancels", "_estimated", "_guard", "_hedge", "_hedges_arguments", "_maker", "_policy", "_primary",
        "_request", "_timer", "_winner", "last",
    )  # fmt: skip

    def __init__(self, maker: AttemptMaker, guard: Guard, request: Request, policy: HedgePolicy) -> None:
        self.last: Attempt
        self._primary: _Side
        self._maker = maker
        self._guard = guard
        self._request = request
        self._policy = policy
        self._hedge: _Side | None = None
        self._winner: _Side | None = None
        self._call: WatchedCall | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._cancels = 0  # requests to cancel the caller's task that were there before
        self._estimated: float | None = None  # US dollars, of the hedge
        self._hedges_arguments: Mapping[str, Any] = {}

    async def run(self, step: Step, attempt: Attempt) -> Any:
        """The first answer: a response, or a stream of which a part of the answer has been read.

        Raises:
            Exception: the attempt has failed, and so has the hedge if there was one.
        """
        task = asyncio.current_task()
        assert task is not None, "a coroutine is run by a task"  # noqa: S101 - narrows the type
        self._cancels = task.cancelling()
        self._primary, self.last, attempt.race = _Side(attempt, task), attempt, self
        try:
            return await self._race(step)
        except GeneratorExit:
            self._drop()
            raise
        finally:
            self._conclude()

    async def _race(self, step: Step) -> Any:
        try:
            return await self._answer(step, self._primary)
        except GeneratorExit:
            raise
        except BaseException as error:
            if not self._may_go_on(error):
                raise
            hedge, alone_since = self._hedge, self._guard.clock.now()
            assert hedge is not None, "it may go on"  # noqa: S101 - narrows the type
            try:
                answer = await hedge.task
            except _NotSent:
                answer = hedge
            except Exception:
                self.last = hedge.attempt
                self._request.loop.go_on_to_hedge()
                if hedge.attempt.result is not None and hedge.attempt.result.reason == NO_CONTENT:
                    self._request.context.waited += self._guard.clock.now() - alone_since
                raise
            if answer is hedge:
                raise
            self._request.loop.go_on_to_hedge()
            return answer

    async def _answer(self, step: Step, side: _Side) -> Any:
        answer = await self._maker.make(self._request, step, side.attempt)
        if not isinstance(answer, AttemptStream):
            return answer
        side.stream = answer
        try:
            await answer.prime()
            self.win(side.attempt)
        except GeneratorExit:
            raise
        except BaseException:
            if self._winner is not side:
                await _close(answer)
            raise
        return answer

    def _may_go_on(self, error: BaseException) -> bool:
        """Whether the hedge may still be answered, now that the attempt has ended with ``error``."""
        primary, hedge = self._primary, self._hedge
        primary.over = True
        self._stop_timer()
        if hedge is not None and self._winner is hedge:
            if primary.task.uncancel() <= self._cancels:
                return True
            self._give_up(hedge)  # the caller cancels as well
            return False
        failed = isinstance(error, Exception) and primary.task.cancelling() <= self._cancels
        if self._call is not None:
            (self._policy.failed if failed else self._policy.forget)(self._call)
        if hedge is None:
            return False
        if not failed:
            self._give_up(hedge)
            return False
        result = primary.attempt.result
        if isinstance(error, WallieError) or special_of(error) is not None or (result is not None and result.by_caller):
            self._lose(hedge)  # another member would say the same, or has a chain of its own
            return False
        return True

    # The hedge

    def begun(self, attempt: Attempt, arguments: Mapping[str, Any]) -> None:
        """The call is about to be made: from now on it may become late."""
        if attempt.hedge:
            self._hedges_arguments = arguments
            return
        self._call = call = self._policy.begin(attempt.scope, self._request.streams)
        if call is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(call.late_at - call.began, self._on_late, loop, call)

    def _on_late(self, loop: asyncio.AbstractEventLoop, call: WatchedCall) -> None:
        step = self._request.loop.hedge()
        if self._winner is not None or self._primary.over or self._guard.closed or step is None:
            return
        if self._policy.denial(call) is None:
            task = loop.create_task(self._run_hedge(step))
            self._hedge = _Side(Attempt(step.group, hedge=True, race=self), task)
            _hedges.add(task)
            task.add_done_callback(_ended)

    async def _run_hedge(self, step: Step) -> Any:
        side = self._hedge
        assert side is not None, "its task has begun"  # noqa: S101 - narrows the type
        try:
            if not await self._maker.may_fall_back(self._request, step):
                self._policy.suppress(NO_MEMBER)
                raise _NotSent
            return await self._answer(step, side)
        except Exception as error:
            if side.attempt.reservation is not None:
                raise
            self._hedge = None
            if not isinstance(error, _NotSent):
                self._policy.suppress(_reason_of(error))
            raise _NotSent from error
        finally:
            side.over = True

    def admit(self, attempt: Attempt, *, guessed: bool) -> None:
        """Take the capacity for the hedge, and its part of the budgets.

        Raises:
            Refused: it would have to wait.
            CancelledError: the attempt has won meanwhile, or failed so that the hedge is not wanted.
        """
        if self._winner is not None:
            raise asyncio.CancelledError
        context = self._request.context
        self._estimated = estimated_cost(context, attempt, attempt.demand)
        if self._policy.spend(self._estimated) is not None:
            raise _NotSent
        try:
            self._guard.admit_at_once(context, attempt, attempt.demand, guessed=guessed)
        except Refused as refused:
            self._policy.take_back(self._estimated, _reason_of(refused))
            raise _NotSent from refused
        context.decide().hedged = True

    # The end

    def win(self, attempt: Attempt) -> None:
        """One has been answered: the other one has lost.

        Raises:
            CancelledError: the other one has won already.
        """
        primary, hedge = self._primary, self._hedge
        side = hedge if attempt.hedge else primary
        if side is None or self._winner is not None:
            raise asyncio.CancelledError  # that LiteLLM has swallowed
        self._winner = side
        self._stop_timer()
        self._request.context.served_by = attempt
        if side is hedge:
            self._request.adopt(self._hedges_arguments)
            if not primary.over:
                self._lose(primary)
        else:
            if self._call is not None:
                self._policy.answered(self._call)
            if hedge is not None:
                self._lose(hedge)

    def _lose(self, side: _Side) -> None:
        self._settle(side, HEDGED)
        if not side.over:
            side.task.cancel()

    def _give_up(self, side: _Side) -> None:
        """The caller has cancelled the request, or its deadline has passed."""
        if side.stream is not None:
            side.stream.abandon(CANCELLED)
        elif side.attempt.reservation is not None:
            self._maker.fail(self._request, side.attempt, asyncio.CancelledError())
        side.task.cancel()

    def _settle(self, side: _Side, reason: str) -> None:
        if side.stream is not None:
            side.stream.abandon(reason)
        else:
            self._guard.settle(self._request.context, side.attempt, AttemptResult(Outcome.CUT, reason=reason))

    def _drop(self) -> None:
        """The caller's coroutine is collected: see Guard.later."""
        hedge, self._hedge = self._hedge, None
        if hedge is None:
            return
        with suppress(RuntimeError):  # the loop is closed
            hedge.task.get_loop().call_soon_threadsafe(hedge.task.cancel)

        def settle() -> None:
            self._settle(hedge, CANCELLED)
            self._account(hedge)

        self._guard.later(settle)

    def _conclude(self) -> None:
        self._stop_timer()
        hedge = self._hedge
        self._primary.attempt.race = self._primary.stream = None  # an attempt, or a stream, outlives its race
        if hedge is not None:
            self._account(hedge)
            hedge.stream = None
            if hedge.over:
                hedge.attempt.race = None

    def _account(self, hedge: _Side) -> None:
        """Note what the hedge has cost in addition to the attempt that serves."""
        if hedge.attempt.reservation is None:
            return
        context, won = self._request.context, self._winner is hedge
        spent = [one.cost_usd for one in context.attempts if one.error == HEDGED or (one.hedge and not won)]
        wasted = context.decide().wasted_usd = sum(usd or 0.0 for usd in spent)
        self._policy.settle(self._estimated, None if None in spent else wasted, won=won)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _ended(task: asyncio.Task[Any]) -> None:
    _hedges.discard(task)
    if not task.cancelled():
        task.exception()  # is retrieved, wherever the request has got to


def _reason_of(error: Exception) -> str:
    return CIRCUIT if isinstance(error, CircuitOpen) else CAPACITY


async def _close(stream: AttemptStream) -> None:
    """Close the connection of a stream that is not wanted, which a cancelled read leaves open."""
    with suppress(Exception):
        await stream.aclose()
