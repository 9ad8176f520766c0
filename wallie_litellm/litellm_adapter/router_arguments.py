"""The sections of a file that concern calls, as the arguments of one LiteLLM Router.

LiteLLM's proxy writes ``litellm_settings`` into LiteLLM's module, where they hold for the whole process. Here they are
given to the one Router, so that nothing changes for what else the process does with LiteLLM.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from wallie_litellm.config import RouterConfig
from wallie_litellm.config.chains import fallback_settings
from wallie_litellm.config.changes import ConfigChange
from wallie_litellm.config.variables import resolved_within

# Settings of LiteLLM's module that its Router takes where it is given no argument of that name.
_AS_ARGUMENTS: Final = ("allowed_fails", "max_fallbacks")
# Settings of LiteLLM's module that a single call takes too.
_PER_CALL: Final = ("drop_params",)
_TIMEOUTS: Final = ("timeout", "stream_timeout")  # seconds; a variable's value is text
# The settings of litellm_settings that hold for a Router built from the file.
HEEDED: Final = frozenset(
    {*_AS_ARGUMENTS, *_PER_CALL, "request_timeout", "cache", "cache_params"}
    | {"fallbacks", "default_fallbacks", "context_window_fallbacks", "content_policy_fallbacks"}
)


def router_arguments(
    loaded: RouterConfig, known: Collection[str], overrides: Mapping[str, Any], env: Mapping[str, str]
) -> dict[str, Any]:
    """The arguments of a Router that does what the file says, and ``overrides`` in place of those of the same name.

    ``known`` are the arguments that the Router takes. ``env`` has the values of what refers to a variable.
    """
    router: dict[str, Any] = resolved_within(loaded.router_settings, env)
    general: dict[str, Any] = resolved_within(loaded.litellm_settings, env)
    arguments = {name: value for name, value in router.items() if name in known}
    arguments |= {name: general[name] for name in _AS_ARGUMENTS if name not in router and name in general}
    arguments |= fallback_settings(router, general)
    if general.get("request_timeout") is not None:  # LiteLLM's Router lets it go before its own
        arguments["timeout"] = general["request_timeout"]
    arguments |= {name: float(arguments[name]) for name in _TIMEOUTS if isinstance(arguments.get(name), str)}
    if general.get("cache") is True:
        arguments["cache_responses"] = True
    arguments |= {"model_list": loaded.model_list, **overrides}
    per_call = {name: general[name] for name in _PER_CALL if general.get(name) is not None}
    if per_call:
        arguments["default_litellm_params"] = {**per_call, **(arguments.get("default_litellm_params") or {})}
    return arguments


def changed_arguments(
    given: Mapping[str, Any],
    change: ConfigChange,
    known: Collection[str],
    overridden: Collection[str],
    env: Mapping[str, str],
) -> dict[str, Any]:
    """The arguments that a Router was ``given``, with what a change of the file changes of them.

    Those that are ``overridden`` stay as they were given.
    """
    before, after = (router_arguments(one, known, {}, env) for one in (change.old, change.new))
    arguments = dict(given)
    for name in {*before, *after}.difference(overridden):
        is_resolved = name == "model_list"  # with the values of variables that may have been changed
        if name not in after:
            arguments.pop(name, None)
        elif is_resolved or name not in before or before[name] != after[name]:
            arguments[name] = after[name]
    return arguments


def cache_parameters(loaded: RouterConfig, env: Mapping[str, str]) -> dict[str, Any] | None:
    """The parameters of the response cache that the file turns on, as LiteLLM's proxy reads them; ``None`` if none."""
    general = loaded.litellm_settings
    if general.get("cache") is not True:
        return None
    given: dict[str, Any] = resolved_within(dict(general.get("cache_params") or {}), env)
    if given:
        return given
    usual = {"type": "redis", "host": env.get("REDIS_HOST"), "port": env.get("REDIS_PORT")}
    return usual | ({"password": env["REDIS_PASSWORD"]} if env.get("REDIS_PASSWORD") else {})


def answer_parameters(loaded: RouterConfig, env: Mapping[str, str]) -> dict[str, Any] | None:
    """The parameters of where answers are kept: those of the response cache, which need not be on; ``None`` if none."""
    given = loaded.litellm_settings.get("cache_params")
    if given:
        stated: dict[str, Any] = resolved_within(dict(given), env)
        return stated
    return cache_parameters(loaded, env)
