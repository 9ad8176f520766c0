"""The parts of the file that are LiteLLM's: their shape."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from math import isfinite
from typing import Any, Final

from wallie_litellm.config.problems import Problem, show, unknown_key, wrong
from wallie_litellm.config.variables import ENV_REFERENCE, resolved

SECTIONS: Final = ("model_list", "router_settings", "litellm_settings", "general_settings", "wallie")
# What LiteLLM's proxy reads too; not checked here.
OTHER_SECTIONS: Final = frozenset(
    {
        *("agent_list", "agents", "assistant_settings", "callback_settings", "credential_list"),
        *("default_vertex_config", "environment_variables", "files_settings", "finetune_settings", "guardrails"),
        *("include", "mcp_servers", "mcp_tools", "pass_through_endpoints", "policies", "policy_attachments"),
        *("prompts", "sandbox_tools", "search_tools", "vector_store_registry", "worker_registry"),
    }
)
# LiteLLM's names of prices, as a deployment may give them in litellm_params or model_info.
_PRICE_KEY: Final = re.compile(r"cost_per_|_token_cost")
_PRICE_PLACES: Final = ("litellm_params", "model_info")
_PRICE: Final = "an amount in US dollars, 0 or more, such as 0.0000025 or 2.5e-6"
_MODELS: Final = "a list with at least one model, or general_settings.store_model_in_db: true"
_TIMEOUTS: Final = (
    ("router_settings", "timeout"),
    ("router_settings", "stream_timeout"),
    ("litellm_settings", "request_timeout"),
)
# What says which provider is called; a key stays the name of its variable.
_RESOLVED: Final = frozenset({"model", "custom_llm_provider", "api_base", "base_url"})
_LOCAL_LIMITS: Final = ("rpm", "tpm")  # LiteLLM's own, of one deployment


def check_top_level(data: Mapping[Any, Any]) -> list[Problem]:
    """A section whose misspelt name would make everything in it be ignored; a section of the wrong shape."""
    strangers = [key for key in data if isinstance(key, str) and key not in SECTIONS and key not in OTHER_SECTIONS]
    problems = [unknown_key(key, key, SECTIONS) for key in strangers if get_close_matches(key, SECTIONS, 1, 0.75)]
    for name in ("router_settings", "litellm_settings", "general_settings", "wallie"):
        if data.get(name) is not None and not isinstance(data[name], Mapping):
            problems.append(wrong(name, data[name], "a mapping"))
    return problems


def models_from_database(data: Mapping[Any, Any], env: Mapping[str, str]) -> bool:
    """Whether LiteLLM's proxy has models besides those of ``model_list``, from its database."""
    settings = data.get("general_settings")
    stored = settings.get("store_model_in_db") if isinstance(settings, Mapping) else None
    return stored is True or str(env.get("STORE_MODEL_IN_DB")).strip().lower() == "true"


def check_model_list(models: object, *, may_be_empty: bool) -> list[Problem]:
    """What is wrong in ``model_list``, by its shape alone."""
    if may_be_empty and (models is None or models == []):
        return []
    if not isinstance(models, list) or not models:
        return [wrong("model_list", models, _MODELS)]
    return [problem for index, entry in enumerate(models) for problem in _check_entry(f"model_list[{index}]", entry)]


def _check_entry(where: str, entry: object) -> list[Problem]:
    if not isinstance(entry, Mapping):
        return [wrong(where, entry, "a mapping with model_name and litellm_params")]
    problems = _check_text(entry, "model_name", where, "the name of a model group")
    params = entry.get("litellm_params")
    if isinstance(params, Mapping):
        problems += _check_params(f"{where}.litellm_params", params)
    else:
        problems.append(_missing(entry, "litellm_params", where, "a mapping with at least a model"))
    problems += _check_model_info(f"{where}.model_info", entry.get("model_info"))
    return problems + _check_prices(where, entry)


def _check_params(where: str, params: Mapping[Any, Any]) -> list[Problem]:
    problems = _check_text(params, "model", where, "a model such as openai/gpt-4o")
    given = ((name, params[name]) for name in _LOCAL_LIMITS if params.get(name) is not None)
    return problems + [
        wrong(f"{where}.{name}", value, "a number, 0 or more")
        for name, value in given
        if not _is_elsewhere(value) and _amount(value) is None
    ]


def _check_model_info(where: str, info: object) -> list[Problem]:
    if info is None:
        return []
    if not isinstance(info, Mapping):
        return [wrong(where, info, "a mapping")]
    return _check_text(info, "wallie_provider", where, "the name of a provider") if "wallie_provider" in info else []


