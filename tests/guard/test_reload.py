"""A changed router_config.yaml is taken up while requests are under way, or refused as a whole."""

from __future__ import annotations

import asyncio
import copy
import gc
import weakref
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import litellm
import pytest
import yaml
from recording import RecordingBus
from support import assert_nothing_leaked, messages, quota, shipped_config, until

from wallie_litellm import ConfigError, RateLimited, build_router, execute_ai_request
from wallie_litellm.events import OperatorActed

Edit = Callable[[dict[str, Any]], object]


class LiveRouter:
    """A router of a file in ``folder``, which is edited."""

    def __init__(self, folder: Path, fleet: Any, edit: Edit, **overrides: Any) -> None:
        self.path = folder / "router_config.yaml"
        self.data = shipped_config()
        self.data["model_list"] = fleet.point(self.data["model_list"])
        self.data["wallie"]["telemetry"] = {"spool": str(folder / "spool")}
        self.write(edit)
        self.router = build_router(self.path, **overrides)

    @property
    def guard(self) -> Any:
        return self.router.guard

    def write(self, edit: Edit) -> None:
        edit(self.data)
        self.path.write_text(yaml.safe_dump(self.data))

    def reload(self, edit: Edit) -> Any:
        self.write(edit)
        return self.router.reload()

    def section(self, name: str) -> dict[str, Any]:
        return self.data["wallie"].setdefault(name, {})


@pytest.fixture
def live(tmp_path: Path, fleet: Any) -> Iterator[Callable[..., LiveRouter]]:
    made: list[LiveRouter] = []

    def make(edit: Edit = lambda _data: None, **overrides: Any) -> LiveRouter:
        made.append(LiveRouter(tmp_path, fleet, edit, **overrides))
        return made[-1]

    yield make
    for one in made:
        one.guard.close()


def group(data: dict[str, Any], name: str) -> dict[str, Any]:
    return next(entry for entry in data["model_list"] if entry["model_name"] == name)


async def served(router: Any, model: str) -> str:
    return (await execute_ai_request(router, model, messages())).provider


async def test_limits_chains_models_and_features_are_taken_up(live: Any) -> None:
    one = live()
    router = one.router

    def edit(data: dict[str, Any]) -> None:
        data["wallie"]["providers"] = {"openai": {"rpm": 7}, "groq": {"rpm": 1}}
        data["wallie"]["admission"] = {"max_wait": 0}
        data["wallie"]["features"] = {"short": {"max_wait": 0, "limits": {"rpm": 1}}}
        data["router_settings"]["fallbacks"] = [{"gpt-4o-mini": ["deepseek-chat"]}]
        data["model_list"].append({**copy.deepcopy(group(data, "gpt-4o-mini")), "model_name": "added"})
        group(data, "gpt-4o")["litellm_params"] = copy.deepcopy(group(data, "claude-sonnet-4")["litellm_params"])
        data["model_list"].remove(group(data, "claude-opus-4"))

    done = one.reload(edit)

    assert {"model_list", "wallie.providers.openai.rpm"} <= set(done.changed)
    assert await served(router, "added") == "openai"
    assert await served(router, "gpt-4o") == "anthropic"
    assert "claude-opus-4" not in router.get_model_names()
    assert quota(router, "openai", "rpm")["limit"] == 7
    assert quota(router, "openai", "rpm")["used"] == 1
    router.guard.open_circuit("openai")
    assert await served(router, "gpt-4o-mini") == "deepseek"
    await router.acompletion("llama-3.1-8b", messages())
    with pytest.raises(RateLimited):
        await router.acompletion("llama-3.1-8b", messages())
    assert list(router.guard.status()["features"]) == ["short"]
    assert_nothing_leaked(router)


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda data: data["wallie"].update(retry={"max_retries": "many"}), "wallie.retry.max_retries"),
        (lambda data: data["wallie"].update(nonsense=1), "nonsense"),
        (lambda data: group(data, "gpt-4o")["litellm_params"].update(model="nowhere-model"), "LiteLLM cannot use it"),
    ],
    ids=["a wrong value", "an unknown key", "a model that LiteLLM does not know"],
)
async def test_a_bad_file_is_refused_as_a_whole(live: Any, edit: Edit, said: str) -> None:
    one = live()
    before = one.guard.config, one.router.get_model_names(), list(litellm.callbacks)

    with pytest.raises(ConfigError, match=said):
        one.reload(lambda data: (edit(data), data["wallie"].update(admission={"max_wait": 1})))

    assert before == (one.guard.config, one.router.get_model_names(), list(litellm.callbacks))
    config = one.guard.status()["config"]
    assert (config["changed"], config["refused"]) == (True, True)
    assert await served(one.router, "gpt-4o") == "openai"


