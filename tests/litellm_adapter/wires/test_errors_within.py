"""An error inside a 200 is the provider's failure, for every vendor that speaks the wire."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from support import messages
from wire_scripts import CHAT_VENDORS, CHUNK, DONE, PIECES, WIRES, chat_chunk, sse

from wallie_litellm.events import Ended, Settled

ROLE = chat_chunk({"role": "assistant", "content": ""})
PLACES = {"before": [], "after the role": [ROLE], "in the middle": [ROLE, chat_chunk({"content": PIECES[0]})]}
PLACES["after the text"] = [*PLACES["in the middle"], chat_chunk({"content": PIECES[1]})]
PLACES["after the finish"] = [*PLACES["after the text"], chat_chunk({}, "stop")]
# The error as vLLM, and as OpenRouter, which sends a choice beside it, write it.
ERRORS = {
    503: sse({"error": {"message": "Engine queue is full", "type": "server_error", "code": 503}}),
    502: sse(
        {
            **CHUNK,
            "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "error"}],
            "error": {"message": "Provider disconnected", "code": 502},
        }
    ),
}
NEVER_OPEN = {"failures": 1_000}


async def read(router: Any, group: str) -> None:
    async for _ in await router.acompletion(group, messages(), stream=True):
        pass


@pytest.mark.parametrize("status", ERRORS)
@pytest.mark.parametrize("place", PLACES)
async def test_an_error_object_in_a_chat_stream_has_its_status(open_router, vendor, bus, place, status):
    router = open_router({name: f"{name}/{model}" for name, model in CHAT_VENDORS.items()}, breaker=NEVER_OPEN)
    vendor.stream(*PLACES[place], ERRORS[status], DONE)
    for name in CHAT_VENDORS:
        with pytest.raises(openai.APIError) as caught:
            await read(router, name)
        assert getattr(caught.value, "status_code", None) == status, name
    failures = {record.provider: (record.error, record.status_code) for record in bus.of(Settled)}
    assert set(failures.values()) == {(f"HTTP {status}", status)}, failures
    assert {(ended.success, ended.by_caller) for ended in bus.of(Ended)} == {(False, False)}
    assert len(bus.of(Ended)) == len(CHAT_VENDORS)


@pytest.mark.parametrize("name", WIRES)
async def test_an_error_before_content_goes_on_along_the_chain(open_router, vendor, bus, name):
    """The fallback speaks the same wire; it answers once the first has failed."""
    wire = WIRES[name]
    router = open_router({"first": wire.model, "second": wire.model}, [{"first": ["second"]}])
    error, whole = wire.error(529 if name == "messages" else 503), wire.whole()
    vendor.stream(*wire.begin, *error, apart=True)
    vendor.then(*whole)
    assert [chunk async for chunk in await wire.ask(router, "first")]
    (ended,) = bus.of(Ended)
    assert (ended.success, ended.used_fallback) == (True, True)
    assert [record.success for record in ended.settled] == [False, True]
    assert ended.settled[1].total_tokens == 1_200


WHOLE_ERRORS = {
    "messages": {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
    "responses": {"error": {"message": "Engine queue is full", "type": "server_error", "code": 503}},
    "generate content": {"error": {"code": 503, "message": "overloaded", "status": "UNAVAILABLE"}},
    "chat": {"error": {"message": "Engine queue is full", "type": "server_error", "code": 503}},
    "text completion": {"error": {"message": "Engine queue is full", "type": "server_error", "code": 503}},
}


@pytest.mark.parametrize("name", WHOLE_ERRORS)
async def test_an_error_as_an_answer_in_one_piece_is_the_providers_failure(open_router, vendor, bus, name):
    router = open_router({"group": WIRES[name].model}, breaker={"failures": 1})
    vendor.whole(WHOLE_ERRORS[name])
    with pytest.raises(openai.APIError):
        await WIRES[name].ask_whole(router, "group")
    (ended,) = bus.of(Ended)
    assert (ended.success, ended.by_caller) == (False, False)
    assert router.guard.status()["providers"][ended.provider]["breaker"]["state"] == "open"


# Errors of Anthropic's: whose they are is said by their words alone.
ON_RECORD = {
    ("invalid_request_error", "Your credit balance is too low to access the API."): "HTTP 400, quota exhausted",
    ("rate_limit_error", "This request would exceed your account's rate limit."): "HTTP 429",
    ("invalid_request_error", "max_tokens is too large"): "HTTP 400",
}


@pytest.mark.parametrize("error", ON_RECORD, ids=lambda error: error[1])
async def test_an_error_that_is_passed_on_keeps_its_words_and_is_judged_by_them(open_router, vendor, bus, error):
    wire = WIRES["messages"]
    router = open_router({"group": wire.model})
    vendor.stream(*wire.begin, sse({"type": "error", "error": dict(zip(("type", "message"), error, strict=True))}))
    with pytest.raises(openai.APIError, match=error[1]):
        _ = [chunk async for chunk in await wire.ask(router, "group")]
    assert [record.error for record in bus.of(Settled)] == [ON_RECORD[error]]
    assert router.guard.status()["providers"]["anthropic"].get("models", {}) == {}
