"""A provider is a vendor at an address: what one address does wrong does not touch another."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from drop_in.actions import PROMPT
from drop_in.routers import our_router
from drop_in.upstream import Fault, Upstream, failing
from ports import free_port

# Two resources of one vendor, or a vendor and a local server, stand on two ports of this machine.


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[Upstream, Upstream]]:
    servers = Upstream(), Upstream()
    for server in servers:
        server.start()
    yield servers
    for server in servers:
        server.stop()


@pytest.fixture
def both(running: tuple[Upstream, Upstream]) -> tuple[Upstream, Upstream]:
    for server in running:
        server.prepare({})
    return running


def azure(base: str, name: str) -> dict[str, Any]:
    params = {"model": "azure/gpt-4o", "api_base": base, "api_key": "sk-one", "api_version": "2024-10-21"}
    return {"model_name": "m", "litellm_params": params, "model_info": {"id": name}}


def openai(base: str, group: str) -> dict[str, Any]:
    params = {"model": "openai/gpt-4o", "api_base": base, "api_key": "sk-one"}
    return {"model_name": group, "litellm_params": params, "model_info": {"id": group}}


def host(base: str) -> str:
    return base.removeprefix("http://").partition("/")[0]


async def ask(router: Any, group: str = "m", **arguments: Any) -> str:
    answer = await router.acompletion(group, PROMPT, **arguments)
    return str(answer.choices[0].message.content)


@pytest.mark.parametrize(
    ("fault", "asked_at_most"),
    [
        (Fault(429, "rate_limited", headers={"retry-after": "20"}), 1),
        (failing(404), 12),
        (failing(500), 5),
    ],
    ids=["429 with Retry-After 20", "404", "500"],
)
async def test_of_two_azure_resources_the_other_serves_all(
    both: tuple[Upstream, Upstream], fault: Fault, asked_at_most: int
) -> None:
    a, b = both
    a.prepare({"a": [fault, ...]})
    deployments = [azure(a.base("a"), "a"), azure(b.base("b"), "b")]
    async with our_router(deployments, 3, {"breaker": {}}) as router, asyncio.timeout(10):
        answers = [await ask(router) for _ in range(12)]
        status = router.guard.status()["providers"]
    assert answers == ["from b"] * 12
    assert len(a.requests) <= asked_at_most
    name_a, name_b = (f"azure/{host(server.base(''))}" for server in both)
    assert status[name_b]["health"] == "healthy"
    assert status[name_b]["paused_for"] == 0
    assert (status[name_a]["paused_for"] > 0) == (fault.status == 429)


async def test_of_two_azure_resources_the_other_serves_all_while_one_is_off(both: tuple[Upstream, Upstream]) -> None:
    off = f"http://127.0.0.1:{free_port()}"
    deployments = [azure(off, "a"), azure(both[1].base("b"), "b")]
    async with our_router(deployments, 3, {"breaker": {}}) as router, asyncio.timeout(10):
        assert [await ask(router) for _ in range(12)] == ["from b"] * 12


async def test_a_local_server_that_is_off_does_not_touch_the_vendor_and_has_none_of_its_limits(
    both: tuple[Upstream, Upstream], monkeypatch: pytest.MonkeyPatch
) -> None:
    vendor, off = both[0].base("vendor"), f"http://127.0.0.1:{free_port()}/v1"
    monkeypatch.setattr("wallie_litellm.core.provider_names.OWN_HOSTS", {"openai": host(vendor)})
    wallie = {"providers": {}, "breaker": {}, "retry": {"max_retries": 0}}
    async with our_router([openai(vendor, "gpt-4o"), openai(off, "tiny")], 0, wallie) as router, asyncio.timeout(10):
        for _ in range(6):
            with pytest.raises(Exception, match=r"Connection error|circuit is open"):
                await ask(router, "tiny")
        assert await ask(router, "gpt-4o") == "from vendor"
        status = router.guard.status()["providers"]
    own, local = status["openai"], status[f"openai/{host(off)}"]
    assert (own["health"], own["breaker"]["state"], own["breaker"]["consecutive_failures"]) == ("healthy", "closed", 0)
    assert (local["health"], local["breaker"]["state"]) == ("down", "open")
    assert own["quota"]["rpm"]["limit"] == 500
    assert local["quota"] == {}


async def test_limits_that_nobody_wrote_are_those_of_the_vendors_own_address_alone(
    both: tuple[Upstream, Upstream],
) -> None:
    gateway = openai(both[0].base("gateway"), "m")
    async with our_router([gateway], 0, {"providers": {}}) as router:
        assert await ask(router) == "from gateway"
        assert router.guard.status()["providers"]["openai"]["quota"] == {}


async def test_limits_that_the_file_states_hold_wherever_the_name_leads(both: tuple[Upstream, Upstream]) -> None:
    deployments = [openai(server.base("x"), group) for server, group in zip(both, "mn", strict=True)]
    name = f"openai/{host(both[1].base(''))}"
    async with our_router(deployments, 0, {"providers": {"openai": {"rpm": 7}, name: {"rpm": 1}}}) as router:
        await ask(router, "n")
        status = router.guard.status()["providers"]
        assert (status[name]["quota"]["rpm"]["used"], status[name]["quota"]["rpm"]["limit"]) == (1, 1)
        assert status["openai"]["quota"]["rpm"]["used"] == 0