async def test_what_needs_a_restart_is_named_and_the_rest_is_taken_up(live: Any) -> None:
    one = live()

    def edit(data: dict[str, Any]) -> None:
        data["wallie"]["store"] = {"timeout": "2s"}
        data["wallie"]["ledger"] = {"url": "sqlite:///elsewhere.db"}
        data["wallie"]["admission"] = {"max_wait": "7s"}
        data["litellm_settings"] = {**data.get("litellm_settings", {}), "cache": True}

    done = one.reload(edit)

    assert done.restart_needed == ["litellm_settings.cache", "wallie.ledger", "wallie.store.timeout"]
    assert one.guard.status()["config"]["restart_needed"] == done.restart_needed
    assert one.guard.config.admission.max_wait == 7.0
    assert one.guard.config.ledger is None
    one.reload(lambda data: (data["wallie"].update(store={}, ledger=None), data["litellm_settings"].pop("cache")))
    assert one.guard.status()["config"]["restart_needed"] == []

    first = {"daily_usd": 5, "reset_timezone": "Europe/Berlin"}
    assert one.reload(lambda data: data["wallie"].update(budget=first)).restart_needed == []
    moved = one.reload(lambda data: data["wallie"].update(budget={"daily_usd": 7, "reset_timezone": "Asia/Tokyo"}))
    assert (moved.changed, moved.restart_needed) == (["wallie.budget.daily_usd"], ["wallie.budget.reset_timezone"])
    (row,) = one.guard.status()["budgets"]
    midnight = datetime.fromisoformat(row["reset_at"]).astimezone(ZoneInfo("Europe/Berlin"))
    assert (row["limit_usd"], midnight.hour) == (7, 0)


async def test_status_says_when_the_file_has_changed(live: Any) -> None:
    one = live()
    began = one.guard.status()["config"]
    assert (began["file"], began["changed"]) == (str(one.path.resolve()), False)

    one.write(lambda data: data["wallie"].update(admission={"max_wait": "7s"}))
    assert one.guard.status()["config"]["changed"] is True

    one.router.reload()
    now = one.guard.status()["config"]
    assert (now["changed"], now["refused"]) == (False, False)
    assert now["loaded_at"] > began["loaded_at"]


async def test_a_stream_and_a_call_that_waits_go_on_through_a_reload(live: Any, fleet: Any) -> None:
    fleet["openai"].slow(0.3, 1, after_chunks=1)
    one = live(lambda data: data["wallie"].update(providers={"openai": {"rpm": 3, "burst": {"rpm": 1}}}))
    router = one.router
    stream = await router.acompletion("gpt-4o-mini", messages(), stream=True)
    waiting = asyncio.ensure_future(router.acompletion("gpt-4o", messages(), fallbacks=[]))
    await until(lambda: router.guard.status()["providers"]["openai"]["waiting"] == 1)

    def edit(data: dict[str, Any]) -> None:
        data["wallie"]["providers"] = {"openai": {"rpm": 600, "burst": {"rpm": 1}}}
        data["router_settings"]["fallbacks"] = []
        data["model_list"].remove(group(data, "gpt-4o-mini"))
        data["model_list"].remove(group(data, "gpt-4o"))

    one.reload(edit)

    assert (await waiting).choices[0].message.content
    assert [chunk async for chunk in stream][-1].choices[0].finish_reason == "stop"
    with pytest.raises(Exception, match="gpt-4o-mini"):
        await router.acompletion("gpt-4o-mini", messages())
    assert_nothing_leaked(router)


async def test_overrides_and_deployments_of_the_application_stay(live: Any, fleet: Any) -> None:
    one = live(timeout=17.0)
    own = copy.deepcopy(group(one.data, "deepseek-chat"))
    one.router.add_deployment(litellm.types.router.Deployment(**{**own, "model_name": "own"}))

    def edit(data: dict[str, Any]) -> None:
        data["router_settings"] |= {"timeout": 5, "fallbacks": []}
        data["model_list"].remove(group(data, "claude-opus-4"))

    one.reload(edit)

    assert await served(one.router, "own") == "deepseek"
    assert "claude-opus-4" not in one.router.get_model_names()
    assert one.router._arguments["timeout"] == 17.0


async def test_decisions_are_turned_on_and_off_and_keep_what_they_have_measured(live: Any) -> None:
    one = live(lambda data: data["wallie"].update(routing={"order": "latency"}))
    await served(one.router, "gpt-4o")
    measured = one.guard.routing.latencies

    def edit(data: dict[str, Any]) -> None:
        data["wallie"]["features"] = {"chat": {"tier": "small", "cache": "1h"}}
        data["wallie"]["routing"] = {"order": "latency", "tiers": {"small": ["gpt-4o-mini", "gpt-4o"]}}

    one.reload(edit)

    assert one.guard.routing.latencies is measured
    first = await execute_ai_request(one.router, None, messages(), feature="chat")
    again = await execute_ai_request(one.router, None, messages(), feature="chat")
    assert (first.provider, again.text) == ("openai", first.text)
    assert one.guard.status()["routing"]["cache"]["hits"] == 1
    assert "small" in one.router.get_model_names() or one.router.model_group_alias["small"]

    one.reload(lambda data: data["wallie"].update(features={}, routing={}))
    assert one.guard.status()["routing"]["turned_on"] == []
    with pytest.raises(Exception, match="small"):
        await one.router.acompletion("small", messages())


