"""The parts of the file that are LiteLLM's: their shape, and the chains they describe."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from math import isfinite
from typing import Any, Final

from wallie_litellm.config.problems import Problem, did_you_mean, show, unknown_key, wrong

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
ANY_GROUP: Final = "*"  # LiteLLM's head for a chain that serves every group without one of its own
# LiteLLM's names of prices, as a deployment may give them in litellm_params or model_info.
_PRICE_KEY: Final = re.compile(r"cost_per_|_token_cost")
_PRICE_PLACES: Final = ("litellm_params", "model_info")
_LISTS: Final = ("fallbacks", "context_window_fallbacks", "content_policy_fallbacks")
_PRICE: Final = "an amount in US dollars, 0 or more, such as 0.0000025 or 2.5e-6"
_SHAPE: Final = "a list of one-key mappings such as [{gpt-4o: [claude-sonnet-4]}]"

Chains = dict[str, tuple[str, ...]]


def check_top_level(data: Mapping[Any, Any]) -> list[Problem]:
    """A section whose misspelt name would make everything in it be ignored; a section of the wrong shape."""
    strangers = [key for key in data if isinstance(key, str) and key not in SECTIONS and key not in OTHER_SECTIONS]
    problems = [unknown_key(key, key, SECTIONS) for key in strangers if get_close_matches(key, SECTIONS, 1, 0.75)]
    for name in ("router_settings", "litellm_settings", "general_settings", "wallie"):
        if data.get(name) is not None and not isinstance(data[name], Mapping):
            problems.append(wrong(name, data[name], "a mapping"))
    return problems


def check_model_list(models: object) -> list[Problem]:
    """What is wrong in ``model_list``, by its shape alone."""
    if not isinstance(models, list) or not models:
        return [wrong("model_list", models, "a list with at least one model")]
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
    for name in ("rpm", "tpm"):
        if params.get(name) is not None:
            text = f"LiteLLM makes a cap on concurrent calls of it; set wallie.providers.<provider>.{name} instead"
            problems.append(Problem(f"{where}.{name}", text))
    return problems


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
        if _dollars(value) is None
    ]


def with_prices_as_numbers(entry: Mapping[Any, Any]) -> dict[Any, Any]:
    """A copy of a ``model_list`` entry whose prices are numbers: YAML reads ``1e-6`` (not ``1.0e-6``) as text."""
    copy = dict(entry)
    for place, key, value in _prices(entry):
        copy[place] = {**copy[place], key: _dollars(value)}
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
    return value is None or isinstance(value, Mapping) or (isinstance(value, str) and value.startswith("os.environ/"))


def _dollars(value: object) -> float | None:
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


def read_chains(data: Mapping[Any, Any]) -> tuple[Chains, list[Problem]]:
    """The fallback chains by their head, and what is wrong with them.

    Chains that lead back to each other are fine: LiteLLM tries no group twice in one request.
    """
    groups = _callable_groups(data)
    chains: Chains = {}
    problems: list[Problem] = []
    for place in ("router_settings", "litellm_settings"):
        settings = data.get(place)
        if not isinstance(settings, Mapping):
            continue
        for name in _LISTS:
            found, wrongs = _read_list(f"{place}.{name}", settings.get(name), groups)
            problems += [*wrongs, *(_merge(chains, found, f"{place}.{name}") if name == "fallbacks" else ())]
        members, wrongs = _read_default(f"{place}.default_fallbacks", settings.get("default_fallbacks"), groups)
        problems += [*wrongs, *_merge(chains, members, f"{place}.default_fallbacks")]
    return chains, problems


def _merge(chains: Chains, found: Chains, place: str) -> list[Problem]:
    repeated = [head for head in found if head in chains and chains[head] != found[head]]
    chains.update({head: members for head, members in found.items() if head not in chains})
    return [Problem(place, f"the group '{head}' has another chain already") for head in repeated]


def _callable_groups(data: Mapping[Any, Any]) -> tuple[str, ...]:
    """What a chain may name; nothing if a group's name is missing, which is reported once and not per chain."""
    models, settings = data.get("model_list"), data.get("router_settings")
    if isinstance(models, list) and any(not isinstance(m, Mapping) or "model_name" not in m for m in models):
        return ()
    aliases = settings.get("model_group_alias") if isinstance(settings, Mapping) else None
    return group_names(models) + tuple(aliases if isinstance(aliases, Mapping) else ())


def _read_list(where: str, value: object, groups: Sequence[str]) -> tuple[Chains, list[Problem]]:
    if value is None:
        return {}, []
    if not isinstance(value, list):
        return {}, [wrong(where, value, _SHAPE)]
    chains: Chains = {}
    problems: list[Problem] = []
    for index, entry in enumerate(value):
        if not isinstance(entry, Mapping) or len(entry) != 1:
            problems.append(Problem(f"{where}[{index}]", f"expected one group and its chain: {_SHAPE}"))
            continue
        [(head, members)] = entry.items()
        chain, wrongs = _read_members(f"{where}[{index}].{head}", head, members, groups)
        problems += [*_check_head(f"{where}[{index}]", head, groups), *wrongs, *_merge(chains, {head: chain}, where)]
    return chains, problems


def _read_default(where: str, value: object, groups: Sequence[str]) -> tuple[Chains, list[Problem]]:
    if value is None:
        return {}, []
    members, problems = _read_members(where, ANY_GROUP, value, groups)
    return {ANY_GROUP: members}, problems


def _check_head(where: str, head: object, groups: Sequence[str]) -> list[Problem]:
    return [] if head == ANY_GROUP or not groups or _is_group(head, groups) else [_no_group(where, head, groups)]


def _read_members(
    where: str, head: object, members: object, groups: Sequence[str]
) -> tuple[tuple[str, ...], list[Problem]]:
    if not isinstance(members, list) or not members or not all(isinstance(m, str) and m.strip() for m in members):
        return (), [wrong(where, members, "a list of model groups, at least one")]
    problems: list[Problem] = []
    for index, member in enumerate(members):
        if member == head:
            problems.append(Problem(f"{where}[{index}]", f"the chain of '{head}' names its own group"))
        elif member in members[:index]:
            problems.append(Problem(f"{where}[{index}]", f"the chain of '{head}' names '{member}' twice"))
        elif groups and not _is_group(member, groups):
            problems.append(_no_group(f"{where}[{index}]", member, groups))
    return tuple(members), problems


def _is_group(name: object, groups: Sequence[str]) -> bool:
    return any(name == group or ("*" in group and fnmatchcase(str(name), group)) for group in groups)


def _no_group(where: str, name: object, groups: Sequence[str]) -> Problem:
    hint = did_you_mean(str(name), groups)
    return Problem(where, f"'{name}' is not a group of model_list{hint} Groups: {', '.join(groups)}")


def check_timeouts(settings: object) -> list[Problem]:
    """LiteLLM's own timeouts, which take no units and would fail only at the first call."""
    if not isinstance(settings, Mapping):
        return []
    given = {name: settings[name] for name in ("timeout", "stream_timeout") if settings.get(name) is not None}
    return [
        wrong(f"router_settings.{name}", value, "a number of seconds above 0: LiteLLM's own setting takes no unit")
        for name, value in given.items()
        if not _is_seconds(value)
    ]


def _is_seconds(value: object) -> bool:
    if isinstance(value, str):
        return value.startswith("os.environ/")
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf")
