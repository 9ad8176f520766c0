"""router_config.yaml in JSON Schema, made from the models that read it: for editors, and for tools that check files.

It says what one key may have: names, kinds, bounds and meanings. What keys have to do with each other, and with the
models that LiteLLM knows, ``wallie-litellm check`` says alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from wallie_litellm.config import value_schemas as schemas
from wallie_litellm.config.chains import FALLBACK_LISTS
from wallie_litellm.config.litellm_sections import OTHER_SECTIONS
from wallie_litellm.config.models import WallieConfig

# Editors read this draft in full, and later ones in part.
DRAFT: Final = "http://json-schema.org/draft-07/schema#"
_NULL: Final[schemas.Schema] = {"type": "null"}
_ANY_MAPPING: Final[schemas.Schema] = {"type": ["object", "null"]}
_SECONDS: Final = schemas.either(schemas.number(exclusiveMinimum=0), schemas.REFERENCE, _NULL)
# LiteLLM takes amounts as text too, as which YAML reads 1e-6.
_AMOUNT: Final = schemas.either(
    schemas.number(minimum=0),
    schemas.text(r"^\s*\+?([0-9_]+\.?[0-9_]*|\.[0-9_]+)([eE][+-]?[0-9_]+)?\s*$|^os\.environ/."),
    {"type": ["object", "null"]},
)
_CHAIN: Final = schemas.listed(schemas.either(schemas.text(), {"type": "object"}), 1)
_CHAINS: Final = schemas.either(
    schemas.listed({"type": "object", "minProperties": 1, "maxProperties": 1, "additionalProperties": _CHAIN}),
    _NULL,
)
_FALLBACKS: Final[schemas.Schema] = {
    **dict.fromkeys(FALLBACK_LISTS, _CHAINS),
    "default_fallbacks": schemas.either(_CHAIN, _NULL),
}
_PRICES: Final = {"cost_per_|_token_cost": _AMOUNT}


def schema_text() -> str:
    """The schema as the file beside a router_config.yaml has it."""
    return json.dumps(router_config_schema(), indent=1, ensure_ascii=False) + "\n"


def router_config_schema() -> schemas.Schema:
    """The schema of the whole file: ``wallie:`` in full, and of LiteLLM's sections what is read here."""
    wallie = WallieConfig.model_json_schema(schema_generator=_Generator)
    definitions = wallie.pop("$defs")
    return {
        "$schema": DRAFT,
        "title": "router_config.yaml",
        "description": "LiteLLM's configuration, with the section of Wallie LiteLLM.",
        "type": "object",
        "minProperties": 1,
        "properties": {
            **_litellm_sections(),
            **{name: {} for name in sorted(OTHER_SECTIONS - {"include", "environment_variables"})},
            "wallie": schemas.either(wallie, _NULL),
        },
        "$defs": definitions,
    }


def _litellm_sections() -> dict[str, schemas.Schema]:
    return {
        "model_list": {
            "description": "Deployments, each in a model group.",
            **schemas.either(schemas.listed(_deployment()), _NULL),
        },
        "router_settings": {
            "description": "Arguments of LiteLLM's Router, the chains (fallbacks) among them.",
            **_ANY_MAPPING,
            "properties": {"timeout": _SECONDS, "stream_timeout": _SECONDS, **_FALLBACKS},
        },
        "litellm_settings": {
            "description": "Settings of LiteLLM itself.",
            **_ANY_MAPPING,
            "properties": {"request_timeout": _SECONDS, **_FALLBACKS},
        },
        "general_settings": {"description": "Settings of LiteLLM's proxy.", **_ANY_MAPPING},
        "include": {
            "description": "Further files, relative to this one.",
            **schemas.either(schemas.listed(schemas.text()), _NULL),
        },
        "environment_variables": {
            "description": "Variables that the file sets for itself.",
            **_ANY_MAPPING,
            "additionalProperties": {"type": ["string", "number", "boolean", "null"]},
        },
    }


def _deployment() -> schemas.Schema:
    params = {"model": {"description": "Vendor and model, such as openai/gpt-4o.", **schemas.text()}}
    limits = dict.fromkeys(("rpm", "tpm"), _AMOUNT)
    info = {"wallie_provider": {"description": "Name of the provider whose limits it has.", **schemas.text()}}
    return {
        "type": "object",
        "required": ["model_name", "litellm_params"],
        "properties": {
            "model_name": {"description": "The model group that callers ask for.", **schemas.text()},
            "litellm_params": {
                "type": "object",
                "required": ["model"],
                "properties": {**params, **limits},
                "patternProperties": _PRICES,
            },
            "model_info": {**_ANY_MAPPING, "properties": info, "patternProperties": _PRICES},
        },
    }


def _or_empty(section: schemas.Schema) -> schemas.Schema:
    """A key of ``wallie:``, which has its defaults where it is left empty."""
    about: schemas.Schema = {name: section[name] for name in ("description", "default") if name in section}
    own = {name: value for name, value in section.items() if name not in about}
    return {**schemas.either(own, *([] if _NULL in own.get("anyOf", ()) else [_NULL])), **about}


class _Generator(GenerateJsonSchema):
    """The models' own schema, as the file has it: plain words, sections that may be empty, defaults of values alone."""

    def generate(self, schema: core_schema.CoreSchema, mode: Any = "validation") -> JsonSchemaValue:
        made = super().generate(schema, mode)
        made["properties"] = {name: _or_empty(one) for name, one in made["properties"].items()}
        for section in (made, *made["$defs"].values()):
            section["description"] = section["description"].replace("``", "`")  # from RST
        return made

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def get_title_from_name(self, name: str) -> str:
        return name

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        made = super().default_schema(schema)
        if isinstance(made.get("default"), Mapping):
            del made["default"]
        return made

    def encode_default(self, dft: Any) -> Any:
        return str(dft) if hasattr(dft, "_fields") else super().encode_default(dft)