async def test_a_reload_goes_on_record_with_who_and_why(live: Any) -> None:
    one = live()
    bus = RecordingBus()
    one.guard.reporter.publish = bus.publish
    one.write(lambda data: data["wallie"].update(admission={"max_wait": "7s"}))

    one.guard.reload(actor="ann", detail="less patience")

    (event,) = bus.of(OperatorActed)
    assert (event.actor, event.action) == ("ann", "reload")
    assert event.detail == "less patience; changed: wallie.admission.max_wait"


async def test_the_routers_before_a_reload_are_let_go(live: Any) -> None:
    one = live()
    callbacks = len(litellm.callbacks)
    before = weakref.ref(one.router._inner)

    for number in range(3):
        one.reload(lambda data, number=number: data["router_settings"].update(timeout=20 + number))
    await served(one.router, "gpt-4o")

    gc.collect()
    assert before() is None
    assert len(litellm.callbacks) == callbacks


def test_a_guard_without_a_file_says_so(make_guard: Any) -> None:
    with pytest.raises(ConfigError, match="no file"):
        make_guard().reload()


async def test_a_watched_file_is_taken_up_once_it_has_been_left_alone(live: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("wallie_litellm.guard.live_config.WATCH_EVERY", 0.05)
    one = live()
    one.reload(lambda data: data["wallie"].update(reload="watch"))

    one.write(lambda data: data["wallie"].update(nonsense=1))
    await until(lambda: one.guard.status()["config"]["refused"])
    one.write(lambda data: (data["wallie"].pop("nonsense"), data["wallie"].update(admission={"max_wait": "7s"})))
    await until(lambda: one.guard.config.admission.max_wait == 7.0)

    one.reload(lambda data: data["wallie"].update(reload="on_request"))
    one.write(lambda data: data["wallie"].update(admission={"max_wait": "8s"}))
    await asyncio.sleep(0.3)
    assert one.guard.config.admission.max_wait == 7.0


async def test_a_provider_that_moves_to_another_address_loses_the_limits_of_its_vendors_own(
    live: Any, fleet: Any
) -> None:
    def to_own_address(data: dict[str, Any]) -> None:
        group(data, "deepseek-chat")["litellm_params"].pop("api_base")
        data["wallie"]["providers"].pop("deepseek", None)

    one = live(to_own_address)
    assert quota(one.router, "deepseek", "rpm")["limit"] == 300

    def to_the_simulator(data: dict[str, Any]) -> None:
        data["model_list"] = fleet.point(data["model_list"])

    one.reload(to_the_simulator)

    assert one.guard.status()["providers"]["deepseek"]["quota"] == {}
    assert await served(one.router, "deepseek-chat") == "deepseek"


async def test_a_budget_that_is_new_or_comes_back_has_what_was_spent_without_it(live: Any, tmp_path: Path) -> None:
    budget = {"chat": {"budget": {"daily_usd": 1, "on_exhausted": "refuse"}}}

    def spent() -> float:
        return sum(row["spent_usd"] for row in one.guard.budgets.rows())

    async def ask() -> float | None:
        return (await execute_ai_request(one.router, "gpt-4o-mini", messages(), feature="chat")).cost_usd

    one = live(lambda data: data["wallie"].update(ledger={"url": f"sqlite:///{tmp_path}/wallie.db"}))
    cost = await ask()
    for count, features in enumerate((budget, {}, budget), 1):
        one.reload(lambda data, features=features: data["wallie"].update(features=features))
        assert spent() == pytest.approx((count * cost) if features else 0, abs=2e-9)
        await ask()
    assert spent() == pytest.approx(4 * cost, abs=2e-9)


async def test_a_first_cache_that_cannot_be_opened_is_refused_as_a_whole(live: Any, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    one = live(
        lambda data: data["litellm_settings"].update(
            cache_params={"type": "disk", "disk_cache_dir": f"{tmp_path}/file/x"}
        )
    )
    cached = {"features": {"chat": {"cache": "1h", "priority": 3}}}
    with pytest.raises(ConfigError, match="cannot be made"):
        one.reload(lambda data: data["wallie"].update(cached))
    assert one.guard.config.features == {}
    assert one.guard.status()["config"]["refused"]
    one.reload(lambda data: data["litellm_settings"].update(cache_params={"type": "local"}))
    assert one.guard.status()["routing"]["cache"]["store"] == "memory"
