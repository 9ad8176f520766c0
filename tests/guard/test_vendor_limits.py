"""The limits that vendors tell in their answers, through the router and over HTTP."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, Final

import openai
import pytest
from drop_in.actions import PROMPT
from drop_in.upstream import Fault, Upstream
from litellm_adapter.error_shapes import SHAPES
from recording import RecordingBus

from wallie_litellm.bootstrap import build_router
from wallie_litellm.config import parse_config
from wallie_litellm.events import LimitOverstated
from wallie_litellm.guard import Guard

AT_MOST: Final = 20.0  # seconds for a handful of calls


def told(rpm: int, left: int, **more: Any) -> Fault:
    """An answer that tells a limit of requests."""
    headers = {"x-ratelimit-limit-requests": str(rpm), "x-ratelimit-remaining-requests": str(left)}
    return Fault(headers=headers, **more)


def refused(vendor: str, name: str) -> Fault:
    """A vendor's answer as it was recorded."""
    shape = next(shape for shape in SHAPES if (shape.vendor, shape.name) == (vendor, name))
    return Fault(shape.status, headers=shape.headers, body=shape.body)


def deployment(upstream: Upstream, model: str, key: str = "sk-one") -> dict[str, Any]:
    params = {"model": f"openai/{model}", "api_base": upstream.base(model) + "/v1", "api_key": key}
    return {"model_name": model, "litellm_params": params, "model_info": {"id": f"{model}-{key}"}}


def file(upstream: Upstream, openais: dict[str, Any], **wallie: Any) -> Any:
    return parse_config(
        {
            "model_list": [deployment(upstream, "a"), deployment(upstream, "b")],
            "wallie": {"providers": {"openai": openais}, "ledger": None, **wallie},
        }
    )


@pytest.fixture
def make(upstream: Upstream):
    """Builds a router of two models at one provider, and the bus that its events go to."""
    made = []

    def build(**openais: Any) -> tuple[Any, RecordingBus]:
        config, bus = file(upstream, openais), RecordingBus()
        made.append(build_router(config, guard=Guard(config.wallie, bus=bus)))
        return made[-1], bus

    yield build
    for router in made:
        router.guard.close()


async def ask(router: Any, model: str = "a", **arguments: Any) -> None:
    async with asyncio.timeout(AT_MOST):
        answer = await router.acompletion(model, PROMPT, **arguments)
        if arguments.get("stream"):
            async for _ in answer:
                pass


def scopes(router: Any) -> dict[str, dict[str, tuple[Any, Any, Any]]]:
    """Configured, learned and in force of each limit, by scope."""
    found = router.guard.limits()["providers"]["openai"]["scopes"]
    return {
        scope: {name: (one["configured"], one["learned"], one["limit"]) for name, one in own["limits"].items()}
        for scope, own in found.items()
    }


