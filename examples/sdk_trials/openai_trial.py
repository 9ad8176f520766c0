"""OpenAI's SDK against the proxy."""

from __future__ import annotations

from typing import Any

import openai
from pydantic import BaseModel
from trials import CITY, KEY, LONG, MESSAGES, PROXY, QUESTION, Found, Trials, expect, refused, waited


class City(BaseModel):
    """What a structured answer has."""

    city: str


asked: list[str] = []  # a line for each request that went out
counting = openai.DefaultHttpxClient(event_hooks={"request": [lambda request: asked.append(str(request.url))]})
client = openai.OpenAI(base_url=f"{PROXY}/v1", api_key=KEY, http_client=counting)
trials = Trials("OpenAI", "openai", "proxy")


def chat(model: str, tried: str, messages: Any = MESSAGES, retries: int = 2, **more: Any) -> Any:
    """One question; the client's usual retries unless said otherwise."""
    own = client.with_options(max_retries=retries)
    return own.chat.completions.create(model=model, messages=messages, extra_headers=trials.headers(tried), **more)


def plain() -> Found:
    """An answer in one piece."""
    answer = chat("up", "answer")
    return answer.choices[0].message.content, (answer.usage.prompt_tokens, answer.usage.completion_tokens)


def stream() -> Found:
    """A stream with its usage."""
    text, usage = "", None
    for chunk in chat("up", "stream", stream=True, stream_options={"include_usage": True}):
        text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
        usage = chunk.usage or usage
    return text, (usage.prompt_tokens, usage.completion_tokens)


def tool() -> Found:
    """A tool's call."""
    tools = [{"type": "function", "function": {"name": "weather", "parameters": CITY}}]
    answer = chat("up", "tool call", tools=tools)
    (call,) = answer.choices[0].message.tool_calls
    tokens = answer.usage.prompt_tokens, answer.usage.completion_tokens
    return f"{call.function.name}({call.function.arguments})", tokens


def structured() -> Found:
    """An answer as an object."""
    headers = trials.headers("structured output")
    answer = client.chat.completions.parse(model="up", messages=MESSAGES, response_format=City, extra_headers=headers)
    return repr(answer.choices[0].message.parsed), (answer.usage.prompt_tokens, answer.usage.completion_tokens)


def responses() -> Found:
    """The Responses API."""
    answer = client.responses.create(model="up", input=QUESTION, extra_headers=trials.headers("responses"))
    return answer.output_text, (answer.usage.input_tokens, answer.usage.output_tokens)


def responses_stream() -> Found:
    """Its stream."""
    headers = trials.headers("responses stream")
    with client.responses.stream(model="up", input=QUESTION, extra_headers=headers) as events:
        events.until_done()
        answer = events.get_final_response()
    return answer.output_text, (answer.usage.input_tokens, answer.usage.output_tokens)


def fallback() -> Found:
    """The primary is down."""
    raw = client.chat.completions.with_raw_response.create(
        model="down", messages=MESSAGES, extra_headers=trials.headers("fallback")
    )
    expect(raw.headers["x-wallie-fallback"] == "1", dict(raw.headers))
    answer = raw.parse()
    return answer.choices[0].message.content, (answer.usage.prompt_tokens, answer.usage.completion_tokens)


def refusal() -> Found:
    """At its limit, without retries of the client's own."""
    error = refused(lambda: chat("full", "refusal", retries=0), openai.RateLimitError)
    wait = error.response.headers["retry-after"]
    expect(error.code == "wallie_rate_limited" and 1 <= int(wait) <= 5, f"{error.code}, {wait}")
    return f"RateLimitError, code {error.code}, Retry-After in whole seconds"


def comes_back() -> Found:
    """At its limit, with the client's own retries."""
    refused(lambda: chat("full", "retry", retries=0), openai.RateLimitError)
    asked.clear()
    chat("full", "retry")
    return f"answered by {len(asked)} requests, the client's waits as Retry-After says"


def hopeless() -> Found:
    """Bigger than the whole limit."""
    asked.clear()
    try:
        chat("tiny", "too large", [{"role": "user", "content": LONG}])
    except openai.RateLimitError as error:
        expect(error.code == "wallie_request_too_large" and len(asked) == 1, f"{error.code}, {len(asked)} requests")
        return f"RateLimitError, code {error.code}, asked once"
    raise AssertionError("it was not refused")


trials.run("answer", plain)
trials.run("stream", stream)
trials.run("tool call", tool)
trials.run("structured output", structured)
trials.run("responses", responses)
trials.run("responses stream", responses_stream)
trials.run("fallback", fallback)
trials.run("wait for capacity", lambda: waited(lambda: chat("waits", "wait")))
trials.run("refusal", refusal)
trials.run("refusal, then retry", comes_back)
trials.run("too large, x-should-retry", hopeless)
