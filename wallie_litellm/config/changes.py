"""What differs between the configuration in force and a newer one, by key; and which of it only a restart takes up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from wallie_litellm.config.load import RouterConfig
from wallie_litellm.config.models import WallieConfig

# Sections under ``wallie:`` that say where things are: what was opened there is open until the process ends.
PLACES: Final = ("store", "ledger", "telemetry", "admin_token")
# Settings of LiteLLM's that a Router has as its own, and so takes up anew.
ROUTERS: Final = frozenset(
    {
        *("allowed_fails", "max_fallbacks", "drop_params", "request_timeout", "fallbacks", "default_fallbacks"),
        *("context_window_fallbacks", "content_policy_fallbacks"),
    }
)
# Sections whose content is in others once the file is read.
_TAKEN_IN: Final = frozenset({"credential_list", "environment_variables", "include"})
# Settings of LiteLLM's module that a router in app code heeds, too.
_OPENED: Final = frozenset({"cache", "cache_params"})


@dataclass(frozen=True)
class ConfigChange:
    """The configuration in force, and the one that is taken up in its place: with the places of the ``old`` one."""

    old: RouterConfig
    new: RouterConfig

    @property
    def is_litellms(self) -> bool:
        """Whether a Router has to be built anew."""
        return bool(_litellms(self.old, self.new))

    def keys(self) -> list[str]:
        """The keys that are taken up."""
        old, new = self.old.wallie, self.new.wallie
        changed = [f"wallie.{key}" for key in _differing(_values(old), _values(new))]
        return sorted([*changed, *_litellms(self.old, self.new)])


def change_of(old: RouterConfig, new: RouterConfig) -> ConfigChange:
    """What is taken up of ``new`` in the place of ``old``. Days of budgets that there are stay in their time zone."""
    kept: dict[str, Any] = {name: getattr(old.wallie, name) for name in PLACES}
    if _has_budgets(old.wallie):
        kept["budget"] = new.wallie.budget.model_copy(update={"reset_timezone": old.wallie.budget.reset_timezone})
    return ConfigChange(old, replace(new, wallie=new.wallie.model_copy(update=kept)))


def _has_budgets(config: WallieConfig) -> bool:
    of_features = any(one.budget is not None for one in config.features.values())
    of_keys = any(one.budget is not None for one in config.keys.values())
    return any(config.budget.parts()) or of_features or of_keys


def restart_needed(started: RouterConfig, new: RouterConfig, in_force: WallieConfig, *, is_proxy: bool) -> list[str]:
    """The keys of ``new`` that differ from what the process has ``started`` with, and that only a restart takes up.

    ``in_force`` is what was taken up of ``new``.
    LiteLLM's proxy reads more of the file than a router in app code does.
    """
    old_places, new_places = (_values(one.wallie, of=PLACES) for one in (started, new))
    found = [f"wallie.{key}" for key in _differing(old_places, new_places)]
    if in_force.budget.reset_timezone != new.wallie.budget.reset_timezone:
        found.append("wallie.budget.reset_timezone")
    settings = [
        key for key in _differing(started.litellm_settings, new.litellm_settings, depth=1) if key not in ROUTERS
    ]
    found += [f"litellm_settings.{key}" for key in settings if is_proxy or key in _OPENED]
    if is_proxy:
        general = _differing(started.general_settings, new.general_settings, depth=1)
        found += [f"general_settings.{key}" for key in general]
        sections = _differing(started.other_sections, new.other_sections, depth=1)
        found += [name for name in sections if name not in _TAKEN_IN]
    return sorted(found)


def _litellms(old: RouterConfig, new: RouterConfig) -> list[str]:
    keys = ["model_list"] if old.model_list != new.model_list else []
    keys += [f"router_settings.{key}" for key in _differing(old.router_settings, new.router_settings, depth=1)]
    settings = _differing(old.litellm_settings, new.litellm_settings, depth=1)
    keys += [f"litellm_settings.{key}" for key in settings if key in ROUTERS]
    if old.environment_variables != new.environment_variables:
        keys.append("environment_variables")
    return keys


def _values(config: WallieConfig, of: tuple[str, ...] = ()) -> dict[str, Any]:
    names = of or [name for name in type(config).model_fields if name not in PLACES]
    return config.model_dump(include=set(names))


def _differing(old: Mapping[str, Any], new: Mapping[str, Any], depth: int = 4) -> Iterator[str]:
    """The paths of the values that differ; below ``depth`` keys, that of the mapping that holds them."""
    for key in sorted({*old, *new}, key=str):
        before, after = old.get(key), new.get(key)
        if before == after:
            continue
        if depth > 1 and isinstance(before, Mapping) and isinstance(after, Mapping):
            yield from (f"{key}.{inner}" for inner in _differing(before, after, depth - 1))
        else:
            yield str(key)
