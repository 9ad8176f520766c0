"""Errors without an HTTP exchange: of an application's own provider, of a hook, of LiteLLM's simulated answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import litellm
import pytest
from failover_rows import MESSAGES, TEXT, fast_defaults
from litellm.integrations.custom_logger import CustomLogger

ERRORS = {
    "its own error": lambda: OwnError("worn out"),
    "RuntimeError": lambda: RuntimeError("worn out"),
    "ServiceUnavailableError": lambda: litellm.ServiceUnavailableError("worn out", "own", "model"),
}


class OwnError(Exception):
    pass


class OwnProvider(litellm.CustomLLM):
    """An application's provider, which raises what a test has put in ``failures``, and else answers."""

    def __init__(self) -> None:
        super().__init__()
        self.failures: list[Exception] = []
        self.calls = 0

    async def acompletion(self, *_: Any, **__: Any) -> litellm.ModelResponse:
        self.calls += 1
        if self.failures:
            raise self.failures.pop()
        return litellm.mock_completion("own/model", MESSAGES, mock_response=TEXT)


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> OwnProvider:
    provider = OwnProvider()
    monkeypatch.setattr(litellm, "custom_provider_map", [{"provider": "own", "custom_handler": provider}])
    return provider


class FailingHook(CustomLogger):
    """Raises before the first call that a deployment is chosen for."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    async def async_pre_call_deployment_hook(self, kwargs: dict[str, Any], call_type: Any) -> dict[str, Any] | None:
        self.calls += 1
        if self.calls == 1:
            raise RuntimeError("worn out")
        return kwargs


@pytest.fixture
def hook() -> Iterator[FailingHook]:
    hook = FailingHook()
    litellm.callbacks.append(hook)
    yield hook
    litellm.callbacks.remove(hook)


def configuration_of(*models: dict[str, Any], **wallie: Any) -> dict[str, Any]:
    entries = [{"model_name": "group", "litellm_params": {"api_key": "sk-simulated", **model}} for model in models]
    return {
        "model_list": entries,
        "router_settings": {"disable_cooldowns": True},
        "wallie": fast_defaults(wallie),
    }


async def text_of(router: Any) -> str:
    answer = await router.acompletion("group", MESSAGES)
    return str(answer.choices[0].message.content)


@pytest.mark.parametrize("error", ERRORS)
async def test_one_error_of_an_applications_provider_is_repeated(open_router, own, error):
    router = open_router(configuration_of({"model": "own/model"}))
    own.failures = [ERRORS[error]()]
    assert await text_of(router) == TEXT
    assert own.calls == 2


@pytest.mark.parametrize("error", ERRORS)
async def test_the_errors_of_an_applications_provider_open_its_circuit(open_router, own, error):
    router = open_router(configuration_of({"model": "own/model"}, retry={"max_retries": 0}))
    own.failures = [ERRORS[error]() for _ in range(5)]
    for _ in range(5):
        with pytest.raises(Exception, match="worn out"):
            await text_of(router)
    assert "open" in {provider["breaker"]["state"] for provider in router.guard.status()["providers"].values()}
    assert own.calls == 5


async def test_a_deployment_whose_simulated_answer_is_an_error_leaves_the_other_to_serve(open_router):
    failing = {"model": "openai/gpt-4o", "mock_response": "litellm.InternalServerError"}
    serving = {"model": "openai/gpt-4o-mini", "mock_response": TEXT}
    router = open_router(configuration_of(failing, serving, breaker={"failures": 100}))
    assert [await text_of(router) for _ in range(10)] == [TEXT] * 10


async def test_a_hook_that_raises_once_does_not_fail_the_request(open_router, hook):
    router = open_router(configuration_of({"model": "openai/gpt-4o", "mock_response": TEXT}))
    assert await text_of(router) == TEXT
    assert hook.calls == 2
