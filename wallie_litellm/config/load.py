"""From a file and the environment to a ``RouterConfig``, or to one error that lists everything wrong."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from wallie_litellm.config import litellm_sections
from wallie_litellm.config.chains import ANY_GROUP, named_in, read_chains
from wallie_litellm.config.experiments import experiment_problems
from wallie_litellm.config.includes import with_includes
from wallie_litellm.config.models import WallieConfig
from wallie_litellm.config.problems import Problem, from_validation, show
from wallie_litellm.config.tiers import tier_problems
from wallie_litellm.config.variables import SECTION as VARIABLES
from wallie_litellm.config.variables import Overlay, references, variables_of_file
from wallie_litellm.config.yaml_file import FileMissing, FileUnreadable, read_yaml
from wallie_litellm.core.scrubbing import one_line
from wallie_litellm.errors import ConfigError

CREDENTIALS: Final = "credential_list"
DEFAULT_FILE: Final = "router_config.yaml"


@dataclass(frozen=True)
class RouterConfig:
    """One router_config.yaml: LiteLLM's parts as they are written, and ours checked and complete.

    ``chains`` maps a model group to the groups that are tried after it; the head ``*`` serves every other group.
    LiteLLM's parts can hold keys, so they stay out of the repr. ``model_list`` is empty where all models come from the
    proxy's database; it has the values of the file's credentials, and the models and addresses of the variables that it
    names. ``references`` are these and all other variables that LiteLLM's parts name, each with its places;
    ``environment_variables`` those that the file sets, ``other_sections`` the names of the sections that are the
    proxy's alone, each with a digest of its content. ``locate`` names the included file of a key path that begins with
    an index in ``model_list``; ``files`` are the file itself and those that it includes.
    """

    path: Path
    model_list: list[dict[str, Any]] = field(repr=False)
    router_settings: dict[str, Any] = field(repr=False)
    litellm_settings: dict[str, Any] = field(repr=False)
    general_settings: dict[str, Any] = field(repr=False)
    wallie: WallieConfig
    chains: Mapping[str, tuple[str, ...]]
    environment_variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    references: Mapping[str, Sequence[str]] = field(default_factory=dict)
    other_sections: Mapping[str, str] = field(default_factory=dict)
    locate: Callable[[str], str] = field(default=str, repr=False, compare=False)
    files: tuple[Path, ...] = ()

    @property
    def groups(self) -> tuple[str, ...]:
        """The model groups, each once, in the order of ``model_list``."""
        return litellm_sections.group_names(self.model_list)

    def chain(self, group: str) -> tuple[str, ...]:
        """The groups that are tried after ``group``, in order."""
        members = self.chains.get(group, self.chains.get(ANY_GROUP, ()))
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
        hint = "; `wallie-litellm init` writes one to begin with" if isinstance(error, FileMissing) else ""
        raise _refusal(file, [Problem("", f"{error}{hint}")]) from None
    return _build(data, file, env, repeated)


def parse_config(
    data: Mapping[str, Any], path: str | os.PathLike[str] = DEFAULT_FILE, *, env: Mapping[str, str] | None = None
) -> RouterConfig:
    """The same for what a file would hold; messages name ``path``, and files that it includes are beside that."""
    return _build(data, Path(path), os.environ if env is None else env, [])


def _build(data: Any, path: Path, env: Mapping[str, str], problems: list[Problem]) -> RouterConfig:
    if not isinstance(data, Mapping) or not data:
        problems = [*problems, _no_content(data)]
        raise _refusal(path, problems)
    included = with_includes(data, path)
    data = included.data
    variables, variable_problems = variables_of_file(data.get(VARIABLES), env)
    env = {**env, **variables}
    elsewhere = litellm_sections.models_from_database(data, env)
    chains, chain_problems = read_chains(data, more_groups=elsewhere)
    wallie, wallie_problems = _read_wallie(data.get("wallie"), env)
    problems = [
        *problems,
        *included.problems,
        *variable_problems,
        *litellm_sections.check_top_level(data),
        *litellm_sections.check_model_list(data.get("model_list"), may_be_empty=elsewhere),
        *litellm_sections.check_timeouts(data),
        *chain_problems,
        *wallie_problems,
    ]
    if wallie is not None:
        problems += _routing_problems(wallie, data, more_groups=elsewhere)
    if problems or wallie is None:
        raise _refusal(path, [problem._replace(where=included.locate(problem.where)) for problem in problems])
    sections = {name: dict(data.get(name) or {}) for name in litellm_sections.SECTIONS[1:4]}
    return RouterConfig(
        path=path,
        model_list=_complete_models(data, env),
        wallie=wallie,
        chains=chains,
        environment_variables=variables,
        references=references({name: data.get(name) for name in (*litellm_sections.SECTIONS[:4], CREDENTIALS)}),
        other_sections={name: _digest(data[name]) for name in litellm_sections.OTHER_SECTIONS if data.get(name)},
        locate=included.locate,
        files=(path, *included.files),
        **sections,
    )


def _routing_problems(wallie: WallieConfig, data: Mapping[Any, Any], *, more_groups: bool) -> list[Problem]:
    callable_names = named_in(data, more_groups=more_groups)
    of_features = {name: own.tier for name, own in wallie.features.items() if own.tier is not None}
    routing = wallie.routing
    found = [
        *tier_problems(routing.tiers, routing.auto, of_features, callable_names.groups, callable_names.has),
        *experiment_problems(wallie.experiments, routing.tiers, callable_names.has),
    ]
    return [Problem(f"wallie.{problem.where}", problem.text) for problem in found]


def _complete_models(data: Mapping[Any, Any], env: Mapping[str, str]) -> list[dict[str, Any]]:
    """The ``model_list`` with what it refers to: credentials, variables that say what is called, prices as numbers."""
    credentials = litellm_sections.credentials(data.get(CREDENTIALS))
    entries = (litellm_sections.with_credentials(entry, credentials) for entry in data.get("model_list") or ())
    named = (litellm_sections.with_variables_named(entry, env) for entry in entries)
    return [litellm_sections.with_prices_as_numbers(entry) for entry in named]


def _digest(section: object) -> str:
    return sha256(json.dumps(section, sort_keys=True, default=str).encode()).hexdigest()


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
    data = Overlay(dict(section or {}), env)
    try:
        return WallieConfig.model_validate(data.values), data.problems
    except ValidationError as error:
        found = from_validation(error, WallieConfig, "wallie")
        return None, [*data.problems, *(data.with_source(problem) for problem in found)]
