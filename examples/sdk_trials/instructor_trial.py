"""Instructor over a router of the library, and over OpenAI's client against the proxy."""

from __future__ import annotations

from typing import Any

import instructor
import litellm
import openai
from pydantic import BaseModel
from trials import CONFIG, KEY, LONG, MESSAGES, PROXY, Found, Trials, expect, refused, waited

from wallie_litellm import build_router
from wallie_litellm.errors import RateLimited


class City(BaseModel):
    """What an answer has."""

    city: str


router = build_router(CONFIG)
library = instructor.from_litellm(router.completion)
awaiting = instructor.from_litellm(router.acompletion)
proxy = instructor.from_openai(openai.OpenAI(base_url=f"{PROXY}/v1", api_key=KEY))
once = instructor.from_openai(openai.OpenAI(base_url=f"{PROXY}/v1", api_key=KEY, max_retries=0))
in_code, on_proxy = Trials("Instructor", "instructor", "library"), Trials("Instructor", "instructor", "proxy")


def ask(client: Any, model: str, messages: Any = MESSAGES, **more: Any) -> Any:
    """One question, to be answered with an object."""
    return client.chat.completions.create(model=model, messages=messages, response_model=City, **more)


async def awaited(model: str) -> Found:
    """One question, awaited."""
    return repr(await ask(awaiting, model))


def with_usage() -> Found:
    """One question, and the tokens of its answer."""
    city, answer = proxy.chat.completions.create_with_completion(
        model="up", messages=MESSAGES, response_model=City, extra_headers=on_proxy.headers("tool call")
    )
    return repr(city), (answer.usage.prompt_tokens, answer.usage.completion_tokens)


def partial(client: Any) -> Found:
    """A stream of objects that become complete."""
    found = list(client.chat.completions.create_partial(model="up", messages=MESSAGES, response_model=City))
    return repr(found[-1])


def partial_blocking() -> Found:
    """Instructor takes LiteLLM's streams, which can be awaited as well, for awaitable alone."""
    for one in (litellm.Router(model_list=router.model_list), router):
        try:
            partial(instructor.from_litellm(one.completion))
        except TypeError as error:
            expect("async_generator" in str(error), error)
        else:
            return "it works now, over the one or the other: see docs/sdks.md"
    return "TypeError, as over litellm.Router: Instructor reads LiteLLM's streams awaited only"


async def partial_awaited() -> Found:
    """The same, awaited."""
    stream = awaiting.chat.completions.create_partial(model="up", messages=MESSAGES, response_model=City)
    return repr([one async for one in stream][-1])


def cause_of(error: BaseException, kind: type[BaseException]) -> Any:
    """The error of ``kind`` that Instructor has wrapped.

    Raises:
        AssertionError: there is none.
    """
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, kind):
            return found
        found = found.__cause__ or found.__context__
    raise AssertionError(f"{type(error).__name__}: {error}")


def refusal_in_code() -> Found:
    """At its limit."""
    error = refused(lambda: ask(library, "full"), Exception)
    own = cause_of(error, RateLimited)
    expect(0 < own.retry_after <= 5, own.retry_after)
    return f"{type(error).__name__} from {type(own).__name__}, retry_after in seconds"


def refusal_on_proxy() -> Found:
    """At its limit."""
    error = refused(lambda: ask(once, "full"), Exception)
    own = cause_of(error, openai.RateLimitError)
    expect(own.code == "wallie_rate_limited", own.code)
    return f"{type(error).__name__} from {type(own).__name__}, code {own.code}"


def hopeless(client: Any, kind: type[BaseException]) -> Found:
    """Bigger than the whole limit."""
    try:
        ask(client, "tiny", [{"role": "user", "content": LONG}])
    except Exception as error:
        return f"{type(error).__name__} from {cause_of(error, kind).code}"
    raise AssertionError("it was not refused")


in_code.run("tool call", lambda: repr(ask(library, "up")))
in_code.run("tool call, awaited", lambda: awaited("up"))
in_code.run("tool call of an Anthropic model", lambda: awaited("claude"))
in_code.run("stream of partial objects", partial_blocking)
in_code.run("the same, awaited", partial_awaited)
in_code.run("fallback", lambda: repr(ask(library, "down")))
in_code.run("fallback, awaited", lambda: awaited("down"))
in_code.run("wait for capacity", lambda: waited(lambda: ask(library, "waits")))
in_code.run("refusal", refusal_in_code)
in_code.run("too large", lambda: hopeless(library, RateLimited))
on_proxy.run("tool call", with_usage)
on_proxy.run("stream of partial objects", lambda: partial(proxy))
on_proxy.run("fallback", lambda: repr(ask(proxy, "down")))
on_proxy.run("wait for capacity", lambda: waited(lambda: ask(proxy, "waits")))
on_proxy.run("refusal", refusal_on_proxy)
on_proxy.run("too large", lambda: hopeless(proxy, openai.RateLimitError))
