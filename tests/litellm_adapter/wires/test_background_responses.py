"""A response that is finished in the background is billed once, when a poll finds it finished, by its usage."""

from __future__ import annotations

from typing import Any

import pytest
from wire_scripts import PROMPT_TOKENS, RESPONSES_USAGE, WIRES, response, response_event

from wallie_litellm.events import Ended, Settled

WIRE = WIRES["responses"]
BEGIN = {"background": True, "max_output_tokens": 100_000, "litellm_metadata": {"feature": "reports", "user_id": "u1"}}


def queued() -> dict[str, Any]:
    return response("queued", background=True, output=[])


def finished(status: str = "completed", **more: Any) -> dict[str, Any]:
    return response(status, background=True, usage=RESPONSES_USAGE, **more)


@pytest.fixture
def router(open_router) -> Any:
    return open_router({"group": WIRE.model, "other": WIRE.model}, providers={"openai": {"tpd": 1_000_000}})


async def begin(router: Any, vendor: Any) -> str:
    vendor.whole(queued())
    return str((await WIRE.ask_whole(router, "group", **BEGIN)).id)


async def poll(router: Any, vendor: Any, key: str, body: dict[str, Any]) -> str:
    vendor.whole(body)
    return str((await router.aget_responses(response_id=key)).status)


async def test_a_queued_answer_is_a_request_that_costs_nothing(router, vendor, bus):
    await begin(router, vendor)
    (record,) = bus.of(Settled)
    assert (record.success, record.total_tokens, record.cost_usd, record.estimated) == (True, 0, 0.0, False)
    assert record.charged == (1, 0, 0, 0)
    (ended,) = bus.of(Ended)
    assert ended.success


async def test_the_first_poll_that_finds_it_finished_bills_it_and_no_later_one(router, vendor, bus):
    key = await begin(router, vendor)
    assert await poll(router, vendor, key, response("in_progress", background=True)) == "in_progress"
    assert len(bus.of(Settled)) == 1
    for _ in range(3):
        assert await poll(router, vendor, key, finished()) == "completed"
    _, record = bus.of(Settled)
    assert (record.operation, record.model, record.provider) == ("background_response", "group", "openai")
    assert (record.prompt_tokens, record.completion_tokens) == (PROMPT_TOKENS, 200)
    assert record.cost_usd == pytest.approx(1_000 * 1.5e-7 + 200 * 6e-7)
    assert (record.feature, record.user_id) == ("reports", "u1")
    assert record.charged == (0, 1_200, PROMPT_TOKENS, 200)
    assert router.guard.status()["providers"]["openai"]["quota"]["tpd"]["used"] == 1_200
    assert len(bus.of(Ended)) == 2


async def test_an_incomplete_response_is_billed_and_a_cancelled_one_is_not(router, vendor, bus):
    first = await begin(router, vendor)
    await poll(router, vendor, first, finished("incomplete", id="resp_2"))
    assert bus.of(Settled)[-1].total_tokens == 1_200
    second = await begin(router, vendor)
    await poll(router, vendor, second, response("cancelled", background=True, id="resp_3"))
    assert len(bus.of(Settled)) == 3


async def test_another_process_gives_its_records_the_same_ids(open_router, vendor, bus):
    """The ledger keeps the first of records with one id."""
    routers = [open_router({"group": WIRE.model}), open_router({"group": WIRE.model})]
    for router in routers:
        key = await begin(router, vendor)
        await poll(router, vendor, key, finished())
    one, other = (record for record in bus.of(Settled) if record.operation == "background_response")
    assert (one.id, one.request_id) == (other.id, other.request_id)
    assert len({ended.id for ended in bus.of(Ended)}) == 3


async def test_a_background_stream_that_was_read_is_not_billed_again(router, vendor, bus):
    created = response_event("response.created", response=queued())
    vendor.stream(created, WIRE.text("Hello"), response_event("response.completed", response=finished()))
    events = [event async for event in await WIRE.ask(router, "group", background=True)]
    assert bus.of(Settled)[-1].total_tokens == 1_200
    await poll(router, vendor, events[-1].response.id, finished())
    assert len(bus.of(Settled)) == 1


async def test_a_background_stream_that_its_reader_leaves_is_billed_when_it_is_finished(router, vendor, bus):
    created = response_event("response.created", response=queued())
    vendor.stream(created, WIRE.text("Hello"), apart=True)
    stream = await WIRE.ask(router, "group", background=True)
    event = await anext(stream)
    await anext(stream)
    await stream.aclose()
    (left,) = bus.of(Settled)
    assert (left.total_tokens, left.cost_usd) == (0, 0.0)
    await poll(router, vendor, event.response.id, finished())
    assert bus.of(Settled)[-1].total_tokens == 1_200


async def test_a_stored_response_that_was_billed_at_once_costs_nothing_to_read(router, vendor, bus):
    vendor.whole(response("completed", usage=RESPONSES_USAGE))
    answer = await WIRE.ask_whole(router, "group")
    await poll(router, vendor, answer.id, response("completed", usage=RESPONSES_USAGE, background=False))
    assert len(bus.of(Settled)) == 1


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
async def test_what_one_process_has_billed_is_on_record_once_though_another_is_asked_for_it(
    open_router, vendor, bus, stream
):
    groups = {"group": WIRE.model, "other": WIRE.model}
    one, another = open_router(groups), open_router(groups)
    if stream:
        begun = response_event("response.created", response=response("in_progress", background=True, output=[]))
        vendor.stream(begun, response_event("response.completed", response=finished()))
        *_, last = [event async for event in await WIRE.ask(one, "group", **BEGIN)]
        key = last.response.id
    else:
        vendor.whole(finished())
        key = (await WIRE.ask_whole(one, "group", **BEGIN)).id
    assert await poll(another, vendor, key, finished()) == "completed"
    first, second = bus.of(Settled)
    assert (first.id, first.total_tokens) == (second.id, 1_200)  # the ledger inserts each id once
    first, second = bus.of(Ended)
    assert first.id == second.id
