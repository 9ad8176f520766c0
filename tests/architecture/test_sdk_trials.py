"""The trials of SDKs: what is installed is pinned, from wherever the registries are, and the docs name it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from examples.sdk_trials.docs_blocks import PACKAGES, blocks

ROOT = Path(__file__).resolve().parents[2]
TRIALS = ROOT / "examples" / "sdk_trials"
DOCS = (ROOT / "docs" / "sdks.md").read_text()
REQUIREMENTS = sorted(TRIALS.glob("requirements-*.txt"))


@pytest.mark.parametrize("file", REQUIREMENTS, ids=lambda file: file.stem)
def test_every_requirement_is_one_release(file: Path) -> None:
    lines = [line for line in file.read_text().splitlines() if not line.startswith("#")]
    assert lines
    assert all(re.fullmatch(r"[a-z-]+==[\d.]+", line) for line in lines), lines


def test_the_blocks_of_the_docs_that_the_suite_leaves_out_are_run_by_the_trials() -> None:
    pinned = (TRIALS / "requirements-newest.txt").read_text()
    assert {package for _, package, _ in blocks()} == PACKAGES.keys()
    assert all(f"\n{distribution}==" in pinned for distribution, _ in PACKAGES.values())
    assert '(sys.executable, "docs")' in (TRIALS / "stage.py").read_text()


def test_packages_of_npm_are_one_release_each_without_a_lock_file_that_names_hosts() -> None:
    releases = json.loads((TRIALS / "package.json").read_text())["dependencies"]
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", release) for release in releases.values()), releases
    assert not (TRIALS / "package-lock.json").exists()


def test_the_docs_name_the_releases_that_were_tried() -> None:
    lines = [line for file in REQUIREMENTS for line in file.read_text().splitlines()]
    pinned = dict(line.split("==") for line in lines if "==" in line)
    ai = json.loads((TRIALS / "package.json").read_text())["dependencies"]["ai"]
    tried = [*(release for name, release in pinned.items() if name != "mcp"), ai]
    assert [release for release in tried if release not in DOCS] == []
    constraints = (ROOT / "constraints.txt").read_text() + (ROOT / "constraints-litellm-1.106.2.txt").read_text()
    for name in ("openai", "litellm"):
        for release in re.findall(rf"^{name}==(.+)$", constraints, re.MULTILINE):
            assert release in DOCS, (name, release)
