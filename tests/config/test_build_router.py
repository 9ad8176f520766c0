"""What a file says of calls holds for the router that is built from it, and for nothing else in the process."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import litellm
import pytest
from support import messages, until

from wallie_litellm import build_router
from wallie_litellm.config import parse_config
from wallie_litellm.errors import ConfigError
from wallie_litellm.litellm_adapter.response_cache import RouterCache

if TYPE_CHECKING:
    from wallie_litellm.guard.router import WallieRouter
    from wallie_litellm.simulator import SimulatedProviders

Build = Callable[..., "WallieRouter"]

MODELS = {
    "chat": "openai/gpt-4o-mini",
    "other": "anthropic/claude-sonnet-4-5",
    "vectors": "openai/text-embedding-3-small",
}


@pytest.fixture
def build(fleet: SimulatedProviders, monkeypatch: pytest.MonkeyPatch) -> Iterator[Build]:
    """Builds routers to the simulated providers from sections of a file."""
    litellm.encode("", "")  # the first use says in the environment where LiteLLM's tokenizers are; later ones read it
    monkeypatch.setattr(os, "environ", os.environ.copy())
    monkeypatch.setattr(litellm, "cache", None)
    models = fleet.point([{"model_name": name, "litellm_params": {"model": model}} for name, model in MODELS.items()])
    built: list[WallieRouter] = []

    def make(overrides: dict[str, Any] | None = None, **sections: Any) -> WallieRouter:
        data = {"model_list": models, "wallie": {"ledger": None}, **sections}
        built.append(build_router(parse_config(data, env=dict(os.environ)), **(overrides or {})))
        return built[-1]

    yield make
    for router in built:
        router.guard.close()


# litellm_settings


async def test_drop_params_holds_for_the_router_alone(build: Build, fleet: SimulatedProviders) -> None:
    with pytest.raises(litellm.UnsupportedParamsError):
        await build().acompletion("other", messages(), logit_bias={"1": 1})
    await build(litellm_settings={"drop_params": True}).acompletion("other", messages(), logit_bias={"1": 1})
    assert litellm.drop_params is False
    assert fleet["anthropic"].counts().received == 1


def test_what_litellms_router_takes_from_its_module_is_given_to_the_router_alone(build: Build) -> None:
    before = (litellm.request_timeout, litellm.fallbacks, litellm.allowed_fails, litellm.default_fallbacks)
    lists = {"context_window_fallbacks": [{"chat": ["other"]}], "content_policy_fallbacks": [{"other": ["chat"]}]}
    router = build(
        router_settings={"timeout": 30},
        litellm_settings={"request_timeout": 20, "default_fallbacks": ["other"], "allowed_fails": 7, **lists},
    )
    assert (router.timeout, router.allowed_fails, router.fallbacks) == (20, 7, [{"*": ["other"]}])
    assert router.context_window_fallbacks == lists["context_window_fallbacks"]
    assert router.content_policy_fallbacks == lists["content_policy_fallbacks"]
    assert before == (litellm.request_timeout, litellm.fallbacks, litellm.allowed_fails, litellm.default_fallbacks)


def test_an_argument_goes_before_the_file_and_a_variable_is_read(build: Build) -> None:
    os.environ["SECONDS"] = "12.5"
    settings = {"stream_timeout": "os.environ/SECONDS"}
    router = build({"timeout": 5}, router_settings=settings, litellm_settings={"request_timeout": 20})
    assert (router.timeout, router.stream_timeout) == (5, 12.5)


async def test_the_cache_of_a_file_serves_the_routers_calls_and_no_others(
    build: Build, fleet: SimulatedProviders
) -> None:
    router = build(litellm_settings={"cache": True, "cache_params": {"type": "local"}})
    own = {"model": MODELS["chat"], "api_base": fleet["openai"].api_base, "api_key": "fake", "messages": messages()}
    calls = [
        lambda: router.acompletion("chat", messages()),
        lambda: router.aembedding("vectors", input=["one"]),
        lambda: litellm.acompletion(**own),
    ]
    for count, call in enumerate(calls, start=1):
        await call()
        stored = litellm.cache.cache.cache_dict
        await until(
            lambda stored=stored, count=count: len(stored) >= min(count, 2)
        )  # LiteLLM stores an answer in the background
        await call()
    assert fleet["openai"].counts().received == 1 + 1 + 2
    assert isinstance(litellm.cache, RouterCache)


def test_a_cache_that_the_application_has_stays(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    own = litellm.Cache()
    monkeypatch.setattr(litellm, "cache", own)
    assert build(litellm_settings={"cache": True, "cache_params": {"type": "local"}}).cache_responses is True
    assert litellm.cache is own


@pytest.mark.parametrize("settings", [{}, {"cache": False}, {"cache_params": {"type": "local"}}])
def test_without_the_setting_there_is_no_cache(build: Build, settings: dict[str, Any]) -> None:
    assert not build(litellm_settings=settings).cache_responses
    assert litellm.cache is None


def test_a_cache_that_cannot_be_opened_is_one_line(build: Build) -> None:
    os.environ.pop("REDIS_HOST", None)
    with pytest.raises(ConfigError, match=r"litellm_settings\.cache: LiteLLM cannot open it \(") as caught:
        build(litellm_settings={"cache": True})  # LiteLLM's proxy takes Redis then
    assert len(caught.value.problems) == 1


# environment_variables


def test_a_folder_where_the_ledgers_file_should_be_is_one_line(build: Build, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a folder, expected a file, or none yet") as caught:
        build(wallie={"ledger": {"url": f"sqlite:///{tmp_path}"}})
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


async def test_variables_of_the_file_are_those_of_the_process(build: Build, fleet: SimulatedProviders) -> None:
    os.environ["HOME"] = "as it was"
    entry = {"model_name": "mine", "litellm_params": {"model": "os.environ/MODEL", "api_key": "os.environ/MY_KEY"}}
    variables = {
        "MODEL": "openai/gpt-4o-mini",
        "MY_KEY": "fake",
        "OPENAI_API_BASE": fleet["openai"].api_base,
        "HOME": "x",
    }
    await build(model_list=[entry], environment_variables=variables).acompletion("mine", messages())
    assert fleet["openai"].counts().received == 1
    assert os.environ["HOME"] == "as it was"


# Models


def test_a_file_without_models_is_the_proxys_alone_unless_the_application_brings_them(build: Build) -> None:
    stored: dict[str, Any] = {"model_list": [], "general_settings": {"store_model_in_db": True}}
    with pytest.raises(ConfigError, match="only the proxy can read models from its database"):
        build(**stored)
    assert build({"model_list": []}, **stored).model_list == []
