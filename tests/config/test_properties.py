"""Whatever is written, the answer is a configuration or a `ConfigError` whose lines are complete."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft7Validator

from wallie_litellm.config import KpiSettings, RouterConfig, WallieConfig, load_config, parse_config, parse_duration
from wallie_litellm.config.json_schema import router_config_schema
from wallie_litellm.config.models import AdmissionSettings, BreakerSettings, RetrySettings
from wallie_litellm.errors import ConfigError

SCHEMA = Draft7Validator(router_config_schema())
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dates()
MODELS = [{"model_name": "a", "litellm_params": {"model": "openai/a"}}]
NUMBERS = st.integers(0, 10**6) | st.floats(0, 10**6)


def nested(keys: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(keys, inner), max_leaves=12)


def fields_of(*models: Any) -> list[str]:
    return sorted({name for model in models for name in model.model_fields})


KEYS = st.sampled_from([*fields_of(WallieConfig, AdmissionSettings, BreakerSettings, KpiSettings), "openai"]) | SCALARS
TOP = st.sampled_from(["model_list", "wallie", "walie", "router_settings", "fallbacks", "litellm_settings"]) | SCALARS


def answer(data: Any) -> RouterConfig | list[str]:
    try:
        read = parse_config(data, env={})
        assert SCHEMA.is_valid(json.loads(json.dumps(data, default=str))), "the schema is stricter than the check"
        return read
    except ConfigError as error:
        problems = list(error.problems)
    assert problems
    assert all(line.startswith("router_config.yaml: ") and "\n" not in line for line in problems)
    return problems


@given(nested(KEYS))
@settings(max_examples=300, deadline=None)
def test_any_wallie_section_is_a_value_or_a_config_error(section: Any) -> None:
    answer({"model_list": MODELS, "wallie": section})


@given(st.dictionaries(TOP, nested(TOP)) | nested(TOP))
@settings(max_examples=300, deadline=None)
def test_any_document_is_a_value_or_a_config_error(data: Any) -> None:
    answer(data)


@given(st.binary())
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_a_value_or_a_config_error(tmp_path: Path, raw: bytes) -> None:
    file = tmp_path / "c.yaml"
    file.write_bytes(raw)
    with pytest.raises(ConfigError):
        load_config(file, env={})


@given(SCALARS)
@settings(max_examples=300, deadline=None)
def test_any_duration_is_seconds_or_a_config_error(value: Any) -> None:
    found = answer({"model_list": MODELS, "wallie": {"admission": {"max_wait": value}}})
    if isinstance(found, RouterConfig):
        assert math.isfinite(found.wallie.admission.max_wait)
        assert found.wallie.admission.max_wait >= 0
    else:
        assert len(found) == 1


@given(NUMBERS, st.sampled_from([("ms", 0.001), ("s", 1), ("m", 60), ("h", 3600), ("d", 86400)]))
def test_a_duration_is_its_number_times_its_unit(number: float, unit: tuple[str, float]) -> None:
    name, seconds = unit
    text = f"{number:f}"
    if float(text) * seconds <= 366 * 86400:
        assert parse_duration(text + name) == pytest.approx(float(text) * seconds)


@pytest.mark.parametrize(
    "value",
    [
        *("", " ", "s", "5", "5x", "5 seconds", "-5s", "1e3s", "1_0s", "٣s", "5S", "1h30m", "inf", "nan", "∞s"),
        *(True, None, [], {}, -1, math.inf, math.nan, 10**400),
    ],
)
def test_what_is_not_a_duration_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="expected a duration"):
        parse_duration(value)


@pytest.mark.parametrize(
    ("value", "seconds"), [(0, 0), (30, 30), (1.5, 1.5), ("250ms", 0.25), ("2s", 2), (".5m", 30), (" 1 h ", 3600)]
)
def test_what_is_a_duration_is_seconds(value: object, seconds: float) -> None:
    assert parse_duration(value) == pytest.approx(seconds)


@given(st.floats(0, 1000), st.floats(0, 1000))
def test_initial_never_exceeds_max(initial: float, longest: float) -> None:
    found = answer({"model_list": MODELS, "wallie": {"retry": {"initial": initial, "max": longest}}})
    assert isinstance(found, RouterConfig) == (initial <= longest)
    assert isinstance(found, list) or isinstance(found.wallie.retry, RetrySettings)
