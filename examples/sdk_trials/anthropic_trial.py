"""Anthropic's SDK against the proxy."""

from __future__ import annotations

from typing import Any

import anthropic
from trials import CITY, KEY, LONG, MESSAGES, PROXY, Found, Trials, expect, refused, waited

asked: list[str] = []  # a line for each request that went out
counting = anthropic.DefaultHttpxClient(event_hooks={"request": [lambda request: asked.append(str(request.url))]})
client = anthropic.Anthropic(base_url=PROXY, api_key=KEY, http_client=counting)
trials = Trials("Anthropic", "anthropic", "proxy")
WEATHER: Any = {"name": "weather", "description": "The weather of a city.", "input_schema": CITY}


def arguments(model: str, tried: str, messages: Any = MESSAGES) -> dict[str, Any]:
    """What every call has."""
    return {"model": model, "messages": messages, "max_tokens": 100, "extra_headers": trials.headers(tried)}


def chat(model: str, tried: str, messages: Any = MESSAGES, retries: int = 2, **more: Any) -> Any:
    """One question; the client's usual retries unless said otherwise."""
    return client.with_options(max_retries=retries).messages.create(**arguments(model, tried, messages), **more)


def tokens(answer: Any) -> tuple[int, int]:
    """The tokens that an answer names."""
    return answer.usage.input_tokens, answer.usage.output_tokens


def plain(model: str = "claude", tried: str = "answer") -> Found:
    """An answer in one piece."""
    answer = chat(model, tried)
    return answer.content[0].text, tokens(answer)


def stream(model: str = "claude", tried: str = "stream") -> Found:
    """A stream, put together by the SDK."""
    with client.messages.stream(**arguments(model, tried)) as events:
        text = "".join(events.text_stream)
        return text, tokens(events.get_final_message())


def tool() -> Found:
    """A tool's call, streamed."""
    with client.messages.stream(**arguments("claude", "tool call"), tools=[WEATHER]) as events:
        answer = events.get_final_message()
    (use,) = answer.content
    expect(answer.stop_reason == "tool_use", answer.stop_reason)
    return f"{use.name}({use.input})", tokens(answer)


def refusal() -> Found:
    """At its limit, without retries of the client's own."""
    error = refused(lambda: chat("full", "refusal", retries=0), anthropic.RateLimitError)
    wait = error.response.headers["retry-after"]
    expect(error.body["error"]["type"] == "rate_limit_error" and 1 <= int(wait) <= 5, error.body)
    return "RateLimitError, type rate_limit_error, Retry-After in whole seconds"


def comes_back() -> Found:
    """At its limit, with the client's own retries."""
    refused(lambda: chat("full", "retry", retries=0), anthropic.RateLimitError)
    asked.clear()
    chat("full", "retry")
    return f"answered by {len(asked)} requests, the client's waits as Retry-After says"


def hopeless() -> Found:
    """Bigger than the whole limit."""
    asked.clear()
    try:
        chat("tiny", "too large", [{"role": "user", "content": LONG}])
    except anthropic.RateLimitError:
        expect(len(asked) == 1, f"{len(asked)} requests")
        return "RateLimitError, asked once"
    raise AssertionError("it was not refused")


trials.run("answer", plain)
trials.run("stream", stream)
trials.run("answer of an OpenAI model", lambda: plain("up", "answer of an OpenAI model"))
trials.run("stream of an OpenAI model", lambda: stream("up", "stream of an OpenAI model"))
trials.run("tool call", tool)
trials.run("fallback", lambda: plain("claude-down", "fallback"))
trials.run("wait for capacity", lambda: waited(lambda: chat("waits", "wait")))
trials.run("refusal", refusal)
trials.run("refusal, then retry", comes_back)
trials.run("too large, x-should-retry", hopeless)
