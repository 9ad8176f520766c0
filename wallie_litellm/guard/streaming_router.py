"""The router's streams: every one of them carries its attempt along, and goes on along the chain if it may."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import litellm
from litellm.exceptions import MidStreamFallbackError

from wallie_litellm.core.attempt_result import ABANDONED, CANCELLED, AttemptResult, RequestFailure
from wallie_litellm.guard.chain import final_error
from wallie_litellm.guard.context import Attempt, RequestContext
from wallie_litellm.guard.current import current_call
from wallie_litellm.guard.guard import Guard
from wallie_litellm.guard.stream import GuardedStream, StreamWatch, aborter, closing_both
from wallie_litellm.litellm_adapter.errors import failure_from
from wallie_litellm.litellm_adapter.patches import without_context_finaliser
from wallie_litellm.litellm_adapter.responses import StreamMeter

# Under this key a stream's fallback finds the request it belongs to; it is taken out before any call is made.
SCOPE_KEY = "_wallie_scope"

# Seconds a provider must have had a request before a caller's deadline counts as its failure: short deadlines of a few
# callers must not take it away from everybody, and one that hangs must not go unnoticed because all have deadlines.
SLOW_ANSWER = 5.0


class StreamingRouter(litellm.Router):  # type: ignore[misc] # LiteLLM is not type-checked here
    """What :class:`~wallie_litellm.guard.router.WallieRouter` does about streams."""

    guard: Guard

    async def async_function_with_fallbacks_common_utils(self, *args: Any, **kwargs: Any) -> Any:
        """The way along the chain. From inside a stream nobody else says what became of the whole request."""
        scope = (kwargs.get("kwargs") or {}).get(SCOPE_KEY)
        if not isinstance(scope, RequestContext):
            return await super().async_function_with_fallbacks_common_utils(*args, **kwargs)
        scope.fallbacks_under_way += 1
        self._give_up(scope.served_by, args[0] if args else kwargs.get("e"))
        try:
            response = await super().async_function_with_fallbacks_common_utils(*args, **kwargs)
        except Exception as error:
            self.guard.check_deadline(scope)
            final = final_error(scope, error)
            self.guard.end(scope, failure_from(final))
            if final is error:
                raise
            raise final from error
        finally:
            scope.fallbacks_under_way -= 1
        self._conclude(scope)
        return response

    @staticmethod
    def _give_up(attempt: Attempt | None, error: object) -> None:
        """Settle the stream that LiteLLM turns away from: some of its wrappers hide the error from it."""
        if attempt is not None and attempt.abort is not None and isinstance(error, Exception):
            attempt.abort(error)

    def _conclude(self, scope: RequestContext) -> None:
        """The request has an answer; a stream says itself when it has ended."""
        if scope.served_by is None or not scope.served_by.streaming:
            self.guard.end(scope)

    async def _acompletion_streaming_iterator(
        self, model_response: Any, messages: Any, initial_kwargs: dict[str, Any], *args: Any, **kwargs: Any
    ) -> Any:
        guarded = self._take_over(model_response, initial_kwargs)
        stream = await super()._acompletion_streaming_iterator(guarded, messages, initial_kwargs, *args, **kwargs)
        return closing_both(without_context_finaliser(stream), guarded)

    def _completion_streaming_iterator(
        self, model_response: Any, messages: Any, initial_kwargs: dict[str, Any], *args: Any, **kwargs: Any
    ) -> Any:
        guarded = self._take_over(model_response, initial_kwargs)
        stream = super()._completion_streaming_iterator(guarded, messages, initial_kwargs, *args, **kwargs)
        return without_context_finaliser(stream)

    async def _aresponses_streaming_iterator(self, response: Any, initial_kwargs: dict[str, Any]) -> Any:
        guarded = self._take_over(response, initial_kwargs)
        return closing_both(await super()._aresponses_streaming_iterator(guarded, initial_kwargs), guarded)

    async def _aanthropic_messages_streaming_iterator(self, response: Any, initial_kwargs: dict[str, Any]) -> Any:
        guarded = self._take_over(response, initial_kwargs)
        return closing_both(await super()._aanthropic_messages_streaming_iterator(guarded, initial_kwargs), guarded)

    def _anthropic_messages_stream_can_retry(self, kwargs: Mapping[str, Any]) -> bool:
        # LiteLLM would call the same deployment again from inside the stream, past the retry budget and the limits.
        return False

    def _take_over(self, stream: Any, initial_kwargs: dict[str, Any]) -> Any:
        """Hand the attempt to its stream; a fallback from inside it goes on with the same request and chain."""
        call = current_call.get()
        if call is None or call.attempt.reservation is None:
            return stream
        scope, attempt = call.scope, call.attempt
        initial_kwargs[SCOPE_KEY] = scope
        if scope.route.chain and not isinstance(initial_kwargs.get("fallbacks"), list):
            initial_kwargs["fallbacks"] = [{attempt.group: list(scope.remaining(attempt.group))}]
        return self._guard_stream(scope, attempt, stream, self._chunk_timeout(initial_kwargs, call.params))

    def _chunk_timeout(self, kwargs: Mapping[str, Any], params: Mapping[str, Any]) -> float | None:
        """Seconds a stream may be silent, as LiteLLM settles them between request, deployment and router."""
        seconds = self._get_timeout(kwargs={**kwargs, "stream": True}, data=params)
        return float(seconds) if isinstance(seconds, int | float) else None

    def _guard_stream(
        self, scope: RequestContext, attempt: Attempt, stream: Any, idle: float | None = None
    ) -> GuardedStream:
        assert attempt.reservation is not None  # noqa: S101 - narrows the type
        attempt.streaming = True
        guard = self.guard

        def settle(ending: AttemptResult, over: bool) -> None:
            if guard.settle(scope, attempt, ending) and ending.reason is not None:
                scope.fail_attempt(attempt, ending)
            if over:
                guard.end(scope, _failure_of(ending))

        def settle_later(ending: AttemptResult, over: bool) -> None:
            guard.later(lambda: settle(ending, over))

        def end() -> None:
            # LiteLLM might have gone on along the chain after this stream's error, and has not.
            if attempt.result is not None and scope.served_by is attempt and not scope.fallbacks_under_way:
                guard.end(scope, _failure_of(attempt.result))

        def gone() -> None:
            if not scope.ended:
                guard.later(end)

        def may_go_on(error: BaseException) -> bool:
            if scope.operation == "messages":
                return isinstance(error, Exception)
            # LiteLLM does not begin another answer once a part of this one has been delivered.
            return isinstance(error, MidStreamFallbackError) and (error.is_pre_first_chunk or not meter.has_content)

        def remaining() -> float | None:
            return None if scope.deadline_at is None else scope.deadline_at - guard.clock.now()

        meter = StreamMeter(attempt.reservation.demand, stream)
        watch = StreamWatch(settle, settle_later, gone, may_go_on, remaining, lambda: self._is_slow(attempt), idle)
        guarded = GuardedStream(without_context_finaliser(stream), meter, watch)
        attempt.abort = aborter(guarded)
        return guarded

    def _is_slow(self, attempt: Attempt) -> bool:
        return self.guard.clock.now() - attempt.started_at >= SLOW_ANSWER


def _failure_of(ending: AttemptResult) -> RequestFailure | None:
    if ending.reason is None:
        return None
    return RequestFailure(ending.reason, ending.status_code, ending.reason in (CANCELLED, ABANDONED))
