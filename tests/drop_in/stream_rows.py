"""Streams: whole, with usage, cut, silent, closed early, begun again elsewhere."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import litellm

from drop_in.actions import PROMPT, drained, streamed, until
from drop_in.observation import Facets
from drop_in.row import Action, Row, Stage, deployment
from drop_in.upstream import Fault, failing

ONE: Final = [deployment("m", "a")]
TWO: Final = [*ONE, deployment("n", "b")]
CLAUDE: Final = [deployment("m", "a", "anthropic/claude-sonnet-4-5")]
ONWARD: Final[dict[str, Any]] = {"fallbacks": [{"m": ["n"]}]}
LONG: Final = " ".join(f"word{number}" for number in range(40))
CUT_EARLY: Final = {"a": [Fault(pieces=0)]}
OPENED_AND_SILENT: Final = {"a": [Fault(text=LONG, pieces=3, silent=True)]}


def left_after(pieces: int, *, close: bool) -> Action:
    """A stream that is left after some chunks, by closing it or by cancelling its reader."""

    async def act(stage: Stage) -> Any:
        stream = await stage.router.acompletion(model="m", messages=PROMPT, stream=True)
        seen = []

        async def read() -> None:
            async for chunk in stream:
                seen.append(chunk)
                if close and len(seen) == pieces:
                    return

        reader = asyncio.create_task(read())
        await until(lambda: len(seen) == pieces)
        if close:
            await reader
            await stream.aclose()
        else:
            reader.cancel()
            await asyncio.wait([reader])
        await until(lambda: stage.upstream.left["a"])
        return Facets(left=stage.upstream.left["a"], seen=len(seen))

    return act


def blocking_stream(model: str = "m", **arguments: Any) -> Action:
    """A stream of the call for threads without an event loop."""

    async def act(stage: Stage) -> Any:
        def read() -> list[Any]:
            return list(stage.router.completion(model=model, messages=PROMPT, stream=True, **arguments))

        chunks = await asyncio.to_thread(read)
        return Facets(answer="".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices))

    return act


def messages_stream(**arguments: Any) -> Action:
    """A stream of ``/v1/messages``, byte for byte."""

    async def act(stage: Stage) -> Any:
        stream = await stage.router.aanthropic_messages(
            model="m", messages=PROMPT, max_tokens=20, stream=True, **arguments
        )
        events = b"".join([event if isinstance(event, bytes) else event.encode() async for event in stream])
        lines = events.decode().split("\n")
        return Facets(
            answer="".join(_delta(line) for line in lines),
            events=[line.removeprefix("event: ") for line in lines if line.startswith("event: ")],
        )

    return act


def responses_stream(**arguments: Any) -> Action:
    """A stream of the Responses API."""

    async def act(stage: Stage) -> Any:
        stream = await stage.router.aresponses(model="m", input="Hello", stream=True, **arguments)
        events = [event async for event in stream]
        return Facets(
            answer="".join(event.delta for event in events if event.type == "response.output_text.delta"),
            events=[str(getattr(event.type, "value", event.type)) for event in events],
        )

    return act


def text_stream() -> Action:
    """A text completion as a stream."""

    async def act(stage: Stage) -> Any:
        stream = await stage.router.atext_completion(model="m", prompt="Hello", stream=True)
        chunks = [chunk async for chunk in stream]
        return Facets(answer="".join(chunk.choices[0].text or "" for chunk in chunks if chunk.choices))

    return act


def headers_of_stream() -> Action:
    """A stream read to its end twice: nothing comes the second time."""

    async def act(stage: Stage) -> Any:
        stream = await stage.router.acompletion(model="m", messages=PROMPT, stream=True)
        first, second = await drained(stream), await drained(stream)
        return Facets(answer=first["answer"], second=second["answer"])

    return act


def kind_of_stream(*names: str) -> Action:
    """What a stream is, and some of its attributes."""

    async def act(stage: Stage) -> Any:
        stream = await stage.router.acompletion(model="m", messages=PROMPT, stream=True)
        found = [getattr(stream, name) for name in names]
        await drained(stream)
        return Facets(is_litellms=isinstance(stream, litellm.CustomStreamWrapper), found=found)

    return act


def rebuilt() -> Action:
    """An answer put together from the chunks of a stream, as LiteLLM's documents show it."""

    async def act(stage: Stage) -> Any:
        stream = await stage.router.acompletion(model="m", messages=PROMPT, stream=True)
        chunks = [chunk async for chunk in stream]
        return litellm.stream_chunk_builder(chunks, messages=PROMPT)

    return act


def _delta(line: str) -> str:
    before, found, rest = line.partition('"type": "text_delta", "text": "')
    if not found:
        before, found, rest = line.partition('"text":"')
    return rest.partition('"')[0] if found else before[:0]


ROWS: Final = [
    Row("a whole stream", ONE, streamed(), {"answer": "from a", "accounts": ["a"], "finish": ["stop"]}),
    Row(
        "a stream with usage",
        ONE,
        streamed(stream_options={"include_usage": True}),
        {"answer": "from a", "accounts": ["a"]},
    ),
    Row("a stream of another vendor", CLAUDE, streamed(), {"answer": "from a", "accounts": ["a"]}),
    Row("a long stream", ONE, streamed(), {"answer": LONG}, {"a": [Fault(text=LONG)]}),
    Row("a stream that has been read", ONE, headers_of_stream(), {"answer": "from a", "second": ""}),
    Row(
        "a stream refused",
        ONE,
        streamed(),
        {"error": ("InternalServerError", 500), "accounts": ["a"]},
        {"a": [failing()]},
    ),
    Row(
        "a stream that breaks before its first text, and a fallback",
        TWO,
        streamed(),
        {"answer": "from b", "accounts": ["a", "b"]},
        CUT_EARLY,
        ONWARD,
    ),
    Row("a stream closed by its reader", ONE, left_after(4, close=True), {"left": 1}, OPENED_AND_SILENT),
    Row("a stream whose reader is cancelled", ONE, left_after(4, close=False), {"left": 1}, OPENED_AND_SILENT),
    Row("a stream in a thread", ONE, blocking_stream(), {"answer": "from a", "accounts": ["a"]}),
    Row(
        "a fallback of a stream in a thread",
        TWO,
        blocking_stream(),
        {"answer": "from b", "accounts": ["a", "b"]},
        {"a": [failing()]},
        ONWARD,
    ),
    Row("a stream of messages", CLAUDE, messages_stream(), {"answer": "from a", "accounts": ["a"]}),
    Row("a stream of messages from OpenAI", ONE, messages_stream(), {"accounts": ["a"]}),
    Row(
        "a fallback of a stream of messages",
        [*CLAUDE, deployment("n", "b", "anthropic/claude-sonnet-4-5")],
        messages_stream(),
        {"answer": "from b", "accounts": ["a", "b"]},
        {"a": [failing(529)]},
        ONWARD,
    ),
    Row("a stream of responses", ONE, responses_stream(), {"answer": "from a", "accounts": ["a"]}),
    Row(
        "a fallback of a stream of responses",
        TWO,
        responses_stream(),
        {"answer": "from b", "accounts": ["a", "b"]},
        {"a": [failing()]},
        ONWARD,
    ),
    Row(
        "the class of a stream",
        ONE,
        kind_of_stream("model", "custom_llm_provider"),
        {"is_litellms": True, "found": ["gpt-4o-mini", "openai"]},
    ),
    Row("an answer rebuilt from a stream", ONE, rebuilt(), {"answer": "from a"}),
    Row("a stream of text", ONE, text_stream(), {"answer": "from a", "accounts": ["a"]}),
]
