"""Limits under `models:` of a file, over HTTP: what waits or is refused, what status shows, what a start restores."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from recording import RecordingBus
from scripted_vendor import ScriptedVendor
from simulator_support import eventually
from support import messages

from wallie_litellm import RateLimited, RequestTooLarge, build_router
from wallie_litellm.config import load_config
from wallie_litellm.events import OperatorActed, QuotaCrossed, Settled
from wallie_litellm.guard import Guard

ANSWER = {
    "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m", "service_tier": "default",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
}  # fmt: skip
GROUPS = {"mini": "openai/gpt-4o-mini", "full": "openai/gpt-4o", "dated": "openai/gpt-4o-2024", "other": "openai/o4"}
OPENAI = {
    "rpm": 8,
    "models": {"gpt-4o-mini": {"rpm": 4}, "gpt-4o*": {"rpm": 60, "rpd": 2, "tpm": 500}, "other": {"rpm": 1}},
}


@pytest.fixture
def file(running_vendor: ScriptedVendor, tmp_path: Path) -> Path:
    running_vendor.whole(ANSWER)
    where = {"api_base": f"{running_vendor.base}/v1", "api_key": "sk-simulated"}
    path = tmp_path / "router_config.yaml"
    groups = [{"model_name": name, "litellm_params": {"model": model, **where}} for name, model in GROUPS.items()]
    wallie = {
        "providers": {"openai": OPENAI},
        "admission": {"max_wait": 0},
        "ledger": {"url": f"sqlite:///{tmp_path}/wallie.db"},
        "telemetry": {"spool": str(tmp_path / "spool")},
    }
    path.write_text(json.dumps({"model_list": groups, "wallie": wallie}))
    return path


@pytest.fixture
def router(file: Path, bus: RecordingBus) -> Iterator[Any]:
    config = load_config(file)
    router = build_router(config, guard=Guard(config.wallie, bus=bus))
    yield router
    router.guard.close()


def of_models(router: Any) -> dict[str, dict[str, int]]:
    models = router.guard.status()["providers"]["openai"]["models"]
    return {pattern: {name: one["used"] for name, one in own["quota"].items()} for pattern, own in models.items()}


async def test_models_that_share_a_limit_use_it_together_and_leave_others_theirs(router, bus):
    await router.acompletion("full", messages())
    await router.acompletion("dated", messages())
    with pytest.raises(RateLimited, match=r"at its rpd limit for gpt-4o\* \(wallie.providers.openai.models.gpt-4o\*"):
        await router.acompletion("full", messages())
    for _ in range(4):
        await router.acompletion("mini", messages())
    await router.acompletion("other", messages())  # by its group's name
    with pytest.raises(RateLimited, match="at its rpm limit for other"):
        await router.acompletion("other", messages())
    assert of_models(router) == {
        "gpt-4o-mini": {"rpm": 4},
        "gpt-4o*": {"rpm": 2, "tpm": 30, "rpd": 2},
        "other": {"rpm": 1},
    }
    assert router.guard.status()["providers"]["openai"]["quota"]["rpm"]["used"] == 7
    patterns = ["gpt-4o*"] * 2 + ["gpt-4o-mini"] * 4 + ["other"]
    assert [record.scope for record in bus.of(Settled)] == patterns
    assert {(one.model, one.dimension) for one in bus.of(QuotaCrossed)} == {
        ("gpt-4o*", "rpd"), ("gpt-4o-mini", "rpm"), ("other", "rpm"), (None, "rpm"),
    }  # fmt: skip


async def test_the_account_bounds_what_its_models_use_together(router):
    for group in ("mini", "mini", "mini", "mini", "full", "full", "other"):
        await router.acompletion(group, messages())
    router.guard.update_usage("openai", requests=1)
    router.guard.reset_quota("openai", model="gpt-4o-mini")
    with pytest.raises(RateLimited, match=r"openai is at its rpm limit; it has capacity"):
        await router.acompletion("mini", messages())


async def test_a_prompt_larger_than_its_models_limit_is_refused_and_not_sent(router, running_vendor):
    with pytest.raises(RequestTooLarge, match=r"whole tpm limit for gpt-4o\* of 500.*models.gpt-4o\*.tpm"):
        await router.acompletion("full", [{"role": "user", "content": "word " * 2_000}])
    assert not running_vendor.bodies


async def test_a_reset_of_a_model_is_of_its_own_limits(router, bus):
    for group in ("full", "full", "mini"):
        await router.acompletion(group, messages())
    router.guard.reset_quota("openai", "me", "test", model="openai/gpt-4o")
    assert of_models(router)["gpt-4o*"] == {"rpm": 0, "tpm": 0, "rpd": 0}
    assert of_models(router)["gpt-4o-mini"] == {"rpm": 1}
    assert router.guard.status()["providers"]["openai"]["quota"]["rpm"]["used"] == 3
    (acted,) = bus.of(OperatorActed)
    assert (acted.provider, acted.model, acted.detail) == ("openai", "gpt-4o*", "test")
    with pytest.raises(ValueError, match=r"'o1' has no limits of its own at openai; models with limits: gpt-4o-mini, "):
        router.guard.reset_quota("openai", model="o1")


async def test_a_start_restores_what_models_have_used(file):
    router = build_router(file)
    try:
        await asyncio.gather(*(router.acompletion(group, messages()) for group in ("full", "dated", "mini", "other")))
        before = of_models(router)
    finally:
        await router.guard.aclose()
    router = build_router(file)
    try:
        assert of_models(router) == before == {
            "gpt-4o-mini": {"rpm": 1}, "gpt-4o*": {"rpm": 2, "tpm": 30, "rpd": 2}, "other": {"rpm": 1},
        }  # fmt: skip
        with pytest.raises(RateLimited):
            await router.acompletion("full", messages())
        await router.acompletion("mini", messages())
    finally:
        await router.guard.aclose()


async def test_requests_for_one_model_wait_in_a_line_of_their_own(file, bus):
    config = load_config(file)
    wallie = config.wallie.model_copy(
        update={"admission": config.wallie.admission.model_copy(update={"max_wait": 90.0})}
    )
    router = build_router(config, guard=Guard(wallie, bus=bus))
    try:
        await router.acompletion("other", messages())
        waiting = asyncio.ensure_future(router.acompletion("other", messages()))
        await eventually(lambda: router.guard.status()["providers"]["openai"]["waiting"])
        models = router.guard.status()["providers"]["openai"]["models"]
        assert {pattern: own["waiting"] for pattern, own in models.items()} == {
            "gpt-4o-mini": 0, "gpt-4o*": 0, "other": 1,
        }  # fmt: skip
        await router.acompletion("mini", messages())
        router.guard.reset_quota("openai", model="other")
        await waiting
    finally:
        router.guard.close()
