"""Environment variables: those that the file sets for itself, and those that override its ``wallie:`` section."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from wallie_litellm.config.problems import Problem, wrong

ENV_REFERENCE: Final = "os.environ/"  # LiteLLM's way to name a variable in the file
SECTION: Final = "environment_variables"

# Variables that LiteLLM's proxy takes from no file, since they change how processes start or reach the network.
PROTECTED: Final = frozenset(
    {
        *("PATH", "LD_PRELOAD", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "DYLD_INSERT_LIBRARIES"),
        *("PYTHONPATH", "PYTHONSTARTUP", "PYTHONHOME", "HOME", "USER", "SHELL", "LOGNAME", "NO_PROXY", "no_proxy"),
    }
)

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

_WEBHOOKS: Final = ("telemetry", "webhooks")  # a mapping by name, whose values may name variables


def variables_of_file(section: object, env: Mapping[str, str]) -> tuple[dict[str, str], list[Problem]]:
    """The variables that ``environment_variables`` sets, as LiteLLM's proxy does, and what is wrong with them.

    One that is empty, or refers to a variable which ``env`` does not have, is not set.
    """
    if section is None:
        return {}, []
    if not isinstance(section, Mapping):
        return {}, [wrong(SECTION, section, "a mapping of names to values")]
    given: dict[str, str] = {}
    problems: list[Problem] = []
    for name, value in section.items():
        if not isinstance(name, str) or not name or "=" in name or "\0" in name:
            problems.append(Problem(SECTION, "a key is no name of a variable"))
        elif not isinstance(value, str | int | float | None) or "\0" in str(value):
            kind = type(value).__name__  # never the value: it may be a key
            problems.append(Problem(f"{SECTION}.{name}", f"found a {kind}, expected text or a number"))
        elif name not in PROTECTED and (text := resolved(value, env)) is not None:
            given[name] = str(text)
    return given, problems


def references(sections: Mapping[str, object]) -> dict[str, list[str]]:
    """The variables that ``sections`` name, each with its places in them."""
    places: dict[str, list[str]] = {}
    for section, value in sections.items():
        for where, name in _named_in(section, value, set()):
            places.setdefault(name, []).append(where)
    return places


def _named_in(where: str, value: object, seen: set[int]) -> Iterator[tuple[str, str]]:
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
        yield from _named_in(where + step, inner, seen)


def resolved(value: object, env: Mapping[str, str]) -> object:
    """``value``, or that of the variable which it names; ``None`` where that is not set."""
    if isinstance(value, str) and value.startswith(ENV_REFERENCE):
        return env.get(value.removeprefix(ENV_REFERENCE))
    return value


def resolved_within(value: Any, env: Mapping[str, str]) -> Any:
    """A copy of ``value`` in which every text that names a variable is that variable's value, at any depth."""
    if isinstance(value, Mapping):
        return {key: resolved_within(inner, env) for key, inner in value.items()}
    if isinstance(value, list):
        return [resolved_within(inner, env) for inner in value]
    return resolved(value, env)


class Overlay:
    """The ``wallie:`` section with the environment laid over it; the caller's mappings stay as they are."""

    def __init__(self, values: dict[Any, Any], env: Mapping[str, str]) -> None:
        self.values = values
        self.problems: list[Problem] = []
        self._sources: dict[str, str] = {}
        for name, keys in ENVIRONMENT.items():
            self._resolve_reference(keys, env)
            if env.get(name) and self._applies(name):
                self._put(keys, env[name], name)
        for name in filter(lambda name: isinstance(name, str), list(self._parent((*_WEBHOOKS, "")) or ())):
            for key in ("url", "secret"):
                self._resolve_reference((*_WEBHOOKS, name, key), env)

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
