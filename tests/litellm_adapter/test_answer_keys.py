"""Which requests ask the same question, and which are never answered from the cache."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import litellm
import pytest
from pydantic import BaseModel

from wallie_litellm.config import AnswerCacheSettings
from wallie_litellm.litellm_adapter.answer_keys import CacheQuestion, QuestionReader

MESSAGES = [{"role": "user", "content": "hi"}]
DEPLOYMENTS = ({"litellm_params": {"model": "openai/gpt-4o-mini", "api_key": "sk-1"}},)
SETTINGS = AnswerCacheSettings(ttl=60)
FOR_ALL = AnswerCacheSettings(ttl=60, per="all")
PROXY = {"user_api_key": "hash-1", "user_api_key_team_id": "team-1"}


class Weather(BaseModel):
    degrees: int


class Climate(BaseModel):
    degrees: float


class Opaque:
    """Anything that is no JSON; tests are named alike in every process."""

    def __repr__(self) -> str:
        return "<an object>"


OBJECT = Opaque()


def question(
    settings: AnswerCacheSettings = SETTINGS,
    operation: str = "chat",
    group: str = "g",
    feature: str = "faq",
    deployments: Any = DEPLOYMENTS,
    defaults: Mapping[str, Any] = {},
    **arguments: Any,
) -> CacheQuestion | None:
    stated = {"messages": MESSAGES, **arguments}
    return QuestionReader().read(operation, group, feature, stated, deployments, settings, defaults)


def key(*args: Any, **kwargs: Any) -> str:
    found = question(*args, **kwargs)
    assert found is not None
    return found.key


@pytest.mark.parametrize(
    "more",
    [
        {"stream": True},
        {"stream": True, "stream_options": {"include_usage": True}},
        {"metadata": {"conversationId": "7", "feature": "faq"}},
        {"timeout": 7, "litellm_call_id": "x", "litellm_logging_obj": OBJECT},
        {"proxy_server_request": {"headers": {"authorization": "Bearer x"}}},
        {"max_tokens": None},
        {"extra_headers": {"traceparent": "00-1-2-01", "X-Request-Id": "7"}},
        {"deployments": ({"litellm_params": {"model": "openai/gpt-4o-mini", "api_key": "sk-2", "weight": 3}},)},
        {"defaults": {"timeout": 9, "max_retries": 1, "metadata": {"caching_groups": None}}},
        {"messages": [litellm.Message(role="user", content="hi").model_dump(include={"role", "content"})]},
    ],
    ids=str,
)
def test_what_does_not_change_an_answer_is_no_part_of_the_question(more: dict[str, Any]) -> None:
    assert key(**more) == key()


@pytest.mark.parametrize(
    "more",
    [
        {"messages": [{"role": "user", "content": "ho"}]},
        {"messages": [{"role": "system", "content": "hi"}]},
        {"max_tokens": 7},
        {"temperature": 0},
        {"seed": 1},
        {"stop": ["x"]},
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        {"response_format": Weather},
        {"group": "h"},
        {"feature": "chat"},
        {"operation": "text_completion"},
        {"api_key": "sk-of-the-callers"},
        {"extra_headers": {"anthropic-beta": "x"}},
        {"some_new_parameter": 1},
        {"metadata": {"tags": ["eu"]}},
        {"cache": {"namespace": "n"}},
        {"deployments": ({"litellm_params": {"model": "openai/gpt-4o", "api_key": "sk-1"}},)},
        {"deployments": ({"litellm_params": {"model": "openai/gpt-4o-mini", "max_tokens": 7}},)},
        {"defaults": {"max_tokens": 7}},
    ],
    ids=str,
)
def test_whatever_may_change_an_answer_is_a_part_of_the_question(more: dict[str, Any]) -> None:
    assert key(**more) != key()


def test_schemas_that_differ_ask_for_different_answers() -> None:
    assert key(response_format=Weather) == key(response_format=Weather)
    assert key(response_format=Weather) != key(response_format=Climate)


@pytest.mark.parametrize(
    ("one", "another"),
    [
        ({"user": "u1"}, {"user": "u2"}),
        ({"user": "u1"}, {}),
        ({"metadata": {"user_id": "u1"}}, {"metadata": {"user_id": "u2"}}),
        ({"litellm_metadata": {"user_id": "u1"}}, {"litellm_metadata": {"user_id": "u2"}}),
        (
            {"metadata": {"requester_metadata": {"user_id": "u1"}}},
            {"metadata": {"requester_metadata": {"user_id": "u2"}}},
        ),
        (
            {"metadata": {**PROXY, "user_api_key_end_user_id": "e1"}},
            {"metadata": {**PROXY, "user_api_key_end_user_id": "e2"}},
        ),
        # Without a key, a JWT for example.
        (
            {"metadata": {"user_api_key": None, "user_api_key_user_id": "u1"}},
            {"metadata": {"user_api_key": None, "user_api_key_user_id": "u2"}},
        ),
        ({"litellm_metadata": {"actor_agent_id": "a1"}}, {"litellm_metadata": {"actor_agent_id": "a2"}}),
        # On record both are masked to the same name.
        ({"user": "sk-proj-aaaaaaaaaaaaaaaaaaaaaaaa"}, {"user": "sk-proj-bbbbbbbbbbbbbbbbbbbbbbbb"}),
    ],
    ids=str,
)
def test_users_have_answers_of_their_own_unless_the_file_says_otherwise(one: Any, another: Any) -> None:
    assert key(**one) != key(**another)
    assert key(FOR_ALL, **one) == key(FOR_ALL, **another)


@pytest.mark.parametrize("settings", [SETTINGS, FOR_ALL], ids=["user", "all"])
@pytest.mark.parametrize(
    "name",
    ["user_api_key_hash", "user_api_key", "user_api_key_team_id", "user_api_key_org_id", "user_api_key_project_id"],
)
@pytest.mark.parametrize("place", ["metadata", "litellm_metadata"])
def test_no_answer_leaves_its_tenant_on_the_proxy(settings: AnswerCacheSettings, name: str, place: str) -> None:
    one, another = ({place: {**PROXY, name: value}} for value in ("t1", "t2"))
    assert key(settings, **one) != key(settings, **another)


@pytest.mark.parametrize(
    "more",
    [
        {"temperature": 0.7},
        {"temperature": "0.7"},
        {"deployments": ({"litellm_params": {"model": "openai/gpt-4o-mini", "temperature": 1}},)},
        {"defaults": {"temperature": 0.7}},
    ],
    ids=str,
)
def test_a_temperature_above_zero_is_cached_only_where_the_file_says_so(more: dict[str, Any]) -> None:
    assert question(**more) is None
    assert question(AnswerCacheSettings(ttl=60, any_temperature=True), **more) is not None


def test_a_request_that_states_temperature_zero_goes_before_its_deployment() -> None:
    assert question(temperature=0, deployments=({"litellm_params": {"model": "m", "temperature": 1}},)) is not None


@pytest.mark.parametrize(
    "more",
    [
        {"operation": "execute"},
        {"operation": "aimage_generation"},
        {"operation": "text_completion", "stream": True},
        {"operation": "responses", "previous_response_id": "resp_1"},
        {"operation": "responses", "background": True},
        {"operation": "responses", "conversation": "conv_1"},
        {"caching": False},
        {"messages": [{"role": "user", "content": OBJECT}]},
        {"client": OBJECT},
    ],
    ids=str,
)
def test_what_has_effects_or_cannot_be_read_is_never_cached(more: dict[str, Any]) -> None:
    assert question(**more) is None


@pytest.mark.parametrize("operation", ["messages", "responses"])
def test_a_stream_that_is_kept_as_it_came_answers_no_request_for_one_piece(operation: str) -> None:
    assert key(operation=operation, stream=True) != key(operation=operation)


@pytest.mark.parametrize(
    ("control", "reads", "keeps", "ttl", "max_age"),
    [
        ({}, True, True, 60, 60),
        ({"no-cache": True}, False, True, 60, 60),
        ({"no-store": True}, True, False, 60, 60),
        ({"ttl": 5, "s-maxage": 7}, True, True, 5, 7),
        ({"ttl": 600, "s-maxage": 600}, True, True, 60, 60),
        ({"ttl": "5", "s-maxage": -1}, True, True, 5, 0),
        ({"ttl": "x", "s-maxage": True}, True, True, 60, 60),
    ],
)
def test_litellms_controls_of_one_request_hold_within_the_files(
    control: dict[str, Any], reads: bool, keeps: bool, ttl: float, max_age: float
) -> None:
    found = question(cache=control)
    assert found is not None
    assert found[1:] == (ttl, max_age, reads, keeps)
    assert found.key == key()


def test_a_key_says_nothing_of_the_question() -> None:
    assert key(messages=[{"role": "user", "content": "my secret"}]).removeprefix("wallie:answer:").isalnum()
