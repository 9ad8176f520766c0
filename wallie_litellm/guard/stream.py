"""A provider's stream that carries its attempt along and settles it however the stream ends."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from wallie_litellm.core.attempt_result import ABANDONED, AttemptResult
from wallie_litellm.core.circuit_breaker import Verdict
from wallie_litellm.core.demand import Outcome
from wallie_litellm.errors import DeadlineExceeded
from wallie_litellm.litellm_adapter.errors import classify_error, stream_timeout
from wallie_litellm.litellm_adapter.responses import StreamMeter, is_cached_stream, stream_was_ended


@dataclass(frozen=True, slots=True)
class StreamWatch:
    """What a stream has to keep to, and whom it tells how it ended.

    ``settle`` takes how the attempt ended and whether the request ended with it; ``settle_later`` is the same for
    finalisers, which may run in the middle of anything and must not take a lock, and so is ``gone``, which is told that
    the stream is collected. ``may_go_on`` is whether LiteLLM may go on along the chain after an error. ``remaining`` is
    the time to the caller's deadline, ``idle`` the longest silence between two chunks, both in seconds; ``is_slow`` is
    whether a missed deadline says something of the provider.
    """

    settle: Callable[[AttemptResult, bool], None]
    settle_later: Callable[[AttemptResult, bool], None]
    gone: Callable[[], None]
    may_go_on: Callable[[BaseException], bool]
    remaining: Callable[[], float | None]
    is_slow: Callable[[], bool]
    idle: float | None


class GuardedStream:
    """Stands in for a LiteLLM stream, synchronous or not, and passes everything through.

    It settles its attempt once: when the stream is exhausted, fails, is closed, or is collected without having been
    any of these.
    """

    def __init__(self, inner: Any, meter: StreamMeter, watch: StreamWatch) -> None:
        self._inner = inner
        self._iterator: Any = None
        self._meter = meter
        self._watch = watch
        self._started = False
        self._settled = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        if self._iterator is None:
            self._iterator = aiter(self._inner)
        try:
            chunk = await self._next_in_time()
        except StopAsyncIteration:
            self._end()
            raise
        except BaseException as error:
            self._fail(error)
            raise
        self._started = True
        self._meter.see(chunk)
        return chunk

    async def _next_in_time(self) -> Any:
        remaining, idle = self._watch.remaining(), self._watch.idle
        if remaining is None and idle is None:
            return await anext(self._iterator)
        late = remaining is not None and (idle is None or remaining < idle)
        timeout = asyncio.timeout(remaining if late else idle)
        try:
            async with timeout:
                return await anext(self._iterator)
        except TimeoutError as error:
            if not timeout.expired():
                raise
            if late:
                raise DeadlineExceeded("The deadline passed in the middle of the answer.") from error
            # Not every provider's adapter in LiteLLM keeps to the timeout while it streams.
            raise stream_timeout(self._inner, started=self._started) from error

    def __iter__(self) -> GuardedStream:
        return self

    def __next__(self) -> Any:
        if self._iterator is None:
            self._iterator = iter(self._inner)
        try:
            chunk = next(self._iterator)
        except StopIteration:
            self._end()
            raise
        except BaseException as error:
            self._fail(error)
            raise
        self._started = True
        self._meter.see(chunk)
        return chunk

    async def aclose(self) -> None:
        """Stop reading; what has been seen so far is settled."""
        self._abandon()
        close = getattr(self._inner, "aclose", None)
        if close is not None:
            await close()

    def close(self) -> None:
        """:meth:`aclose` for a synchronous stream."""
        self._abandon()
        close = getattr(self._inner, "close", None)
        if close is not None:
            close()

    def __del__(self) -> None:
        if self._settled:
            self._watch.gone()
        else:
            self._watch.settle_later(self._abandoned(), True)

    def _settle(self, ending: AttemptResult) -> None:
        self._settled = True
        self._watch.settle(ending, True)

    def _end(self) -> None:
        if is_cached_stream(self._inner):
            self._settle(AttemptResult(Outcome.CACHE_HIT))
        elif stream_was_ended(self._inner, self._meter.finished):
            self._settle(self._seen(AttemptResult(Outcome.SUCCESS, Verdict.SUCCESS)))
        else:
            self._settle(self._seen(AttemptResult(Outcome.CUT, Verdict.FAILURE, reason="stream cut off")))

    def _fail(self, error: BaseException) -> None:
        if isinstance(error, DeadlineExceeded):
            verdict = Verdict.FAILURE if self._watch.is_slow() else Verdict.IGNORED
            ending = AttemptResult(Outcome.CUT, verdict, reason="no answer before the deadline")
        else:
            ending = classify_error(error)
        if self._started or ending.outcome is not Outcome.REJECTED:
            ending = self._seen(ending._replace(outcome=Outcome.CUT))
        self._settled = True
        tell = self._watch.settle_later if isinstance(error, GeneratorExit) else self._watch.settle
        tell(ending, not self._watch.may_go_on(error))

    def fail(self, error: Exception) -> None:
        """Be settled as a stream that ended with ``error``, unless it has been."""
        if not self._settled:
            self._fail(error)

    def _abandon(self) -> None:
        if not self._settled:
            self._settle(self._abandoned())

    def _abandoned(self) -> AttemptResult:
        if self._meter.finished:
            return self._seen(AttemptResult(Outcome.SUCCESS, Verdict.SUCCESS))
        return self._seen(AttemptResult(Outcome.CUT, reason=ABANDONED))

    def _seen(self, ending: AttemptResult) -> AttemptResult:
        """``ending`` with the usage that the stream has shown so far."""
        return ending._replace(usage=self._meter.usage(), reported=self._meter.reported)


def aborter(stream: GuardedStream) -> Callable[[Exception], None]:
    """A function that settles ``stream`` as one that ended with an error, and does not keep it alive."""
    reference = weakref.WeakMethod(stream.fail)

    def abort(error: Exception) -> None:
        fail = reference()
        if fail is not None:
            fail(error)

    return abort


def closing_both(outer: Any, inner: Any) -> Any:
    """Have ``outer``, LiteLLM's wrapper around ``inner``, close it too.

    The wrapper closes a generator, and a generator that was never started closes nothing.
    """
    if not isinstance(inner, GuardedStream):
        return outer
    reference = weakref.ref(outer)  # a cycle would keep a dropped stream until the next collection

    async def aclose() -> None:
        wrapper = reference()
        if wrapper is not None:
            await type(wrapper).aclose(wrapper)
        await inner.aclose()

    outer.aclose = aclose
    return outer
