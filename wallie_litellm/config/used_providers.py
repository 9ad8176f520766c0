"""The providers and accounts that a file's models name, as far as they are known without LiteLLM."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from wallie_litellm.config.load import RouterConfig
from wallie_litellm.config.variables import resolved_within
from wallie_litellm.core.destinations import Destination, Destinations, EntryFacts, facts_of


def used_providers(loaded: RouterConfig) -> list[Destination]:
    """The providers and accounts that the models of the file name, by name."""
    entries = list(_entries(loaded))
    destinations = Destinations()
    destinations.learn(entries)
    found = {one.account: one for one in map(destinations.of, entries)}
    return sorted(found.values())


def _entries(loaded: RouterConfig) -> Iterator[EntryFacts]:
    env = {**os.environ, **loaded.environment_variables}
    for entry in loaded.model_list:
        params: Mapping[str, Any] = resolved_within(entry["litellm_params"], env)
        vendor, slash, _ = str(params["model"] or "").partition("/")
        facts = facts_of(entry, str(params.get("custom_llm_provider") or (vendor if slash else "")), params, env)
        if facts.given or facts.address.vendor:
            yield facts
