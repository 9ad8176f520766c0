"""Calls and reads that rows make."""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from drop_in.observation import Facets, plain_data
from drop_in.row import Action, Stage

_TICK: Final = 0.005  # seconds between two looks
PROMPT: Final = [{"role": "user", "content": "Hello"}]


def chat(model: str = "m", messages: Sequence[Any] = PROMPT, **arguments: Any) -> Action:
    """One chat completion."""

    async def act(stage: Stage) -> Any:
        return await stage.router.acompletion(model=model, messages=list(messages), **copy.deepcopy(arguments))

    return act


def call(method: str, **arguments: Any) -> Action:
    """One call of any awaited method of the router."""

    async def act(stage: Stage) -> Any:
        return await getattr(stage.router, method)(**arguments)

    return act


def blocking(method: str, **arguments: Any) -> Action:
    """One call of a method for threads without an event loop."""

    async def act(stage: Stage) -> Any:
        return await asyncio.to_thread(getattr(stage.router, method), **arguments)

    return act


def reading(read: Callable[[Any], Any]) -> Action:
    """What the router says of itself, without any call."""

    async def act(stage: Stage) -> Any:
        return Facets(answer=plain_data(read(stage.router)))

    return act


def streamed(model: str = "m", **arguments: Any) -> Action:
    """A chat completion as a stream, read to its end."""

    async def act(stage: Stage) -> Any:
        stream = await stage.router.acompletion(model=model, messages=PROMPT, stream=True, **arguments)
        return Facets(await drained(stream))

    return act


async def drained(stream: Any) -> dict[str, Any]:
    """All chunks of a stream, and how it ended."""
    chunks: list[Any] = []
    error: BaseException | None = None
    try:
        async for chunk in stream:
            chunks.append(chunk)
    except Exception as raised:  # noqa: BLE001 - how the stream ended
        error = raised
    deltas = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]
    finish = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices and chunk.choices[0].finish_reason]
    usage = [plain_data(chunk.usage) for chunk in chunks if getattr(chunk, "usage", None)]
    return {
        "answer": "".join(filter(None, deltas)),
        "deltas": [delta for delta in deltas if delta],
        "finish": finish,
        "usage": usage,
        "error": plain_data(error),
    }


def times(count: int, action: Action) -> Action:
    """The same action several times, one after the other; errors are part of the answer."""

    async def act(stage: Stage) -> Any:
        return [await outcome_of(action(stage)) for _ in range(count)]

    return act


def at_once(count: int, action: Action) -> Action:
    """The same action several times at once: the texts, and the errors."""

    async def act(stage: Stage) -> Any:
        answers = await asyncio.gather(*(outcome_of(action(stage)) for _ in range(count)))
        return [answer if isinstance(answer, Exception) else answer.choices[0].message.content for answer in answers]

    return act


async def outcome_of(awaited: Awaitable[Any]) -> Any:
    """The result, or the error."""
    try:
        return await awaited
    except Exception as error:  # noqa: BLE001 - part of the answer
        return error


async def until(condition: Callable[[], object], seconds: float = 5.0) -> None:
    """Wait for what another task or thread is about to do; the row's comparison says when it never was."""
    for _ in range(int(seconds / _TICK)):
        if condition():
            return
        await asyncio.sleep(_TICK)


async def away_from_minutes_end(seconds: float = 1.5) -> None:
    """LiteLLM counts by the minute of the clock: what is counted must not begin just before its end."""
    left = 60 - time.time() % 60
    if left < seconds:
        await asyncio.sleep(left)
