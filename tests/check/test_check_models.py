"""What the check finds about deployments: models, prices, keys, providers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import litellm
import pytest
import yaml
from check_support import entry

from wallie_litellm.cli.check import summary_lines


def test_a_model_that_litellm_does_not_list_is_reported_with_those_it_does(check: Any) -> None:
    [problem] = check(entry("openai/gpt-4o-mino")).problems
    assert "model_list[0].litellm_params.model: 'openai/gpt-4o-mino' (group a) is not in LiteLLM's price map" in problem
    assert "name a listed model such as gpt-4o-mini" in problem
    assert "its calls would be on record as unpriced" in problem


def test_another_vendors_entry_of_the_same_name_does_not_count(check: Any) -> None:
    assert "gemini-2.5-flash" in litellm.model_cost
    assert not check(entry("openai/gemini-2.5-flash")).ok


def test_a_router_that_was_built_in_this_process_makes_no_model_listed(check: Any) -> None:
    model = entry("groq/llama-3.3-70b-versatile", api_key="fake")
    litellm.Router(model_list=[model]).discard()
    assert "is not in LiteLLM's price map" in check(model).problems[0]


@pytest.mark.parametrize("place", ["model_info", "litellm_params"])
def test_a_deployments_own_price_makes_an_unlisted_model_right(check: Any, place: str) -> None:
    price = {"input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6}
    own = entry("openai/ours", price) if place == "model_info" else entry("openai/ours", **price)
    report = check(own)
    assert report.ok
    assert [(row.input_price, row.output_price) for row in report.deployments] == [(1e-6, 2e-6)]
    assert "1.00 / 2.00" in "\n".join(summary_lines(report.deployments, report.providers))


@pytest.mark.parametrize(("price", "right"), [("1e-6", True), ("free", False), (True, False), (10**400, False)])
def test_a_price_that_yaml_reads_as_text_counts(check: Any, price: Any, right: bool) -> None:
    assert check(entry("openai/ours", {"input_cost_per_token": price})).ok is right


def test_a_base_model_gives_its_price(check: Any) -> None:
    assert check(entry("azure/ours", {"base_model": "gpt-4o"})).ok


def test_a_listed_model_without_a_price_is_reported(check: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(litellm.model_cost, "openai/unpriced", {"litellm_provider": "openai", "mode": "chat"})
    [problem] = check(entry("openai/unpriced")).problems
    assert "has no price" in problem


@pytest.mark.parametrize(
    ("ends", "problems", "notes"),
    [("2026-10-31", 1, 0), ("2026-11-01", 0, 1), ("2026-12-31", 0, 1), ("2027-01-01", 0, 0), ("soon", 0, 0)],
)
def test_a_models_end_is_a_problem_after_it_and_a_note_shortly_before(
    check: Any, monkeypatch: pytest.MonkeyPatch, ends: str, problems: int, notes: int
) -> None:
    listed = {**litellm.model_cost["gpt-4o"], "deprecation_date": ends}
    monkeypatch.setitem(litellm.model_cost, "openai/ending", listed)
    report = check(entry("openai/ending"))
    assert (len(report.problems), len(report.notes)) == (problems, notes)


def test_a_model_may_be_that_of_a_variable(check: Any) -> None:
    own = entry("os.environ/MODEL", api_key="fake")
    report = check(own, env={"MODEL": "groq/openai/gpt-oss-20b"})
    assert report.ok
    assert [(row.model, row.input_price is not None) for row in report.deployments] == [
        ("groq/openai/gpt-oss-20b", True)
    ]
    assert [provider.name for provider in report.providers] == ["groq"]
    assert (
        "'openai/nope' (group a) is not in LiteLLM's price map" in check(own, env={"MODEL": "openai/nope"}).problems[0]
    )


def test_a_model_of_a_variable_that_is_not_set_is_one_problem_about_the_variable(check: Any) -> None:
    own = entry("os.environ/MODEL", api_key="fake")
    [problem] = check(own, env={}).problems
    assert problem.endswith("model_list[0].litellm_params.model: the environment variable MODEL is not set")
    assert check(own, env={}, ignore_keys=True).ok


def test_a_file_whose_models_are_in_the_proxys_database_is_right(check: Any) -> None:
    report = check(general_settings={"store_model_in_db": True})
    assert (report.problems, report.notes, report.deployments) == ((), (), ())


@pytest.mark.parametrize("route", ["", "converse/", "invoke/", "us-east-1/", "converse/us-east-1/"])
def test_a_bedrock_model_is_listed_by_whatever_api_and_region_it_is_called(check: Any, route: str) -> None:
    [row] = check(entry(f"bedrock/{route}us.anthropic.claude-sonnet-4-6")).deployments
    assert row.input_price == litellm.model_cost["us.anthropic.claude-sonnet-4-6"]["input_cost_per_token"]
    assert "is not in LiteLLM's price map" in check(entry(f"bedrock/{route}anthropic.nope")).problems[0]


def test_a_pattern_is_not_looked_up(check: Any) -> None:
    assert check(entry("openai/*")).ok


@pytest.mark.parametrize(
    ("model", "variable"),
    [
        ("openai/gpt-4o", "OPENAI_API_KEY"),
        ("anthropic/claude-sonnet-4-6", "ANTHROPIC_API_KEY"),
        ("gemini/gemini-3.5-flash", "GEMINI_API_KEY"),
        ("groq/openai/gpt-oss-120b", "GROQ_API_KEY"),
        ("deepseek/deepseek-v4-flash", "DEEPSEEK_API_KEY"),
    ],
)
def test_a_deployment_without_a_key_is_reported(check: Any, model: str, variable: str) -> None:
    [problem] = check(entry(model), env={}).problems
    assert problem.endswith(f"model_list[0].litellm_params.api_key: no API key for '{model}' (group a); set {variable}")
    assert check(entry(model), env={variable: "fake"}).ok
    assert check(entry(model, api_key="fake"), env={}).ok
    assert check(entry(model), env={}, ignore_keys=True).ok


def test_limits_that_match_no_deployment_are_a_note(check: Any) -> None:
    named = entry("openai/gpt-4o", {"wallie_provider": "openai-eu"})
    notes = check(named, wallie={"providers": {"openai-ue": {"rpm": 5}}}).notes
    assert "no limits for 'openai-eu'" in notes[0]
    assert "no deployment uses this provider; did you mean 'openai-eu'?" in notes[1]


def test_deployments_of_a_vendor_with_several_addresses_are_shown_with_their_providers(check: Any) -> None:
    resources = [entry("azure/gpt-4o", api_base=f"https://{name}.openai.azure.com", api_key="sk-1") for name in "ab"]
    report = check(entry("openai/gpt-4o"), *resources, env={"OPENAI_API_KEY": "fake"})
    found = [note for note in report.notes if "belongs to" in note]
    assert [note.partition(": ")[2] for note in found] == [
        "model_list[1]: 'azure/gpt-4o' (group a) belongs to the provider 'azure/a.openai.azure.com'",
        "model_list[2]: 'azure/gpt-4o' (group a) belongs to the provider 'azure/b.openai.azure.com'",
    ]


def test_deployments_of_a_provider_with_several_keys_are_shown_with_a_digest_of_each(check: Any) -> None:
    keys = [entry("openai/gpt-4o", api_key=key) for key in ("os.environ/OPENAI_API_KEY", "os.environ/SECOND")]
    report = check(*keys, env={"OPENAI_API_KEY": "sk-first", "SECOND": "sk-second"})
    first, second = (note.rpartition("'openai#")[2] for note in report.notes if "to the account 'openai#" in note)
    assert first != second
    assert "sk-" not in "".join(report.notes)
    assert not any(
        "belongs to" in note for note in check(*keys, env={"OPENAI_API_KEY": "same", "SECOND": "same"}).notes
    )


def test_default_limits_are_shown_for_the_vendors_own_address_alone(check: Any) -> None:
    elsewhere = check(entry("openai/gpt-4o", api_base="http://127.0.0.1:8000/v1"))
    assert "no limits for 'openai'" in elsewhere.notes[-1]
    assert elsewhere.providers == ()
    stated = {"providers": {"openai": {"rpm": 5}}}
    assert [row.limits for row in check(entry("openai/gpt-4o", api_base="http://a/v1"), wallie=stated).providers] == [
        {"rpm": 5}
    ]
    assert check(entry("openai/gpt-4o")).providers[0].limits["rpm"] == 500


def test_a_model_of_an_included_file_is_named_with_that_file(check: Any, tmp_path: Path) -> None:
    (tmp_path / "more.yaml").write_text(yaml.safe_dump({"model_list": [entry("openai/gpt-4o-mino")]}))
    [problem] = check(entry("openai/gpt-4o"), include=["more.yaml"]).problems
    assert (
        f"router_config.yaml: {tmp_path}/more.yaml: model_list[0].litellm_params.model: 'openai/gpt-4o-mino'" in problem
    )
