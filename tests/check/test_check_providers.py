"""The names of providers in ``check`` are those of a router that is built from the file."""

from __future__ import annotations

import re
from typing import Any

import litellm
import pytest
from check_support import entry

from wallie_litellm.check.models import read_deployments
from wallie_litellm.cli.check import MOST_ENTRIES, summary_lines
from wallie_litellm.config import parse_config
from wallie_litellm.litellm_adapter.providers import Providers

LOCAL, GATEWAY = "http://127.0.0.1:8000/v1", "https://gateway.example/v1"


def at(model: str, base: str, **more: Any) -> dict[str, Any]:
    return {"model": model, "api_base": base, **more}


@pytest.mark.parametrize(
    ("models", "names"),
    [
        (["openai/gpt-4o", "anthropic/claude-sonnet-4-6", "gemini/gemini-2.5-pro"], {"openai", "anthropic", "gemini"}),
        (["groq/openai/gpt-oss-120b", "openrouter/openai/gpt-4o"], {"groq", "openrouter"}),
        (["gpt-4o", "claude-sonnet-4-6", "o3"], {"openai", "anthropic"}),
        (["gpt-4o", at("openai/tiny", LOCAL)], {"openai", "openai/127.0.0.1:8000"}),
        ([at("openai/tiny", LOCAL)], {"openai"}),
        ([at("openai/a", LOCAL), at("openai/b", GATEWAY)], {"openai/127.0.0.1:8000", "openai/gateway.example"}),
        ([at("openai/x", "https://api.groq.com/openai/v1")], {"openai"}),
        ([at("x", "https://api.groq.com/openai/v1")], {"groq"}),
        ([at("gpt-4o", GATEWAY, custom_llm_provider="azure"), "azure/gpt-4o"], {"azure", "azure/gateway.example"}),
        (["bedrock/us-east-1/anthropic.claude-v2", "bedrock/amazon.nova-pro-v1:0"], {"bedrock", "bedrock/us-east-1"}),
        ([{"model": "os.environ/MODEL"}, at("openai/x", "os.environ/BASE")], {"openai", "openai/127.0.0.1:8000"}),
        (["openai/*", "hosted_vllm/tiny"], {"openai", "hosted_vllm"}),
    ],
    ids=lambda value: None if isinstance(value, set) else "-",
)
def test_the_check_names_providers_as_a_router_does(
    monkeypatch: pytest.MonkeyPatch, models: list[Any], names: set[str]
) -> None:
    env = {"MODEL": "openai/gpt-4o", "BASE": LOCAL}
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    entries = [
        {"model_name": f"m{number}", "litellm_params": {"model": one} if isinstance(one, str) else one}
        for number, one in enumerate(models)
    ]
    config = parse_config({"model_list": entries, "wallie": {"ledger": None}})
    router = Providers()
    router.learn(config.model_list)
    assert {router.destination_of(entry).provider for entry in config.model_list} == names
    assert {one.provider for one in read_deployments(litellm, config, env)} == names


def limit_lines(check: Any, models: dict[str, Any], **account: Any) -> list[list[str]]:
    wallie = {"ledger": None, "providers": {"openai": {**account, "models": models}}}
    report = check(entry("openai/gpt-4o"), wallie=wallie)
    assert report.ok
    lines = list(summary_lines(report.deployments, report.providers))
    return [re.split(r"\s{2,}", line.strip()) for line in lines[lines.index("") + 2 :]]


def test_the_table_has_limits_of_models_and_those_that_take_the_vendors(check: Any) -> None:
    models = {"gpt-4o*": {"rpm": 1200, "itpm": "auto"}, "o3": {"otpm": "auto"}, "o4": {"learn": "off"}}
    assert limit_lines(check, models, rpm=60, tpm="auto") == [
        ["openai", "all", "rpm 60; auto: tpm 150,000"],
        ["gpt-4o*", "rpm 1,200; auto: itpm"],
        ["o3", "auto: otpm"],
        ["o4", "none"],
    ]


def test_of_many_models_the_table_has_the_first_few(check: Any) -> None:
    models = {f"m{number:02}": {"rpm": 1 + number} for number in range(MOST_ENTRIES + 3)}
    lines = limit_lines(check, models)
    assert lines[0] == ["openai", "all", "auto: rpm 500, tpm 150,000, rpd 10,000"]
    assert [line[0] for line in lines[1:]] == [*(f"m{number:02}" for number in range(MOST_ENTRIES - 1)), "and 4 more"]
    models = {pattern: models[pattern] for pattern in list(models)[:MOST_ENTRIES]}
    assert [line[0] for line in limit_lines(check, models)[1:]] == list(models)
