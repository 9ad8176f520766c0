"""The providers and accounts that a file's models name, as far as they are known without LiteLLM."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from wallie_litellm.config.load import RouterConfig
from wallie_litellm.config.variables import resolved_within
from wallie_litellm.core.provider_names import Address, ProviderNames, account_name, address_of, key_digest


class UsedProvider(NamedTuple):
    """A provider with the name of an account, which is its own where it has one key.

    ``at_own_address`` is as in :meth:`~wallie_litellm.limiter.registry.LimiterRegistry.meet`.
    """

    provider: str
    account: str
    at_own_address: bool


class _Entry(NamedTuple):
    """What an entry of ``model_list`` says: the name that it gives, the address, and the digest of the key."""

    given: str
    address: Address
    digest: str


def used_providers(loaded: RouterConfig) -> list[UsedProvider]:
    """The providers and accounts that the models of the file name."""
    entries = list(_entries(loaded))
    names = ProviderNames()
    names.learn(entry.address for entry in entries if not entry.given)
    found = {(entry.given or names.name_of(entry.address), entry.digest): entry for entry in entries}
    keys = [name for name, _ in found]
    return [
        UsedProvider(
            name,
            account_name(name, digest) if keys.count(name) > 1 else name,
            bool(entry.given) or not entry.address.place,
        )
        for (name, digest), entry in sorted(found.items(), key=lambda one: one[0])
    ]


def _entries(loaded: RouterConfig) -> Iterator[_Entry]:
    env = {**os.environ, **loaded.environment_variables}
    for entry in loaded.model_list:
        params: Mapping[str, Any] = resolved_within(entry["litellm_params"], env)
        vendor, slash, _ = str(params["model"] or "").partition("/")
        vendor = str(params.get("custom_llm_provider") or (vendor if slash else ""))
        given = str((entry.get("model_info") or {}).get("wallie_provider") or "")
        if given or vendor:
            yield _Entry(given, address_of(vendor, params, env), key_digest(vendor, params, env))
