"""`wallie-litellm route`: where a request would go first, and why."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_support import one_line_of, run

FILE = """
model_list:
  - {model_name: mini, litellm_params: {model: openai/gpt-4o-mini, api_key: fake}}
  - {model_name: large, litellm_params: {model: openai/gpt-4o, api_key: fake}}
router_settings:
  fallbacks: [{mini: [large]}]
wallie:
  ledger: null
  features: {faq: {tier: flash}}
  routing:
    tiers: {flash: [mini], premium: [large, mini]}
    auto: {simple: flash, medium: flash, complex: premium}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "router_config.yaml"
    path.write_text(FILE)
    return path


def test_auto_is_explained_by_tier_score_and_chain(config: Path) -> None:
    found = json.loads(run("route", "Hello!", "--config", config, "--json").output)
    assert (found["first"], found["tier"], found["auto"]["level"]) == ("mini", "flash", "simple")
    lines = run("route", "Hello!", "--config", config).output.splitlines()
    assert lines[0] == "first: mini"
    assert any(line.startswith("auto:  flash (simple, score ") for line in lines)


@pytest.mark.parametrize(
    ("options", "first", "then", "tier"),
    [
        (("--model", "mini"), "mini", ["large"], None),
        (("--tier", "premium"), "large", ["mini"], "premium"),
        (("--feature", "faq"), "mini", [], "flash"),
    ],
    ids=["a group", "a tier", "a feature's tier"],
)
def test_a_request_goes_where_it_says(
    config: Path, options: tuple[str, ...], first: str, then: list[str], tier: str | None
) -> None:
    found = json.loads(run("route", "Hello!", *options, "--config", config, "--json").output)
    assert (found["first"], found["then"], found["tier"]) == (first, then, tier)


@pytest.mark.parametrize("option", ["--tier", "--model"])
def test_an_unknown_name_is_one_line(config: Path, option: str) -> None:
    result = run("route", "Hello!", option, "flsh", "--config", config)
    assert result.exit_code == 2
    assert "flsh" in one_line_of(result)
