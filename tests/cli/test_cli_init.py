"""``wallie-litellm init``: from an empty folder to a file that the check and the proxy take."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from cli_support import run
from click.testing import Result
from config_fixtures import clean_env, fake_keys, shipped
from support import SHIPPED

from wallie_litellm import build_router
from wallie_litellm.cli import init
from wallie_litellm.cli.init import CONFIG, FILES, STARTER, source_of
from wallie_litellm.errors import ConfigError
from wallie_litellm.proxy.launch import proxy_command

__all__ = ["clean_env", "fake_keys", "shipped"]

REPOSITORY = SHIPPED.parent


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    return empty


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_files_are_the_repositorys_and_a_wheel_is_built_with_them(folder: Path) -> None:
    result = run("init")
    assert result.exit_code == 0
    assert content(folder) == {name: (REPOSITORY / name).read_bytes() for name in FILES}
    wheel = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    starter = {name: f"wallie_litellm/{STARTER}/{name}" for name in FILES}
    assert wheel["force-include"] == {**starter, "docs/playbook.md": "wallie_litellm/docs/playbook.md"}


def test_the_configuration_names_its_schema_beside_it_for_editors(folder: Path) -> None:
    run("init")
    first = (folder / CONFIG).read_text().partition("\n")[0]
    schema = first.removeprefix("# yaml-language-server: $schema=")
    assert (folder / schema).read_text() == run("schema").stdout


def test_the_docs_show_the_callback_as_it_is() -> None:
    assert (REPOSITORY / FILES[1]).read_text() in (REPOSITORY / "docs" / "getting-started.md").read_text()


def test_an_installed_package_writes_what_its_wheel_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packaged = tmp_path / "site-packages" / "wallie_litellm" / STARTER / CONFIG
    packaged.parent.mkdir(parents=True)
    packaged.write_text("model_list: []")
    monkeypatch.setattr(init, "_PACKAGE", packaged.parents[1])
    assert source_of(CONFIG) == packaged


@pytest.mark.usefixtures("shipped")
def test_what_comes_next_is_said_and_works(folder: Path, fake_keys: pytest.MonkeyPatch) -> None:
    said = run("init", "there").stdout
    for line in (
        "wrote there/router_config.yaml",
        "wrote there/callbacks/wallie.py",
        "wrote there/router_config.schema.json",
        "  cd there",
        "  export OPENAI_API_KEY=...  # and ANTHROPIC_API_KEY, GEMINI_API_KEY, GROQ_API_KEY, DEEPSEEK_API_KEY;",
        "  wallie-litellm check ",
        "  wallie-litellm proxy ",
    ):
        assert f"\n{line}" in f"\n{said}"
    fake_keys.chdir(folder / "there")
    assert run("check").exit_code == 0
    command, environment, _ = proxy_command(None, "127.0.0.1", 4000, (), {})
    assert environment["WALLIE_CONFIG"] == f"{folder}/there/{CONFIG}"
    assert environment["WALLIE_CONFIG"] in command


def test_a_file_that_exists_is_kept_unless_forced(folder: Path) -> None:
    (folder / CONFIG).write_text("mine")
    kept = run("init")
    assert (kept.exit_code, (folder / CONFIG).read_text()) == (0, "mine")
    assert kept.stdout.startswith("kept  router_config.yaml: --force replaces it\nwrote callbacks/wallie.py\n")
    assert "_API_KEY" not in kept.stdout
    assert run("init").stdout.count("kept") == len(FILES)
    assert "kept" not in run("init", "--force").stdout
    assert content(folder)[CONFIG] == SHIPPED.read_bytes()


@pytest.mark.parametrize("arguments", [("file",), ("file", "--force"), ("taken",), ("taken", "--force")])
def test_what_cannot_be_written_is_one_line(folder: Path, arguments: tuple[str, ...]) -> None:
    (folder / "file").touch()
    (folder / "taken" / CONFIG).mkdir(parents=True)
    result = run("init", *arguments)
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert "cannot be written" in result.stderr


@pytest.mark.parametrize(
    "command",
    ["check", "proxy", "dashboard", "demo", "demo --live", "status", "kpis", "export", "reset-quota openai --yes"],
)
def test_a_command_that_finds_no_configuration_names_init(command: str) -> None:
    result: Result = run(*command.split())
    assert result.exit_code in (1, 2)
    assert result.stderr == "router_config.yaml: no such file; `wallie-litellm init` writes one to begin with\n"


def test_so_does_the_library() -> None:
    with pytest.raises(ConfigError, match="`wallie-litellm init` writes one"):
        build_router()
