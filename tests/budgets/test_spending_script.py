"""The script in Redis gives the answers of the pure core, whatever workers report and want in whatever order."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st
from redis_support import RedisServer

from wallie_litellm.budgets.shared_spending import ACCOUNT_TTL, PREFIX, SCRIPT
from wallie_litellm.core.spending_exchange import SpendingServer

TIMEOUT = 30
LARGE = 9_007_199_254_740  # nano-dollars: a thousand of them are still exact in Lua
AMOUNT = st.sampled_from([0, 1, 7, 999, 123_456_789, LARGE])
NAMES = ("a", "b", "c")


@pytest.fixture(scope="module")
def client() -> Iterator[redis.Redis]:
    with RedisServer() as server, server.client() as client:
        yield client


report = st.fixed_dictionaries(
    {"reserved": AMOUNT, "spent": st.lists(st.tuples(st.integers(80, 260), AMOUNT).map(list), max_size=3)},
    optional={"seed": st.tuples(AMOUNT, AMOUNT, st.sampled_from([0, 100, 150])).map(list)},
)
LIMIT = st.sampled_from([-1, 1, 1_000, 200_000_000, LARGE * 4])


@st.composite
def steps(draw: st.DrawFn) -> dict[str, Any]:
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, unique=True))
    numbers = st.integers(1, len(names))
    concerned = st.lists(numbers, min_size=1, unique=True)
    want = concerned.flatmap(
        lambda own: st.fixed_dictionaries(
            {
                "accounts": st.just(own),
                "limits": st.lists(st.tuples(st.sampled_from(own), LIMIT, LIMIT).map(list), max_size=2),
                "amount": AMOUNT,
            }
        )
    )
    day = draw(st.sampled_from([100, 100, 200, 1_300, 5_000]))  # the last ones are of a clock that is ahead
    return {
        "names": names,
        "after": draw(st.sampled_from([0, 1, 20, 31, 90_000])),
        "forgotten": draw(st.sampled_from([False] * 9 + [True])),
        "request": {
            "worker": draw(st.sampled_from(["x", "y"])),
            "sequence": draw(st.integers(0, 4)),
            "timeout": TIMEOUT,
            "day": day,
            "month": draw(st.sampled_from([50, day])),
            "accounts": [draw(report) for _ in names],
            "wants": draw(st.lists(want, max_size=3)),
        },
    }


@settings(max_examples=60, deadline=None)
@given(st.lists(steps(), min_size=1, max_size=8))
def test_the_script_answers_as_the_core_does(client: redis.Redis, played: list[dict[str, Any]]) -> None:
    client.flushall()
    server, now = SpendingServer(), 1_000.0
    for step in played:
        now += step["after"]
        if step["forgotten"]:
            client.flushall()
            server = SpendingServer()
        request, keys = step["request"], [f"{PREFIX}workers", *(PREFIX + name for name in step["names"])]
        reply = client.eval(SCRIPT, len(keys), *keys, json.dumps(request), ACCOUNT_TTL, now)
        assert json.loads(reply) == server.exchange(step["names"], request, now)


def test_the_keys_are_in_one_slot_and_end_by_themselves(client: redis.Redis) -> None:
    client.flushall()
    account = {"reserved": 1, "spent": [], "seed": [0, 0, 0]}
    request = {
        "worker": "x", "sequence": 1, "timeout": 30, "day": 1, "month": 1, "accounts": [account], "wants": [],
    }  # fmt: skip
    keys = [f"{PREFIX}workers", f"{PREFIX}total:chat"]
    client.eval(SCRIPT, len(keys), *keys, json.dumps(request), ACCOUNT_TTL, "")
    assert {key.decode() for key in client.keys("*")} == set(keys)
    assert all("{budgets}" in key and 0 < client.ttl(key) <= ACCOUNT_TTL for key in keys)
