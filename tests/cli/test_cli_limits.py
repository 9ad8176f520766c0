"""`wallie-litellm limits`: of a running proxy, of a file alone, and as a section of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from cli_support import StandIn, json_answer, problem, run

from wallie_litellm.config import WallieConfig


def row(configured: object = None, learned: int | None = None, limit: int | None = None, **more: Any) -> dict[str, Any]:
    usual = {"source": "headers" if learned else None, "seen_at": "2026-11-28T10:00:00Z" if learned else None}
    return {"configured": configured, "learned": learned, **usual, "limit": limit, "used": 7, "left": 12.6, **more}


LIMITS = {
    "providers": {
        "openai": {
            "scopes": {
                "": {"learn": "enforce", "limits": {"rpm": row(500, 60, 500), "tpm": row("auto", None, 9000)}},
                "gpt-4o*": {"learn": "enforce", "limits": {"rpm": row(100, 60, 60), "tpm": row(None, 30000, 30000)}},
                "o3": {"learn": "advise", "limits": {"rpm": row(None, 20)}},
            }
        },
        "groq": {"scopes": {"": {"learn": "off", "limits": {}}}},
    }
}


@pytest.fixture(autouse=True)
def answers(stand_in: StandIn) -> None:
    stand_in.answers["GET", "/wallie/api/limits"] = json_answer(LIMITS)


def test_a_servers_limits_are_a_table(stand_in: StandIn) -> None:
    result = run("limits", "--url", stand_in.url)
    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.stdout.splitlines()]
    seen = ["headers", "2026-11-28", "10:00:00"]
    assert ["openai", "all", "rpm", "500", "60", *seen, "500", "7", "13", "enforce"] in lines
    assert ["all", "tpm", "auto", "-", "9000", "7", "13", "enforce"] in lines
    assert ["gpt-4o*", "tpm", "-", "30000", *seen, "30000", "7", "13", "enforce"] in lines
    assert ["o3", "rpm", "-", "20", *seen, "-", "7", "13", "advise"] in lines


def test_json_is_the_servers_own(stand_in: StandIn) -> None:
    assert json.loads(run("limits", "--url", stand_in.url, "--json").stdout) == LIMITS


def test_write_prints_a_section_that_the_file_takes(stand_in: StandIn) -> None:
    printed = run("limits", "--url", stand_in.url, "--write").stdout
    section = yaml.safe_load(printed)
    assert section == {
        "providers": {
            "openai": {
                "rpm": 500,
                "tpm": "auto",
                "models": {"gpt-4o*": {"rpm": 60, "tpm": 30000}, "o3": {"rpm": 20}},
            }
        }
    }
    assert WallieConfig.model_validate(section).providers["openai"].models["o3"].rpm == 20


def test_write_keeps_what_the_file_has_beside_its_limits(tmp_path: Path) -> None:
    model = {"model_name": "a", "litellm_params": {"model": "gemini/gemini-2.0-flash", "api_key": "fake"}}
    providers = {
        "gemini": {
            "rpm": 60,
            "tpm": "auto",
            "burst": {"rpm": 6},
            "headroom": 0.1,
            "learn": "off",
            "first_token": 5.0,
            "reset_timezone": "UTC",
            "cached_tokens": "include",
            "models": {
                "gemini-2*": {"rpm": 30, "burst": {"rpm": 3}, "headroom": 0.25, "learn": "enforce"},
                "gemma*": {"learn": "advise"},
            },
        },
        "groq": {"first_token": 3.0},
        "openai": {"first_token": "auto"},
    }
    file = tmp_path / "router_config.yaml"
    file.write_text(yaml.safe_dump({"model_list": [model], "wallie": {"providers": providers}}, sort_keys=False))
    printed = run("limits", "--config", str(file), "--write").stdout
    assert yaml.safe_load(printed)["providers"] == providers


def test_write_of_a_server_keeps_settings_and_a_learned_limits_share_of_burst(stand_in: StandIn) -> None:
    account = {"learn": "advise", "settings": {"headroom": 0.2, "cached_tokens": "exclude"}, "limits": {}}
    limits = {"rpm": row(100, 50, 100), "tpm": row("auto", 9000, 9000), "rpd": row(None, 20)}
    settings = {"burst": {"rpm": 10, "tpm": 500}, "learn": "advise"}
    own = {"learn": "advise", "settings": settings, "limits": limits}
    found = {"providers": {"openai": {"scopes": {"": account, "o3": own, "o4": {**own, "limits": {}}}}}}
    stand_in.answers["GET", "/wallie/api/limits"] = json_answer(found)
    section = yaml.safe_load(run("limits", "--url", stand_in.url, "--write").stdout)["providers"]["openai"]
    assert section == {
        "headroom": 0.2,
        "cached_tokens": "exclude",
        "models": {
            "o3": {"rpm": 50, "tpm": "auto", "rpd": 20, "burst": {"rpm": 5, "tpm": 500}, "learn": "advise"},
            "o4": settings,
        },
    }


def test_models_alone_take_no_limits_of_the_vendors_own_address(tmp_path: Path) -> None:
    params = {"model": "openai/gpt-4o", "api_key": "fake", "api_base": "http://127.0.0.1:9/v1"}
    providers = {"openai": {"models": {"gpt-4o*": {"rpm": 30}}}}
    file = tmp_path / "router_config.yaml"
    model = {"model_name": "a", "litellm_params": params}
    file.write_text(yaml.safe_dump({"model_list": [model], "wallie": {"providers": providers}}))
    assert yaml.safe_load(run("limits", "--config", str(file), "--write").stdout)["providers"] == providers


def test_a_server_that_does_not_answer_is_one_line(stand_in: StandIn) -> None:
    stand_in.answers["GET", "/wallie/api/limits"] = problem(404, "wallie_unknown", "no such page")
    result = run("limits", "--url", stand_in.url)
    assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)


def test_without_a_server_the_files_limits_are_shown(tmp_path: Path) -> None:
    file = tmp_path / "router_config.yaml"
    wallie = {"providers": {"openai": {"rpm": 60, "learn": "enforce", "models": {"o*": {"tpm": "auto"}}}}}
    model = {"model_name": "a", "litellm_params": {"model": "openai/gpt-4o", "api_key": "fake"}}
    file.write_text(yaml.safe_dump({"model_list": [model], "wallie": wallie}))
    result = run("limits", "--config", str(file), "--json")
    assert "--url" in result.stderr
    scopes = json.loads(result.stdout)["providers"]["openai"]["scopes"]
    configured = {
        scope: {name: one["configured"] for name, one in own["limits"].items()} for scope, own in scopes.items()
    }
    assert configured == {"": {"rpm": 60}, "o*": {"tpm": "auto"}}
    assert {own["learn"] for own in scopes.values()} == {"enforce"}


def test_the_section_keeps_the_order_of_the_files_entries(tmp_path: Path) -> None:
    models = {"gpt-4o-mini": {"rpm": 300}, "gpt-4o*": {"rpm": 100}}
    file = tmp_path / "router_config.yaml"
    model = {"model_name": "a", "litellm_params": {"model": "openai/gpt-4o", "api_key": "fake"}}
    file.write_text(
        yaml.safe_dump(
            {"model_list": [model], "wallie": {"providers": {"openai": {"models": models}}}}, sort_keys=False
        )
    )
    section = yaml.safe_load(run("limits", "--config", str(file), "--write").stdout)
    assert list(WallieConfig.model_validate(section).providers["openai"].models) == list(models)
