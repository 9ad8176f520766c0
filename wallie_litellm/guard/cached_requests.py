"""Requests of features with a cache: answered by an answer that is kept, or by their own, which is kept then.

An answer from the cache is no attempt: nothing is admitted, charged or priced. It is on record as the request's end.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

from wallie_litellm.guard.answer_headers import add_headers
from wallie_litellm.guard.background_loop import run_in_background
from wallie_litellm.guard.context import Attempt, RequestContext
from wallie_litellm.guard.guard import Guard
from wallie_litellm.guard.request import Request
from wallie_litellm.guard.request_stream import RequestStream
from wallie_litellm.litellm_adapter.answer_keys import QuestionReader, answers_vary
from wallie_litellm.litellm_adapter.answer_store import open_store
from wallie_litellm.litellm_adapter.errors import failure_from
from wallie_litellm.litellm_adapter.hit_log import Hit, log_hit
from wallie_litellm.litellm_adapter.inner_router import InnerRouter
from wallie_litellm.litellm_adapter.kept_answers import answer_again, kept_answer, kept_stream
from wallie_litellm.routing.answer_pool import CacheFigures, KeptAnswer, Lookup

Make = Callable[[Request], Awaitable[Any]]
MakeBlocking = Callable[[Request], Any]


class CachedRequests:
    """Answers the requests of one router from the answers of its guard."""

    def __init__(self, guard: Guard, inner: InnerRouter) -> None:
        self._guard = guard
        self._inner = inner
        self._reader = QuestionReader()
        self._switches = guard.routing.switches
        self._pool = pool = guard.routing.answers
        if pool is not None and pool.store is None:
            pool.store = open_store(None, guard.config.store.timeout)

    async def serve(self, request: Request, make: Make) -> Any:
        """The answer that is kept, else the one that ``make`` makes, which is kept if it is fit.

        Raises:
            Exception: that of ``make``.
        """
        lookup = self._lookup(request)
        if lookup is None:
            return await make(request)
        if (answer := await self._find(request, lookup)) is not None:
            return answer
        try:
            answer = await make(request)
            if isinstance(answer, RequestStream):
                return _RecordedStream(answer, lookup, self, request)
        except GeneratorExit:  # a coroutine that is collected: see Guard.later
            self._guard.later(partial(lookup.abandon, left=True))
            raise
        except BaseException as error:
            lookup.abandon(left=not isinstance(error, Exception))
            raise
        await lookup.keep(self.text_of(request, answer))
        return answer

    def serve_blocking(self, request: Request, make: MakeBlocking) -> Any:
        """:meth:`serve` for code without an event loop."""
        lookup = self._lookup(request)
        if lookup is None:
            return make(request)
        if (answer := run_in_background(self._find(request, lookup))) is not None:
            return answer
        try:
            answer = make(request)
            if isinstance(answer, RequestStream):
                return _RecordedStream(answer, lookup, self, request)
        except BaseException:
            lookup.abandon()
            raise
        run_in_background(lookup.keep(self.text_of(request, answer)))
        return answer

    def _lookup(self, request: Request) -> Lookup | None:
        """The request's way to an answer; ``None`` where it cannot have one that is kept."""
        context, pool = request.context, self._pool
        settings = context.rules.cache
        if pool is None or settings is None or not self._switches.on("cache"):
            return None
        if self._guard.closed or request.loop.has_mock_fault:
            return None
        # Where its latency has put another member first, the question is still that of the group planned before.
        group = (context.decided.order if context.decided is not None else None) or context.group
        deployments = self._inner.deployments_of(group)
        question = self._reader.read(
            context.operation,
            group,
            context.caller.feature,
            request.arguments,
            deployments,
            settings,
            self._inner.defaults(),
        )
        if question is None:
            return None
        ttl = question.ttl if question.keeps else 0.0
        return Lookup(pool, question.key, ttl, question.max_age, reads=question.reads)

    async def _find(self, request: Request, lookup: Lookup) -> Any:
        """The answer that is kept, or that of the same request under way; ``None`` where there is none."""
        context = request.context
        longest = context.rules.max_wait - context.waited
        if context.deadline_at is not None:
            longest = min(longest, context.deadline_at - self._guard.clock.now())
        try:
            kept = await lookup.answer(longest)
        except BaseException as error:
            self._guard.end(context, failure_from(error))
            raise
        context.waited += lookup.waited
        answer = None if kept is None else self._again(request, kept)
        if kept is None or answer is None:
            self._count(context, _miss)
            return None
        self._served(context, kept, joined=lookup.joined)
        add_headers(context, answer)
        clock, asked = self._guard.clock, (request.endpoint, request.arguments)
        started_at = clock.wall() - (clock.now() - context.started_at)
        log_hit(Hit(*asked, answer, kept.answer, context.group, kept.deployment, started_at))
        return answer

    @staticmethod
    def _again(request: Request, kept: KeptAnswer) -> Any:
        options = request.arguments.get("stream_options")
        with_usage = isinstance(options, dict) and options.get("include_usage") is True
        with suppress(Exception):  # kept by another version of LiteLLM
            return answer_again(request.context.operation, kept.answer, stream=request.streams, with_usage=with_usage)
        return None

    def _served(self, context: RequestContext, kept: KeptAnswer, *, joined: bool) -> None:
        decided = context.decide()
        decided.cache_hit, decided.saved_usd = True, kept.cost_usd
        decided.why.append("answer of a call under way" if joined else "answer from the cache")
        context.served_by = Attempt(context.group, deployment=kept.deployment)
        self._guard.end(context)

        def hit(figures: CacheFigures) -> None:
            figures.hits += 1
            figures.joined += joined
            figures.unpriced += kept.cost_usd is None
            figures.saved_usd += kept.cost_usd or 0.0

        self._count(context, hit)

    def text_of(self, request: Request, answer: Any) -> str | None:
        """What is kept of an answer in one piece; ``None`` where it is not fit to be given again."""
        return self._text(request, lambda _: kept_answer(request.context.operation, answer, request.arguments))

    def text_of_stream(self, request: Request, chunks: list[Any]) -> str | None:
        """What is kept of a stream that has been delivered to its end."""
        operation, arguments = request.context.operation, request.arguments
        return self._text(request, lambda tokens: kept_stream(operation, chunks, tokens, arguments))

    def _text(self, request: Request, read: Callable[[tuple[int, int]], Any]) -> str | None:
        context = request.context
        served = context.served_by
        # A fallback's answer is that of another model than the one asked for, until this one serves again.
        if served is None or served.group != context.group or context.tried.fallbacks:
            return None
        decided = context.decided
        if decided is not None and (decided.stands_in or (decided.order is not None and self._varies(request))):
            return None
        settled = next((one for one in reversed(context.attempts) if one.success and one.model == served.group), None)
        if settled is None:
            return None
        with suppress(Exception):  # an answer of a shape that LiteLLM cannot write
            if (values := read((settled.prompt_tokens, settled.completion_tokens))) is not None:
                wall = self._guard.clock.wall()
                text = KeptAnswer(wall, served.deployment, settled.cost_usd, values).as_text()
                self._count(context, _kept)
                return text
        return None

    def _varies(self, request: Request) -> bool:
        """Whether the group that latency has put first answers at a temperature, which the one asked for does not."""
        context = request.context
        if context.rules.cache is None or context.rules.cache.any_temperature:
            return False
        return answers_vary(request.arguments, self._inner.deployments_of(context.group), self._inner.defaults())

    def later(self, action: Callable[[], object]) -> None:
        """Have ``action`` done as soon as it can: see :meth:`Guard.later`."""
        self._guard.later(action)

    def _count(self, context: RequestContext, change: Callable[[CacheFigures], None]) -> None:
        assert self._pool is not None, "a lookup has been made"  # noqa: S101 - narrows the type
        self._pool.count(context.caller.feature or "", change)


