"""What is published: its files, that two builds are the same, and that it works without the checkout."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.parser import Parser
from importlib.metadata import distributions
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from wallie_litellm.cli.init import FILES

ROOT = Path(__file__).parents[2]
OUTSIDE = """
import wallie_litellm
from wallie_litellm.cli import main
from wallie_litellm.dashboard.html import render_playbook

print(wallie_litellm.__file__)
for arguments in (["init"], ["schema"], ["check", "--ignore-keys"], ["playbook", "quota"]):
    try:
        main(arguments)
    except SystemExit as end:
        assert not end.code, arguments
assert "breaker-open" in render_playbook(language="en", base="")
"""


def build(folder: Path, source: Path) -> tuple[Path, Path]:
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(folder)]
    subprocess.run(command, cwd=source, check=True, capture_output=True, timeout=120)
    (wheel,), (archive,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, archive


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return build(tmp_path_factory.mktemp("built"), ROOT)


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def test_a_wheel_built_from_the_source_archive_elsewhere_is_the_same(built: tuple[Path, Path], tmp_path: Path) -> None:
    wheel, archive = built
    with tarfile.open(archive) as files:
        files.extractall(tmp_path / "elsewhere", filter="data")
    (source,) = (tmp_path / "elsewhere").iterdir()
    again, archived = build(tmp_path / "again", source)
    assert digest(again) == digest(wheel)
    assert digest(archived) == digest(archive)


def test_the_wheel_has_the_package_its_data_and_the_licence_alone(built: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(built[0]) as wheel:
        names = set(wheel.namelist())
        (described,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        metadata = Parser().parsestr(wheel.read(described).decode())
    held = {f.relative_to(ROOT).as_posix() for f in (ROOT / "wallie_litellm").rglob("*") if f.is_file()}
    held = {name for name in held if "__pycache__" not in name}
    packaged = {name for name in names if name.startswith("wallie_litellm/")}
    placed = {*(f"starter/{name}" for name in FILES), "docs/playbook.md"}
    assert packaged == held | {f"wallie_litellm/{name}" for name in placed}
    assert "wallie_litellm/py.typed" in names
    assert {name.partition("/")[0].rpartition(".")[2] for name in names - packaged} == {"dist-info"}
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert metadata["License-Expression"] == "MIT"
    assert metadata["Requires-Python"] == ">=3.11"


def test_the_unpacked_wheel_works_without_the_checkout(built: tuple[Path, Path], tmp_path: Path) -> None:
    shutil.unpack_archive(built[0], tmp_path / "site", "zip")
    (tmp_path / "work").mkdir()
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site"), "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    done = subprocess.run(
        [sys.executable, "-c", OUTSIDE],
        cwd=tmp_path / "work",
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(tmp_path / "site"))


def test_every_pin_is_of_one_release() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    names = [line.partition("==")[0].lower().replace("_", "-") for line in lines]
    assert all("==" in line for line in lines)
    assert len(set(names)) == len(names)


def test_the_oldest_python_can_install_every_pin() -> None:
    oldest = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"].removeprefix(">=")
    pinned = set((ROOT / "constraints.txt").read_text().splitlines())
    there = [one for one in distributions() if f"{one.name}=={one.version}" in pinned]
    needs = {one.name: one.metadata.get("Requires-Python", "") for one in there}
    assert len(needs) > 0.9 * len(pinned)
    assert not {name: need for name, need in needs.items() if not SpecifierSet(need).contains(f"{oldest}.0")}


def test_what_the_image_needs_is_sent_to_the_builder() -> None:
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = [line.split()[1:-1] for line in (ROOT / "Dockerfile").read_text().splitlines() if line.startswith("COPY ")]
    needed = {name for names in copied for name in names if not name.startswith(("--from", "/"))}
    assert needed == sent
    assert all((ROOT / name).exists() for name in needed)


@pytest.mark.parametrize(
    ("command", "file"),
    [
        (("hadolint",), "Dockerfile"),
        (("check-jsonschema", "--builtin-schema", "vendor.compose-spec"), "deploy/compose.yaml"),
        (("kubernetes-validate", "--strict", "--quiet"), "deploy/kubernetes/wallie.yaml"),
    ],
)
def test_the_files_for_containers_are_valid(command: tuple[str, ...], file: str) -> None:
    program = shutil.which(command[0], path=str(Path(sys.executable).parent))
    assert program is not None, f"{command[0]} is not installed: make test installs it"
    done = subprocess.run(
        [program, *command[1:], file], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_extra_is_documented_and_every_pin_is_of_one_release() -> None:
    page = (ROOT / "docs" / "litellm-versions.md").read_text().partition("| extra | for |")[2]
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert all(f"`{name}`" in page for name in extras)
    pins = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    assert all("==" in pin for pin in pins)
