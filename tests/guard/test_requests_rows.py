"""The row of a request says what its caller got, and is there at once, without a garbage collection."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from typing import Any

import openai
import pytest
from recording import RecordingBus
from scripted_vendor import ScriptedVendor
from support import assert_nothing_leaked, until
from wire_scripts import PIECES, WIRES, WireScript

from wallie_litellm import build_router
from wallie_litellm.config import parse_config
from wallie_litellm.events import Ended, Settled
from wallie_litellm.guard import Guard

HOLD = {"metadata": {"feature": "held"}}


@pytest.fixture(params=WIRES)
def wire(request: pytest.FixtureRequest) -> WireScript:
    return WIRES[request.param]


@pytest.fixture
def router(vendor: ScriptedVendor, bus: RecordingBus, wire: WireScript) -> Iterator[Any]:
    """Two groups, of which the second is the first's fallback."""
    parameters = {"model": wire.model, "api_base": vendor.base + wire.path, "api_key": "sk-simulated"}
    data = {
        "model_list": [{"model_name": group, "litellm_params": parameters} for group in ("first", "second")],
        "router_settings": {"fallbacks": [{"first": ["second"]}]},
        "wallie": {
            "ledger": None, "retry": {"max_retries": 0}, "features": {"held": {"stream_recovery": "hold"}}
        },
    }  # fmt: skip
    config = parse_config(data)
    router = build_router(config, guard=Guard(config.wallie, bus=bus))
    yield router
    router.guard.close()


@pytest.fixture
def uncollected() -> Iterator[None]:
    """No garbage collection."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def failing(wire: WireScript, pieces: int) -> list[bytes]:
    begun = wire.broken(pieces) if pieces else list(wire.begin)
    return [*begun, *error_of(wire)]


def error_of(wire: WireScript) -> Sequence[bytes]:
    return wire.error(529 if wire.name == "messages" else 500)


def row(bus: RecordingBus) -> tuple[bool, bool, list[bool]]:
    (ended,) = bus.of(Ended)
    return ended.success, ended.used_fallback, [record.success for record in ended.settled]


async def read(router: Any, wire: WireScript, **more: Any) -> int:
    return len([chunk async for chunk in await wire.ask(router, "first", **more)])


async def read_and_go_on(router: Any, wire: WireScript, vendor: ScriptedVendor) -> None:
    async for chunk in await wire.ask(router, "first"):
        if PIECES[0] in str(chunk):
            vendor.go_on()


async def test_a_stream_that_fails_before_text_is_a_success_by_fallback(router, wire, vendor, bus):
    vendor.stream(*failing(wire, 0), apart=True)
    vendor.then(*wire.whole())
    assert await read(router, wire)
    assert row(bus) == (True, True, [False, True])


async def test_a_stream_that_fails_after_text_is_a_failure_and_no_fallback_is_asked(router, wire, vendor, bus):
    vendor.stream(*wire.broken(1), held_back=error_of(wire))
    vendor.then(*wire.whole())
    with pytest.raises(openai.APIError):
        await read_and_go_on(router, wire, vendor)
    assert row(bus) == (False, False, [False])
    assert len(vendor.bodies) == 1


async def test_a_held_stream_that_fails_after_text_is_a_success_by_fallback(router, wire, vendor, bus):
    vendor.stream(*failing(wire, 1), apart=True)
    vendor.then(*wire.whole())
    more = {"litellm_metadata": HOLD["metadata"]} if wire.name not in ("chat", "text completion") else HOLD
    assert await read(router, wire, **more)
    assert row(bus) == (True, True, [False, True])


@pytest.mark.usefixtures("uncollected")
async def test_a_stream_that_is_dropped_after_an_attempt_failed_is_on_record(router, wire, vendor, bus):
    vendor.stream(*failing(wire, 0), apart=True)
    vendor.then(*wire.whole())
    stream = await wire.ask(router, "first")
    await anext(stream)
    del stream
    await until(lambda: bool(bus.of(Ended)))
    assert row(bus)[2][0] is False
    assert len(bus.of(Settled)) == 2
    assert_nothing_leaked(router)


async def test_a_stream_that_is_being_read_when_the_router_closes_is_on_record(router, wire, vendor, bus, monkeypatch):
    monkeypatch.setattr("wallie_litellm.guard.guard.DRAIN", 0.05)
    vendor.stream(*wire.whole(), apart=True)
    stream = await wire.ask(router, "first")
    await anext(stream)
    await router.aclose()
    (record,) = bus.of(Settled)
    (ended,) = bus.of(Ended)
    assert ended.settled == (record,)
    assert (record.outcome, ended.success, ended.by_caller) == ("cut", False, True)
    with pytest.raises(openai.APIError):
        await anext(stream)
    assert len(bus.of(Ended)) == 1
