"""Faults before any content: the caller has the whole answer, from the fallback or from a second call, in time.

Every row is for whole answers and for streams, by the package's helpers and by LiteLLM's interface: requests one after
the other, and eight at once.
"""

from __future__ import annotations

from typing import Any

import pytest
from failover_rows import (
    FEATURE,
    FROM_BACKUP,
    JITTER,
    MESSAGES,
    RETRIES,
    SCALE,
    TIMEOUT,
    Row,
    configuration,
    once_more,
    through_router,
)

FIRST_TOKEN = 8.0
BY_FEATURE: dict[str, Any] = {"features": {FEATURE: {"first_token": FIRST_TOKEN}}}
BY_PROVIDER: dict[str, Any] = {"providers": {"openai": {"first_token": FIRST_TOKEN}}}
LATE = 40.0 / SCALE
# One request makes four calls; the second one's is the fifth failure in a row, which opens the circuit. Of eight at
# once, all may be under way before the fifth has failed, and the four that failed before it may have come back.
AT_ONCE = range(5, 8 + 4 + 1)
UNTIL_OPEN: dict[str, Any] = {
    "primary": (5, AT_ONCE),
    "within": (RETRIES, 1 * JITTER),
    "others": FROM_BACKUP,
    "circuit": "open",
}
# The same for faults inside a 200, which a stream may leave behind without a repetition.
NO_CONTENT: dict[str, Any] = {**UNTIL_OPEN, "primary": (range(2, 6), AT_ONCE)}
TIMED_OUT: dict[str, Any] = {"within": TIMEOUT, "timeout": TIMEOUT, "others": FROM_BACKUP, "circuit": "open"}
NO_TOKEN: dict[str, Any] = {
    "within": FIRST_TOKEN,
    "others": FROM_BACKUP,
    "circuit": "open",
}

