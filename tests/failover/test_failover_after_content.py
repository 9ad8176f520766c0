"""Streams that break after text: a clean error, whole from elsewhere with ``hold``, gone on with ``continue``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import litellm
import pytest
from failover_rows import (
    CHUNKS,
    CLEAN,
    FEATURE,
    FROM_BACKUP,
    MESSAGES,
    PART,
    TEXT,
    TIMEOUT,
    Row,
    ask,
    configuration,
    through_router,
)

from wallie_litellm.simulator import SimulatedProvider, SimulatedProviders

BREAKS: dict[str, Callable[[SimulatedProvider], object]] = {
    "the connection is cut": lambda provider: provider.cut_stream(CHUNKS),
    "a well-formed end without an end mark": lambda provider: provider.truncate_stream(CHUNKS),
    "it stalls": lambda provider: provider.hang(after_chunks=CHUNKS),
    "one event is broken": lambda provider: provider.malformed(after_chunks=CHUNKS),
    "an error object": lambda provider: provider.error_in_200(503, after_chunks=CHUNKS),
}


def broken(name: str) -> Callable[[SimulatedProviders], object]:
    return lambda fleet: BREAKS[name](fleet["openai"])


def recovery(mode: str) -> dict[str, Any]:
    return {"features": {FEATURE: {"stream_recovery": mode}}}


def row_of(name: str, **more: Any) -> Row:
    bounds = {"within": TIMEOUT, "timeout": TIMEOUT} if name == "it stalls" else {}
    return Row(name, broken(name), circuit="open", **bounds, **more)


BY_DEFAULT = [
    row_of(name, error=CLEAN, delivered=PART, status=503 if name == "an error object" else None) for name in BREAKS
]
HELD = [row_of(name, others=FROM_BACKUP, settings=recovery("hold")) for name in BREAKS]
CONTINUED = [
    *(row_of(name, others=FROM_BACKUP, settings=recovery("continue")) for name in BREAKS),
    replace(
        row_of("the connection is cut", others=FROM_BACKUP, settings=recovery("continue")),
        name="the next member takes no prefill, the one behind it does",
        chain=("no-prefill", "backup"),
    ),
]
NOT_CONTINUED = [
    replace(
        row_of("the connection is cut", error=CLEAN, delivered=PART, settings=recovery("continue")),
        name="no member takes a prefill",
        chain=("no-prefill",),
    ),
    Row(  # its 400 says nothing of the caller's request
        "the member that takes a prefill refuses it",
        lambda fleet: (fleet["openai"].cut_stream(CHUNKS), fleet["anthropic"].refuse_prefill()),
        error=(litellm.APIConnectionError, litellm.InternalServerError, litellm.ServiceUnavailableError),
        delivered=PART,
        settings=recovery("continue"),
        others=FROM_BACKUP,
        circuit="open",
    ),
]
THROUGH_ROUTER = [
    *map(through_router, BY_DEFAULT),
    *map(through_router, HELD),
    *map(through_router, CONTINUED[: len(BREAKS)]),
]
crowds = pytest.mark.parametrize("at_once", [False, True], ids=["in-turn", "at-once"])


@crowds
@pytest.mark.parametrize("row", BY_DEFAULT, ids=str)
async def test_a_stream_that_breaks_is_an_error_and_never_a_short_answer(judge, row, at_once):
    await judge(row, stream=True, at_once=at_once)


@crowds
@pytest.mark.parametrize("row", HELD, ids=str)
async def test_a_held_stream_comes_whole_from_elsewhere(judge, row, at_once):
    await judge(row, stream=True, at_once=at_once)


@crowds
@pytest.mark.parametrize("row", CONTINUED, ids=str)
async def test_a_continued_stream_goes_on_where_it_broke(judge, row, at_once):
    await judge(row, stream=True, at_once=at_once)


@crowds
@pytest.mark.parametrize("row", NOT_CONTINUED, ids=str)
async def test_a_stream_that_no_member_can_continue_is_an_error(judge, row, at_once):
    await judge(row, stream=True, at_once=at_once)


@pytest.mark.parametrize("row", THROUGH_ROUTER, ids=lambda row: f"{row}, {row.settings or 'error'}")
async def test_a_stream_of_litellms_router_ends_in_the_same_ways(judge, row):
    await judge(row, stream=True, at_once=False)


@pytest.mark.parametrize("mode", ["error", "hold", "continue"])
async def test_a_healthy_stream_is_the_same_in_every_mode(judge, mode):
    row = Row("healthy", lambda fleet: None, settings=recovery(mode))
    await judge(row, stream=True, at_once=False)


async def test_a_held_stream_that_no_member_can_finish_delivers_nothing_but_an_error(judge):
    row = Row(
        "both break",
        lambda fleet: (fleet["openai"].cut_stream(CHUNKS), fleet["anthropic"].truncate_stream(CHUNKS)),
        error=CLEAN,
        settings={**recovery("hold"), "retry": {"max_retries": 0}},
        others=FROM_BACKUP,
    )
    await judge(row, stream=True, at_once=False)


async def test_a_continuation_is_asked_for_with_what_was_delivered(make_router, fleet, clock):
    row = row_of("a well-formed end without an end mark", settings=recovery("continue"))
    router = make_router(data=configuration(row))
    row.fault(fleet)
    received = await ask(router, row, "plain", stream=True, clock=clock)
    assert (received.error, received.text) == (None, TEXT)
    (body,) = fleet["anthropic"].bodies()
    *asked, beginning = body["messages"]
    assert [message["role"] for message in asked] == [message["role"] for message in MESSAGES]
    assert beginning["role"] == "assistant"
    assert PART.rstrip() in str(beginning["content"])


async def test_a_feature_that_names_no_recovery_has_the_error(judge):
    row = row_of(
        "the connection is cut",
        error=CLEAN,
        delivered=PART,
        settings={"features": {"other": {"stream_recovery": "hold"}}},
    )
    await judge(row, stream=True, at_once=False)