def _check_prices(where: str, entry: Mapping[Any, Any]) -> list[Problem]:
    return [
        # Shown without its place: a name that ends in "token" would be taken for a secret's.
        Problem(f"{where}.{place}.{key}", f"found {show(value)}, expected {_PRICE}")
        for place, key, value in _prices(entry)
        if _amount(value) is None
    ]


def credentials(section: object) -> dict[str, Mapping[Any, Any]]:
    """The values of each credential of ``credential_list``, by its name."""
    found: dict[str, Mapping[Any, Any]] = {}
    for entry in section if isinstance(section, list) else ():
        values = entry.get("credential_values") if isinstance(entry, Mapping) else None
        if isinstance(values, Mapping) and isinstance(entry.get("credential_name"), str):
            found[entry["credential_name"]] = values
    return found


def with_credentials(entry: Mapping[Any, Any], known: Mapping[str, Mapping[Any, Any]]) -> dict[Any, Any]:
    """A copy of a ``model_list`` entry with the values of the credential that it names, where that is ``known``."""
    params = dict(entry["litellm_params"])
    values = known.get(str(params.get("litellm_credential_name")))
    if values is None:
        return dict(entry)
    del params["litellm_credential_name"]
    return {**entry, "litellm_params": {**values, **params}}


def with_variables_named(entry: Mapping[Any, Any], env: Mapping[str, str]) -> dict[Any, Any]:
    """A copy of a ``model_list`` entry whose model and address are those of the variables that it names, where set."""
    params = {
        name: (resolved(value, env) or value) if name in _RESOLVED else value
        for name, value in entry["litellm_params"].items()
    }
    return {**entry, "litellm_params": params}


def with_prices_as_numbers(entry: Mapping[Any, Any]) -> dict[Any, Any]:
    """A copy of a ``model_list`` entry whose prices are numbers: YAML reads ``1e-6`` (not ``1.0e-6``) as text."""
    copy = dict(entry)
    for place, key, value in _prices(entry):
        copy[place] = {**copy[place], key: _amount(value)}
    return copy


def _prices(entry: Mapping[Any, Any]) -> Iterator[tuple[str, str, object]]:
    """The prices that a deployment gives, each with its place; not those that only LiteLLM can read."""
    for place in _PRICE_PLACES:
        given = entry.get(place)
        for key, value in given.items() if isinstance(given, Mapping) else ():
            if isinstance(key, str) and _PRICE_KEY.search(key) and not _is_elsewhere(value):
                yield place, key, value


def _is_elsewhere(value: object) -> bool:
    """Whether a setting is left out, names a variable, or has parts of its own."""
    return value is None or isinstance(value, Mapping) or (isinstance(value, str) and value.startswith(ENV_REFERENCE))


def _amount(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        amount = float(value)
    except (ValueError, OverflowError):
        return None
    return amount if isfinite(amount) and amount >= 0 else None


def _check_text(mapping: Mapping[Any, Any], key: str, where: str, expected: str) -> list[Problem]:
    value = mapping.get(key)
    return [] if isinstance(value, str) and value.strip() else [_missing(mapping, key, where, expected)]


def _missing(mapping: Mapping[Any, Any], key: str, where: str, expected: str) -> Problem:
    if key in mapping:
        return wrong(f"{where}.{key}", mapping[key], expected)
    close = get_close_matches(key, [str(other) for other in mapping], 1, 0.75)
    return Problem(f"{where}.{key}", f"missing, expected {expected}{f'; found {close[0]!r}' if close else ''}")


def group_names(models: object) -> tuple[str, ...]:
    """The model groups, each once, in the order of ``model_list``."""
    entries = models if isinstance(models, list) else []
    names = (entry.get("model_name") for entry in entries if isinstance(entry, Mapping))
    return tuple(dict.fromkeys(name for name in names if isinstance(name, str)))


def deployment_names(models: object) -> Iterator[str]:
    """The names by which LiteLLM's Router finds a single deployment: its id, and its model."""
    for entry in models if isinstance(models, list) else ():
        for place, key in (("model_info", "id"), ("litellm_params", "model")):
            inside = entry.get(place) if isinstance(entry, Mapping) else None
            name = inside.get(key) if isinstance(inside, Mapping) else None
            if isinstance(name, str):
                yield name


def check_timeouts(data: Mapping[Any, Any]) -> list[Problem]:
    """LiteLLM's own timeouts, which take no units and would fail only at the first call."""
    return [
        wrong(f"{place}.{name}", settings[name], "a number of seconds above 0: LiteLLM's own setting takes no unit")
        for place, name in _TIMEOUTS
        if isinstance(settings := data.get(place), Mapping) and settings.get(name) is not None
        if not _is_seconds(settings[name])
    ]


def _is_seconds(value: object) -> bool:
    if isinstance(value, str):
        return value.startswith(ENV_REFERENCE)
    return _is_above_zero(value)


def _is_above_zero(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf")
