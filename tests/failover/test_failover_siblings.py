"""A group of several deployments: what one of them cannot serve, another does, before any wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from failover_rows import CLEAN, LONG_TIMEOUT, MESSAGES, SCALE, SLACK, TEXT, fast_defaults
from support import assert_nothing_leaked, early_in_a_minute
from turns import Turns

from wallie_litellm import execute_ai_request
from wallie_litellm.simulator import SimulatedProvider

FAULTS: dict[str, Callable[[SimulatedProvider], object]] = {
    "429 with Retry-After": lambda provider: provider.rate_limit(200 / SCALE),
    "429 without Retry-After": lambda provider: provider.rate_limit(None),
    "404": lambda provider: provider.fail(404),
    "401": lambda provider: provider.fail(401),
    "500": lambda provider: provider.fail(500),
    "an empty account": lambda provider: provider.quota_exhausted(),
    "a reset": lambda provider: provider.reset_connection(),
    "refused connections": lambda provider: provider.refuse(),
}
# Calls to the faulty deployment, of twelve requests one after the other: until its circuit is open, or it is paused.
MOST_IN_TURN = {
    "429 with Retry-After": 1,
    "500": 5,
    "a reset": 5,
    "refused connections": 0,
    "401": 5,
    "an empty account": 5,
}

NO_PROBE = {"open_for": 3_600, "max_open_for": 3_600}  # within a test, however slow the machine is


@pytest.fixture(scope="module")
def addresses() -> Iterator[tuple[SimulatedProvider, SimulatedProvider]]:
    with (
        SimulatedProvider("a", vendor="openai", text=TEXT) as one,
        SimulatedProvider("b", vendor="openai", text=TEXT) as two,
    ):
        yield one, two


@pytest.fixture
def pair(addresses: tuple[SimulatedProvider, SimulatedProvider]) -> tuple[SimulatedProvider, SimulatedProvider]:
    for provider in addresses:
        provider.restore()
    return addresses


def configuration_of(*entries: dict[str, Any], **router: Any) -> dict[str, Any]:
    settings = {"disable_cooldowns": True, "timeout": LONG_TIMEOUT / SCALE, **router}
    return {"model_list": [*entries], "router_settings": settings, "wallie": fast_defaults({"breaker": NO_PROBE})}


def entry(group: str, model: str, provider: SimulatedProvider, **more: Any) -> dict[str, Any]:
    where = {"api_base": provider.api_base, "api_key": "sk-simulated", "api_version": "2024-10-21"}
    if not model.startswith("azure/"):
        del where["api_version"]
    return {"model_name": group, "litellm_params": {"model": model, **where, **more}}


async def ask(router: Any, group: str, clock: Turns) -> float:
    """The seconds of a request that was served."""
    started = clock.now()
    assert (await execute_ai_request(router, group, MESSAGES)).text == TEXT
    return clock.now() - started


@pytest.mark.parametrize(("prefix", "at_once"), [("azure", False), ("openai", True)], ids=["in-turn", "at-once"])
@pytest.mark.parametrize("fault", FAULTS)
async def test_what_one_deployment_cannot_serve_its_sibling_does(open_router, pair, clock, fault, prefix, at_once):
    faulty, healthy = pair
    router = open_router(configuration_of(*(entry("pair", f"{prefix}/gpt-4o", one) for one in pair)))
    FAULTS[fault](faulty)
    requests = [ask(router, "pair", clock) for _ in range(12)]
    seconds = await asyncio.gather(*requests) if at_once else [await request for request in requests]
    assert max(seconds) <= SLACK
    assert healthy.counts().received == 12
    assert faulty.counts().received <= (12 if at_once else MOST_IN_TURN.get(fault, 12))
    assert_nothing_leaked(router)


async def test_forty_requests_beside_a_deployment_that_always_fails(open_router, pair):
    faulty, healthy = pair
    router = open_router(configuration_of(*(entry("pair", "openai/gpt-4o", one) for one in pair)))
    faulty.fail(500)
    waited = 0.0  # milliseconds
    for _ in range(40):
        answer = await execute_ai_request(router, "pair", MESSAGES)
        assert answer.text == TEXT
        waited += answer.waited_ms
    assert waited < 75  # as long as the shortest wait before a retry
    assert healthy.counts().received == 40
    assert 1 <= faulty.counts().received <= 5


async def test_a_local_server_that_is_off_does_not_touch_the_vendor(open_router, pair, clock):
    local, vendor = pair
    router = open_router(configuration_of(entry("tiny", "openai/tiny", local), entry("gpt", "openai/gpt-4o", vendor)))
    local.refuse()
    failed = await asyncio.gather(*(ask(router, "tiny", clock) for _ in range(8)), return_exceptions=True)
    assert all(isinstance(error, CLEAN) for error in failed)
    assert max([await ask(router, "gpt", clock) for _ in range(8)]) <= SLACK
    assert vendor.counts().received == 8


async def test_a_key_that_is_refused_does_not_hold_back_another_at_its_address(open_router, pair, clock):
    _, vendor = pair
    keys = [
        entry("gpt", "openai/refused", vendor, api_key="sk-one"),
        entry("gpt", "openai/good", vendor, api_key="sk-two"),
    ]
    router = open_router(configuration_of(*keys))
    vendor.fail(401, model="refused")
    assert max([await ask(router, "gpt", clock) for _ in range(12)]) <= SLACK
    assert vendor.counts().by_model["good"] == 12
    assert vendor.counts().by_model.get("refused", 0) <= 5


async def test_a_limit_of_litellms_own_refuses_its_group_only(open_router, pair, clock):
    await early_in_a_minute()
    _, vendor = pair
    small, other = entry("small", "openai/small", vendor, rpm=1), entry("other", "openai/other", vendor)
    router = open_router(configuration_of(small, other, optional_pre_call_checks=["enforce_model_rate_limits"]))
    await ask(router, "small", clock)
    with pytest.raises(CLEAN) as caught:
        await ask(router, "small", clock)
    assert caught.value.status_code == 429
    assert await ask(router, "other", clock) <= SLACK
    assert vendor.counts().by_model == {"small": 1, "other": 1}
