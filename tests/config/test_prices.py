"""Prices that a deployment gives itself."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from wallie_litellm.config import RouterConfig, parse_config
from wallie_litellm.errors import ConfigError

PLACES = ("model_info", "litellm_params")


def parse(text: str) -> RouterConfig:
    return parse_config(yaml.safe_load(text), env={})


def with_price(place: str, price: object, name: str = "input_cost_per_token") -> dict[str, Any]:
    entry: dict[str, Any] = {"model_name": "a", "litellm_params": {"model": "openai/a"}, "model_info": {}}
    entry[place][name] = price
    return {"model_list": [entry]}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("written", "meant"), [("1e-6", 1e-6), ("2.5e-6", 2.5e-6), ("' 0.5 '", 0.5), ("3", 3.0), ("0", 0.0), ("'0'", 0.0)]
)
def test_a_price_is_a_number_however_it_is_written(place: str, written: str, meant: float) -> None:
    other = "{model: openai/a}" if place == "model_info" else f"{{model: openai/a, input_cost_per_token: {written}}}"
    info = f"{{input_cost_per_token: {written}}}" if place == "model_info" else "{}"
    config = parse(f"model_list: [{{model_name: a, litellm_params: {other}, model_info: {info}}}]")
    price = config.model_list[0][place]["input_cost_per_token"]
    assert isinstance(price, float)
    assert price == meant


@pytest.mark.parametrize(
    "name",
    [
        "output_cost_per_token",
        "cache_read_input_token_cost",
        "cache_creation_input_token_cost_above_1hr",
        "input_cost_per_token_above_200k_tokens",
        "output_cost_per_second",
        "cost_per_second",
        "ocr_cost_per_page",
    ],
)
@pytest.mark.parametrize("place", PLACES)
def test_every_kind_of_price_is_read(place: str, name: str) -> None:
    assert parse_config(with_price(place, "1e-6", name), env={}).model_list[0][place][name] == 1e-6
    with pytest.raises(ConfigError, match=f"{place}.{name}: found 'cheap', expected an amount in US dollars"):
        parse_config(with_price(place, "cheap", name), env={})


@pytest.mark.parametrize("price", [None, "os.environ/PRICE", {"search_context_size_low": 0.01}])
@pytest.mark.parametrize("place", PLACES)
def test_what_only_litellm_can_read_stays_as_it_is(place: str, price: object) -> None:
    assert parse_config(with_price(place, price), env={}).model_list[0][place]["input_cost_per_token"] == price


@pytest.mark.parametrize("price", [-1, "-1e-6", float("nan"), float("inf"), "inf", 10**400, "", True, [1e-6]])
@pytest.mark.parametrize("place", PLACES)
def test_what_is_no_price_is_refused(place: str, price: object) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(with_price(place, price), env={})
    [problem] = caught.value.problems
    assert f"model_list[0].{place}.input_cost_per_token: found" in problem


def test_a_key_in_the_place_of_a_price_is_not_shown() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(with_price("litellm_params", "sk-proj-0123456789abcdef"), env={})
    assert "0123456789" not in str(caught.value.problems)


def test_the_callers_own_data_is_not_changed() -> None:
    data = with_price("model_info", "1e-6")
    parse_config(data, env={})
    assert data == with_price("model_info", "1e-6")
