"""Swapping a model, a chain or a limit is an edit of router_config.yaml and of nothing else."""

from __future__ import annotations

import pytest
import yaml
from support import messages, shipped_config

from wallie_litellm import RateLimited, build_router, execute_ai_request


@pytest.fixture
def from_file(tmp_path, fleet):
    """Builds a router from a file that ``edit`` has changed, and closes it."""
    built = []

    def build(edit):
        config = shipped_config()
        config["model_list"] = fleet.point(config["model_list"])
        edit(config)
        path = tmp_path / "router_config.yaml"
        path.write_text(yaml.safe_dump(config))
        built.append(build_router(path))
        return built[-1]

    yield build
    for router in built:
        router.guard.close()


def group(config, name):
    return next(entry for entry in config["model_list"] if entry["model_name"] == name)


async def test_another_model_behind_a_group(from_file):
    def edit(config):
        group(config, "gpt-4o-mini")["litellm_params"] = group(config, "deepseek-chat")["litellm_params"]

    result = await execute_ai_request(from_file(edit), "gpt-4o-mini", messages())
    assert (result.provider, result.model) == ("deepseek", "gpt-4o-mini")


async def test_another_chain(from_file):
    router = from_file(lambda config: config["router_settings"].update(fallbacks=[{"gpt-4o-mini": ["deepseek-chat"]}]))
    router.guard.open_circuit("openai")
    assert (await execute_ai_request(router, "gpt-4o-mini", messages())).provider == "deepseek"


async def test_another_limit(from_file):
    def edit(config):
        config["wallie"] |= {"providers": {"groq": {"rpm": 1}}, "admission": {"max_wait": 0}}

    router = from_file(edit)
    await router.acompletion("llama-3.1-8b", messages())
    with pytest.raises(RateLimited):
        await router.acompletion("llama-3.1-8b", messages())


async def test_litellms_own_retry_settings_are_overruled(from_file, fleet, caplog):
    def edit(config):
        config["router_settings"] |= {"num_retries": 7, "retry_policy": {"InternalServerErrorRetries": 7}}
        config["wallie"]["retry"] = {"max_retries": 0}

    router = from_file(edit)
    fleet["groq"].fail(500)
    with pytest.raises(Exception, match="InternalServerError"):
        await router.acompletion("llama-3.1-8b", messages())
    assert fleet["groq"].counts().received == 1
    assert "wallie.retry is the only authority" in caplog.text
