"""The providers and accounts that a file's models name, as far as they are known without LiteLLM."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from wallie_litellm.config.load import RouterConfig
from wallie_litellm.config.variables import resolved_within
from wallie_litellm.core.destinations import Destination, Destinations, EntryFacts, facts_of
from wallie_litellm.core.scopes import model_scope


def used_providers(loaded: RouterConfig) -> list[Destination]:
    """The providers and accounts that the models of the file name, by name."""
    found = {one.account: one for one, _, _ in used_models(loaded)}
    return sorted(found.values())


def used_models(loaded: RouterConfig) -> list[tuple[Destination, str, str]]:
    """The models of the file: where each is called, its scope there, and the group that it is in."""
    entries = list(_entries(loaded))
    destinations = Destinations()
    destinations.learn(facts for facts, _, _ in entries)
    found = [(destinations.of(facts), model, group) for facts, model, group in entries]
    return [(one, model_scope(one.account, model), group) for one, model, group in found]


def _entries(loaded: RouterConfig) -> Iterator[tuple[EntryFacts, str, str]]:
    env = {**os.environ, **loaded.environment_variables}
    for entry in loaded.model_list:
        params: Mapping[str, Any] = resolved_within(entry["litellm_params"], env)
        vendor, slash, _ = str(params["model"] or "").partition("/")
        facts = facts_of(entry, str(params.get("custom_llm_provider") or (vendor if slash else "")), params, env)
        if facts.given or facts.address.vendor:
            yield facts, str(params["model"] or ""), str(entry["model_name"])
