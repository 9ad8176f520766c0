"""Vendors say the usage in several places of a chat stream, whether it was asked for or not."""

from __future__ import annotations

from typing import Any

import pytest
from support import messages
from wire_scripts import CHAT_USAGE, CHAT_VENDORS, CHUNK, DONE, GEMINI_USAGE, PIECES, chat_chunk, gemini_part, sse

from wallie_litellm.events import Settled

PART = {**CHAT_USAGE, "completion_tokens": 1, "total_tokens": 1_001}
BEGIN = [chat_chunk({"role": "assistant", "content": ""}), chat_chunk({"content": PIECES[0]})]
WORLD, FINISH = chat_chunk({"content": PIECES[1]}), chat_chunk({}, "stop")
EMPTY_CHOICE = {"index": 0, "delta": {}}
PLACES = {
    "after the finish": [*BEGIN, WORLD, FINISH, sse({**CHUNK, "choices": [], "usage": CHAT_USAGE})],
    "after the finish, beside a choice": [
        *BEGIN, WORLD, FINISH, sse({**CHUNK, "choices": [EMPTY_CHOICE], "usage": CHAT_USAGE})
    ],
    "on the finish": [*BEGIN, WORLD, chat_chunk({}, "stop", usage=CHAT_USAGE)],
    "with the last text": [*BEGIN, chat_chunk({"content": PIECES[1]}, "stop", usage=CHAT_USAGE)],
    "on every chunk": [
        chat_chunk({"content": PIECES[0]}, usage=PART), chat_chunk({"content": PIECES[1]}, usage=PART),
        chat_chunk({}, "stop", usage=CHAT_USAGE),
    ],
    "on the first chunk": [
        chat_chunk({"role": "assistant", "content": ""}, usage=CHAT_USAGE), *BEGIN[1:], WORLD, FINISH
    ],
}  # fmt: skip
ASKED = {"stream_options": {"include_usage": True}}


async def read(router: Any, group: str, **more: Any) -> str:
    stream = await router.acompletion(group, messages(), stream=True, max_tokens=64_000, **more)
    return "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])


@pytest.mark.parametrize("place", PLACES)
async def test_usage_counts_wherever_it_comes(open_router, vendor, bus, place):
    router = open_router({name: f"{name}/{model}" for name, model in CHAT_VENDORS.items()})
    vendor.stream(*PLACES[place], DONE)
    for name in CHAT_VENDORS:
        for asked in ({}, ASKED):
            assert await read(router, name, **asked) == "".join(PIECES)
    found = {
        record.provider: (record.prompt_tokens, record.completion_tokens, record.estimated, record.charged.tokens)
        for record in bus.of(Settled)
    }
    assert len(bus.of(Settled)) == 2 * len(CHAT_VENDORS)
    assert set(found.values()) == {(1_000, 200, False, 1_200)}, found


@pytest.mark.parametrize("usage", [None, dict.fromkeys(CHAT_USAGE, 0)], ids=["null", "zeros"])
async def test_usage_that_says_nothing_is_counted_from_the_text(open_router, vendor, bus, usage):
    router = open_router({name: f"{name}/{model}" for name, model in CHAT_VENDORS.items()})
    vendor.stream(*BEGIN, WORLD, FINISH, sse({**CHUNK, "choices": [], "usage": usage}), DONE)
    for name in CHAT_VENDORS:
        await read(router, name)
    found = {(record.completion_tokens, record.estimated, record.charged.output) for record in bus.of(Settled)}
    assert found == {(3, True, 3)}


@pytest.mark.parametrize(
    "parts",
    [
        [gemini_part(PIECES[0]), gemini_part(PIECES[1], "STOP", GEMINI_USAGE)],
        [gemini_part(PIECES[0]), gemini_part(PIECES[1], "STOP"), sse({"usageMetadata": GEMINI_USAGE})],
        [gemini_part(PIECES[0], None, GEMINI_USAGE), gemini_part(PIECES[1], "STOP", GEMINI_USAGE)],
    ],
    ids=["on the finish", "after the finish", "on every part"],
)
async def test_geminis_usage_counts_on_chat_and_on_its_own_wire(open_router, vendor, bus, parts):
    router = open_router({"gemini": "gemini/gemini-2.5-flash"})
    vendor.stream(*parts)
    await read(router, "gemini")
    contents = [{"role": "user", "parts": [{"text": "Hello"}]}]
    async for _ in await router.agenerate_content_stream(model="gemini", contents=contents):
        pass
    chat, own = bus.of(Settled)
    for record in (chat, own):
        assert (record.success, record.prompt_tokens, record.completion_tokens) == (True, 1_000, 200)
        assert (record.reasoning_tokens, record.estimated) == (50, False)
    assert own.cost_usd == chat.cost_usd
