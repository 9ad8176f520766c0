"""Tiers and ``auto`` on a real LiteLLM proxy: listed, asked for in every way, for the keys that may use them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from forked import ForkServer
from proxy_support import MASTER_KEY, Answer, Proxy, RecordedLedger, fork_proxy_with_keys
from support import messages, shipped_config

from wallie_litellm.simulator import SimulatedProviders

KEYS = {
    "sk-tier": ["flash"],
    "sk-first": ["gpt-4o-mini"],
    "sk-other": ["gpt-4o"],
    "sk-auto": ["auto"],
}
TIERS = {"flash": ["gpt-4o-mini", "gemini-2.0-flash"], "premium": ["claude-opus-4", "gpt-4o"]}
HARD = (
    "Write a python function that debounces async api calls, with error handling. First do this, then that: "
    "optimize the database queries of the distributed architecture, and deploy it to kubernetes."
)


@pytest.fixture(scope="module")
def proxy(
    running_fleet: SimulatedProviders,
    forks: ForkServer,
    tmp_path_factory: pytest.TempPathFactory,
    ledger: RecordedLedger,
) -> Iterator[Proxy]:
    config = shipped_config()
    config["model_list"] = running_fleet.point(config["model_list"])
    config["router_settings"]["context_window_fallbacks"] = [{"gpt-4o-mini": ["claude-sonnet-4"]}]
    config["wallie"] |= {
        "ledger": {"url": ledger.url},
        "retry": {"max_retries": 0},
        "routing": {"tiers": TIERS, "auto": {"simple": "flash", "medium": "flash", "complex": "premium"}},
        "features": {"chat": {"tier": "premium"}},
    }
    config.setdefault("general_settings", {})["custom_auth_run_common_checks"] = True
    config["general_settings"]["enforce_fallback_model_access"] = True  # LiteLLM's default from 1.108
    config["litellm_settings"]["enable_post_custom_auth_checks"] = True
    keys = {key: {"models": models} for key, models in KEYS.items()}
    running = fork_proxy_with_keys(forks, tmp_path_factory.mktemp("proxy"), config, keys)
    yield running
    running.stop()


@pytest.fixture(autouse=True)
def fresh(fleet: SimulatedProviders) -> None:
    """The simulated providers, with nothing on record."""


def post(proxy: Proxy, path: str, body: Mapping[str, Any], key: str = MASTER_KEY, **headers: str) -> Answer:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return proxy.post(path, body, {"authorization": f"Bearer {key}", **sent})


def chat(proxy: Proxy, key: str = MASTER_KEY, text: str = "hi", **body: Any) -> Answer:
    return post(proxy, "/v1/chat/completions", {"messages": messages(text), **body}, key)


def group(answer: Answer) -> str:
    assert answer.status == 200, answer.text
    return answer.headers["x-wallie-model-group"]


def test_tiers_are_listed_as_models(proxy: Proxy) -> None:
    connection = proxy.connect()
    connection.request("GET", "/v1/models", headers={"authorization": f"Bearer {MASTER_KEY}"})
    listed = {one["id"] for one in json.loads(connection.getresponse().read())["data"]}
    assert {"auto", "flash", "premium", "gpt-4o"} <= listed


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"messages": messages("hi")}),
        ("/v1/messages", {"messages": messages("hi"), "max_tokens": 20}),
        ("/v1/responses", {"input": "hi"}),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_tier_is_asked_for_as_model_by_body_by_header_and_by_feature(
    proxy: Proxy, path: str, body: dict[str, Any], stream: bool
) -> None:
    body = {**body, "stream": stream}
    by_feature = {"x_wallie_feature": "chat"}
    assert group(post(proxy, path, {**body, "model": "premium"})) == "claude-opus-4"
    assert group(post(proxy, path, {**body, "model": "gpt-4o-mini", "tier": "premium"})) == "claude-opus-4"
    assert group(post(proxy, path, {**body, "model": "gpt-4o-mini"}, x_wallie_tier="premium")) == "claude-opus-4"
    assert group(post(proxy, path, body, **by_feature)) == "claude-opus-4"
    assert group(post(proxy, path, {**body, "model": ""}, **by_feature)) == "claude-opus-4"
    assert group(post(proxy, path, {**body, "model": "auto"})) == "gpt-4o-mini"


def test_metadata_name_feature_and_tier(proxy: Proxy, fleet: SimulatedProviders) -> None:
    assert group(chat(proxy, model="gpt-4o", metadata={"tier": "flash"})) == "gpt-4o-mini"
    assert group(chat(proxy, metadata={"feature": "chat"})) == "claude-opus-4"
    assert group(chat(proxy, model="auto", text=HARD)) == "claude-opus-4"
    assert all("tier" not in body for body in fleet["openai"].bodies())


def test_a_tier_falls_back_along_its_own_chain(proxy: Proxy, fleet: SimulatedProviders) -> None:
    fleet["openai"].fail(status=500)
    answer = chat(proxy, model="flash")
    assert (group(answer), answer.headers["x-wallie-fallback"]) == ("gemini-2.0-flash", "1")


@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_that_is_refused_goes_along_the_groups_own_chain_as_far_as_the_key_may(
    proxy: Proxy, fleet: SimulatedProviders, stream: bool
) -> None:
    fleet["openai"].context_window()
    assert group(chat(proxy, model="flash", stream=stream)) == "claude-sonnet-4"
    fleet["openai"].restore()
    fleet["openai"].content_policy()
    assert chat(proxy, model="flash", stream=stream).status == 400
    stated = {"model": "flash", "stream": stream, "content_policy_fallbacks": [{"flash": ["premium"]}]}
    assert group(chat(proxy, **stated)) == "claude-opus-4"
    asked = len(fleet["anthropic"].bodies())
    assert chat(proxy, "sk-tier", **stated).status == 403
    assert len(fleet["anthropic"].bodies()) == asked


def test_a_request_without_model_and_tier_is_refused_as_before(proxy: Proxy) -> None:
    assert chat(proxy).status == 400
    assert chat(proxy, model="premum").status == 400
    answer = chat(proxy, model="gpt-4o", tier="premum")
    assert answer.status == 400
    assert "did you mean 'premium'" in answer.json["error"]["message"]
    error = answer.json["error"]
    assert (error["code"], error["type"]) == ("wallie_unknown_tier", "invalid_request_error")


def test_a_key_that_lists_a_tier_may_use_its_groups_and_no_others(proxy: Proxy, fleet: SimulatedProviders) -> None:
    assert group(chat(proxy, "sk-tier", model="flash")) == "gpt-4o-mini"
    assert chat(proxy, "sk-tier", model="gpt-4o-mini").status == 403
    assert chat(proxy, "sk-tier", model="premium").status == 403
    fleet["openai"].fail(status=500)
    assert group(chat(proxy, "sk-tier", model="flash")) == "gemini-2.0-flash"


def test_a_key_that_lists_the_first_group_is_held_to_it(proxy: Proxy, fleet: SimulatedProviders) -> None:
    assert group(chat(proxy, "sk-first", model="flash")) == "gpt-4o-mini"
    fleet["openai"].fail(status=500)
    assert chat(proxy, "sk-first", model="flash").status == 500
    assert not fleet["gemini"].bodies()


@pytest.mark.parametrize(
    "asked", [{"tier": "premium"}, {"metadata": {"tier": "premium"}}, {"model": "", "metadata": {"feature": "chat"}}]
)
def test_no_way_to_name_a_tier_goes_round_a_keys_models(
    proxy: Proxy, fleet: SimulatedProviders, asked: dict[str, Any]
) -> None:
    answer = chat(proxy, "sk-first", **{"model": "gpt-4o-mini", **asked})
    assert (answer.status, answer.json["error"]["code"]) == (403, "wallie_tier_forbidden")
    assert not any(fleet[name].bodies() for name in fleet)


def test_a_key_for_auto_may_use_all_that_auto_chooses(proxy: Proxy) -> None:
    assert group(chat(proxy, "sk-auto", model="auto")) == "gpt-4o-mini"
    assert group(chat(proxy, "sk-auto", model="auto", text=HARD)) == "claude-opus-4"
    assert chat(proxy, "sk-auto", model="premium").status == 403
    # It lists the first group of auto's middle tier, which is what LiteLLM takes auto for.
    assert group(chat(proxy, "sk-first", model="auto")) == "gpt-4o-mini"
    assert chat(proxy, "sk-first", model="auto", text=HARD).status == 403


def test_a_session_of_claude_code_stays_with_the_tier_of_its_first_request(proxy: Proxy) -> None:
    def ask(session: str, text: str) -> str:
        user = f"user_{'5f' * 32}_account__session_{session}"
        body = {"model": "auto", "max_tokens": 20, "messages": messages(text), "metadata": {"user_id": user}}
        return group(post(proxy, "/v1/messages", body))

    first, second = "1c9e6a52-77d0-4a0e-8a34-0c2f6a1b7d11", "1c9e6a52-77d0-4a0e-8a34-0c2f6a1b7d12"
    assert [ask(first, HARD), ask(first, "hi"), ask(second, "hi"), ask(second, HARD)] == [
        "claude-opus-4", "claude-opus-4", "gpt-4o-mini", "gpt-4o-mini",
    ]  # fmt: skip


def test_the_ledger_has_the_tier_and_what_was_asked_for(proxy: Proxy, ledger: RecordedLedger) -> None:
    assert group(chat(proxy, model="auto", user="tiers-1")) == "gpt-4o-mini"
    _, request = ledger.of("tiers-1")
    assert (request["model"], request["requested"], request["tier"], request["auto_tier"]) == (
        "gpt-4o-mini", "auto", "flash", "flash",
    )  # fmt: skip
