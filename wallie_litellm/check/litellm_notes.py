"""Notes about LiteLLM's settings in the file: what acts otherwise here, and what holds on the proxy alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from wallie_litellm.check.callback import is_ours
from wallie_litellm.config import RouterConfig
from wallie_litellm.config.chains import ANY_GROUP, FALLBACK_LISTS
from wallie_litellm.config.differences import (
    DEPLOYMENT,
    DIFFERENCES,
    PROCESS_WIDE,
    PROXY_SECTIONS,
    SECTIONS,
    Difference,
)

_COOLDOWNS: Final = "disable_cooldowns"


def different_settings(config: RouterConfig) -> Iterator[str]:
    """The settings of the file that act otherwise than in LiteLLM alone."""
    for difference in DIFFERENCES:
        for place in _used_at(config, difference):
            yield f"{place}: in LiteLLM {difference.in_litellm}; here {difference.here}; {difference.instead}"
    if config.router_settings.get(_COOLDOWNS, True) is not True:
        yield f"router_settings.{_COOLDOWNS}: set it to true, else LiteLLM's cooldowns stay beside wallie.breaker"


def _used_at(config: RouterConfig, difference: Difference) -> Iterator[str]:
    sections: dict[str, Mapping[str, Any]] = {place: getattr(config, place) for place in SECTIONS}
    for place in difference.places:
        if place != DEPLOYMENT and sections[place].get(difference.setting) is not None:
            yield f"{place}.{difference.setting}"
    if DEPLOYMENT in difference.places:
        yield from _deployments_with(config, difference.setting)


def _deployments_with(config: RouterConfig, setting: str) -> Iterator[str]:
    """The first deployment that has ``setting``, and how many more."""
    found = [i for i, entry in enumerate(config.model_list) if entry["litellm_params"].get(setting) is not None]
    if found:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        yield f"model_list[{found[0]}].litellm_params.{setting}{more}"


def local_limits(config: RouterConfig) -> Iterator[str]:
    """Limits that are LiteLLM's own, of one deployment."""
    for setting in ("rpm", "tpm"):
        for place in _deployments_with(config, setting):
            yield (
                f"{place}: LiteLLM's own limit of one deployment: it weighs the choice within the group, bounds the "
                f"calls in flight, and refuses at once where LiteLLM enforces it; for requests that wait write "
                f"wallie.providers.<provider>.{setting}"
            )


def chains_that_end(config: RouterConfig) -> Iterator[str]:
    """Chains that LiteLLM alone would continue with the chains of their members."""
    heads = [*config.groups, *(head for head in config.chains if head not in config.groups and head != ANY_GROUP)]
    for head in heads:
        beyond = [group for group in _in_litellm(config, head) if group not in config.chain(head)]
        if beyond:
            whole = ", ".join(_in_litellm(config, head))
            yield (
                f"router_settings.fallbacks: in LiteLLM the chain of '{head}' goes on with those of its members, to "
                f"{', '.join(beyond)}; here a chain has the members that it states; to have them too, write "
                f"{head}: [{whole}]"
            )


def _in_litellm(config: RouterConfig, head: str) -> list[str]:
    """The groups that LiteLLM tries after ``head``.

    A member's own chain comes before the next member; the one of ``*`` is followed for the head alone.
    """
    tried = [head]

    def walk(chain: Sequence[str]) -> None:
        for member in chain:
            if member not in tried:
                tried.append(member)
                walk(config.chains.get(member, ()))

    walk(config.chain(head))
    return tried[1:]


def unused_lists(config: RouterConfig) -> Iterator[str]:
    """Lists of fallbacks that LiteLLM passes over, since the other section has one."""
    for name in (*FALLBACK_LISTS, "default_fallbacks"):
        if config.router_settings.get(name) and config.litellm_settings.get(name):
            yield f"litellm_settings.{name}: not used: LiteLLM takes that of router_settings; keep one of both"


def proxy_alone(config: RouterConfig) -> Iterator[str]:
    """What holds on the proxy and not for a router of ``build_router``."""
    if sections := sorted(PROXY_SECTIONS.intersection(config.other_sections)):
        yield f"{', '.join(sections)}: only the proxy applies these; a router of build_router does not"
    names = [name for name in config.litellm_settings if name in PROCESS_WIDE]
    callbacks = config.litellm_settings.get("callbacks")
    given = callbacks if isinstance(callbacks, list) else [callbacks]
    if any(callback and not is_ours(callback) for callback in given):
        names.append("callbacks")
    if names:
        yield (
            f"litellm_settings: {', '.join(names)}: only the proxy sets these, for all of its process; an application "
            "that uses build_router sets them in LiteLLM's module itself"
        )
