"""From a file and the environment to a ``RouterConfig``, or to one error that lists everything wrong."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from wallie_litellm.config import litellm_sections
from wallie_litellm.config.models import WallieConfig
from wallie_litellm.config.problems import Problem, from_validation, show
from wallie_litellm.config.yaml_file import FileUnreadable, read_yaml
from wallie_litellm.core.scrubbing import one_line
from wallie_litellm.errors import ConfigError

DEFAULT_FILE: Final = "router_config.yaml"
ENV_REFERENCE: Final = "os.environ/"  # LiteLLM's way to name a variable in the file

# Variables that override the file, and the keys that they set under wallie:.
ENVIRONMENT: Final[Mapping[str, tuple[str, ...]]] = {
    "WALLIE_REDIS_URL": ("store", "url"),
    "WALLIE_DATABASE_URL": ("ledger", "url"),
    "WALLIE_ADMIN_TOKEN": ("admin_token",),
    "POSTHOG_API_KEY": ("telemetry", "posthog", "api_key"),
    "POSTHOG_HOST": ("telemetry", "posthog", "host"),
    "SLACK_WEBHOOK_URL": ("telemetry", "slack", "webhook_url"),
    "SENTRY_DSN": ("telemetry", "sentry", "dsn"),
}


@dataclass(frozen=True)
class RouterConfig:
    """One router_config.yaml: LiteLLM's parts as they are written, and ours checked and complete.

    ``chains`` maps a model group to the groups that are tried after it; the head ``*`` serves every other group.
    LiteLLM's parts can hold keys, so they stay out of the repr.
    """

    path: Path
    model_list: list[dict[str, Any]] = field(repr=False)
    router_settings: dict[str, Any] = field(repr=False)
    litellm_settings: dict[str, Any] = field(repr=False)
    general_settings: dict[str, Any] = field(repr=False)
    wallie: WallieConfig
    chains: Mapping[str, tuple[str, ...]]

    @property
    def groups(self) -> tuple[str, ...]:
        """The model groups, each once, in the order of ``model_list``."""
        return litellm_sections.group_names(self.model_list)

    def chain(self, group: str) -> tuple[str, ...]:
        """The groups that are tried after ``group``, in order."""
        members = self.chains.get(group, self.chains.get(litellm_sections.ANY_GROUP, ()))
        return tuple(member for member in members if member != group)


def load_config(path: str | os.PathLike[str] | None = None, *, env: Mapping[str, str] | None = None) -> RouterConfig:
    """Read a router_config.yaml.

    ``path`` is ``WALLIE_CONFIG``, else ``router_config.yaml`` in the working directory, unless given. ``env`` is the
    process's environment unless given.

    Raises:
        ConfigError: the file cannot be used; every problem is listed.
    """
    env = os.environ if env is None else env
    file = Path(path if path is not None else env.get("WALLIE_CONFIG") or DEFAULT_FILE)
    try:
        data, repeated = read_yaml(file)
    except FileUnreadable as error:
        raise _refusal(file, [Problem("", str(error))]) from None
    return _build(data, file, env, repeated)


def parse_config(
    data: Mapping[str, Any], path: str | os.PathLike[str] = DEFAULT_FILE, *, env: Mapping[str, str] | None = None
) -> RouterConfig:
    """The same for what a file would hold; ``path`` is only what messages name."""
    return _build(data, Path(path), os.environ if env is None else env, [])


def _build(data: Any, path: Path, env: Mapping[str, str], problems: list[Problem]) -> RouterConfig:
    if not isinstance(data, Mapping) or not data:
        problems = [*problems, _no_content(data)]
        raise _refusal(path, problems)
    chains, chain_problems = litellm_sections.read_chains(data)
    wallie, wallie_problems = _read_wallie(data.get("wallie"), env)
    problems = [
        *problems,
        *litellm_sections.check_top_level(data),
        *litellm_sections.check_model_list(data.get("model_list")),
        *litellm_sections.check_timeouts(data.get("router_settings")),
        *chain_problems,
        *wallie_problems,
    ]
    if problems or wallie is None:
        raise _refusal(path, problems)
    sections = {name: dict(data.get(name) or {}) for name in litellm_sections.SECTIONS[1:4]}
    models = [litellm_sections.with_prices_as_numbers(entry) for entry in data["model_list"]]
    return RouterConfig(path=path, model_list=models, wallie=wallie, chains=chains, **sections)


def _no_content(data: object) -> Problem:
    if data is None or data == {}:
        return Problem("", "the file is empty, expected at least model_list")
    return Problem("", f"found {show(data)}, expected a mapping with model_list and wallie")


def _refusal(path: Path, problems: list[Problem]) -> ConfigError:
    lines = (": ".join(filter(None, (str(path), *problem))) for problem in problems)
    return ConfigError([one_line(line) for line in lines], str(path))


def _read_wallie(section: object, env: Mapping[str, str]) -> tuple[WallieConfig | None, list[Problem]]:
    if section is not None and not isinstance(section, Mapping):
        return None, []  # its shape is reported with the other sections
    data = _Overlay(dict(section or {}), env)
    try:
        return WallieConfig.model_validate(data.values), data.problems
    except ValidationError as error:
        found = from_validation(error, WallieConfig, "wallie")
        return None, [*data.problems, *(data.with_source(problem) for problem in found)]


class _Overlay:
    """The ``wallie:`` section with the environment laid over it; the caller's mappings stay as they are."""

    def __init__(self, values: dict[Any, Any], env: Mapping[str, str]) -> None:
        self.values = values
        self.problems: list[Problem] = []
        self._sources: dict[str, str] = {}
        for name, keys in ENVIRONMENT.items():
            self._resolve_reference(keys, env)
            if env.get(name) and self._applies(name):
                self._put(keys, env[name], name)

    def with_source(self, problem: Problem) -> Problem:
        """The problem, naming the variable if its value did not come from the file."""
        source = self._sources.get(problem.where)
        return problem._replace(where=f"{problem.where} (from {source})") if source else problem

    def _applies(self, name: str) -> bool:
        if name == "WALLIE_DATABASE_URL":  # `ledger: null` is a decision, the variable only a place
            return self.values.get("ledger", {}) is not None
        if name == "POSTHOG_HOST":  # a host alone turns nothing on
            return bool(self._parent(ENVIRONMENT[name]))
        return True

    def _parent(self, keys: tuple[str, ...]) -> Mapping[Any, Any] | None:
        place: object = self.values
        for key in keys[:-1]:
            place = place.get(key) if isinstance(place, Mapping) else None
        return place if isinstance(place, Mapping) else None

    def _put(self, keys: tuple[str, ...], value: str, source: str) -> None:
        place = self.values
        for key in keys[:-1]:
            inner = place.get(key)
            if inner is not None and not isinstance(inner, Mapping):
                return  # validation reports that it must be a mapping
            place[key] = place = dict(inner or {})
        place[keys[-1]] = value
        self._sources[".".join(("wallie", *keys))] = source

    def _resolve_reference(self, keys: tuple[str, ...], env: Mapping[str, str]) -> None:
        value = (self._parent(keys) or {}).get(keys[-1])
        if not isinstance(value, str) or not value.startswith(ENV_REFERENCE):
            return
        name = value.removeprefix(ENV_REFERENCE)
        if env.get(name):
            self._put(keys, env[name], name)
        else:
            self.problems.append(Problem(".".join(("wallie", *keys)), f"the variable {name} is not set"))
