"""The fallback chains of LiteLLM's sections, as its Router puts them together."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any, Final, NamedTuple

from wallie_litellm.config.litellm_sections import deployment_names, group_names
from wallie_litellm.config.problems import Problem, did_you_mean, wrong

ANY_GROUP: Final = "*"  # LiteLLM's head for a chain that serves every group without one of its own
FALLBACK_LISTS: Final = ("fallbacks", "context_window_fallbacks", "content_policy_fallbacks")
_PLACES: Final = ("router_settings", "litellm_settings")  # in LiteLLM's order: the second where the first has none
_SHAPE: Final = "a list of one-key mappings such as [{gpt-4o: [claude-sonnet-4]}]"
_MEMBERS: Final = "a list of model groups, or of mappings with a model, at least one"

Chains = dict[str, tuple[str, ...]]


def read_chains(data: Mapping[Any, Any], *, more_groups: bool = False) -> tuple[Chains, list[Problem]]:
    """The fallback chains by their head, and what is wrong with them; ``more_groups`` may be named than the file has.

    As in LiteLLM, ``router_settings`` go before ``litellm_settings``, ``default_fallbacks`` before the head ``*``, and
    a group's chain passes over the group itself. Chains that lead back to each other are fine.
    """
    groups = named_in(data, more_groups=more_groups)
    chains: Chains = {}
    default: tuple[str, ...] = ()
    problems: list[Problem] = []
    for place in _PLACES:
        settings = data.get(place)
        if not isinstance(settings, Mapping):
            continue
        for name in FALLBACK_LISTS:
            found, wrongs = _read_list(f"{place}.{name}", settings.get(name), groups)
            problems += wrongs
            chains = chains or (found if name == "fallbacks" else {})
        members, wrongs = _read_default(f"{place}.default_fallbacks", settings.get("default_fallbacks"), groups)
        problems += wrongs
        default = default or members
    return {**chains, **({ANY_GROUP: default} if default else {})}, problems


def fallback_settings(router: Mapping[str, Any], general: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The arguments of LiteLLM's Router that state chains, from ``router_settings`` and ``litellm_settings``."""
    names = (*FALLBACK_LISTS, "default_fallbacks")
    stated = ((name, router.get(name) or general.get(name)) for name in names)
    return {name: list(value) for name, value in stated if value}  # LiteLLM appends to them


class CallableNames(NamedTuple):
    """What LiteLLM's Router can be asked for: groups, and single deployments by id or model.

    Without ``groups`` it is not known, and everything may be named.
    """

    groups: tuple[str, ...] = ()
    deployments: frozenset[str] = frozenset()

    def has(self, name: object) -> bool:
        """Whether LiteLLM's Router can be asked for ``name``."""
        if not self.groups or name in self.deployments:
            return True
        return any(name == group or ("*" in group and fnmatchcase(str(name), group)) for group in self.groups)


def named_in(data: Mapping[Any, Any], *, more_groups: bool) -> CallableNames:
    """What a chain may name; everything where ``more_groups`` than the file's are served."""
    return CallableNames() if more_groups else _callable(data)


def _callable(data: Mapping[Any, Any]) -> CallableNames:
    """What a chain may name; nothing if a group's name is missing, which is reported once and not per chain."""
    models, settings = data.get("model_list"), data.get("router_settings")
    if isinstance(models, list) and any(not isinstance(m, Mapping) or "model_name" not in m for m in models):
        return CallableNames()
    aliases = settings.get("model_group_alias") if isinstance(settings, Mapping) else None
    groups = group_names(models) + tuple(aliases if isinstance(aliases, Mapping) else ())
    return CallableNames(groups, frozenset(deployment_names(models)))


def _read_list(where: str, value: object, groups: CallableNames) -> tuple[Chains, list[Problem]]:
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
        problems += [*_check_head(f"{where}[{index}]", head, groups), *wrongs]
        if chains.setdefault(head, chain) != chain:
            problems.append(Problem(where, f"the group '{head}' has another chain already"))
    return chains, problems


def _read_default(where: str, value: object, groups: CallableNames) -> tuple[tuple[str, ...], list[Problem]]:
    return ((), []) if value is None else _read_members(where, ANY_GROUP, value, groups)


def _check_head(where: str, head: object, groups: CallableNames) -> list[Problem]:
    return [] if head == ANY_GROUP or groups.has(head) else [_no_group(where, head, groups)]


def _read_members(
    where: str, head: object, members: object, groups: CallableNames
) -> tuple[tuple[str, ...], list[Problem]]:
    if not isinstance(members, list) or not members or any(_group_of(member) is None for member in members):
        return (), [wrong(where, members, _MEMBERS)]
    problems: list[Problem] = []
    for index, member in enumerate(members):
        if member in members[:index]:
            problems.append(Problem(f"{where}[{index}]", f"the chain of '{head}' names '{_group_of(member)}' twice"))
        elif not groups.has(_group_of(member)):
            problems.append(_no_group(f"{where}[{index}]", _group_of(member), groups))
    return tuple(str(_group_of(member)) for member in members if member != head), problems


def _group_of(member: object) -> str | None:
    """The group that a member names, alone or with parameters of its own; ``None`` where it names none."""
    name = member.get("model") if isinstance(member, Mapping) else member
    return name if isinstance(name, str) and name.strip() else None


def _no_group(where: str, name: object, groups: CallableNames) -> Problem:
    hint = did_you_mean(str(name), groups.groups)
    return Problem(where, f"'{name}' is not a group of model_list{hint} Groups: {', '.join(groups.groups)}")
