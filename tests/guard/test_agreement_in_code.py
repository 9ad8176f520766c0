"""What provider, application, ledger, page, PostHog and LiteLLM's own callback say of a call in code agrees."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from agreement_support import (
    CALLBACK_FIELDS,
    EMBEDDING,
    MODELS,
    Asked,
    Json,
    Observations,
    Row,
    Tokens,
    agreement_config,
    agreement_providers,
    check_agreement,
    events_of,
    of_anthropic,
    of_callback,
    of_gemini,
    of_ledger,
    of_message_events,
    of_page,
    of_posthog,
)
from dashboard_support import TOKEN, served
from drop_in.callbacks import registered
from litellm.integrations.custom_logger import CustomLogger
from proxy_support import RecordedLedger
from support import messages

from wallie_litellm import build_router, execute_ai_request, stream_ai_request
from wallie_litellm.simulator.posthog_endpoint import PostHogEndpoint

Ask = Callable[[Any, str], Awaitable[Tokens | None]]
_USAGE: Json = {"stream_options": {"include_usage": True}}


class _Observer(CustomLogger):
    """Keeps what LiteLLM's success callback is given."""

    def __init__(self) -> None:
        super().__init__()
        self.payloads: list[Json] = []

    async def async_log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        self._keep(kwargs["standard_logging_object"])

    def log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        self._keep(kwargs["standard_logging_object"])  # of a blocking call

    def _keep(self, said: Any) -> None:
        if said["model_group"] in {row.group for row in ROWS}:
            self.payloads.append({name: said.get(name) for name in CALLBACK_FIELDS})


async def _chat(router: Any, model: str) -> Tokens | None:
    usage = (await router.acompletion(model, messages())).usage
    return usage.prompt_tokens, usage.completion_tokens


async def _chat_stream(router: Any, model: str) -> Tokens | None:
    stream = await router.acompletion(model, messages(), stream=True, **_USAGE)
    found = [chunk.usage async for chunk in stream if getattr(chunk, "usage", None)]
    return found[-1].prompt_tokens, found[-1].completion_tokens


async def _blocking(router: Any, model: str) -> Tokens | None:
    usage = (await asyncio.to_thread(router.completion, model, messages())).usage
    return usage.prompt_tokens, usage.completion_tokens


async def _helper(router: Any, model: str) -> Tokens | None:
    result = await execute_ai_request(router, model=model, messages=messages())
    return result.prompt_tokens, result.completion_tokens


async def _streaming_helper(router: Any, model: str) -> Tokens | None:
    stream = stream_ai_request(router, model=model, messages=messages())
    async for _ in stream:
        pass
    return stream.result.prompt_tokens, stream.result.completion_tokens


async def _responses(router: Any, model: str) -> Tokens | None:
    usage = (await router.aresponses(model=model, input="Hello there")).usage
    return usage.input_tokens, usage.output_tokens


async def _responses_stream(router: Any, model: str) -> Tokens | None:
    events = [event async for event in await router.aresponses(model=model, input="Hello there", stream=True)]
    usage = events[-1].response.usage
    return usage.input_tokens, usage.output_tokens


async def _messages(router: Any, model: str) -> Tokens | None:
    answer = await router.aanthropic_messages(model=model, messages=messages(), max_tokens=200)
    return of_anthropic(dict(answer["usage"]))


async def _messages_stream(router: Any, model: str) -> Tokens | None:
    stream = await router.aanthropic_messages(model=model, messages=messages(), max_tokens=200, stream=True)
    return of_message_events(events_of(await _text(stream)))


async def _gemini(router: Any, model: str) -> Tokens | None:
    answer = await router.agenerate_content(
        model=model, contents=[{"role": "user", "parts": [{"text": "Hello there"}]}]
    )
    return of_gemini(answer.model_dump(by_alias=True) if hasattr(answer, "model_dump") else answer)


async def _gemini_stream(router: Any, model: str) -> Tokens | None:
    contents = [{"role": "user", "parts": [{"text": "Hello there"}]}]
    stream = await router.agenerate_content_stream(model=model, contents=contents, stream=True)
    return of_gemini(events_of(await _text(stream))[-1])


async def _embedding(router: Any, model: str) -> Tokens | None:
    return (await router.aembedding(model, "Hello there")).usage.prompt_tokens, 0


async def _text(stream: AsyncIterator[Any]) -> str:
    chunks = [chunk async for chunk in stream]
    return "".join(chunk.decode() if isinstance(chunk, bytes) else str(chunk) for chunk in chunks)


ROWS = [
    *(Row(f"chat, {vendor}", vendor, _chat) for vendor in MODELS),
    *(Row(f"chat stream, {vendor}", vendor, _chat_stream) for vendor in MODELS),
    Row("blocking chat", "openai", _blocking),
    Row("execute_ai_request", "openai", _helper),
    Row("stream_ai_request", "anthropic", _streaming_helper),
    *(Row(f"responses, {vendor}", vendor, _responses) for vendor in ("openai", "anthropic")),
    *(Row(f"responses stream, {vendor}", vendor, _responses_stream) for vendor in ("openai", "anthropic")),
    *(Row(f"messages, {vendor}", vendor, _messages) for vendor in ("openai", "anthropic")),
    *(Row(f"messages stream, {vendor}", vendor, _messages_stream) for vendor in ("openai", "anthropic")),
    Row("generateContent, gemini", "gemini", _gemini),
    Row("streamGenerateContent, gemini", "gemini", _gemini_stream),
    Row(EMBEDDING, "openai", _embedding),
]
Outcome = tuple[Asked, Observations]


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """All rows asked, one after the other, of one router, and what became of them everywhere."""
    folder: Path = tmp_path_factory.mktemp("agreement")
    observer = _Observer()
    with registered(observer):
        return asyncio.run(_ask_all(folder, observer))


async def _ask_all(folder: Path, observer: _Observer) -> Outcome:
    ledger, asked = RecordedLedger(folder / "wallie.db"), Asked()
    path = folder / "router_config.yaml"
    with agreement_providers() as providers, PostHogEndpoint() as endpoint:
        path.write_text(yaml.safe_dump(agreement_config(ROWS, providers, endpoint, ledger)))
        async with build_router(path) as router:
            for row in ROWS:
                try:
                    asked.note(row, await row.ask(router, row.group), providers)
                except Exception as error:  # noqa: BLE001 - the row's own test raises it
                    asked.failed[row.group] = error
            with served(router.guard, [TOKEN]) as address:

                def others() -> Observations:
                    return {
                        "ledger": of_ledger(ledger),
                        "page": of_page(_get(f"{address}api/usage?range=1h&by=model")),
                        "posthog": of_posthog(endpoint),
                        "callback": of_callback(observer.payloads),
                    }

                return asked, await asyncio.to_thread(asked.compared_with, others)


def _get(url: str) -> Json:
    request = urllib.request.Request(url, headers={"authorization": f"Bearer {TOKEN}"})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=20) as response:
        found: Json = json.loads(response.read())
        return found


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_all_say_the_same_of_a_call_in_code(outcome: Outcome, row: Row) -> None:
    check_agreement(*outcome, row)
