"""Which provider and which account a deployment of LiteLLM's belongs to."""

from __future__ import annotations

from typing import Any

import litellm
import pytest
from litellm.types.utils import CredentialItem

from wallie_litellm.core.destinations import Destination
from wallie_litellm.litellm_adapter.inner_router import InnerRouter
from wallie_litellm.litellm_adapter.providers import Providers

LOCAL = "http://127.0.0.1:8000/v1"


def entry(model: str, info: dict[str, Any] | None = None, **params: Any) -> dict[str, Any]:
    return {
        "model_name": "m",
        "litellm_params": {"model": model, "api_key": "sk-1", **params},
        "model_info": info or {},
    }


def destinations(*entries: dict[str, Any], env: dict[str, str] | None = None) -> list[Destination]:
    providers = Providers(env or {})
    providers.learn(entries)
    return [providers.destination_of(one) for one in entries]


def providers(*entries: dict[str, Any], env: dict[str, str] | None = None) -> list[str]:
    return [destination.provider for destination in destinations(*entries, env=env)]


def test_a_local_server_behind_openais_name_is_a_provider_of_its_own() -> None:
    found = destinations(entry("gpt-4o"), entry("openai/tiny", api_base=LOCAL))
    assert [destination.provider for destination in found] == ["openai", "openai/127.0.0.1:8000"]
    assert [destination.is_vendors_own for destination in found] == [True, False]


@pytest.mark.parametrize("key", ["api_base", "base_url"])
def test_an_address_may_have_either_name_and_may_be_a_variable(key: str) -> None:
    entries = [entry("openai/gpt-4o"), entry("openai/tiny", **{key: "os.environ/LOCAL_SERVER"})]
    assert providers(*entries, env={"LOCAL_SERVER": LOCAL}) == ["openai", "openai/127.0.0.1:8000"]
    assert providers(*entries) == ["openai", "openai"]  # LiteLLM calls the vendor where the variable is not set


def test_a_name_that_the_file_gives_goes_before_and_does_not_count_as_another_address() -> None:
    named = entry("azure/b", {"wallie_provider": "azure-eu"}, api_base="https://res-b.openai.azure.com")
    assert providers(entry("azure/a", api_base="https://res-a.openai.azure.com"), named) == ["azure", "azure-eu"]


def test_one_key_makes_no_account() -> None:
    first, second = destinations(entry("openai/a"), entry("openai/b"))
    assert first == second == Destination("openai", "openai", is_vendors_own=True)


def test_several_keys_of_a_provider_are_accounts_that_do_not_show_them() -> None:
    first, second = destinations(entry("openai/a"), entry("openai/a", api_key="sk-2"))
    assert (first.provider, second.provider) == ("openai", "openai")
    assert first.account != second.account
    for destination in (first, second):
        name, _, digest = destination.account.partition("#")
        assert (name, len(digest)) == ("openai", 8)
        assert "sk-" not in destination.account


def test_keys_at_different_addresses_make_no_accounts() -> None:
    found = destinations(entry("openai/a"), entry("openai/b", api_key="sk-2", api_base=LOCAL))
    assert [destination.account for destination in found] == ["openai", "openai/127.0.0.1:8000"]


def test_a_credential_of_the_proxys_gives_address_and_key(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"api_base": "https://res-b.openai.azure.com", "api_key": "sk-2"}
    item = CredentialItem(credential_name="b", credential_values=values, credential_info={})
    monkeypatch.setattr(litellm, "credential_list", [item])
    named = {"model_name": "m", "litellm_params": {"model": "azure/x", "litellm_credential_name": "b"}}
    assert providers(entry("azure/x", api_base="https://res-a.openai.azure.com"), named) == [
        "azure/res-a.openai.azure.com",
        "azure/res-b.openai.azure.com",
    ]


def test_a_deployment_that_is_added_keeps_the_names_in_use_and_one_that_is_replaced_has_its_own() -> None:
    router = litellm.Router(model_list=[entry("openai/tiny", {"id": "a"}, api_base=LOCAL)])
    met: list[tuple[str, str]] = []
    inner = InnerRouter(router, lambda provider, _account, _own, scope, _group: met.append((provider, scope)))

    def provider_of(key: str) -> str:
        return next(inner.provider_of(one) for one in inner.deployments() if one["model_info"]["id"] == key)

    try:
        assert provider_of("a") == "openai"
        router.add_deployment(litellm.types.router.Deployment(**entry("openai/gpt-4o", {"id": "b"})))
        inner.changed()
        assert (provider_of("a"), provider_of("b")) == ("openai", "openai/api.openai.com")
        router.upsert_deployment(litellm.types.router.Deployment(**entry("groq/x", {"id": "b"})))
        inner.changed()
        assert (provider_of("a"), provider_of("b")) == ("openai", "groq")
        assert set(met) == {
            ("openai", "openai|tiny"),
            ("openai/api.openai.com", "openai/api.openai.com|gpt-4o"),
            ("groq", "groq|x"),
        }
    finally:
        inner.discard()
