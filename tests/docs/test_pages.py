"""What the documentation says is so: its code compiles and imports, its YAML is accepted, its commands exist."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click
import litellm
import pytest
import yaml
from click.testing import CliRunner
from jsonschema import Draft7Validator

from wallie_litellm import errors
from wallie_litellm.cli import main
from wallie_litellm.config import load_config, parse_config
from wallie_litellm.config.json_schema import router_config_schema

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [*(ROOT / "docs").glob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("*/*/README.md")]
)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.+)$", re.MULTILINE)
COMMAND = re.compile(r"^(?:\$ )?(wallie-litellm .*?)(?:\s+#.*|\s+\|.*|\s+>.*)?$", re.MULTILINE)

WEBHOOK = {"URL": "https://ops.invalid/hook", "SECRET": f"whsec_{'A' * 32}"}  # what variables of webhooks hold


class Block(NamedTuple):
    page: Path
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.name}: {self.text.strip().partition(chr(10))[0]}"


def blocks(*languages: str) -> list[Block]:
    found = [Block(page, *match.groups()) for page in PAGES for match in FENCE.finditer(page.read_text())]
    return [block for block in found if block.language in languages]


@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_python_compiles_and_what_it_imports_of_this_package_exists(block: Block) -> None:
    tree = ast.parse(block.text)
    compile(tree, str(block.page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("wallie_litellm"):
            module = importlib.import_module(node.module or "")
            assert all(hasattr(module, name.name) for name in node.names), ast.unparse(node)


def test_the_tutorials_scripts_do_what_the_tutorial_says(tmp_path: Path) -> None:
    assert CliRunner().invoke(main, ["init", str(tmp_path)]).exit_code == 0
    scripts = [block.text for block in blocks("python") if block.page.name == "tutorial.md"]
    (printed,) = (block.text for block in blocks("text") if block.page.name == "tutorial.md")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    done = [
        subprocess.run(
            [sys.executable, "-c", script],
            cwd=tmp_path, env=environment, input="\n\n", capture_output=True, text=True, timeout=120, check=False,
        )
        for script in scripts
    ]  # fmt: skip
    assert not any(one.returncode for one in done), [one.stderr for one in done]
    assert done[0].stdout.strip() == printed.strip()
    pointed = load_config(tmp_path / "simulated.yaml")
    assert all(entry["litellm_params"]["api_base"].startswith("http://127.0.0.1:") for entry in pointed.model_list)


def configurations() -> list[Block]:
    return [block for block in blocks("yaml") if re.search("^wallie:", block.text, re.MULTILINE)]


@pytest.mark.parametrize("block", configurations(), ids=str)
def test_yaml_is_a_configuration_that_is_accepted(block: Block) -> None:
    data: Any = yaml.safe_load(block.text)
    routing = data["wallie"].get("routing") or {}
    if "auto" in routing:  # a part of a file may leave out the tiers that it speaks of
        routing.setdefault("tiers", {name: ["gpt-4o-mini"] for name in routing["auto"].values() if name is not True})
    deployments = [
        {"model_name": name, "litellm_params": {"model": f"openai/{name}"}} for name in sorted(named_groups(data))
    ]
    variables = dict.fromkeys(re.findall(r"os\.environ/(\w+)", block.text), "a-value")
    variables |= {name: WEBHOOK[name.rpartition("_")[2]] for name in variables if "_WEBHOOK_" in name}
    parse_config({"model_list": deployments, **data}, block.page, env=variables)
    Draft7Validator(router_config_schema()).validate(json.loads(json.dumps(data)))


def named_groups(data: Any) -> set[str]:
    """The model groups that a part of a file speaks of."""
    tiers = ((data["wallie"].get("routing") or {}).get("tiers") or {}).values()
    arms = [one["arms"] for one in (data["wallie"].get("experiments") or {}).values()]
    return {"gpt-4o-mini", *(name for tier in tiers for name in tier), *(name for one in arms for name in one)}


def commands() -> Iterator[tuple[Path, str]]:
    for block in blocks("", "sh", "bash", "console"):
        for match in COMMAND.finditer(block.text.replace("\\\n", " ")):
            yield block.page, match[1]


@pytest.mark.parametrize(("page", "line"), sorted(set(commands())), ids=lambda value: getattr(value, "name", value))
def test_commands_and_their_options_exist(page: Path, line: str) -> None:
    arguments = shlex.split(line.replace("...", "x"))[1:]
    if not arguments or arguments[0].isupper():
        return
    context = click.Context(main)
    command: click.Command | None = main
    while isinstance(command, click.Group) and arguments and not arguments[0].startswith("-"):
        name = arguments[0]
        found = command.get_command(context, name)
        if found is None and command is not main:
            break
        assert found is not None, f"{line}: no command {name}"
        command, arguments = found, arguments[1:]
    assert command is not None
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    if command.context_settings.get("ignore_unknown_options"):
        return
    given = {argument.partition("=")[0] for argument in arguments if argument.startswith("-") and argument != "-"}
    if not isinstance(command, click.Group):
        assert given <= {*known, "--help", "-h"}, line


def anchors(page: Path) -> set[str]:
    names = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading) for heading in HEADING.findall(page.read_text())]
    return {re.sub(r"[^\w\- ]", "", name.lower()).replace(" ", "-") for name in names}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_to_files_and_headings_that_exist(page: Path) -> None:
    text = FENCE.sub("", page.read_text())
    for link in LINK.findall(text):
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


def test_every_page_is_in_the_site() -> None:
    index = (ROOT / "docs" / "index.md").read_text()
    listed = {line for block in FENCE.findall(index.replace("```{toctree}", "```toctree")) for line in block[1].split()}
    missing = {page.stem for page in (ROOT / "docs").glob("*.md")} - listed - {"index"}
    assert not missing


def test_every_error_code_has_its_cause_and_cure() -> None:
    codes = {
        error.code for _, error in inspect.getmembers(errors, inspect.isclass) if issubclass(error, errors.WallieError)
    }
    described = set(re.findall(r"^\| `(\w+)` \|", (ROOT / "docs" / "errors.md").read_text(), re.MULTILINE))
    assert described == codes


def test_every_argument_of_litellms_router_is_accounted_for() -> None:
    page = (ROOT / "docs" / "from-litellm.md").read_text()
    table = [line.partition(" | ")[0] for line in page.splitlines() if line.startswith("| `")]
    told = {name for cell in table for name in re.findall(r"`(\w+)`", cell)}
    taken = set(inspect.signature(litellm.Router.__init__).parameters) - {"self"}
    assert not taken - told, "arguments of LiteLLM's Router that the page does not have"
