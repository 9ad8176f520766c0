"""The checks of LiteLLM's sections: settings that exist, and environment variables that are set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from wallie_litellm.config import RouterConfig


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
    for name, places in config.references.items():
        if not (env.get(name) or config.environment_variables.get(name)):
            yield f"{_first(places)}: the environment variable {name} is not set"


def late_variables(config: RouterConfig, env: Mapping[str, str]) -> Iterator[str]:
    """Each variable that is named and that only the file itself sets."""
    for name, places in config.references.items():
        if not env.get(name) and config.environment_variables.get(name):
            yield (
                f"{_first(places)}: LiteLLM's proxy reads {name} before it sets environment_variables; start it with "
                "`wallie-litellm proxy`, which sets them first, or set the variable outside of the file"
            )


def _first(places: Sequence[str]) -> str:
    return places[0] + (f" (and {len(places) - 1} more)" if len(places) > 1 else "")
