"""The present of an application that runs elsewhere, as its ledger tells it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ledger_support import settled

from wallie_litellm.bootstrap import ledger_sink
from wallie_litellm.config import load_config
from wallie_litellm.config.used_providers import used_providers
from wallie_litellm.dashboard.ledger_source import LedgerSource
from wallie_litellm.dashboard.view_model import RANGES, build_snapshot
from wallie_litellm.events import BreakerChanged, Event, HealthChanged, new_id
from wallie_litellm.telemetry.bus import Bus

FILE = """
model_list:
- {model_name: a, litellm_params: {model: openai/gpt-4o, api_key: sk-a}}
- {model_name: b, litellm_params: {model: openai/gpt-4o, api_key: sk-b}}
- {model_name: c, litellm_params: {model: groq/llama, api_key: sk-c}}
- {model_name: d, litellm_params: {model: deepseek/chat, api_key: sk-d}}
"""


async def status_of(tmp_path: Path, *events: Event) -> tuple[Mapping[str, Any], LedgerSource]:
    file = tmp_path / "router_config.yaml"
    file.write_text(
        FILE
        + f"wallie: {{ledger: {{url: 'sqlite:///{tmp_path}/wallie.db'}}, telemetry: {{spool: '{tmp_path}/spool'}}}}\n"
    )
    loaded = load_config(file)
    ledger = loaded.wallie.ledger
    assert ledger is not None
    bus, sink = Bus(), ledger_sink(loaded.wallie)
    assert sink is not None
    bus.add(sink)
    for event in events:
        bus.publish(event)
    assert await bus.flush(10)
    await asyncio.to_thread(bus.close)
    source = LedgerSource(loaded.wallie, ledger, used_providers(loaded))
    return await source.status(), source


async def test_it_lists_what_the_file_or_the_ledger_uses(tmp_path: Path) -> None:
    now = time.time()
    status, _ = await status_of(tmp_path, settled(at=now - 1, id=new_id(now), provider="gemini"))
    assert {name: len(own.get("accounts", ())) for name, own in status["providers"].items()} == {
        "openai": 2,
        "groq": 0,
        "deepseek": 0,
        "gemini": 0,
    }


async def test_what_a_ledger_cannot_tell_is_unknown_and_no_zero(tmp_path: Path) -> None:
    status, source = await status_of(tmp_path)
    for own in status["providers"].values():
        assert (own["in_flight"], own["waiting"]) == (None, None)
        assert "concurrency" not in own["quota"]
    snapshot = build_snapshot(status, await source.fleet(), RANGES["1h"], time.time(), (0.8, 0.95), None, "no ledger")
    assert {one.in_flight for one in snapshot.providers} == {None}


async def test_a_provider_that_has_served_nothing_lately_is_degraded(tmp_path: Path) -> None:
    now = time.time()
    rejected = {"outcome": "rejected", "success": False, "error": "rate limited", "status_code": 429}
    status, _ = await status_of(
        tmp_path,
        *(settled(at=now - 1, id=new_id(now), provider="groq", **rejected) for _ in range(3)),
        *(settled(at=now - 1, id=new_id(now), provider="openai", **rejected) for _ in range(3)),
        settled(at=now - 1, id=new_id(now), provider="openai"),
        settled(at=now - 400, id=new_id(now), provider="deepseek", **rejected),
    )
    health = {name: own["health"] for name, own in status["providers"].items()}
    assert health == {"openai": "healthy", "groq": "degraded", "deepseek": "healthy"}


async def test_the_breaker_of_a_model_is_its_last_recorded_one(tmp_path: Path) -> None:
    now = time.time()
    change = BreakerChanged(new_id(now), now, "groq", "closed", "open", "5 failures", 10.0, "groq/llama")
    status, source = await status_of(tmp_path, change)
    assert status["providers"]["groq"]["breaker"]["state"] == "closed"
    assert status["providers"]["groq"]["models"]["groq/llama"]["breaker"]["state"] == "open"
    snapshot = build_snapshot(status, await source.fleet(), RANGES["1h"], now, (0.8, 0.95), None, "no ledger")
    (model,) = next(one for one in snapshot.providers if one.name == "groq").models
    assert (model.name, model.breaker, model.reason, model.waiting) == ("groq/llama", "open", "5 failures", None)


async def test_the_health_of_a_key_is_its_last_recorded_one(tmp_path: Path) -> None:
    loaded_status, _ = await status_of(tmp_path)
    digest = min(loaded_status["providers"]["openai"]["accounts"])
    now = time.time()
    change = HealthChanged(new_id(now), now, f"openai#{digest}", "healthy", "down", "HTTP 401")
    status, _ = await status_of(tmp_path, change)
    assert status["providers"]["openai"]["accounts"][digest]["health"] == "down"
