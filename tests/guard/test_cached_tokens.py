"""Prompt tokens from a vendor's cache count in its limits where the vendor counts them; they cost what the map says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from recording import RecordingBus
from scripted_vendor import ScriptedVendor
from support import messages

from wallie_litellm import build_router
from wallie_litellm.config import parse_config
from wallie_litellm.events import Settled
from wallie_litellm.guard import Guard

READ, WRITTEN, UNCACHED, OUTPUT = 150_000, 300, 200, 50  # tokens
MODEL = "claude-sonnet-4-5"
ANTHROPIC = {
    "id": "msg_1", "type": "message", "role": "assistant", "model": MODEL, "stop_reason": "end_turn",
    "content": [{"type": "text", "text": "Hello"}], "stop_sequence": None,
    "usage": {
        "input_tokens": UNCACHED, "output_tokens": OUTPUT,
        "cache_read_input_tokens": READ, "cache_creation_input_tokens": WRITTEN,
        "cache_creation": {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 200},
    },
}  # fmt: skip
OPENAI = {
    "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m", "service_tier": "default",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}],
    "usage": {
        "prompt_tokens": READ, "completion_tokens": OUTPUT, "total_tokens": READ + OUTPUT,
        "prompt_tokens_details": {"cached_tokens": READ - 100},
    },
}  # fmt: skip
BODIES = {"anthropic": ("", MODEL, ANTHROPIC), "openai": ("/v1", "gpt-4o", OPENAI), "groq": ("/v1", "qwen", OPENAI)}


@pytest.fixture
def open_router(running_vendor: ScriptedVendor, bus: RecordingBus) -> Iterator[Callable[..., Any]]:
    made: list[Any] = []

    def make(vendor: str, **limits: Any) -> Any:
        path, model, body = BODIES[vendor]
        running_vendor.whole(body)
        where = {"api_base": running_vendor.base + path, "api_key": "sk-simulated"}
        data = {
            "model_list": [{"model_name": "group", "litellm_params": {"model": f"{vendor}/{model}", **where}}],
            "wallie": {"ledger": None, "providers": {vendor: limits}, "admission": {"max_wait": 0}},
        }
        config = parse_config(data)
        made.append(build_router(config, guard=Guard(config.wallie, bus=bus)))
        return made[-1]

    yield make
    for router in made:
        router.guard.close()


def used(router: Any, vendor: str) -> int:
    return int(router.guard.status()["providers"][vendor]["quota"]["tpd"]["used"])


async def test_what_anthropics_cache_had_is_not_counted_by_its_limits(open_router, bus):
    router = open_router("anthropic", rpm=1_000, tpm=100_000, itpm=50_000, tpd=10**9)
    for _ in range(3):
        await router.acompletion("group", messages())
        await router.aanthropic_messages(model="group", messages=messages(), max_tokens=50)
    counted = UNCACHED + WRITTEN + OUTPUT
    assert used(router, "anthropic") == 6 * counted
    for record in bus.of(Settled):
        assert (record.prompt_tokens, record.cached_tokens) == (READ + WRITTEN + UNCACHED, READ)
        assert record.charged == (1, counted, UNCACHED + WRITTEN, OUTPUT)


async def test_cache_reads_and_writes_cost_what_the_price_map_says(open_router, bus):
    router = open_router("anthropic", tpd=10**9)
    await router.acompletion("group", messages())
    await router.aanthropic_messages(model="group", messages=messages(), max_tokens=50)
    own = UNCACHED * 3e-6 + READ * 0.3e-6 + 100 * 3.75e-6 + 200 * 6e-6 + OUTPUT * 15e-6
    assert [record.cost_usd for record in bus.of(Settled)] == [pytest.approx(own)] * 2


@pytest.mark.parametrize(
    ("vendor", "stated", "counted"),
    [
        ("openai", {}, READ + OUTPUT),
        ("openai", {"cached_tokens": "exclude"}, 100 + OUTPUT),
        ("groq", {}, 100 + OUTPUT),
        ("groq", {"cached_tokens": "include"}, READ + OUTPUT),
        ("anthropic", {"cached_tokens": "include"}, READ + WRITTEN + UNCACHED + OUTPUT),
    ],
)
async def test_a_provider_counts_them_as_its_vendor_does_unless_the_file_says_otherwise(
    open_router, vendor, stated, counted
):
    router = open_router(vendor, tpd=10**9, **stated)
    await router.acompletion("group", messages())
    assert used(router, vendor) == counted
