"""A provider's stream that carries its attempt along and settles it however the stream ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final, NamedTuple, NoReturn

from wallie_litellm.core.attempt_result import ABANDONED, AttemptResult
from wallie_litellm.core.circuit_breaker import Verdict
from wallie_litellm.core.demand import Outcome
from wallie_litellm.errors import DeadlineExceeded
from wallie_litellm.guard.context import Attempt
from wallie_litellm.guard.silence_bound import SilenceBound
from wallie_litellm.litellm_adapter.errors import (
    classify_error,
    error_event,
    first_token_timeout,
    is_missing_end,
    original_error,
    readable,
    stream_cut,
    timeout_error,
    unreadable_event,
)
from wallie_litellm.litellm_adapter.responses import is_cached_stream
from wallie_litellm.litellm_adapter.wires import wire_of

# Seconds a provider must have had a request before a caller's deadline counts as its failure: short deadlines of a few
# callers must not open its breaker, and a provider that hangs must not go unnoticed because all calls have deadlines.
SLOW_ANSWER: Final = 5.0


class StreamBounds(NamedTuple):
    """How long a stream may take. ``idle`` is the longest gap between two chunks, in seconds.

    Times named ``_at`` are of ``now``'s clock: content must have come by ``first_token_at``, ``first_token`` seconds
    after the call; the caller's deadline is ``deadline_at``.
    """

    idle: float | None
    first_token_at: float | None
    first_token: float | None
    deadline_at: float | None
    now: Callable[[], float]


class _Ended:
    """A stream of which nothing more comes."""

    def __aiter__(self) -> _Ended:
        return self

    async def __anext__(self) -> NoReturn:
        raise StopAsyncIteration


class AttemptStream:
    """Stands in for a LiteLLM stream, synchronous or not, and passes everything through.

    It settles its attempt once: when the stream is exhausted, fails, is closed, or is collected without having been
    any of these. A stream that ends without its wire's end mark raises an error.
    """

    def __init__(
        self,
        inner: Any,
        attempt: Attempt,
        bounds: StreamBounds,
        settle: Callable[[AttemptResult, tuple[str, float] | None], object],
        later: Callable[[Callable[[], object]], object],
        operation: str,
    ) -> None:
        assert attempt.reservation is not None, "a stream's attempt was admitted"  # noqa: S101 - narrows the type
        attempt.streaming = True
        self.inner = inner
        self.primed: Sequence[Any] = ()  # chunks that were read by :meth:`prime`, and not delivered yet
        self.attempt = attempt
        self._bounds = bounds
        self._settle_with = settle
        self._later = later
        self._reader = wire_of(operation)(inner)
        self._prompt_tokens = attempt.prompt_tokens  # as estimated
        self._iterator: Any = None
        self._settled = False
        self._awaits_content = True
        self._extended = 0.0  # seconds that first_token was passed on by, for a loop that was late itself

    @property
    def has_content(self) -> bool:
        """Whether any part of an answer has come."""
        return self._reader.has_content

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        if self._iterator is None:
            self._iterator = aiter(self.inner)
        try:
            chunk = await self._next_in_time()
        except StopAsyncIteration:
            self._end()
            raise
        except BaseException as error:
            if self._was_whole(error):
                raise StopAsyncIteration from error
            self._raise(error)
        self._see(chunk)
        return chunk

    async def prime(self) -> None:
        """Read until a part of an answer has come, or the stream has ended without any."""
        self.primed = primed = []
        try:
            while not self._reader.has_content:
                primed.append(await anext(self))
        except StopAsyncIteration:
            self._iterator = _Ended()

    async def _next_in_time(self) -> Any:
        bound = self._nearest_bound()
        if bound is None:
            return await anext(self._iterator)
        seconds, error_for, on_silence = bound
        timeout = SilenceBound(seconds) if on_silence else asyncio.timeout(seconds)
        try:
            async with timeout:
                return await anext(self._iterator)
        except TimeoutError as error:
            if not timeout.expired():
                raise
            # Not every provider's adapter in LiteLLM keeps to the timeout while it streams.
            raise error_for() from error
        finally:
            if isinstance(timeout, SilenceBound):
                self._extended += timeout.extended

    def _nearest_bound(self) -> tuple[float, Callable[[], Exception], bool] | None:
        """Seconds, the error when they have passed, and whether they are those of ``first_token``."""
        bounds, attempt = self._bounds, self.attempt
        found: list[tuple[float, Callable[[], Exception], bool]] = []
        if bounds.idle is not None:
            found.append((bounds.idle, lambda: timeout_error(attempt.deployment, attempt.provider), False))
        if bounds.first_token_at is not None and bounds.first_token is not None and not self._reader.has_content:
            seconds = bounds.first_token
            error = lambda: first_token_timeout(attempt.deployment, attempt.provider, seconds)  # noqa: E731
            found.append((bounds.first_token_at + self._extended - bounds.now(), error, True))
        if bounds.deadline_at is not None:
            late = lambda: DeadlineExceeded("The deadline passed in the middle of the answer.")  # noqa: E731
            found.append((bounds.deadline_at - bounds.now(), late, False))
        return min(found, key=lambda bound: bound[0]) if found else None

    def __iter__(self) -> AttemptStream:
        return self

    def __next__(self) -> Any:
        if self._iterator is None:
            self._iterator = iter(self.inner)
        try:
            chunk = next(self._iterator)
        except StopIteration:
            self._end()
            raise
        except BaseException as error:
            if self._was_whole(error):
                raise StopIteration from error
            self._raise(error)
        self._see(chunk)
        return chunk

    def _see(self, chunk: Any) -> None:
        reader = self._reader
        reader.see(chunk)
        if self._awaits_content and reader.has_content:
            self._awaits_content = False
            if not is_cached_stream(self.inner):
                self.attempt.first_token_at = self._bounds.now()
        if (reader.failed is not None or reader.unreadable) and not self._settled:
            self._raise(self._error_within())

    def _error_within(self) -> Exception:
        """The error for what the provider sent in place of the rest of the answer."""
        deployment, provider, reader = self.attempt.deployment, self.attempt.provider, self._reader
        if reader.failed is None:
            return unreadable_event(deployment, provider)
        return error_event(deployment, provider, reader.failed, reader.error)

    async def aclose(self) -> None:
        """Stop reading; what has been seen so far is settled."""
        self.abandon()
        close = getattr(self.inner, "aclose", None)
        if close is not None:
            await close()

    def close(self) -> None:
        """:meth:`aclose` for a synchronous stream."""
        self.abandon()
        close = getattr(self.inner, "close", None)
        if close is not None:
            close()

    def abandon(self, reason: str = ABANDONED) -> None:
        """Settle what has come so far: the rest is not wanted."""
        if not self._settled:
            self._settle(self._abandoned(reason))

    def abandon_later(self) -> None:
        """:meth:`abandon` for finalisers, which may run in the middle of anything and must not take a lock.

        The clock's thread drops LiteLLM's stream too, whose own finaliser is not fit for a garbage collection.
        """
        inner = self.inner
        if self._settled:
            self._later(lambda: inner)
            return
        self._settled = True
        result, settle, response = self._abandoned(), self._settle_with, self._reader.billed_response
        self._later(lambda: (settle(result, response), inner))

    def _settle(self, result: AttemptResult) -> None:
        self._settled = True
        self._settle_with(result, self._reader.billed_response)

    def _was_whole(self, error: BaseException) -> bool:
        """Settle a stream whose end LiteLLM (1.110) misses, but that usage on its last text shows to be whole."""
        if self._settled or not is_missing_end(error) or not self._reader.forgives_missing_end():
            return False
        self._settle(self._seen(AttemptResult(Outcome.SUCCESS, Verdict.SUCCESS)))
        return True

    def _end(self) -> None:
        if self._settled:
            return
        reader = self._reader
        reader.end()
        if is_cached_stream(self.inner):
            self._settle(AttemptResult(Outcome.CACHE_HIT))
        elif reader.failed is not None or reader.unreadable:
            self._raise(self._error_within())
        elif reader.was_ended():
            self._settle(self._seen(AttemptResult(Outcome.SUCCESS, Verdict.SUCCESS)))
        else:
            self._raise(stream_cut(self.attempt.deployment, self.attempt.provider))

    def _raise(self, error: BaseException) -> NoReturn:
        """Settle the attempt, and raise the error that the caller receives."""
        cause = self._failed(error)
        try:
            raise cause
        finally:  # its traceback holds this frame: no cycle is to keep a dropped stream
            del cause, error

    def _failed(self, error: BaseException) -> BaseException:
        """Settle the attempt; returns the error that the caller receives."""
        cause = original_error(error) if isinstance(error, Exception) else error
        if self._settled:
            return cause
        if is_missing_end(error):
            cut = stream_cut(self.attempt.deployment, self.attempt.provider)
            cut.__cause__, error, cause = cause, cut, cut
        if isinstance(cause, DeadlineExceeded):
            slow = self._bounds.now() - self.attempt.started_at >= SLOW_ANSWER
            verdict = Verdict.FAILURE if slow else Verdict.IGNORED
            result = AttemptResult(Outcome.CUT, verdict, reason="no answer before the deadline")
        else:
            result = classify_error(error, exchanged=True)
            if isinstance(cause, Exception):
                cause = readable(cause, self.attempt.deployment, self.attempt.provider, result.status_code)
        if self._iterator is not None and (self._reader.begun or result.outcome is not Outcome.REJECTED):
            result = self._seen(result._replace(outcome=Outcome.CUT))
        if isinstance(error, GeneratorExit):
            self._settled = True
            settle, response = self._settle_with, self._reader.billed_response
            self._later(lambda: settle(result, response))
        else:
            self._settle(result)
        return cause

    def _abandoned(self, reason: str = ABANDONED) -> AttemptResult:
        if self._reader.finished:
            return self._seen(AttemptResult(Outcome.SUCCESS, Verdict.SUCCESS))
        return self._seen(AttemptResult(Outcome.CUT, reason=reason))

    def _seen(self, result: AttemptResult) -> AttemptResult:
        """``result`` with the usage that the stream has shown so far."""
        seen = self._reader.seen(self._prompt_tokens)
        return result._replace(
            usage=seen.usage, reported=seen.reported, estimated=seen.estimated, service_tier=seen.service_tier
        )