@pytest.mark.parametrize("stream", [False, True])
async def test_enforce_keeps_to_what_an_answer_tells_of_its_model(upstream: Upstream, make: Any, stream: bool) -> None:
    upstream.prepare({"a": [told(60, 20), ...]})
    router, bus = make(rpm=500, learn="enforce")
    await ask(router, stream=stream)
    await ask(router, "b", stream=stream)
    assert scopes(router) == {"": {"rpm": (500, 60, 500)}, "a": {"rpm": (None, 60, 60)}}
    described = router.guard.status()["providers"]["openai"]
    assert described["quota"]["rpm"]["learned"] == 60
    assert described["models"]["a"]["quota"]["rpm"]["left"] < 40
    (row,) = (one for one in router.guard.limits()["providers"]["openai"]["scopes"]["a"]["limits"].values())
    assert (row["source"], row["used"]) == ("headers", 0)
    await ask(router, stream=stream)
    assert router.guard.status()["providers"]["openai"]["models"]["a"]["quota"]["rpm"]["used"] == 1
    assert [(one.model, one.configured, one.learned) for one in bus.of(LimitOverstated)] == [("a", 500, 60)]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("feature", "limit", "left"), [("nightly", "3", "2"), ("chat", "30", "28"), (None, "30", "28")]
)
async def test_callers_are_told_the_limits_here_in_place_of_the_vendors(
    upstream: Upstream, stream: bool, feature: str | None, limit: str, left: str
) -> None:
    upstream.prepare({"a": [told(500, 499), told(500, 498)]})
    features = {"nightly": {"limits": {"rpm": 3}}, "chat": {"limits": {"rpm": 1000}}}
    limits = {"rpm": 100, "learn": "enforce", "models": {"a": {"rpm": 30}}}
    config = file(upstream, limits, features=features, rate_limit_headers="own")
    router = build_router(config, guard=Guard(config.wallie))
    await ask(router)
    answer = await router.acompletion("a", PROMPT, stream=stream, metadata={"feature": feature} if feature else {})
    if stream:
        assert [chunk async for chunk in answer]
    headers = answer._hidden_params["additional_headers"]
    told_here = {name: str(value) for name, value in headers.items() if name.startswith("x-ratelimit-")}
    assert told_here.pop("x-ratelimit-reset-requests").endswith("s")
    assert told_here == {"x-ratelimit-limit-requests": limit, "x-ratelimit-remaining-requests": left}
    assert headers["llm_provider-x-ratelimit-limit-requests"] == "500"
    assert router.guard.limits()["providers"]["openai"]["scopes"]["a"]["limits"]["rpm"]["learned"] == 500
    router.guard.close()


async def test_what_is_learned_stays_when_the_file_says_otherwise_what_is_made_of_it(
    upstream: Upstream, make: Any
) -> None:
    upstream.prepare({"a": [told(60, 20), ...]})
    router, _ = make(rpm=500, learn="enforce")
    await ask(router)
    found = []
    for openais in (
        {"rpm": 500, "learn": "advise"},
        {"rpm": 400, "learn": "enforce"},
        {"rpm": 400, "models": {"a*": {"rpm": 90, "learn": "enforce"}}},
    ):
        router.guard.configure(file(upstream, openais).wallie)
        found.append(scopes(router))
    assert found == [
        {"": {"rpm": (500, 60, 500)}, "a": {"rpm": (None, 60, None)}},
        {"": {"rpm": (400, 60, 400)}, "a": {"rpm": (None, 60, 60)}},
        {"": {"rpm": (400, 60, 400)}, "a*": {"rpm": (90, 60, 60)}},
    ]


async def test_advise_shows_it_and_announces_once_what_the_file_promises_too_much(
    upstream: Upstream, make: Any
) -> None:
    upstream.prepare({"a": [told(60, 0), ...]})
    router, bus = make(rpm=500, models={"a*": {"rpm": 400}})
    for _ in range(3):
        await ask(router)
    assert scopes(router) == {"": {"rpm": (500, 60, 500)}, "a*": {"rpm": (400, 60, 400)}}
    (event,) = bus.of(LimitOverstated)
    assert event[2:] == ("openai", "a*", "rpm", 400, 60)


async def test_off_reads_nothing(upstream: Upstream, make: Any) -> None:
    upstream.prepare({"a": [told(60, 0), ...]})
    router, bus = make(rpm=500, learn="off")
    for _ in range(2):
        await ask(router)
    assert scopes(router) == {"": {"rpm": (500, None, 500)}}
    assert not bus.of(LimitOverstated)


async def test_a_limit_auto_begins_with_the_vendors_usual_one_and_takes_the_accounts(
    upstream: Upstream, make: Any
) -> None:
    upstream.prepare({"a": [told(2000, 1999), ...]})
    router, bus = make(rpm="auto", tpm=9000, models={"b": {"itpm": "auto"}})
    assert scopes(router) == {
        "": {"rpm": ("auto", None, 500), "tpm": (9000, None, 9000)},
        "b": {"itpm": ("auto", None, None)},
    }
    for _ in range(3):
        await ask(router)
    assert scopes(router)[""]["rpm"] == ("auto", 2000, 2000)
    assert not bus.of(LimitOverstated)


