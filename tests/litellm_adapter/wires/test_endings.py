"""A stream ends in one of four ways on every wire: finished, failed, cut, abandoned."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import openai
import pytest
from support import assert_nothing_leaked
from wire_scripts import COUNTED, OUTPUT_TOKENS, PROMPT_TOKENS, WIRES, WireScript, chat_chunk, counted_by_limits, sse

from wallie_litellm.events import Ended, Settled

TO_OPEN = 5  # failures that open a circuit
CLEAN = (openai.APIError, openai.APIConnectionError)
STATUS = {"messages": 529, "responses": 500}  # of the errors inside a 200 that the wire has a name for; else 503


@pytest.fixture(params=WIRES)
def wire(request: pytest.FixtureRequest) -> WireScript:
    return WIRES[request.param]


@pytest.fixture
def router(open_router, wire) -> Any:
    return open_router({"group": wire.model})


async def read(router: Any, wire: WireScript) -> int:
    """The number of chunks that the caller got."""
    return len([chunk async for chunk in await wire.ask(router, "group")])


def settled(bus: Any) -> Settled:
    (record,) = bus.of(Settled)
    return record


def is_open(router: Any) -> bool:
    return "open" in {provider["breaker"]["state"] for provider in router.guard.status()["providers"].values()}


async def test_a_whole_stream_is_finished(router, wire, vendor, bus):
    vendor.stream(*wire.whole())
    for _ in range(TO_OPEN):
        assert await read(router, wire)
    assert [record.outcome for record in bus.of(Settled)] == ["success"] * TO_OPEN
    assert {(record.prompt_tokens, record.completion_tokens, record.estimated) for record in bus.of(Settled)} == {
        (PROMPT_TOKENS, OUTPUT_TOKENS, False)
    }
    assert {record.charged for record in bus.of(Settled)} == {
        (1, counted_by_limits(wire.name, PROMPT_TOKENS, OUTPUT_TOKENS), PROMPT_TOKENS, OUTPUT_TOKENS)
    }
    assert all(record.cost_usd for record in bus.of(Settled))
    assert [(ended.success, ended.operation) for ended in bus.of(Ended)] == [(True, wire.operation)] * TO_OPEN
    assert not is_open(router)


@pytest.mark.parametrize("name", ["chat", "text completion", "generate content"])
async def test_a_whole_stream_without_usage_is_counted_from_its_text(open_router, vendor, bus, name):
    vendor.stream(*WIRES[name].whole(usage=False))
    await read(open_router({"group": WIRES[name].model}), WIRES[name])
    record = settled(bus)
    assert (record.success, record.completion_tokens, record.estimated) == (True, COUNTED, True)
    assert record.prompt_tokens < 20


async def test_a_message_that_reports_its_prompt_alone_has_its_output_counted(open_router, vendor, bus):
    vendor.stream(*WIRES["messages"].whole(usage=False))
    await read(open_router({"group": WIRES["messages"].model}), WIRES["messages"])
    record = settled(bus)
    assert (record.prompt_tokens, record.completion_tokens, record.estimated) == (PROMPT_TOKENS, COUNTED, True)


async def test_a_responses_stream_without_usage_has_litellms_count(open_router, vendor, bus):
    """LiteLLM puts it where the provider's would be, so that it does not count as estimated."""
    vendor.stream(*WIRES["responses"].whole(usage=False))
    await read(open_router({"group": WIRES["responses"].model}), WIRES["responses"])
    record = settled(bus)
    assert (record.success, record.estimated) == (True, False)
    assert 0 < record.completion_tokens < 10


@pytest.mark.parametrize("pieces", [0, 1, 2], ids=["before", "in the middle of", "after"])
async def test_an_error_inside_the_stream_is_the_providers_failure(router, wire, vendor, bus, pieces):
    status = STATUS.get(wire.name, 503)
    vendor.stream(*wire.broken(pieces), *wire.error(status), apart=True)
    for _ in range(TO_OPEN):
        with pytest.raises(CLEAN) as caught:
            await read(router, wire)
        assert caught.value.status_code == status
    assert [(ended.success, ended.status_code, ended.by_caller) for ended in bus.of(Ended)] == [
        (False, status, False)
    ] * TO_OPEN
    assert {record.error for record in bus.of(Settled)} == {f"HTTP {status}"}
    assert is_open(router)


