"""The stream that a caller reads: it goes on along the chain as long as no content has been delivered."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any

from wallie_litellm.core.attempt_result import ABANDONED, CANCELLED, AttemptResult, RequestFailure
from wallie_litellm.core.operations import CHAT
from wallie_litellm.errors import WallieError
from wallie_litellm.guard.attempt_stream import AttemptStream
from wallie_litellm.guard.attempts import Attempts
from wallie_litellm.guard.context import Attempt, RequestContext
from wallie_litellm.guard.request import Request
from wallie_litellm.guard.request_loop import Step
from wallie_litellm.litellm_adapter.errors import failure_from
from wallie_litellm.litellm_adapter.inner_router import id_of
from wallie_litellm.litellm_adapter.requests import accepts_prefill
from wallie_litellm.litellm_adapter.responses import text_of_chunk


class RequestStream:
    """Stands in for the stream of the attempt that serves, which may change until content has been delivered.

    Chunks without content are held back until then: the caller never sees two beginnings. What happens when a stream
    breaks after content is the feature's ``stream_recovery``: the caller gets the ``error``; or everything is held back
    until the answer is whole (``hold``); or another model goes on from the text so far (``continue``).

    ``decorate`` sets the headers of the answer on the stream of each attempt. ``error_for`` makes the caller's error of the loop's.
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
        self._text: list[str] | None = [] if self._recovery == "continue" else None  # None: cannot be continued
        self._exhausted = False
        self._current = stream
        decorate(request.context, stream.inner)

    def __getattr__(self, name: str) -> Any:
        if name == "_current":  # not made yet
            raise AttributeError(name)
        return getattr(self._current.inner, name)

    @property
    def __class__(self) -> type:  # type: ignore[override] # LiteLLM and others ask for its class of streams
        return type(self._current.inner)

    # Asynchronous

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        while not self._has_next():
            current = self._current
            try:
                chunk = await anext(current)
            except StopAsyncIteration:
                self._finish()
            except Exception as error:
                step = self._step_after(error)
                self._replace(await self._run(step))
            except BaseException as error:
                self._end(failure_from(error))
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
        try:
            self._held.appendleft(await anext(self))
        except StopAsyncIteration:
            pass

    async def _run(self, step: Step) -> AttemptStream:
        try:
            stream: AttemptStream = await self._attempts.run(self._request, step)
        except Exception as error:
            raise self._failed(error) from error.__cause__
        except BaseException as error:
            self._end(failure_from(error))
            raise
        return stream

    async def aclose(self) -> None:
        """Stop reading; what has been received so far is settled."""
        self._stop()
        await self._current.aclose()

    # Synchronous

    def __iter__(self) -> RequestStream:
        return self

    def __next__(self) -> Any:
        while not self._has_next():
            current = self._current
            try:
                chunk = next(current)
            except StopIteration:
                self._finish()
            except Exception as error:
                step = self._step_after(error)
                self._replace(self._run_blocking(step))
            except BaseException as error:
                self._end(failure_from(error))
                raise
            else:
                self._take(chunk)
        if not self._held:
            raise StopIteration
        return self._held.popleft()

    def _run_blocking(self, step: Step) -> AttemptStream:
        try:
            stream: AttemptStream = self._attempts.run_blocking(self._request, step)
        except Exception as error:
            raise self._failed(error) from error.__cause__
        except BaseException as error:
            self._end(failure_from(error))
            raise
        return stream

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
        if self._exhausted:
            return True
        return bool(self._held) and self._delivered and self._recovery != "hold"

    def _take(self, chunk: Any) -> None:
        self._held.append(chunk)
        if self._text is not None:
            text = text_of_chunk(chunk) if self._request.context.operation == CHAT else None
            if text is None:
                self._text = None
            else:
                self._text.append(text)
        if self._current.has_content and self._recovery != "hold":
            self._delivered = True

    def _finish(self) -> None:
        self._exhausted = True
        self._end(None)

    def _step_after(self, error: Exception) -> Step:
        """The attempt that follows the stream's ``error``.

        Raises:
            Exception: the error that the caller receives.
        """
        prefill = None
        if self._delivered:
            prefill = "".join(self._text or ()) or None
            if self._recovery != "continue" or prefill is None:
                raise self._failed(error, as_is=True)
        try:
            step = self._request.loop.after(self._current.attempt, error)
            return step if prefill is None else self._continued(step, prefill, error)
        except Exception as final:
            raise self._failed(error if prefill is not None else final, as_is=prefill is not None) from final.__cause__

    def _continued(self, step: Step, prefill: str, error: Exception) -> Step:
        """The first ``step`` to a model that goes on from a text that it is given."""
        loop = self._request.loop
        while True:
            deployments = self._attempts.deployments_of(step.group)
            unfit = {str(id_of(deployment)) for deployment in deployments if not accepts_prefill(deployment)}
            if len(unfit) < len(deployments):
                return step._replace(prefill=prefill, excluded=step.excluded | unfit)
            step = loop.after(Attempt(step.group), error)

    def _replace(self, stream: AttemptStream) -> None:
        self._current = stream
        if not self._delivered:
            self._held.clear()
        self._decorate(self._request.context, stream.inner)

    # The request's end

    def _failed(self, error: Exception, *, as_is: bool = False) -> Exception:
        """End the request as a failure; returns the error that the caller receives."""
        self._exhausted = True
        self._held.clear()
        self._end(failure_from(error))
        return error if as_is and not isinstance(error, WallieError) else self._error_for(error)

    def _stop(self) -> None:
        self._exhausted = True
        self._held.clear()
        self._current.abandon()
        self._end(_failure_of(self._current.attempt.result))

    def _end_as_abandoned(self) -> None:
        self._end(_failure_of(self._current.attempt.result))

    def _end(self, failure: RequestFailure | None) -> None:
        self._attempts.guard.end(self._request.context, failure)


def _failure_of(result: AttemptResult | None) -> RequestFailure | None:
    if result is None or result.reason is None:
        return None
    return RequestFailure(result.reason, result.status_code, result.reason in (CANCELLED, ABANDONED))
