"""What the check says of LiteLLM's settings that act otherwise here, and of those that hold on the proxy alone."""

from __future__ import annotations

import asyncio
import copy
import re
from pathlib import Path
from typing import Any

import litellm
import pytest
from check_support import entry
from hypothesis import given, settings
from hypothesis import strategies as st

from wallie_litellm.check.litellm_notes import chains_that_end
from wallie_litellm.config import parse_config
from wallie_litellm.config.differences import DEPLOYMENT, DIFFERENCES, PROCESS_WIDE, PROXY_SECTIONS, Difference

PAGE = (Path(__file__).parents[2] / "docs" / "differences.md").read_text()
NEWER = {"enable_mid_stream_fallback_continuation"}  # LiteLLM has it from 1.110 on
MODEL = "openai/gpt-4o"


def places(report: Any) -> list[str]:
    return [note.split(": ")[1] for note in report.notes]


def group(name: str, **params: Any) -> dict[str, Any]:
    return {**entry(MODEL, **params), "model_name": name}


@pytest.mark.parametrize("difference", DIFFERENCES, ids=lambda difference: difference.setting)
def test_a_setting_that_acts_otherwise_is_a_note_wherever_the_file_has_it(check: Any, difference: Difference) -> None:
    for place in difference.places:
        if place == DEPLOYMENT:
            report = check(group("a"), group("b", **{difference.setting: 1}), group("c", **{difference.setting: 1}))
            where = f"model_list[1].litellm_params.{difference.setting} (and 1 more)"
        else:
            report = check(entry(MODEL), **{place: {difference.setting: 1}})
            where = f"{place}.{difference.setting}"
        [note] = report.notes
        assert note.split(": ")[1] == where
        for said in (difference.in_litellm, difference.here, difference.instead):
            assert said in note


@pytest.mark.parametrize("place", ["router_settings", "litellm_settings"])
def test_a_setting_left_empty_is_no_note(check: Any, place: str) -> None:
    assert check(entry(MODEL), **{place: {difference.setting: None for difference in DIFFERENCES}}).notes == ()


def test_the_page_names_every_setting_and_what_to_write_instead() -> None:
    for difference in DIFFERENCES:
        [row] = [line for line in PAGE.splitlines() if f"`{difference.setting}`" in line.partition(" | ")[0]]
        for key in re.findall(r"wallie\.[\w.<>]+", difference.instead):
            assert key in row


def test_the_settings_are_litellms() -> None:
    settings = {difference.setting for difference in DIFFERENCES}
    assert settings - set(litellm.Router.get_valid_args()) <= NEWER
    assert [name for name in PROCESS_WIDE if not hasattr(litellm, name)] == []


def test_cooldowns_that_the_file_turns_on_are_a_note(check: Any) -> None:
    assert places(check(entry(MODEL), router_settings={"disable_cooldowns": False})) == [
        "router_settings.disable_cooldowns"
    ]
    assert check(entry(MODEL), router_settings={"disable_cooldowns": True}).notes == ()


@pytest.mark.parametrize(
    ("settings", "head", "beyond", "whole"),
    [
        ({"fallbacks": [{"a": ["b"]}, {"b": ["c"]}]}, "a", "c", "[b, c]"),
        ({"fallbacks": [{"a": ["b", "d"]}, {"b": ["c"]}, {"c": ["a"]}]}, "a", "c", "[b, c, d]"),
        ({"fallbacks": [{"b": ["c"]}], "default_fallbacks": ["b"]}, "a", "c", "[b, c]"),
    ],
)
def test_a_chain_that_litellm_would_go_on_with_is_a_note_with_the_whole_chain(
    check: Any, settings: dict[str, Any], head: str, beyond: str, whole: str
) -> None:
    notes = check(*map(group, "abcd"), router_settings=settings).notes
    [note] = [note for note in notes if f"the chain of '{head}'" in note]
    assert f"to {beyond}; here a chain has the members that it states" in note
    assert note.endswith(f"write {head}: {whole}")


