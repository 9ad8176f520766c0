"""The helpers that applications call: one guarded request, with its result in one place."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import litellm

from wallie_litellm.core.demand import Demand
from wallie_litellm.core.operations import CHAT, EXECUTE
from wallie_litellm.core.scrubbing import scrubbed_name
from wallie_litellm.errors import DeadlineExceeded, UnknownTier
from wallie_litellm.events import Settled
from wallie_litellm.guard.answer_headers import FROM_CACHE
from wallie_litellm.guard.background_loop import run_in_background
from wallie_litellm.guard.context import Caller, RequestContext
from wallie_litellm.guard.request import Target
from wallie_litellm.guard.router import WallieRouter
from wallie_litellm.litellm_adapter.errors import failure_from
from wallie_litellm.litellm_adapter.metadata import recordable
from wallie_litellm.litellm_adapter.pricing import PriceList
from wallie_litellm.litellm_adapter.responses import answer_of
from wallie_litellm.litellm_adapter.wires.fields import value_of

_prices = PriceList()


@dataclass(frozen=True, slots=True)
class AIRequestResult:
    """The result of a guarded request, which ``request_id`` names in events, in the ledger and in headers.

    ``data`` is the provider's response and ``text`` the text in it; ``model`` is the model group that served and
    ``deployment`` LiteLLM's name of the model behind it. ``latency_ms`` is the whole request, ``waited_ms`` the part
    of it spent waiting for capacity, both in milliseconds. ``cost_usd`` is ``None`` when no price is known,
    and has that of an attempt that was made beside the one that served.
    """

    data: Any
    text: str
    provider: str
    model: str
    deployment: str
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    latency_ms: float
    waited_ms: float
    cost_usd: float | None
    used_fallback: bool
    request_id: str = ""
    attempts: list[Settled] = field(default_factory=list)


async def execute_ai_request(
    router: WallieRouter,
    model: str | None = None,
    messages: Sequence[Mapping[str, Any]] | None = None,
    *,
    tier: str | None = None,
    execute: Callable[[Target], Awaitable[Any]] | None = None,
    feature: str | None = None,
    user_id: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    estimated_tokens: int | None = None,
    priority: int = 0,
    deadline: float | None = None,
    **litellm_arguments: Any,
) -> AIRequestResult:
    """Make one request, guarded, along ``model``'s chain.

    ``model`` is a model group, a tier or ``auto``; ``tier`` goes before it. It may be left out where the ``feature``
    has a tier.

    Either ``messages`` go to LiteLLM, or ``execute`` is awaited with a :class:`Target` for any call that is not
    LiteLLM's, under the same limits, breaker and retries. ``deadline`` is in seconds from now and holds across the
    whole chain; ``estimated_tokens`` replaces the estimate; a higher ``priority`` is served first. Further keyword
    arguments go to LiteLLM.

    Raises:
        WallieError: a refusal, an exhausted chain, an unknown tier or a missed deadline; see
            :mod:`wallie_litellm.errors`.
        Exception: the provider's own error, as LiteLLM raises it, where the chain has a single member.
    """
    if litellm_arguments.get("stream"):
        raise TypeError("execute_ai_request answers in one piece: use stream_ai_request")
    context = _open_context(
        router,
        model,
        {**litellm_arguments, "messages": messages, "tier": tier},
        Caller(scrubbed_name(feature), scrubbed_name(user_id), recordable(metadata or {})),
        priority=priority,
        deadline=deadline,
        estimated_tokens=estimated_tokens,
        operation=CHAT if execute is None else EXECUTE,
    )
    tags = _tags(feature, user_id, metadata)
    if execute is not None:
        data = await _execute_along_chain(router, execute, context, tags)
    else:
        arguments = {**litellm_arguments, "metadata": tags, **({"user": user_id} if user_id is not None else {})}
        data = await router.opened_chat(model, {"messages": _messages(messages), **arguments}, context)
    return _result(router, context, data)


class AIRequestStream:
    """The text deltas of a guarded answer; ``result`` is set once the stream has ended.

    Close it with ``aclose`` (or ``async with``) to stop early; a dropped stream is settled when it is collected.
    """

    def __init__(self, router: WallieRouter, context: RequestContext, start: Callable[[], Awaitable[Any]]) -> None:
        self.result: AIRequestResult | None = None
        self._router = router
        self._context = context
        self._start = start
        self._stream: Any = None
        self._chunks: list[Any] = []
        self._closed = False

    def __aiter__(self) -> AsyncIterator[str]:
        return self

    async def __anext__(self) -> str:
        if self._closed:
            raise StopAsyncIteration
        try:
            delta = await self._next_delta()
        except BaseException:
            self._closed = True  # the stream has failed
            raise
        if delta is not None:
            return delta
        self._closed = True
        self._finish()
        raise StopAsyncIteration

    async def _next_delta(self) -> str | None:
        if self._stream is None:
            self._stream = await self._start()
        if self._closed:  # while it was being opened
            await self._stream.aclose()
            return None
        async for chunk in self._stream:
            self._chunks.append(chunk)
            delta = chunk.choices[0].delta.content if chunk is not None and chunk.choices else None
            if delta:
                return str(delta)
        return None

    async def aclose(self) -> None:
        """Stop reading: what has been received is settled, and is the ``result``."""
        if self._closed:
            return
        self._closed = True
        if self._stream is not None:
            await self._stream.aclose()
            self._finish()

    async def __aenter__(self) -> AIRequestStream:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _finish(self) -> None:
        chunks = [chunk for chunk in self._chunks if chunk is not None]
        whole = litellm.stream_chunk_builder(chunks) if chunks else None
        self.result = _result(self._router, self._context, whole)


def stream_ai_request(
    router: WallieRouter,
    model: str | None = None,
    messages: Sequence[Mapping[str, Any]] | None = None,
    *,
    tier: str | None = None,
    feature: str | None = None,
    user_id: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    estimated_tokens: int | None = None,
    priority: int = 0,
    deadline: float | None = None,
    **litellm_arguments: Any,
) -> AIRequestStream:
    """:func:`execute_ai_request` as an async iterator of text deltas. The request starts with the first one."""
    context = _open_context(
        router,
        model,
        {**litellm_arguments, "messages": messages, "tier": tier},
        Caller(scrubbed_name(feature), scrubbed_name(user_id), recordable(metadata or {})),
        priority=priority,
        deadline=deadline,
        estimated_tokens=estimated_tokens,
        operation=CHAT,
        stream=True,
    )
    tags = _tags(feature, user_id, metadata)
    arguments = {
        "stream_options": {"include_usage": True},
        **litellm_arguments,
        "metadata": tags,
        **({"user": user_id} if user_id is not None else {}),
    }

    async def start() -> Any:
        return await router.opened_chat(model, {"messages": _messages(messages), "stream": True, **arguments}, context)

    return AIRequestStream(router, context, start)


def execute_ai_request_sync(router: WallieRouter, *args: Any, **kwargs: Any) -> AIRequestResult:
    """:func:`execute_ai_request` for code that has no event loop. Any number of threads may call it.

    Raises:
        RuntimeError: called from inside a running event loop, which it would block.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return run_in_background(execute_ai_request(router, *args, **kwargs))
    raise RuntimeError("execute_ai_request_sync would block the running event loop; await execute_ai_request instead")


