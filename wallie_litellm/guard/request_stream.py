"""The stream that a caller reads: it goes on along the chain as long as no content has been delivered."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

from wallie_litellm.core.attempt_result import ABANDONED, CANCELLED, AttemptResult, RequestFailure
from wallie_litellm.core.operations import CHAT
from wallie_litellm.errors import WallieError
from wallie_litellm.guard.attempt_stream import AttemptStream
from wallie_litellm.guard.attempts import Attempts
from wallie_litellm.guard.context import Attempt, RequestContext
from wallie_litellm.guard.request import Request
from wallie_litellm.guard.request_loop import Step
from wallie_litellm.litellm_adapter.errors import failure_from, stream_cut
from wallie_litellm.litellm_adapter.inner_router import id_of
from wallie_litellm.litellm_adapter.requests import accepts_prefill
from wallie_litellm.litellm_adapter.responses import text_of_chunk


class RequestStream:
    """Stands in for the stream of the attempt that serves, which may change until content has been delivered.

    Chunks without content are held back until then: the caller never sees two beginnings. What happens when a stream
    breaks after content is the feature's ``stream_recovery``: the caller gets the ``error``; or everything is held back
    until the answer is whole (``hold``); or another model goes on from the text so far (``continue``).

    ``decorate`` sets the headers of the answer on the stream of each attempt. ``error_for`` makes the caller's error of
    the loop's.
    """

    def __init__(
        self,
        request: Request,
        attempts: Attempts,
        stream: AttemptStream,
        decorate: Callable[[RequestContext, Any], None],
        error_for: Callable[[Exception], Exception],
    ) -> None:
        self._request = request
        self._attempts = attempts
        self._decorate = decorate
        self._error_for = error_for
        self._recovery = request.context.rules.stream_recovery
        self._held: deque[Any] = deque()
        self._delivered = False  # content, not only chunks
        self._text: list[str] = []  # that came, where it can be continued
        self._is_text = self._recovery == "continue" and request.context.operation == CHAT
        self._last: Exception | None = None  # the error of the present attempt's stream
        self._broken: Exception | None = None  # the error of the stream whose text was delivered
        self._exhausted = False
        self._broken_off = False
        self._current = stream
        self._take_primed(stream)
        attempts.guard.watch(self)
        decorate(request.context, stream.inner)

    def __getattr__(self, name: str) -> Any:
        if name == "_current":  # not made yet
            raise AttributeError(name)
        return getattr(self._current.inner, name)

    @property  # type: ignore[misc] # `object` has it read-write
    def __class__(self) -> type:  # LiteLLM and others ask for LiteLLM's class of streams
        return type(self._current.inner)

    # Asynchronous

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        while not self._has_next():
            try:
                chunk = await anext(self._current)
            except StopAsyncIteration:
                self._finish()
            except Exception as error:  # noqa: BLE001 - raised again, or another, by what follows
                _forget_frame(error)
                step = self._step_after(error)
                stream = await self._run(step)
                if self._exhausted:  # closed in the meantime
                    await stream.aclose()
                else:
                    self._replace(stream)
            except BaseException as error:
                self._break_off(error)
                raise
            else:
                self._take(chunk)
        if not self._held:
            raise StopAsyncIteration
        return self._held.popleft()

    async def prime(self) -> None:
        """Wait for the first content, so that a failure until then is the request's and not the stream's.

        Raises:
            Exception: the request has failed.
        """
        with suppress(StopAsyncIteration):
            self._held.appendleft(await anext(self))

    async def _run(self, step: Step) -> AttemptStream:
        try:
            return _as_stream(await self._attempts.run(self._request, step, self._follow))
        except Exception as error:
            if (final := self._failed(error)) is error:
                raise
            raise final from error
        except BaseException as error:
            self._break_off(error)
            raise

    async def aclose(self) -> None:
        """Stop reading; what has been received so far is settled."""
        self._stop()
        await self._current.aclose()

    # Synchronous

    def __iter__(self) -> RequestStream:
        return self

    def __next__(self) -> Any:
        while not self._has_next():
            try:
                chunk = next(self._current)
            except StopIteration:
                self._finish()
            except Exception as error:  # noqa: BLE001 - raised again, or another, by what follows
                _forget_frame(error)
                step = self._step_after(error)
                self._replace(self._run_blocking(step))
            except BaseException as error:
                self._break_off(error)
                raise
            else:
                self._take(chunk)
        if not self._held:
            raise StopIteration
        return self._held.popleft()

    def _run_blocking(self, step: Step) -> AttemptStream:
        try:
            return _as_stream(self._attempts.run_blocking(self._request, step, self._follow))
        except Exception as error:
            if (final := self._failed(error)) is error:
                raise
            raise final from error
        except BaseException as error:
            self._break_off(error)
            raise

    def close(self) -> None:
        """:meth:`aclose` for a synchronous stream."""
        self._stop()
        self._current.close()

    def __del__(self) -> None:
        current = self.__dict__.get("_current")
        if current is None:
            return
        current.abandon_later()
        if not self._request.context.ended:
            self._attempts.guard.later(self._end_as_abandoned)

    # What comes and what goes

    def _has_next(self) -> bool:
        if self._broken_off:
            raise stream_cut(self._current.attempt.deployment, self._current.attempt.provider)
        if self._exhausted:
            return True
        return bool(self._held) and self._delivered and self._recovery != "hold"

    def _take(self, chunk: Any) -> None:
        self._held.append(chunk)
        if self._is_text:
            text = text_of_chunk(chunk)
            if text is None:  # a tool call, for example: no model goes on from a part of one
                self._is_text = False
                self._text.clear()
            else:
                self._text.append(text)
        if self._current.has_content and self._recovery != "hold":
            self._delivered = True

    def _take_primed(self, stream: AttemptStream) -> None:
        for chunk in stream.primed:
            self._take(chunk)
        stream.primed = ()

    def _finish(self) -> None:
        self._exhausted = True
        self._end(None)

    def _step_after(self, error: Exception) -> Step:
        """The attempt that follows the stream's ``error``.

        Raises:
            Exception: the error that the caller receives.
        """
        if self._delivered and not self._text:
            self._last = error
            raise self._failed(error, as_is=True)
        try:
            return self._follow(self._current.attempt, error)
        except Exception as final:
            if (mine := self._failed(final)) is final:
                raise
            raise mine from final

    def _follow(self, attempt: Attempt, error: Exception) -> Step:
        """What comes after a failed attempt. Where text has been delivered, only what goes on from it."""
        own = attempt is self._current.attempt
        self._last = error if own else self._last
        has_content = own and self._current.has_content
        if not self._delivered:
            return self._request.loop.after(attempt, error, elsewhere=has_content)
        prefill, broken = "".join(self._text or ()), self._broken or error
        self._broken = broken
        try:
            step = self._request.loop.after(attempt, error, elsewhere=has_content)
            while True:
                deployments = self._attempts.deployments_of(step.group)
                unfit = {str(id_of(deployment)) for deployment in deployments if not accepts_prefill(deployment)}
                if len(unfit) < len(deployments):
                    return step._replace(prefill=prefill, excluded=step.excluded | unfit)
                step = self._request.loop.after(Attempt(step.group), error)
        except Exception:  # noqa: BLE001 - that no other model goes on says less than why this one broke
            raise broken from None

    def _replace(self, stream: AttemptStream) -> None:
        self._current = stream
        self._last = None  # its traceback holds this stream
        if not self._delivered:
            self._held.clear()
        self._take_primed(stream)
        self._decorate(self._request.context, stream.inner)

    # The request's end

    def _break_off(self, error: BaseException) -> None:
        """The caller was cancelled, or is collected: reading on is an error, and no answer that ends well."""
        self._broken_off = True
        failure = failure_from(error)
        if isinstance(error, GeneratorExit):  # a coroutine that is collected: see Guard.later
            self._attempts.guard.later(lambda: self._end(failure))
        else:
            self._end(failure)

    def _failed(self, error: Exception, *, as_is: bool = False) -> Exception:
        """End the request as a failure; returns the error that the caller receives."""
        self._exhausted = True
        self._held.clear()
        # The stream knows of its error that it came in an answer.
        own = None if isinstance(error, WallieError) else _failure_of(self._current.attempt.result)
        self._end(own if own is not None and error is self._last else failure_from(error))
        return error if as_is and not isinstance(error, WallieError) else self._error_for(error)

    def _stop(self) -> None:
        self._exhausted = True
        self._held.clear()
        self._current.abandon()
        self._end(_failure_of(self._current.attempt.result))

    def break_off(self) -> None:
        """Settle what has been received so far: the guard closes. Reading on is an error."""
        if not self._exhausted:
            self._broken_off = True
            self._current.abandon()
            self._end_as_abandoned()

    def _end_as_abandoned(self) -> None:
        self._end(_failure_of(self._current.attempt.result))

    def _end(self, failure: RequestFailure | None) -> None:
        self._last = self._broken = None  # their tracebacks hold this stream
        self._attempts.guard.end(self._request.context, failure)


def _forget_frame(error: BaseException) -> None:
    """Take the frame that caught ``error`` out of its traceback.

    LiteLLM keeps errors in cycles of its own; with this frame, they would keep a stream that its reader drops.
    """
    if error.__traceback__ is not None:
        error.__traceback__ = error.__traceback__.tb_next


def _as_stream(answer: Any) -> AttemptStream:
    """The stream that a later attempt of a streamed request has answered with."""
    if not isinstance(answer, AttemptStream):
        raise TypeError(f"found {type(answer).__name__}, expected a stream, as the first attempt's was")
    return answer


def _failure_of(result: AttemptResult | None) -> RequestFailure | None:
    if result is None or result.reason is None:
        return None
    return RequestFailure(result.reason, result.status_code, result.reason in (CANCELLED, ABANDONED))
