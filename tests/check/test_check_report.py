"""The check of the shipped file, and the command."""

from __future__ import annotations

from pathlib import Path

import litellm
import pytest
from click.testing import CliRunner

from wallie_litellm.cli import main
from wallie_litellm.config import load_config


def test_the_shipped_file_passes(shipped: Path, fake_keys: pytest.MonkeyPatch) -> None:
    result = CliRunner().invoke(main, ["check", str(shipped)])
    assert result.exit_code == 0, result.stderr
    assert result.stderr == ""
    notes = [line for line in result.stdout.splitlines() if line.startswith("note:")]
    [note] = [note for note in notes if " ends on " not in note]  # a model may be near its end
    assert "in LiteLLM the chain of 'claude-opus-4' goes on" in note
    for shown in ("gpt-4o", "claude-sonnet-4, gemini-2.0-flash, llama-3.1-8b", "rpm 500, tpm 150,000, rpd 10,000"):
        assert shown in result.stdout


def test_the_shipped_file_passes_without_keys_when_they_are_ignored(
    shipped: Path, clean_env: pytest.MonkeyPatch
) -> None:
    assert CliRunner().invoke(main, ["check", str(shipped)]).exit_code == 1
    assert CliRunner().invoke(main, ["check", "--ignore-keys", str(shipped)]).exit_code == 0


def test_the_shipped_file_has_the_designs_groups_chains_and_limits(shipped: Path) -> None:
    config = load_config(shipped, env={})
    assert set(config.groups) == {
        *("gpt-4o", "gpt-4o-mini", "claude-sonnet-4", "claude-opus-4", "gemini-2.0-flash-thinking"),
        *("gemini-2.0-flash", "llama-3.3-70b", "llama-3.1-8b", "deepseek-chat", "text-embedding-3-small"),
    }
    assert config.chains == {
        "gpt-4o": ("claude-sonnet-4", "gemini-2.0-flash-thinking", "llama-3.3-70b"),
        "gpt-4o-mini": ("claude-sonnet-4", "gemini-2.0-flash", "llama-3.1-8b"),
        "claude-opus-4": ("gpt-4o", "gemini-2.0-flash-thinking"),
    }
    assert config.wallie == load_config(shipped, env={}).wallie.model_validate({})


def test_the_shipped_file_builds_litellms_router(shipped: Path, fake_keys: pytest.MonkeyPatch) -> None:
    config = load_config(shipped)
    router = litellm.Router(model_list=config.model_list, **config.router_settings)
    try:
        assert router.disable_cooldowns is True
        assert set(router.get_model_names()) == set(config.groups)
        assert set(config.router_settings) <= set(litellm.Router.get_valid_args())
    finally:
        router.discard()


def test_notes_do_not_change_the_exit_code(tmp_path: Path, fake_keys: pytest.MonkeyPatch) -> None:
    file = tmp_path / "c.yaml"
    model = "model_list: [{model_name: a, litellm_params: {model: openai/gpt-4o}}]"
    file.write_text(f"{model}\nwallie: {{telemetry: {{slack: {{}}}}}}\n")
    result = CliRunner().invoke(main, ["check", "--library", "--config", str(file)])
    assert result.exit_code == 0
    assert f"note: {file}: wallie.telemetry.slack: " in result.stdout


def test_file_and_config_that_differ_are_a_usage_error() -> None:
    result = CliRunner().invoke(main, ["check", "a.yaml", "--config", "b.yaml"])
    assert result.exit_code == 2
    assert "not both" in result.stderr
