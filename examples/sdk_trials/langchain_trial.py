"""LangChain's ``ChatLiteLLMRouter`` over a router of the library."""

from __future__ import annotations

from typing import Any

from langchain_core.tools import tool
from langchain_litellm import ChatLiteLLMRouter
from litellm import Router
from pydantic import BaseModel
from trials import CONFIG, LONG, QUESTION, Found, Trials, expect, refused, waited

from wallie_litellm import build_router
from wallie_litellm.errors import RateLimited, RequestTooLarge


class City(BaseModel):
    """What a structured answer has."""

    city: str


@tool
def weather(city: str) -> str:
    """The weather of a city."""
    return "sunny"


router = build_router(CONFIG)
trials = Trials("LangChain", "langchain-litellm", "library")


def model(group: str, **more: Any) -> ChatLiteLLMRouter:
    """A chat model over one of the router's groups."""
    return ChatLiteLLMRouter(router=router, model=group, **more)


def plain() -> Found:
    """An answer in one piece."""
    expect(isinstance(router, Router), type(router))
    answer = model("up").invoke(QUESTION)
    used = answer.usage_metadata
    return f"{answer.content}; tokens {used['input_tokens']} + {used['output_tokens']}"


async def awaited() -> Found:
    """The same, awaited."""
    return str((await model("up").ainvoke(QUESTION)).content)


def stream() -> Found:
    """A stream."""
    chunks = list(model("up", streaming=True).stream(QUESTION))
    expect(len(chunks) > 1, chunks)
    return "".join(str(chunk.content) for chunk in chunks)


async def awaited_stream() -> Found:
    """The same, awaited."""
    return "".join([str(chunk.content) async for chunk in model("claude").astream(QUESTION)])


def tool_call() -> Found:
    """A tool's call."""
    (call,) = model("up").bind_tools([weather]).invoke(QUESTION).tool_calls
    return f"{call['name']}({call['args']})"


def structured() -> Found:
    """An answer as an object."""
    return repr(model("up").with_structured_output(City).invoke(QUESTION))


def fallback() -> Found:
    """The primary is down."""
    return str(model("down").invoke(QUESTION).content)


async def awaited_fallback() -> Found:
    """The same, streamed and awaited."""
    return "".join([str(chunk.content) async for chunk in model("down").astream(QUESTION)])


def refusal() -> Found:
    """At its limit."""
    error = refused(lambda: model("full", max_retries=0).invoke(QUESTION), RateLimited)
    expect(0 < error.retry_after <= 5, error.retry_after)
    return f"{type(error).__name__}, code {error.code}, retry_after in seconds"


def hopeless() -> Found:
    """Bigger than the whole limit, with LangChain's usual retries."""
    before = router.guard.status()["providers"]["tiny"]["quota"]["tpm"]["reserved"]
    try:
        model("tiny").invoke(LONG)
    except RequestTooLarge as error:
        after = router.guard.status()["providers"]["tiny"]["quota"]["tpm"]["reserved"]
        expect(error.retry_after == float("inf") and after == before, error.retry_after)
        return f"{type(error).__name__}, retry_after {error.retry_after}, nothing reserved"
    raise AssertionError("it was not refused")


trials.run("answer", plain)
trials.run("answer, awaited", awaited)
trials.run("stream", stream)
trials.run("stream, awaited", awaited_stream)
trials.run("tool call", tool_call)
trials.run("structured output", structured)
trials.run("fallback", fallback)
trials.run("fallback, awaited stream", awaited_fallback)
trials.run("wait for capacity", lambda: waited(lambda: model("waits").invoke(QUESTION)))
trials.run("refusal", refusal)
trials.run("too large", hopeless)
