"""Credentials that a file keeps apart from its models, as LiteLLM's proxy has them."""

from __future__ import annotations

from typing import Any

from wallie_litellm.config import parse_config

VALUES = {"api_key": "os.environ/EU_KEY", "api_base": "os.environ/EU_BASE", "api_version": "2025-01-01"}
LIST = [{"credential_name": "eu", "credential_values": VALUES, "credential_info": {"custom_llm_provider": "azure"}}]


def params(own: dict[str, Any], credentials: Any = LIST) -> dict[str, Any]:
    models = [{"model_name": "a", "litellm_params": {"model": "azure/a", **own}}]
    config = parse_config({"model_list": models, "credential_list": credentials}, env={"EU_BASE": "https://eu"})
    assert models == [{"model_name": "a", "litellm_params": {"model": "azure/a", **own}}]
    found: dict[str, Any] = config.model_list[0]["litellm_params"]
    return found


def test_a_deployment_has_the_values_of_the_credential_that_it_names_and_its_own_go_before_them() -> None:
    assert params({"litellm_credential_name": "eu", "api_version": "2026-01-01"}) == {
        "model": "azure/a",
        "api_key": "os.environ/EU_KEY",
        "api_base": "https://eu",
        "api_version": "2026-01-01",
    }


def test_a_credential_of_the_proxys_database_stays_a_name() -> None:
    own = {"litellm_credential_name": "us"}
    for credentials in (LIST, None, [], "us", [{"credential_name": "us"}], ["us"]):
        assert params(own, credentials) == {"model": "azure/a", **own}


def test_variables_that_a_credential_names_are_among_the_references() -> None:
    config = parse_config(
        {"model_list": [{"model_name": "a", "litellm_params": {"model": "azure/a"}}], "credential_list": LIST}, env={}
    )
    assert config.references["EU_KEY"] == ["credential_list[0].credential_values.api_key"]
