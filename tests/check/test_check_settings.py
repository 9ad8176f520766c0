"""What the check finds about LiteLLM's settings and the variables that the file names."""

from __future__ import annotations

from typing import Any

from check_support import entry


def test_an_unset_variable_is_reported_once_with_its_first_place(check: Any) -> None:
    model = entry("openai/gpt-4o", api_key="os.environ/NOPE")
    [problem] = check(model, entry("openai/gpt-4o-mini", api_key="os.environ/NOPE")).problems
    assert "model_list[0].litellm_params.api_key (and 1 more): the environment variable NOPE is not set" in problem
    assert check(model, ignore_keys=True).ok
    assert check(model, env={"NOPE": "fake"}).ok


def test_variables_are_looked_for_in_every_section(check: Any) -> None:
    report = check(entry("openai/gpt-4o"), general_settings={"alerts": [{"key": "os.environ/NOPE"}]})
    assert "general_settings.alerts[0].key: the environment variable NOPE is not set" in report.problems[0]


def test_a_variable_that_the_file_sets_is_set(check: Any) -> None:
    model = entry("openai/gpt-4o", api_key="os.environ/MINE")
    assert check(model, env={}, environment_variables={"MINE": "fake"}).ok
    assert check(entry("openai/gpt-4o"), env={}, environment_variables={"OPENAI_API_KEY": "fake"}).ok
    [problem] = check(model, env={}, environment_variables={"MINE": "os.environ/NOPE"}).problems
    assert "the environment variable MINE is not set" in problem


def test_a_reference_to_a_variable_that_only_the_file_sets_is_a_note_since_litellms_proxy_reads_it_too_early(
    check: Any,
) -> None:
    model, variables = entry("os.environ/MODEL", api_key="fake"), {"MODEL": "openai/gpt-4o"}
    [note] = check(model, env={}, environment_variables=variables).notes
    assert "model_list[0].litellm_params.model: LiteLLM's proxy reads MODEL before it sets environment_var" in note
    assert check(model, env=variables, environment_variables=variables).notes == ()
