"""Calls of every client to a proxy, and the tokens in their answers."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any

import openai
from agreement_support import (
    EMBEDDING,
    Json,
    Row,
    Tokens,
    events_of,
    of_anthropic,
    of_gemini,
    of_message_events,
)
from proxy_support import MASTER_KEY
from request_shapes import (
    CLAUDE_CODE_HEADERS,
    CLAUDE_CODE_PATH,
    CODEX_HEADERS,
    CODEX_PATH,
    GEMINI_CLI_HEADERS,
    claude_code,
    codex,
    gemini_cli,
    gemini_cli_path,
)
from support import messages

TOOL: Json = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
# The headers of Anthropic's SDK; it sends its key in ``x-api-key``.
ANTHROPIC_SDK = {"x-api-key": MASTER_KEY, "anthropic-version": "2023-06-01", "user-agent": "Anthropic/Python 2.14.0"}
BEARER = {"authorization": f"Bearer {MASTER_KEY}"}


class Client:
    """OpenAI's SDK and a plain HTTP client, for a proxy on ``port``."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.openai = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key=MASTER_KEY, max_retries=0)

    def post(self, path: str, body: Json, headers: Mapping[str, str]) -> str:
        """The body of the answer, a stream's to its end.

        Raises:
            AssertionError: the answer is an error.
        """
        return self._send("POST", path, json.dumps(body), {"content-type": "application/json", **headers})

    def get(self, path: str) -> Any:
        """The JSON of a page."""
        return json.loads(self._send("GET", path, None, BEARER))

    def _send(self, method: str, path: str, body: str | None, headers: Mapping[str, str]) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        try:
            connection.request(method, path, body, dict(headers))
            response = connection.getresponse()
            text = response.read().decode()
        finally:
            connection.close()
        assert response.status == 200, f"{response.status}: {text[:500]}"
        return text

    def events(self, path: str, body: Json, headers: Mapping[str, str]) -> list[Json]:
        """The objects of a stream."""
        return events_of(self.post(path, body, headers))


def _chat(**more: Any) -> Callable[[Client, str], Tokens | None]:
    def ask(client: Client, model: str) -> Tokens | None:
        usage = client.openai.chat.completions.create(model=model, messages=messages(), **more).usage
        return None if usage is None else (usage.prompt_tokens, usage.completion_tokens)

    return ask


def _chat_stream(**more: Any) -> Callable[[Client, str], Tokens | None]:
    def ask(client: Client, model: str) -> Tokens | None:
        stream = client.openai.chat.completions.create(model=model, messages=messages(), stream=True, **more)
        found = [chunk.usage for chunk in stream if chunk.usage is not None]
        return (found[-1].prompt_tokens, found[-1].completion_tokens) if found else None

    return ask


def _responses(client: Client, model: str) -> Tokens | None:
    usage = client.openai.responses.create(model=model, input="Hello there").usage
    return None if usage is None else (usage.input_tokens, usage.output_tokens)


def _responses_stream(client: Client, model: str) -> Tokens | None:
    for event in client.openai.responses.create(model=model, input="Hello there", stream=True):
        if event.type == "response.completed" and event.response.usage is not None:
            return event.response.usage.input_tokens, event.response.usage.output_tokens
    return None


def _embedding(client: Client, model: str) -> Tokens | None:
    return client.openai.embeddings.create(model=model, input="Hello there").usage.prompt_tokens, 0


def _messages(client: Client, model: str) -> Tokens | None:
    body = {"model": model, "messages": messages(), "max_tokens": 200}
    return of_anthropic(json.loads(client.post("/v1/messages", body, ANTHROPIC_SDK))["usage"])


def _messages_stream(client: Client, model: str) -> Tokens | None:
    body = {"model": model, "messages": messages(), "max_tokens": 200, "stream": True}
    return of_message_events(client.events("/v1/messages", body, ANTHROPIC_SDK))


def _claude_code(client: Client, model: str) -> Tokens | None:
    headers = {**CLAUDE_CODE_HEADERS, **BEARER}
    return of_message_events(client.events(CLAUDE_CODE_PATH, claude_code(model), headers))


def _codex(client: Client, model: str) -> Tokens | None:
    last = client.events(CODEX_PATH, codex(model), {**CODEX_HEADERS, **BEARER})[-1]
    assert last["type"] == "response.completed", last
    return last["response"]["usage"]["input_tokens"], last["response"]["usage"]["output_tokens"]


def _gemini_cli(client: Client, model: str) -> Tokens | None:
    headers = {**GEMINI_CLI_HEADERS, "x-goog-api-key": MASTER_KEY}
    return of_gemini(client.events(gemini_cli_path(model), gemini_cli(), headers)[-1])


def _gemini(client: Client, model: str) -> Tokens | None:
    body = {"contents": [{"role": "user", "parts": [{"text": "Hello there"}]}]}
    headers = {"x-goog-api-key": MASTER_KEY}
    return of_gemini(json.loads(client.post(f"/v1beta/models/{model}:generateContent", body, headers)))


# LiteLLM 1.106 asks OpenAI for no usage here, and says 0 tokens to its client and its callback.
_GEMINI_CLI_TRANSLATED = (
    [Row("Gemini CLI, openai", "openai", _gemini_cli, at_full_price=True)]
    if version("litellm").startswith("1.110.")
    else []
)
_ASK_USAGE: Json = {"stream_options": {"include_usage": True}}

ROWS = [
    *(Row(f"chat, {vendor}", vendor, _chat()) for vendor in ("openai", "anthropic", "gemini", "groq", "deepseek")),
    *(
        Row(f"chat stream, {vendor}", vendor, _chat_stream(**_ASK_USAGE))
        for vendor in ("openai", "anthropic", "gemini", "groq", "deepseek")
    ),
    Row("chat stream, usage not asked for", "openai", _chat_stream()),
    Row("chat, tool call", "openai", _chat(tools=[TOOL])),
    Row("chat stream, tool call", "openai", _chat_stream(tools=[TOOL], **_ASK_USAGE)),
    Row("responses, openai", "openai", _responses),
    Row("responses stream, openai", "openai", _responses_stream),
    Row("responses, anthropic", "anthropic", _responses),
    Row("responses stream, anthropic", "anthropic", _responses_stream),
    Row(EMBEDDING, "openai", _embedding),
    Row("messages, anthropic", "anthropic", _messages),
    Row("messages stream, anthropic", "anthropic", _messages_stream),
    Row("messages, openai", "openai", _messages),
    Row("messages stream, openai", "openai", _messages_stream),
    Row("Claude Code, anthropic", "anthropic", _claude_code),
    Row("Claude Code, openai", "openai", _claude_code),
    Row("Codex, openai", "openai", _codex),
    Row("Codex, anthropic", "anthropic", _codex),
    Row("generateContent, gemini", "gemini", _gemini),
    Row("Gemini CLI, gemini", "gemini", _gemini_cli),
    *_GEMINI_CLI_TRANSLATED,
]