@pytest.mark.parametrize(
    ("answer", "limits"),
    [
        (refused("google-openai", "per minute"), {"rpm": 10}),
        (refused("openai", "request too large"), {"tpm": 30000}),
        (refused("openai", "hours in the text alone"), {"rpd": 200}),
        (refused("anthropic", "tokens per minute"), {"itpm": 30000}),
    ],
)
async def test_a_refusal_tells_the_limit_too(
    upstream: Upstream, make: Any, answer: Fault, limits: dict[str, int]
) -> None:
    upstream.prepare({"a": [answer, ...]})
    router, _ = make(learn="enforce")
    with pytest.raises(openai.APIStatusError):
        await ask(router, num_retries=0)
    found = router.guard.limits()["providers"]["openai"]["scopes"]["a"]["limits"]
    assert {name: one["limit"] for name, one in found.items()} == limits
    assert {one["source"] for one in found.values()} == {"error"}


@pytest.mark.parametrize("amount", ["0", "-1"])
async def test_what_is_left_of_a_limit_that_is_none_bounds_nothing(upstream: Upstream, make: Any, amount: str) -> None:
    none = {"x-ratelimit-limit-requests": amount, "x-ratelimit-remaining-requests": "0"}
    upstream.prepare({"a": [told(60, 59), told(60, 59), Fault(headers=none), ...]})
    router, _ = make(rpm=500, learn="enforce")
    for _ in range(3):
        await ask(router)
    assert router.guard.status()["providers"]["openai"]["models"]["a"]["quota"]["rpm"]["left"] > 50


async def test_headers_that_make_no_sense_break_no_call(upstream: Upstream, make: Any) -> None:
    upstream.prepare(
        {"a": [Fault(headers={"x-ratelimit-limit-requests": "-1", "x-ratelimit-remaining-requests": "x"})]}
    )
    router, _ = make(learn="enforce")
    await ask(router)
    assert scopes(router) == {"": {}}


async def test_a_models_own_limit_is_not_that_of_a_group_with_its_name(upstream: Upstream) -> None:
    groups = {"small": "mini", "mini": "big"}  # a group has the name of another group's model
    found = [{**deployment(upstream, model), "model_name": group} for group, model in groups.items()]
    openais = {"rpm": 9000, "learn": "enforce"}
    config = parse_config({"model_list": found, "wallie": {"providers": {"openai": openais}, "ledger": None}})
    upstream.prepare({"mini": [told(60, 55), ...], "big": [told(5000, 4999), ...]})
    router = build_router(config, guard=Guard(config.wallie, bus=RecordingBus()))
    try:
        for group in ("small", "mini", "small", "mini"):
            await ask(router, group)
        limits = {scope: own.get("rpm", ()) for scope, own in scopes(router).items()}
        assert limits == {"": (9000, 5060, 9000), "mini": (None, 60, 60), "big": (None, 5000, 5000)}
    finally:
        router.guard.close()


async def test_a_model_that_callers_invent_is_learned_of_once_it_has_been_answered(upstream: Upstream) -> None:
    answer = refused("openai", "request too large")
    upstream.prepare({"a": [answer, told(60, 20), answer, ...]})
    anything = deployment(upstream, "*")
    anything["litellm_params"]["api_base"] = upstream.base("a") + "/v1"
    config = parse_config(
        {"model_list": [anything], "wallie": {"providers": {"openai": {"learn": "enforce"}}, "ledger": None}}
    )
    router = build_router(config, guard=Guard(config.wallie))
    try:
        seen = []
        for _ in range(3):
            with suppress(openai.APIStatusError):
                await ask(router, "invented", num_retries=0)
            limits = router.guard.limits()["providers"]["openai"]["scopes"].get("invented", {}).get("limits", {})
            seen.append({name: one["learned"] for name, one in limits.items()})
        assert seen == [{}, {}, {"tpm": 30000}]
    finally:
        router.guard.close()