@pytest.mark.parametrize(
    "settings",
    [
        {"fallbacks": [{"a": ["b", "c"]}, {"b": ["c", "a"]}]},
        {"default_fallbacks": ["b", "c"]},
        {"fallbacks": [{"a": ["b"]}], "default_fallbacks": ["c"]},
        {"fallbacks": [{"a": ["b"]}, {"b": ["a"]}]},
    ],
)
def test_a_chain_that_litellm_would_end_too_is_no_note(check: Any, settings: dict[str, Any]) -> None:
    assert check(*map(group, "abc"), router_settings=settings).notes == ()


class Failing(litellm.CustomLLM):
    """A provider whose models all fail, and which of them were asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    async def acompletion(self, model: str, *_: Any, **__: Any) -> Any:
        self.asked.append(model)
        raise litellm.llms.custom_llm.CustomLLMError(status_code=500, message="away")


CHAINS = st.lists(st.sampled_from("abcd"), min_size=1, max_size=2, unique=True)


@given(st.dictionaries(st.sampled_from("abc"), CHAINS, max_size=3), st.none() | CHAINS, st.sampled_from("abcd"))
@settings(max_examples=25, deadline=None)
def test_what_litellm_would_go_on_with_is_what_its_router_asks(
    chains: dict[str, list[str]], default: list[str] | None, head: str
) -> None:
    stated = {"fallbacks": [{group: list(members)} for group, members in chains.items()], "default_fallbacks": default}
    models = [{"model_name": name, "litellm_params": {"model": f"failing/{name}"}} for name in "abcd"]
    config = parse_config({"model_list": models, "router_settings": copy.deepcopy(stated)}, env={})
    failing = Failing()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(litellm, "custom_provider_map", [{"provider": "failing", "custom_handler": failing}])
        patch.setattr(litellm, "provider_list", [*litellm.provider_list, "failing"])
        router = litellm.Router(model_list=models, num_retries=0, disable_cooldowns=True, **stated)
        try:
            with pytest.raises(litellm.InternalServerError):
                asyncio.run(router.acompletion(head, [{"role": "user", "content": "x"}]))
        finally:
            router.discard()
    assert failing.asked[0] == head
    noted = [note for note in chains_that_end(config) if f"the chain of '{head}'" in note]
    beyond = [group for group in failing.asked[1:] if group not in config.chain(head)]
    assert len(noted) == bool(beyond)
    assert all(note.endswith(f"write {head}: [{', '.join(failing.asked[1:])}]") for note in noted)


def test_a_list_that_the_other_section_replaces_is_a_note(check: Any) -> None:
    both = {place: {"default_fallbacks": ["a"]} for place in ("router_settings", "litellm_settings")}
    assert places(check(group("a"), **both)) == ["litellm_settings.default_fallbacks"]


@pytest.mark.parametrize("limit", ["rpm", "tpm"])
def test_litellms_own_limit_of_a_deployment_is_a_note_that_says_what_it_does(check: Any, limit: str) -> None:
    [note] = check(entry(MODEL, **{limit: 60})).notes
    assert f"model_list[0].litellm_params.{limit}: LiteLLM's own limit of one deployment" in note
    assert note.endswith(f"for requests that wait write wallie.providers.<provider>.{limit}")


def test_settings_that_only_the_proxy_makes_are_one_note(check: Any) -> None:
    settings = {"modify_params": True, "drop_params": True, "callbacks": ["langfuse", "callbacks.wallie.handler"]}
    [note] = check(entry(MODEL), litellm_settings=settings).notes
    assert "litellm_settings: modify_params, callbacks: only the proxy sets these" in note
    assert check(entry(MODEL), litellm_settings={"callbacks": "callbacks.wallie.handler"}).notes == ()


def test_sections_that_only_the_proxy_applies_are_one_note(check: Any) -> None:
    sections = {
        "guardrails": [{"guardrail_name": "pii"}],
        "prompts": [{"prompt_id": "p"}],
        "policies": {},
        "include": [],
    }
    [note] = check(entry(MODEL), **sections).notes
    assert "guardrails, prompts: only the proxy applies these" in note


def test_the_page_names_what_only_the_proxy_applies() -> None:
    assert all(f"`{name}`" in PAGE for name in PROXY_SECTIONS)
