"""A provider's stream that carries its attempt along and settles it however the stream ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from wallie_litellm.adapter import StreamMeter, ending_of, is_cache_hit, stream_was_ended
from wallie_litellm.core.breaker import Verdict
from wallie_litellm.core.demand import Outcome
from wallie_litellm.errors import DeadlineExceeded
from wallie_litellm.scope import Ending


class GuardedStream:
    """Stands in for a LiteLLM stream, synchronous or not, and passes everything through.

    ``settle`` is called once: when the stream is exhausted, fails, is closed, or is collected without having been any
    of these.
    """

    def __init__(
        self, inner: Any, meter: StreamMeter, settle: Callable[[Ending], None], remaining: Callable[[], float | None]
    ) -> None:
        self._inner = inner
        self._iterator: Any = None
        self._meter = meter
        self._settle = settle
        self._remaining = remaining

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        if self._iterator is None:
            self._iterator = aiter(self._inner)
        try:
            remaining = self._remaining()
            if remaining is None:
                chunk = await anext(self._iterator)
            else:
                chunk = await self._next_within(remaining)
        except StopAsyncIteration:
            self._end()
            raise
        except BaseException as error:
            self._fail(error)
            raise
        self._meter.see(chunk)
        return chunk

    async def _next_within(self, seconds: float) -> Any:
        try:
            async with asyncio.timeout(seconds):
                return await anext(self._iterator)
        except TimeoutError as error:
            raise DeadlineExceeded("The deadline passed in the middle of the answer.") from error

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
        self._abandon()

    def _end(self) -> None:
        if is_cache_hit(self._inner):
            self._settle(Ending(Outcome.CACHE_HIT))
        elif stream_was_ended(self._inner, self._meter.finished):
            self._settle(Ending(Outcome.SUCCESS, Verdict.SUCCESS, self._meter.usage()))
        else:
            self._settle(Ending(Outcome.CUT, Verdict.FAILURE, self._meter.usage(), reason="stream cut off"))

    def _fail(self, error: BaseException) -> None:
        if isinstance(error, DeadlineExceeded):
            ending = Ending(Outcome.CUT, Verdict.FAILURE, reason="no answer before the deadline")
        else:
            ending = ending_of(error)
        self._settle(ending._replace(outcome=Outcome.CUT, usage=self._meter.usage()))

    def _abandon(self) -> None:
        if self._meter.finished:
            self._settle(Ending(Outcome.SUCCESS, Verdict.SUCCESS, self._meter.usage()))
        else:
            self._settle(Ending(Outcome.CUT, usage=self._meter.usage(), reason="abandoned"))
