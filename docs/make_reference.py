"""Writes what is made from the models of ``wallie_litellm.config``; ``make site`` runs it.

These are ``docs/configuration-reference.md`` and ``router_config.schema.json``.

A value's kind is what the error message for a wrong one says is expected; the examples are those of
``docs/configuration.md``, which the suite parses.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple, get_args, get_origin

import yaml
from pydantic import BaseModel, SecretStr, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from wallie_litellm.config import WallieConfig
from wallie_litellm.config.json_schema import schema_text

DOCS: Final = Path(__file__).parent
PAGE: Final = DOCS / "configuration-reference.md"
SCHEMA: Final = DOCS.parent / "router_config.schema.json"
NAMES: Final = {  # what stands for the name in a mapping whose names are the file's own
    "providers": "PROVIDER",
    "models": "PATTERN",
    "features": "FEATURE",
    "keys": "KEY",
    "experiments": "EXPERIMENT",
    "webhooks": "WEBHOOK",
}
HEAD: Final = """# Reference of the configuration

Every key below `wallie:`, made from the models that read the file. What the keys are for, and how they go together, is
told under [Configuration](configuration.md). Names in capitals are the file's own. A duration is a number of seconds,
or text with a unit: `250ms`, `2s`, `5m`, `1h`, `1d`; at most `366d`. A whole number is at most 10^15. `store.url`,
`ledger.url`, `admin_token`, and under `telemetry` the addresses and secrets of PostHog, Slack, Sentry and webhooks may
be `os.environ/NAME`. Where a key has no default, it is required.
"""


WRONG: Final = (object(), 0, "")  # of each kind of value, at least the first is refused
MORE: Final[Mapping[str, Any]] = {  # examples of keys that the page of the configuration shows without a value
    "itpm": 100_000,
    "otpm": 20_000,
    "rpd": 10_000,
    "tpm": 100_000,
    "tpd": 5_000_000,
    "concurrency": 20,
    "first_token": "8s",
    "error_rate": 0.5,
    "slow_call": "20s",
    "ramp": "30s",
    "switch_at": 0.9,
    "admin_token": "os.environ/WALLIE_ADMIN_TOKEN",
    "max_usd_day": 5,
    "ttl": "1h",
    "reasoning": "premium",
    "daily_usd": 20,
    "monthly_usd": 300,
    "on_exhausted": "alert",
}
COLUMNS: Final = ("| key | value | default | meaning | example |", "| --- | --- | --- | --- | --- |")


class Key(NamedTuple):
    """One key of the file: its path, its field, and the section that is its value, if there is one."""

    path: tuple[str, ...]
    field: FieldInfo
    section: type[BaseModel] | None


def section_in(annotation: Any) -> type[BaseModel] | None:
    """The section that a value of this type is, or has under its names."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(section_in, get_args(annotation))), None)


def is_named(annotation: Any) -> bool:
    """Whether a value of this type is a mapping, whose names are the file's own."""
    origin = get_origin(annotation)
    return isinstance(origin, type) and issubclass(origin, Mapping)