def _miss(figures: CacheFigures) -> None:
    figures.misses += 1


def _kept(figures: CacheFigures) -> None:
    figures.kept += 1


class _RecordedStream:
    """Passes a caller's stream on, and keeps it once it has been delivered to its end: not one that was left before."""

    def __init__(self, inner: RequestStream, lookup: Lookup, cached: CachedRequests, request: Request) -> None:
        self._inner = inner
        self._lookup: Lookup | None = lookup
        self._cached = cached
        self._request = request
        self._chunks: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_inner":  # not made yet
            raise AttributeError(name)
        return getattr(self._inner, name)

    @property  # type: ignore[misc] # `object` has it read-write
    def __class__(self) -> type:  # LiteLLM and others ask for LiteLLM's class of streams
        return self._inner.__class__

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        try:
            chunk = await anext(self._inner)
        except StopAsyncIteration:
            if (lookup := self._ended()) is not None:
                await lookup.keep(self._text())
            raise
        except BaseException as error:
            self._abandon(later=isinstance(error, GeneratorExit), left=not isinstance(error, Exception))
            raise
        self._chunks.append(chunk)
        return chunk

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            chunk = next(self._inner)
        except StopIteration:
            if (lookup := self._ended()) is not None:
                run_in_background(lookup.keep(self._text()))
            raise
        except BaseException:
            self._abandon()
            raise
        self._chunks.append(chunk)
        return chunk

    async def aclose(self) -> None:
        """Stop reading."""
        self._abandon(left=True)
        await self._inner.aclose()

    def close(self) -> None:
        """:meth:`aclose` for a synchronous stream."""
        self._abandon(left=True)
        self._inner.close()

    def __del__(self) -> None:
        if self.__dict__.get("_lookup") is not None:
            self._abandon(later=True, left=True)

    def _text(self) -> str | None:
        return self._cached.text_of_stream(self._request, self._chunks)

    def _ended(self) -> Lookup | None:
        lookup, self._lookup = self._lookup, None
        return lookup

    def _abandon(self, *, later: bool = False, left: bool = False) -> None:
        if (lookup := self._ended()) is None:
            return
        self._chunks.clear()
        if later:  # a garbage collection may run this in the middle of anything
            self._cached.later(partial(lookup.abandon, left=left))
        else:
            lookup.abandon(left=left)
