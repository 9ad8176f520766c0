"""Environment variables that the file sets for itself."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from wallie_litellm.config import RouterConfig, parse_config
from wallie_litellm.config.used_providers import used_providers
from wallie_litellm.config.variables import PROTECTED
from wallie_litellm.errors import ConfigError

MODELS = [{"model_name": "a", "litellm_params": {"model": "openai/a"}}]
SECRET = "sk-0123456789abcdef0123456789abcdef"


def parse(variables: Any, env: dict[str, str] | None = None, **sections: Any) -> RouterConfig:
    data = {"model_list": MODELS, "environment_variables": variables, **sections}
    return parse_config(data, env=env or {})


def test_a_value_is_text_or_refers_to_another_variable() -> None:
    config = parse(
        {"A": "one", "B": 2, "C": True, "D": "os.environ/GIVEN", "E": "os.environ/MISSING", "F": None},
        env={"GIVEN": "three"},
    )
    assert config.environment_variables == {"A": "one", "B": "2", "C": "True", "D": "three"}


def test_they_go_before_the_environment_in_our_own_settings_too() -> None:
    sections = {"wallie": {"admin_token": "os.environ/TOKEN"}}
    wallie = parse(
        {"WALLIE_REDIS_URL": "redis://file", "TOKEN": "t"}, {"WALLIE_REDIS_URL": "redis://h"}, **sections
    ).wallie
    assert wallie.store.url == "redis://file"
    assert wallie.admin_token is not None
    assert wallie.admin_token.get_secret_value() == "t"


def test_a_value_appears_in_no_message_and_no_repr() -> None:
    assert SECRET not in repr(parse({"OPENAI_API_KEY": SECRET}))
    for variables in ({"OPENAI_API_KEY": [SECRET]}, {"A": {"B": SECRET}}, SECRET, [SECRET], {"A": f"{SECRET}\0"}):
        with pytest.raises(ConfigError) as caught:
            parse(variables)
        [problem] = caught.value.problems
        assert SECRET not in problem
        assert "environment_variables" in problem


def test_variables_that_litellms_proxy_takes_from_no_file_are_passed_over() -> None:
    package = find_spec("litellm")
    assert package is not None
    assert package.origin is not None
    source = Path(package.origin).with_name("proxy").joinpath("proxy_server.py").read_text()  # its import takes seconds
    assert set(re.findall(r'"(\w+)"', source.partition("_BLOCKED_ENV_KEYS")[2].partition("}")[0])) == PROTECTED
    assert parse(dict.fromkeys(PROTECTED, "x")).environment_variables == {}


def test_the_model_and_the_address_of_a_deployment_may_be_those_of_a_variable_and_a_key_stays_its_name() -> None:
    params = {"model": "os.environ/MODEL", "api_base": "os.environ/BASE", "api_key": "os.environ/KEY"}
    models = [{"model_name": "a", "litellm_params": dict(params)}]
    config = parse({"MODEL": "openai/gpt-4o", "KEY": SECRET}, env={"BASE": "http://h"}, model_list=models)
    assert config.model_list[0]["litellm_params"] == {
        **params,
        "model": "openai/gpt-4o",
        "api_base": "http://h",
    }
    assert models[0]["litellm_params"] == params
    assert parse({}, model_list=models).model_list == models


def test_a_model_of_a_variable_that_is_not_set_names_no_provider() -> None:
    models = [{"model_name": "a", "litellm_params": {"model": "os.environ/MODEL"}}]
    assert used_providers(parse({}, model_list=models)) == []
    assert used_providers(parse({"MODEL": "openai/gpt-4o"}, model_list=models)) == [("openai", "openai", True)]


def test_what_is_no_name_of_a_variable_is_refused() -> None:
    for name in ("", "A=B", 1):
        with pytest.raises(ConfigError, match="a key is no name of a variable"):
            parse({name: "x"})
