"""The names that LiteLLM's Router has, on ours: none is missing, hidden or of another kind."""

from __future__ import annotations

import copy
import inspect
import logging
from collections.abc import Iterator
from typing import Any, Final

import litellm
import pytest

from drop_in.actions import PROMPT
from drop_in.routers import UNGUARDED
from wallie_litellm.config import WallieConfig
from wallie_litellm.guard import Guard
from wallie_litellm.guard.router import WallieRouter

MODELS: Final = [
    {"model_name": "m", "litellm_params": {"model": "openai/x", "mock_response": "made up", "api_key": "sk-a"}}
]
# Names of ours that LiteLLM's Router has too: calls that are guarded, and a constructor.
GUARDED: Final = {
    "from_config",
    "acompletion",
    "completion",
    "abatch_completion",
    "abatch_completion_fastest_response",
    "abatch_completion_one_model_multiple_requests",
    "schedule_acompletion",
}
IGNORED_SETTINGS: Final[dict[str, Any]] = {
    "num_retries": 1,
    "retry_policy": {"InternalServerErrorRetries": 1},
    "model_group_retry_policy": {"m": {"InternalServerErrorRetries": 1}},
}


@pytest.fixture
def ours() -> Iterator[WallieRouter]:
    guard = Guard(WallieConfig.model_validate(UNGUARDED))
    yield WallieRouter(model_list=copy.deepcopy(MODELS), guard=guard)
    guard.close()


@pytest.fixture
def plain() -> Iterator[litellm.Router]:
    router = litellm.Router(model_list=copy.deepcopy(MODELS))
    yield router
    router.discard()


def public(router: Any) -> set[str]:
    return {name for name in dir(router) if not name.startswith("_")}


def test_every_public_name_of_a_plain_router_is_one_of_ours(plain: litellm.Router, ours: WallieRouter) -> None:
    assert [name for name in sorted(public(plain)) if hasattr(plain, name) and not hasattr(ours, name)] == []
    assert public(plain) - public(ours) == set()


def test_no_name_of_ours_hides_one_of_litellms(plain: litellm.Router) -> None:
    classes = [each for each in type.mro(WallieRouter) if each.__module__.startswith("wallie_litellm")]
    own = {name for each in classes for name in vars(each) if not name.startswith("_")}
    assert {name for name in own if hasattr(plain, name)} - GUARDED == set()


def test_calls_are_coroutine_functions_where_plain_ones_are(plain: litellm.Router, ours: WallieRouter) -> None:
    calls = [name for name in public(plain) if inspect.iscoroutinefunction(getattr(plain, name, None))]
    assert [name for name in calls if not inspect.iscoroutinefunction(getattr(ours, name))] == []


def test_a_name_that_no_router_has_is_an_attribute_error(ours: WallieRouter) -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = ours.no_such_name


def test_the_class_answers_as_litellms(ours: WallieRouter) -> None:
    assert isinstance(ours, litellm.Router)
    assert set(WallieRouter.get_valid_args()) == set(litellm.Router.get_valid_args())


def test_an_assigned_attribute_is_read_back(ours: WallieRouter) -> None:
    ours.timeout = 7.0
    assert ours.timeout == 7.0
    assert ours.get_settings()["timeout"] == 7.0


def test_the_namespace_of_openais_client_is_guarded(ours: WallieRouter) -> None:
    ours.chat.completions.create(model="m", messages=PROMPT)
    ours.guard.open_circuit("openai")
    with pytest.raises(Exception, match="circuit"):
        ours.chat.completions.create(model="m", messages=PROMPT)


@pytest.mark.parametrize("name", IGNORED_SETTINGS)
def test_an_update_that_has_no_effect_is_warned_of(
    ours: WallieRouter, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        ours.update_settings(**{name: IGNORED_SETTINGS[name]})
    assert name in caplog.text


@pytest.mark.parametrize("name", ["retry_policy", "model_group_retry_policy"])
def test_an_argument_that_has_no_effect_is_warned_of(name: str, caplog: pytest.LogCaptureFixture) -> None:
    guard = Guard(WallieConfig.model_validate(UNGUARDED))
    with caplog.at_level(logging.WARNING):
        WallieRouter(model_list=copy.deepcopy(MODELS), guard=guard, **{name: IGNORED_SETTINGS[name]})
    guard.close()
    assert name in caplog.text
