"""The checks of LiteLLM's sections: settings that exist, and environment variables that are set."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any, Final

from wallie_litellm.config import RouterConfig
from wallie_litellm.config.variables import ENV_REFERENCE

_SECTIONS: Final = ("model_list", "router_settings", "litellm_settings", "general_settings")


def settings_problems(litellm: Any, config: RouterConfig) -> Iterator[str]:
    """Router settings that ``litellm.Router`` does not have."""
    known = set(litellm.Router.get_valid_args())
    for name in config.router_settings:
        if name not in known:
            close = get_close_matches(str(name), known, 1)
            hint = f"; did you mean '{close[0]}'?" if close else ""
            yield f"router_settings.{name}: litellm.Router has no such setting{hint}"


def unset_references(config: RouterConfig, env: Mapping[str, str]) -> Iterator[str]:
    """Each variable that is named and not set, once, with the first place that names it."""
    places: dict[str, list[str]] = {}
    for section in _SECTIONS:
        for where, name in _references(section, getattr(config, section), set()):
            places.setdefault(name, []).append(where)
    for name, used in places.items():
        if not env.get(name):
            more = f" (and {len(used) - 1} more)" if len(used) > 1 else ""
            yield f"{used[0]}{more}: the environment variable {name} is not set"


def _references(where: str, value: object, seen: set[int]) -> Iterator[tuple[str, str]]:
    if isinstance(value, str) and value.startswith(ENV_REFERENCE):
        yield where, value.removeprefix(ENV_REFERENCE)
    if not isinstance(value, Mapping | list) or id(value) in seen:  # YAML aliases may repeat, even form a loop
        return
    seen.add(id(value))
    inside: Iterable[tuple[str, object]]
    if isinstance(value, Mapping):
        inside = ((f".{key}", inner) for key, inner in value.items())
    else:
        inside = ((f"[{index}]", inner) for index, inner in enumerate(value))
    for step, inner in inside:
        yield from _references(where + step, inner, seen)