def extract_text(response: Any) -> str:
    """The text of a chat, Responses or Anthropic answer, or a string itself; empty where there is none."""
    if isinstance(response, str):
        return response
    choices = value_of(response, "choices")
    if choices:
        message = value_of(choices[0], "message") or value_of(choices[0], "delta")
        return (
            _text_of(value_of(message, "content")) if message is not None else str(value_of(choices[0], "text") or "")
        )
    output = value_of(response, "output")
    if isinstance(output, list):
        return "".join(_text_of(value_of(item, "content")) for item in output)
    return _text_of(value_of(response, "content"))


def calculate_cost(model: str, prompt_tokens: int, completion_tokens: int) -> float | None:
    """US dollars for a call by LiteLLM's price map, ``None`` when it has no price for ``model``."""
    deployment = {"litellm_params": {"model": model}}
    if not _prices.is_priced(deployment):
        return None
    usage = Demand(1, prompt_tokens + completion_tokens, prompt_tokens, completion_tokens)
    return _prices.bill(deployment, usage, None).cost_usd


def _open_context(
    router: WallieRouter, model: str | None, arguments: Mapping[str, Any], caller: Caller, **settings: Any
) -> RequestContext:
    if arguments["tier"] is not None and router.guard.routing.tiers is None:
        raise UnknownTier(f"tier: found {arguments['tier']!r}, but wallie.routing.tiers has none")
    context = router.open_context(model, arguments, caller, stated=arguments, **settings)
    try:
        router.guard.check_deadline(context)
    except DeadlineExceeded as error:
        router.guard.end(context, failure_from(error))
        raise
    return context


async def _execute_along_chain(
    router: WallieRouter,
    execute: Callable[[Target], Awaitable[Any]],
    context: RequestContext,
    tags: dict[str, Any],
) -> Any:
    async def call(target: Target) -> Any:
        answer = execute(target)
        return await answer if inspect.isawaitable(answer) else answer

    return await router.execute(context.group, call, context, {**tags, "model_group": context.group})


def _usage_of(context: RequestContext, data: Any) -> Demand | None:
    """What an answer used: as it reports, else as it was settled."""
    settled = None if context.served_by is None else context.served_by.result
    if settled is not None and settled.reported is not None and not context.stream:
        return settled.usage  # read from this answer already
    usage = answer_of(data).usage
    return settled.usage if usage is None and settled is not None else usage


def _result(router: WallieRouter, context: RequestContext, data: Any) -> AIRequestResult:
    served, usage = context.served_by, _usage_of(context, data)
    group = served.group if served is not None else context.group
    from_cache = 0.0 if served is not None and not context.attempts else None
    return AIRequestResult(
        data=data,
        text=extract_text(data),
        provider=served.provider or FROM_CACHE if served is not None else "",
        model=group,
        deployment=served.deployment if served is not None else "",
        prompt_tokens=usage.input if usage is not None else 0,
        completion_tokens=usage.output if usage is not None else 0,
        total_tokens=usage.tokens if usage is not None else 0,
        latency_ms=(router.guard.clock.now() - context.started_at) * 1000,
        waited_ms=context.waited * 1000,
        cost_usd=context.cost_usd if context.attempts else from_cache,
        used_fallback=group != context.group,
        request_id=context.request_id,
        attempts=list(context.attempts),
    )


def _tags(feature: str | None, user_id: str | None, metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    # A copy: LiteLLM writes into the metadata that it is given.
    tags = dict(metadata or {})
    if feature is not None:
        tags["feature"] = feature
    if user_id is not None:
        tags["user_id"] = user_id
    return tags


def _messages(messages: Sequence[Mapping[str, Any]] | None) -> list[Any]:
    if messages is None:
        raise TypeError("execute_ai_request needs messages, or execute=")
    return list(messages)


def _text_of(content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(str(value_of(part, "text") or "") for part in content)
    return ""
