"""The fallback chains of a file, as LiteLLM's Router puts them together."""

from __future__ import annotations

from typing import Any

import litellm
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from litellm.router_utils.fallback_event_handlers import get_fallback_model_group

from wallie_litellm.config import RouterConfig, parse_config
from wallie_litellm.config.chains import fallback_settings
from wallie_litellm.errors import ConfigError

MODELS = [{"model_name": name, "litellm_params": {"model": f"openai/{name}", "api_key": "fake"}} for name in "abc"]


def parse(router: dict[str, Any] | None = None, general: dict[str, Any] | None = None) -> RouterConfig:
    data = {"model_list": MODELS, "router_settings": router or {}, "litellm_settings": general or {}}
    return parse_config(data, env={})


def refusal(**router: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(router)
    [problem] = caught.value.problems
    return problem


def test_router_settings_go_before_litellm_settings() -> None:
    own, other = [{"a": ["b", "c"]}], [{"b": ["c"]}]
    assert parse({"fallbacks": own}, {"fallbacks": other}).chains == {"a": ("b", "c")}
    assert parse({"fallbacks": []}, {"fallbacks": other}).chains == {"b": ("c",)}
    assert parse({}, {"fallbacks": other, "default_fallbacks": ["a"]}).chains == {"b": ("c",), "*": ("a",)}
    assert parse({"default_fallbacks": ["b"]}, {"default_fallbacks": ["a"]}).chains == {"*": ("b",)}


def test_default_fallbacks_serve_every_group_without_a_chain_even_beside_a_star() -> None:
    config = parse({"fallbacks": [{"a": ["b"]}, {"*": ["a"]}], "default_fallbacks": ["c"]})
    assert [config.chain(group) for group in config.groups] == [("b",), ("c",), ()]
    assert parse({"fallbacks": [{"*": ["a"]}]}).chain("b") == ("a",)


def test_a_chain_passes_over_its_own_group() -> None:
    config = parse({"fallbacks": [{"a": ["b", "a", "c"]}, {"b": ["b"]}], "default_fallbacks": ["c"]})
    assert [config.chain(group) for group in config.groups] == [("b", "c"), (), ()]


def test_a_member_may_have_parameters_of_its_own() -> None:
    assert parse({"fallbacks": [{"a": ["b", {"model": "c", "temperature": 0}]}]}).chain("a") == ("b", "c")
    assert "a list of model groups, or of mappings with a model" in refusal(fallbacks=[{"a": [{"temperature": 0}]}])
    assert "'d' is not a group" in refusal(fallbacks=[{"a": [{"model": "d"}]}])


def test_two_groups_may_fall_back_to_each_other() -> None:
    assert parse({"fallbacks": [{"a": ["b"]}, {"b": ["a"]}]}).chains == {"a": ("b",), "b": ("a",)}


def test_an_alias_and_a_pattern_are_groups_too() -> None:
    pattern = {"model_name": "openai/*", "litellm_params": {"model": "openai/*"}}
    router = {"model_group_alias": {"small": "a"}, "fallbacks": [{"small": ["openai/gpt-4o"]}, {"*": ["a"]}]}
    config = parse_config({"model_list": [*MODELS, pattern], "router_settings": router}, env={})
    assert config.chain("small") == ("openai/gpt-4o",)


async def test_a_member_may_be_a_single_deployment_by_its_id_or_its_model_as_in_litellms_router() -> None:
    models = [*MODELS[:2], {**MODELS[2], "model_info": {"id": "the-third"}}]
    for member in ("the-third", "openai/c"):
        settings = {"fallbacks": [{"a": [member]}]}
        assert parse_config({"model_list": models, "router_settings": settings}, env={}).chain("a") == (member,)
        router = litellm.Router(model_list=models)
        try:
            chosen = await router.async_get_available_deployment(member, request_kwargs={})
            assert chosen["model_name"] == "c"
        finally:
            router.discard()
    assert "'openai/d' is not a group" in refusal(fallbacks=[{"a": ["openai/d"]}])


GROUPS = st.lists(st.sampled_from("abc"), min_size=1, max_size=3, unique=True)
FALLBACKS = st.none() | st.dictionaries(st.sampled_from(["a", "b", "c", "*"]), GROUPS, max_size=3)
STATED = st.fixed_dictionaries({"fallbacks": FALLBACKS, "default_fallbacks": st.none() | GROUPS})


def stated(settings: dict[str, Any]) -> dict[str, Any]:
    chains = settings["fallbacks"]
    lists = None if chains is None else [{head: list(members)} for head, members in chains.items()]
    return {name: value for name, value in {**settings, "fallbacks": lists}.items() if value is not None}


def chains_in_litellm(arguments: dict[str, Any], module: dict[str, Any]) -> list[list[str]]:
    """The group's chain by LiteLLM's own look-up, for each group, where its module has the settings ``module``."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in module.items():
            patch.setattr(litellm, name, value)
        router = litellm.Router(model_list=MODELS, **arguments)
    try:
        found = [get_fallback_model_group(router.fallbacks or [], name)[0] or [] for name in "abc"]
    finally:
        router.discard()
    return [[member for member in chain if member != name] for name, chain in zip("abc", found, strict=True)]


@given(STATED, STATED)
@settings(max_examples=40, deadline=None)
def test_the_chains_are_those_of_litellms_router(router: dict[str, Any], general: dict[str, Any]) -> None:
    config = parse(stated(router), stated(general))
    expected = chains_in_litellm(stated(router), stated(general))
    assert [list(config.chain(group)) for group in config.groups] == expected
    arguments = fallback_settings(config.router_settings, config.litellm_settings)
    assert chains_in_litellm(arguments, {}) == expected
