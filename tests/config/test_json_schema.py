"""The JSON Schema of router_config.yaml: true of every file that is shipped, and false of mistakes in single keys."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator
from test_broken_files import BROKEN, expectation

from wallie_litellm.config.json_schema import DRAFT, router_config_schema, schema_text
from wallie_litellm.config.values import parse_duration

ROOT = Path(__file__).parents[2]
SCHEMA = Draft7Validator(router_config_schema())
SHIPPED = [ROOT / "router_config.yaml", *ROOT.glob("examples/**/*.yaml")]
# Mistakes for which JSON Schema has no words: other keys, time zones, the length of a time in text, endless numbers,
# and single characters of names.
BEYOND = {
    *("budget_of_a_day_above_the_month", "budget_without_a_limit", "duration_is_years"),
    *("budget_of_a_key_without_a_limit",),
    *("experiment_shares_below_one", "feature_ends_with_a_space", "feature_is_a_number"),
    *("feature_patience_above_max_wait", "folder_of_time_zones", "misspelt_router_settings"),
    *("misspelt_wallie", "model_entry_states_nothing", "model_list_is_empty"),
    *("model_pattern_is_a_number", "model_pattern_with_a_nul", "model_pattern_without_its_bracket"),
    *("no_model_list", "open_for_above_max", "patience_above_max_wait"),
    *("price_is_endless", "retention_of_years", "retry_initial_above_max"),
    *("store_timeout_is_too_long", "warning_above_critical"),
}


def content(path: Path) -> Any:
    """A file as editors see it, whose keys are text."""
    return json.loads(json.dumps(yaml.safe_load(path.read_text()), default=str))


def is_about_one_key(path: Path) -> bool:
    mistake = expectation(path)
    if path.stem == "two_documents":
        return False
    return "unknown key" in mistake or re.search("(found [^:]+,|missing,|:) expected ", mistake) is not None


def test_the_file_in_the_repository_is_what_the_models_say() -> None:
    Draft7Validator.check_schema(SCHEMA.schema)
    assert SCHEMA.schema["$schema"] == DRAFT == Draft7Validator.META_SCHEMA["$schema"]
    assert (ROOT / "router_config.schema.json").read_text() == schema_text(), "run make site"


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.parent.name + "/" + path.name)
def test_a_shipped_file_is_valid(path: Path) -> None:
    SCHEMA.validate(content(path))


def test_a_wrong_key_or_kind_is_found_and_the_check_knows_the_rest() -> None:
    about_one_key = list(filter(is_about_one_key, BROKEN))
    assert len(about_one_key) > 100
    assert {path.stem for path in about_one_key if SCHEMA.is_valid(content(path))} == BEYOND


@pytest.mark.parametrize(
    "value",
    [
        "2s",
        " 2.5 m ",
        ".5h",
        "0s",
        "0.0 d",
        "00.10ms",
        "5",
        "",
        "s",
        "1 week",
        "1e3s",
        "-1s",
        0,
        30,
        -1,
        0.5,
        True,
    ],
)
def test_a_duration_is_one_where_it_is_one_for_the_check(value: object) -> None:
    try:
        seconds = parse_duration(value)
    except ValueError:
        seconds = -1
    for key, allowed in (("max_wait", seconds >= 0), ("reservation_ttl", seconds > 0)):
        assert SCHEMA.is_valid({"wallie": {"admission": {key: value}}}) is allowed, key