BOTH = [
    Row("accepts and never answers", lambda fleet: fleet["openai"].hang(), **TIMED_OUT),
    Row("headers at once, then nothing", lambda fleet: fleet["openai"].hang(after_headers=True), **TIMED_OUT),
    Row(
        "headers at once, no content for 40 s, first_token of the feature",
        lambda fleet: fleet["openai"].slow(LATE, after_headers=True),
        settings=BY_FEATURE,
        **NO_TOKEN,
    ),
    Row(
        "accepts and never answers, first_token of the feature",
        lambda fleet: fleet["openai"].hang(),
        settings=BY_FEATURE,
        **NO_TOKEN,
    ),
    Row("resets every connection", lambda fleet: fleet["openai"].reset_connection(), **UNTIL_OPEN),
    Row("503 to everything", lambda fleet: fleet["openai"].fail(503), **UNTIL_OPEN),
    Row("refuses connections", lambda fleet: fleet["openai"].refuse(), **{**UNTIL_OPEN, "primary": 0}),
    Row(
        "500 to everything, patience 3.5 s",
        lambda fleet: fleet["openai"].fail(500),
        within=3.5,
        primary=lambda requests: 3 * requests,  # waits of 1 and 2 s
        others=FROM_BACKUP,
        settings={"admission": {"patience": 3.5}, "retry": {"jitter": 0.0}, "breaker": {"failures": 100}},
    ),
    Row(
        "429 to everything, without Retry-After",
        lambda fleet: fleet["openai"].rate_limit(None),
        within=3.0,  # pause_patience
        primary=(range(1, 17), range(1, 33)),  # pauses of 1 and 2 s, and a late 429 meets one that is over
        others=FROM_BACKUP,
    ),
    Row(
        "429 to everything, without Retry-After, pause_patience 0",
        lambda fleet: fleet["openai"].rate_limit(None),
        primary=(range(1, 5), range(1, 9)),  # one each at most: on a busy machine the pause may be over for the next
        others=FROM_BACKUP,
        settings={"admission": {"pause_patience": 0.0}, "retry": {"initial": 60.0, "max": 60.0}},
    ),
    Row(
        "429 to everything, Retry-After longer than pause_patience",
        lambda fleet: fleet["openai"].rate_limit(40 / SCALE),
        primary=(1, range(1, 9)),
        others=FROM_BACKUP,
    ),
    Row("an error object inside every 200", lambda fleet: fleet["openai"].error_in_200(503), **NO_CONTENT),
    Row("broken JSON in every 200", lambda fleet: fleet["openai"].malformed(), **NO_CONTENT),
    Row(
        "one 500",
        lambda fleet: fleet["openai"].fail(500, times=1),
        within=1 * JITTER,
        primary=once_more,
    ),
    Row(
        "one reset",
        lambda fleet: fleet["openai"].reset_connection(times=1),
        within=1 * JITTER,
        primary=once_more,
    ),
    Row(
        "one 429 with a Retry-After of 2 s",
        lambda fleet: fleet["openai"].rate_limit(2 / SCALE, times=1),
        within=2.0,
        primary=once_more,
    ),
    Row(
        "one 429 with a Retry-After of 5 s, and no other member",
        lambda fleet: fleet["openai"].rate_limit(5 / SCALE, times=1),
        within=5.0,
        primary=once_more,
        group="alone",
    ),
]
OTHER_FIRST_TOKENS = [
    Row(
        "headers at once, no content for 40 s, first_token of the provider",
        lambda fleet: fleet["openai"].slow(LATE, after_headers=True),
        settings=BY_PROVIDER,
        **NO_TOKEN,
    ),
    Row(
        "headers at once, no content for 40 s, first_token of the request",
        lambda fleet: fleet["openai"].slow(LATE, after_headers=True),
        arguments={"first_token": FIRST_TOKEN / SCALE},
        **NO_TOKEN,
    ),
]
STREAMS = [
    Row("the role, and then nothing", lambda fleet: fleet["openai"].hang(after_chunks=0), **TIMED_OUT),
    Row(
        "the role, and then nothing, first_token of the feature",
        lambda fleet: fleet["openai"].hang(after_chunks=0),
        settings=BY_FEATURE,
        **NO_TOKEN,
    ),
    Row("cut before content", lambda fleet: fleet["openai"].cut_stream(0), **NO_CONTENT),
    Row("a well-formed end before content", lambda fleet: fleet["openai"].truncate_stream(0), **NO_CONTENT),
    Row("one broken event before content", lambda fleet: fleet["openai"].malformed(after_chunks=0), **NO_CONTENT),
    Row(
        "an error object before content", lambda fleet: fleet["openai"].error_in_200(503, after_chunks=0), **NO_CONTENT
    ),
    Row(
        "cut before content, the fallback refuses prefills",
        lambda fleet: (fleet["openai"].cut_stream(0), fleet["anthropic"].refuse_prefill()),
        **NO_CONTENT,
    ),
    Row("everything but the end mark", lambda fleet: fleet["openai"].omit_end()),
    Row("no finish reason, and usage on every chunk", lambda fleet: fleet["openai"].omit_finish()),
]


@pytest.mark.parametrize("at_once", [False, True], ids=["in-turn", "at-once"])
@pytest.mark.parametrize("row", BOTH, ids=str)
async def test_a_fault_before_the_answer_costs_the_caller_nothing_but_time(judge, row, at_once):
    await judge(row, whole=True, stream=True, at_once=at_once)


@pytest.mark.parametrize("row", OTHER_FIRST_TOKENS, ids=str)
async def test_a_provider_and_a_request_can_have_a_first_token_too(judge, row):
    await judge(row, whole=True, stream=True, at_once=True)


@pytest.mark.parametrize("at_once", [False, True], ids=["in-turn", "at-once"])
@pytest.mark.parametrize("row", STREAMS, ids=str)
async def test_a_stream_without_content_is_begun_anew(judge, row, at_once):
    await judge(row, stream=True, at_once=at_once)


@pytest.mark.parametrize("row", [through_router(row) for row in STREAMS], ids=str)
async def test_a_stream_of_litellms_router_without_content_is_begun_anew(judge, row):
    await judge(row, stream=True, at_once=False)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_a_first_token_of_the_request_is_not_sent_to_the_provider(make_router, fleet, stream):
    router = make_router(data=configuration(Row("healthy", lambda fleet: None)))
    answer = await router.acompletion("chat", MESSAGES, stream=stream, first_token=5.0)
    if stream:
        await answer.aclose()
    (body,) = fleet["openai"].bodies()
    assert "first_token" not in str(body)
