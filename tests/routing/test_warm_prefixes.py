"""Which prefix is remembered where, and for how long."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from fake_clock import FakeClock

from wallie_litellm.config import WallieConfig
from wallie_litellm.guard import Guard
from wallie_litellm.routing import warm_prefixes
from wallie_litellm.routing.plan import Asked, Decided, Plan, Warm
from wallie_litellm.routing.routing import Routing
from wallie_litellm.routing.warm_prefixes import LONG, PREFIX, USUAL, WarmPrefixes, digest_of

SYSTEM = {"role": "system", "content": "s" * PREFIX}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 10**6}}


def prompt(*contents: Any, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content} for content in contents], **more}


@pytest.mark.parametrize(
    ("one", "another"),
    [
        (prompt("x" * PREFIX, "first question"), prompt("x" * PREFIX, "second question")),
        (prompt("x" * PREFIX), prompt("x" * PREFIX, "answer", "next")),
        (prompt("x", IMAGE), prompt("x", IMAGE, "more")),
        (prompt("x", system="s" * PREFIX), prompt("y", system="s" * PREFIX)),
        (prompt("x", tools=[{"name": "t" * PREFIX}]), prompt("y", tools=[{"name": "t" * PREFIX}])),
        ({"input": "x" * PREFIX + "1"}, {"input": "x" * PREFIX + "2"}),
    ],
    ids=["question", "turn", "image", "system", "tools", "responses"],
)
def test_prompts_that_begin_alike_have_one_digest(one: dict[str, Any], another: dict[str, Any]) -> None:
    assert digest_of(one, {}) == digest_of(another, {}) is not None


def test_prompts_that_begin_differently_have_different_digests() -> None:
    assert digest_of(prompt("x" * PREFIX), {}) != digest_of(prompt("y" * PREFIX), {})


def test_a_prompt_too_short_for_a_vendors_cache_has_none() -> None:
    assert digest_of(prompt("x" * (PREFIX - 10)), {}) is None
    assert digest_of({}, {}) is None


@pytest.mark.parametrize(
    ("arguments", "metadata"),
    [
        ({"litellm_session_id": "s1"}, {}),
        ({}, {"session_id": "s1"}),
        ({"user": '{"device_id": "5f", "account_uuid": "", "session_id": "s1"}'}, {}),
        ({"metadata": {"user_id": '{"device_id": "5f", "session_id": "s1"}'}}, {}),
        ({}, {"conversationId": "s1"}),
        ({}, {"threadId": "s1"}),
    ],
)
def test_a_session_counts_instead_of_the_prompt(arguments: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
    assert digest_of({**prompt("a"), **arguments}, metadata) == digest_of(prompt("b"), {"session_id": "s1"})
    assert digest_of({**prompt("a"), **arguments}, metadata) != digest_of(prompt("b"), {"session_id": "s2"})


def test_what_is_remembered_is_as_old_as_the_vendors_cache_at_most() -> None:
    clock = FakeClock()
    prefixes = WarmPrefixes(clock.now)
    prefixes.served(prefixes.find(b"a", USUAL), "openai|m", "g")
    clock.advance(USUAL)
    assert prefixes.find(b"a", USUAL) == Warm(b"a", USUAL, "openai|m", "g")
    clock.advance(1)
    assert prefixes.find(b"a", USUAL) == Warm(b"a", USUAL)


def test_each_use_keeps_a_prefix_warm() -> None:
    clock = FakeClock()
    prefixes = WarmPrefixes(clock.now)
    for _ in range(3):
        prefixes.served(prefixes.find(b"a", USUAL), "s", "g")
        clock.advance(USUAL - 1)
    assert prefixes.find(b"a", USUAL).scope == "s"
    assert (prefixes.kept, prefixes.moved) == (2, 0)
    prefixes.served(prefixes.find(b"a", USUAL), "t", "g")
    assert (prefixes.kept, prefixes.moved) == (2, 1)


def test_the_prefixes_used_last_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warm_prefixes, "MOST_PREFIXES", 2)
    prefixes = WarmPrefixes(FakeClock().now)
    for name in (b"a", b"b", b"a", b"c"):
        prefixes.served(prefixes.find(name, USUAL), "s", "g")
    assert [prefixes.find(name, USUAL).scope for name in (b"a", b"b", b"c")] == ["s", None, "s"]
    assert prefixes.describe()["prefixes"] == 2


def asked(feature: str | None = None, **arguments: Any) -> Asked:
    return Asked("g", {"messages": [SYSTEM], **arguments}, feature, None, {}, {}, lambda _: ())


def routing(**wallie: Any) -> Routing:
    return Guard(WallieConfig.model_validate(wallie), clock=FakeClock()).routing


def warm_of(routing: Routing, asked: Asked) -> Warm | None:
    plan = Plan("g", (), Decided())
    for step in routing.steps:
        plan = step(plan, asked)
    assert plan.decided is not None
    return plan.decided.warm


def test_without_it_in_the_file_no_request_is_looked_at() -> None:
    assert routing().steps == ()
    assert routing().warm is None


def test_features_with_a_prompt_cache_are_looked_at_and_with_warm_prefix_all_are() -> None:
    of_features = routing(features={"chat": {"prompt_cache": True}})
    assert warm_of(of_features, asked("chat")) is not None
    assert warm_of(of_features, asked("other")) is None
    assert warm_of(routing(routing={"warm_prefix": True}), asked()) is not None


def test_it_is_switched_off_at_run_time() -> None:
    switched = routing(routing={"warm_prefix": True})
    switched.switches.set("warm_prefix", on=False)
    assert warm_of(switched, asked()) is None


@pytest.mark.parametrize(
    ("arguments", "seconds"),
    [
        ({}, USUAL),
        ({"prompt_cache_retention": "24h"}, LONG),
        ({"cache_control_injection_points": [{"location": "message", "control": {"ttl": "1h"}}]}, LONG),
        ({"cache_control_injection_points": [{"location": "message", "role": "system"}]}, USUAL),
    ],
)
def test_a_longer_cache_that_is_asked_for_is_remembered_longer(arguments: dict[str, Any], seconds: float) -> None:
    warm = warm_of(routing(routing={"warm_prefix": True}), asked(**arguments))
    assert warm is not None
    assert warm.seconds == seconds


def test_a_longer_cache_of_the_file_is_remembered_longer() -> None:
    points = [{"location": "message", "role": "system", "control": {"type": "ephemeral", "ttl": "1h"}}]
    warm = warm_of(routing(features={"chat": {"prompt_cache": points}}), asked("chat"))
    assert warm is not None
    assert warm.seconds == LONG