def sections(model: type[BaseModel] = WallieConfig, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The paths of all sections, each before those in it."""
    yield path
    for key in keys(model, path):
        if key.section is not None:
            yield from sections(key.section, below(key))


def below(key: Key) -> tuple[str, ...]:
    """The path of the section that is a key's value."""
    return (*key.path, NAMES[key.path[-1]]) if is_named(key.field.annotation) else key.path


def keys(model: type[BaseModel], path: tuple[str, ...]) -> Iterator[Key]:
    """The keys of one section."""
    for name, field in model.model_fields.items():
        yield Key((*path, name), field, section_in(field.annotation))


def all_keys(model: type[BaseModel] = WallieConfig, path: tuple[str, ...] = ()) -> Iterator[Key]:
    """The keys of a section and of those in it."""
    for key in keys(model, path):
        yield key
        if key.section is not None:
            yield from all_keys(key.section, below(key))


def kind(key: Key) -> str:
    """What the file may have there, in the words of the error for a wrong value."""
    named = is_named(key.field.annotation)
    if not is_plain(key):
        anchor = "".join(re.sub(r"[^\w-]", "", part.lower()) for part in below(key))
        return f"[{'sections by name' if named else 'section'}](#{anchor})"
    annotation = key.field.annotation
    if named:
        name, value = get_args(annotation)
        allowed = f" of {allowed_by(name)}" if get_args(name) else ""
        return f"mapping{allowed} to {allowed_by(value)}"
    return allowed_by(Annotated[(annotation, *key.field.metadata)] if key.field.metadata else annotation)


def allowed_by(annotation: Any) -> str:
    """What the errors of this type say is expected: the one that says most."""
    texts = [text for wrong in WRONG for text in refusals(TypeAdapter(annotation), wrong)]
    return re.sub(r"a duration such as 30, .*? or '1d'", "a duration", max(texts, key=len)).replace("|", "\\|")


def refusals(adapter: TypeAdapter[Any], value: object) -> Iterator[str]:
    """What is expected in place of ``value``, where it is refused."""
    try:
        adapter.validate_python(value)
    except ValidationError as error:
        for one in error.errors():
            context = one.get("ctx") or {}
            yield str(context.get("text") or context.get("expected") or "text")


def default(key: Key) -> str:
    """The default as the file would have it; empty where there is none to show."""
    field = key.field
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if key.section is not None and value is not None:
        return ""
    if isinstance(value, SecretStr):
        raise TypeError(f"{'.'.join(key.path)} has a secret in the code")
    if isinstance(value, float) and value == int(value):
        value = int(value)
    seconds = isinstance(value, int | float) and not isinstance(value, bool) and "duration" in kind(key)
    return f"`{written(value)}`" + (" s" if seconds else "")


def written(value: Any) -> str:
    """A value on one line of YAML."""
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        value = str(value)
    plain = list(value) if isinstance(value, tuple) else dict(value) if isinstance(value, Mapping) else value
    text: str = yaml.safe_dump(plain, default_flow_style=True, width=1000, sort_keys=False)
    return text.strip().removesuffix("...").strip()


def shown() -> Any:
    """The ``wallie:`` section that the page of the configuration shows."""
    text = (DOCS / "configuration.md").read_text()
    (block,) = (found for found in re.findall(r"```yaml\n(.*?)```", text, re.S) if found.startswith("wallie:\n  prov"))
    return yaml.safe_load(block)["wallie"]


def examples(path: tuple[str, ...], value: Any) -> Iterator[Any]:
    """What a part of the file has at ``path``; a name in capitals is any that the file has there."""
    if not path:
        yield value
    elif isinstance(value, Mapping):
        if path[0] in NAMES.values():
            for one in value.values():
                yield from examples(path[1:], one)
        elif path[0] in value:
            yield from examples(path[1:], value[path[0]])


def example(key: Key, file: Any) -> Any:
    """An example of a key that is no section: what the file shows, or the default, or one of ``MORE``."""
    usual = None if key.field.is_required() else key.field.get_default(call_default_factory=True)
    found = [value for value in examples(key.path, file) if value is not None]
    return found[0] if found else MORE[key.path[-1]] if usual is None else usual


def is_plain(key: Key) -> bool:
    """Whether the key has a value of its own, and not only those of the keys below it."""
    return key.section is None or key.path[-1] == "cache"


def page() -> str:
    """The whole page."""
    file, parts = shown(), [HEAD]
    models = {(): WallieConfig, **{below(key): key.section for key in all_keys() if key.section is not None}}
    for path in sections():
        model = models[path]
        name = ".".join(path) or "wallie"
        rows = [
            f"| `{key.path[-1]}` | {kind(key)} | {default(key)} | {key.field.description} | "
            f"{f'`{written(example(key, file))}`' if is_plain(key) else ''} |"
            for key in keys(model, path)
        ]
        told = inspect.getdoc(model) or ""
        parts.append("\n".join(["", f"## {name}", "", told.replace("``", "`"), "", *COLUMNS, *rows, ""]))
    return "".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page())
    SCHEMA.write_text(schema_text())