@pytest.mark.parametrize("aborted", [True, False], ids=["reset", "ended"])
async def test_a_stream_without_its_end_mark_is_cut(router, wire, vendor, bus, aborted):
    vendor.stream(*wire.broken(1), aborted=aborted, apart=True)
    for _ in range(TO_OPEN):
        with pytest.raises(CLEAN):
            await read(router, wire)
    assert [record.outcome for record in bus.of(Settled)] == ["cut"] * TO_OPEN
    assert {record.error for record in bus.of(Settled)} <= {"stream cut off", "connection lost"}
    assert {record.charged.output for record in bus.of(Settled)} <= {
        0,
        2,
    }  # tokens of the text that came, not max_tokens
    assert [ended.success for ended in bus.of(Ended)] == [False] * TO_OPEN
    assert is_open(router)


async def test_a_stream_that_its_reader_leaves_is_abandoned_at_once(router, wire, vendor, bus):
    vendor.stream(*wire.whole(), apart=True)
    gc.disable()
    try:
        stream = await wire.ask(router, "group")
        await anext(stream)
        await stream.aclose()
        record, (ended,) = settled(bus), bus.of(Ended)
    finally:
        gc.enable()
    assert (record.outcome, record.error) == ("cut", "abandoned")
    assert (ended.success, ended.by_caller) == (False, True)
    assert not is_open(router)
    assert_nothing_leaked(router)


async def test_an_answer_that_breaks_is_on_record_at_once(router, wire, vendor, bus):
    vendor.stream(*wire.broken(1), aborted=True, apart=True)
    gc.disable()
    try:
        with pytest.raises(CLEAN):
            await read(router, wire)
        assert len(bus.of(Settled)) == len(bus.of(Ended)) == 1
    finally:
        gc.enable()


async def test_text_and_done_without_a_finish_reason_but_with_usage_is_finished(open_router, vendor, bus):
    """Some local servers."""
    router = open_router({"group": "openai/local"})
    usage = {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": OUTPUT_TOKENS, "total_tokens": 1_200}
    pieces = [chat_chunk({"content": piece}, usage=usage) for piece in ("Hello ", "world")]
    vendor.stream(*pieces, sse("[DONE]"))
    for _ in range(TO_OPEN):
        await read(router, WIRES["chat"])
    assert {(record.outcome, record.total_tokens, record.estimated) for record in bus.of(Settled)} == {
        ("success", 1_200, False)
    }
    assert not is_open(router)


async def test_a_prompt_that_gemini_blocks_is_answered_and_billed(open_router, vendor, bus):
    router = open_router({"group": WIRES["generate content"].model})
    usage = {"promptTokenCount": 10, "totalTokenCount": 10}
    vendor.stream(sse({"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": usage}))
    await read(router, WIRES["generate content"])
    record = settled(bus)
    assert (record.success, record.prompt_tokens, record.completion_tokens) == (True, 10, 0)
    assert not record.estimated


async def test_a_malformed_event_is_the_providers_failure(open_router, vendor, bus):
    for name in ("messages", "generate content"):
        wire = WIRES[name]
        router = open_router({"group": wire.model})
        vendor.stream(*wire.broken(1), b'data: {"cand\n\n', *wire.end(True), apart=True)
        with pytest.raises(CLEAN):
            await read(router, wire)
        assert bus.of(Settled)[-1].error == "unreadable answer"


async def test_streams_at_once_settle_each_by_itself(router, wire, vendor, bus):
    vendor.stream(*wire.whole())
    await asyncio.gather(*(read(router, wire) for _ in range(4)))
    assert [record.total_tokens for record in bus.of(Settled)] == [1_200] * 4
    assert_nothing_leaked(router)


async def test_a_call_through_litellms_router_is_read_alike(open_router, vendor, bus):
    """LiteLLM's Router puts streams of its own around the provider's."""
    router = open_router({"group": WIRES["chat"].model}, parameters={"tags": ["any"]})
    vendor.stream(*WIRES["chat"].whole())
    await read(router, WIRES["chat"])
    vendor.stream(*WIRES["chat"].broken(1))
    with pytest.raises(CLEAN):
        await read(router, WIRES["chat"])
    whole, cut = bus.of(Settled)
    assert (whole.success, whole.total_tokens, whole.estimated) == (True, 1_200, False)
    assert (cut.outcome, cut.error) == ("cut", "stream cut off")
