"""OpenAI's Agents SDK: its models over OpenAI's client and LiteLLM against the proxy, and over a router in code."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import openai
from agents import Agent, OpenAIChatCompletionsModel, OpenAIResponsesModel, Runner, function_tool
from agents.extensions.models.litellm_model import LitellmModel
from openai.types.chat import ChatCompletion
from pydantic import BaseModel
from trials import CONFIG, KEY, LONG, PROXY, QUESTION, Found, Trials, expect, refused, waited

from wallie_litellm import build_router
from wallie_litellm.errors import RateLimited, RequestTooLarge


class City(BaseModel):
    """What a structured answer has."""

    city: str


asked: list[str] = []  # cities that the tool was called with


@function_tool
def weather(city: str) -> str:
    """The weather of a city."""
    asked.append(city)
    return "sunny"


def over_router(router: Any) -> Any:
    """A client of the Agents SDK that sends what it is given to a router in this process."""

    async def create(**arguments: Any) -> Any:
        given = {
            name: value for name, value in arguments.items() if not isinstance(value, openai.Omit | openai.NotGiven)
        }
        answer = await router.acompletion(**given)
        return answer if given.get("stream") else ChatCompletion.model_validate(answer.model_dump())

    chat = SimpleNamespace(completions=SimpleNamespace(create=create))
    return SimpleNamespace(chat=chat, base_url="http://router.invalid")


router = build_router(CONFIG)
in_code, on_proxy = Trials("Agents", "openai-agents", "library"), Trials("Agents", "openai-agents", "proxy")


def client(retries: int = 2) -> openai.AsyncOpenAI:
    """A client for the proxy; of an event loop of its own."""
    return openai.AsyncOpenAI(base_url=f"{PROXY}/v1", api_key=KEY, max_retries=retries)


def of_library(group: str) -> Any:
    """A model over the router."""
    return OpenAIChatCompletionsModel(group, openai_client=over_router(router))


def of_chat(group: str, retries: int = 2) -> Any:
    """A model over chat completions of the proxy."""
    return OpenAIChatCompletionsModel(group, openai_client=client(retries))


def of_responses(group: str) -> Any:
    """A model over the proxy's Responses API."""
    return OpenAIResponsesModel(group, openai_client=client())


def of_litellm(group: str) -> Any:
    """The SDK's own model over LiteLLM, which calls the proxy."""
    return LitellmModel(model=f"litellm_proxy/{group}", base_url=PROXY, api_key=KEY)


async def run(model: Any, question: str = QUESTION, **agent: Any) -> Any:
    """The result of an agent's run."""
    return await Runner.run(Agent(name="Trial", model=model, **agent), question)


async def answer(model: Any) -> Found:
    """A run without tools."""
    return str((await run(model)).final_output)


async def with_tool(model: Any) -> Found:
    """A run that calls a tool, and answers with its result in hand."""
    asked.clear()
    result = await run(model, tools=[weather])
    expect(asked == ["simulated"], asked)
    return f"weather was called, then: {result.final_output}"


async def structured(model: Any) -> Found:
    """A run that ends with an object."""
    return repr((await run(model, output_type=City)).final_output)


async def stream(model: Any) -> Found:
    """A streamed run with a tool."""
    asked.clear()
    result = Runner.run_streamed(Agent(name="Trial", model=model, tools=[weather]), QUESTION)
    kinds = [event.type async for event in result.stream_events()]
    expect(asked == ["simulated"] and "raw_response_event" in kinds, kinds)
    return f"weather was called, then: {result.final_output}"


def refusal_in_code() -> Found:
    """At its limit."""
    error = refused(lambda: asyncio.run(run(of_library("full"))), RateLimited)
    return f"{type(error).__name__}, code {error.code}, retry_after in seconds"


def refusal_on_proxy() -> Found:
    """At its limit."""
    error = refused(lambda: asyncio.run(run(of_chat("full", 0))), openai.RateLimitError)
    expect(1 <= int(error.response.headers["retry-after"]) <= 5, error.response.headers)
    return f"{type(error).__name__}, code {error.code}, Retry-After in whole seconds"


def hopeless(model: Any, kind: type[BaseException]) -> Found:
    """Bigger than the whole limit."""
    try:
        asyncio.run(run(model, LONG))
    except kind as error:
        return f"{type(error).__name__}, code {error.code}"  # type: ignore[attr-defined] # both kinds have it
    raise AssertionError("it was not refused")


in_code.run("answer", lambda: answer(of_library("up")))
in_code.run("tool call", lambda: with_tool(of_library("up")))
in_code.run("tool call of an Anthropic model", lambda: with_tool(of_library("claude")))
in_code.run("stream with a tool call", lambda: stream(of_library("up")))
in_code.run("structured output", lambda: structured(of_library("up")))
in_code.run("fallback", lambda: answer(of_library("down")))
in_code.run("wait for capacity", lambda: waited(lambda: asyncio.run(run(of_library("waits")))))
in_code.run("refusal", refusal_in_code)
in_code.run("too large", lambda: hopeless(of_library("tiny"), RequestTooLarge))
for name, model in (("chat", of_chat), ("responses", of_responses), ("LiteLLM", of_litellm)):
    on_proxy.run(f"{name}: answer", lambda model=model: answer(model("up")))
    on_proxy.run(f"{name}: tool call", lambda model=model: with_tool(model("up")))
    on_proxy.run(f"{name}: stream with a tool call", lambda model=model: stream(model("up")))
    on_proxy.run(f"{name}: structured output", lambda model=model: structured(model("up")))
    on_proxy.run(f"{name}: fallback", lambda model=model: answer(model("down")))
on_proxy.run("wait for capacity", lambda: waited(lambda: asyncio.run(run(of_chat("waits")))))
on_proxy.run("refusal", refusal_on_proxy)
on_proxy.run("too large", lambda: hopeless(of_chat("tiny"), openai.RateLimitError))
