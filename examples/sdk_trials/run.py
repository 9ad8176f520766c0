"""Tries the SDKs that applications use against the library and a proxy: ``python examples/sdk_trials/run.py``.

It needs no key, and no network but the package registries.

It makes two environments in ``.venv-sdk-trials`` (the newest LiteLLM with OpenAI's SDK 3, the oldest with OpenAI's
SDK 2) and installs the packages of npm beside this file, then starts simulated providers and a proxy on 127.0.0.1 and
prints a table. It exits with 1 where a trial failed.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
FOLDER = ROOT / ".venv-sdk-trials"
# What each environment has beside its requirements, and the releases that are not those of constraints.txt.
ENVIRONMENTS = {
    "newest": ("[proxy]", None, ()),
    "oldest": ("", ROOT / "constraints-litellm-1.106.2.txt", ("jiter",)),
}


def python_of(name: str) -> Path:
    """The interpreter of an environment."""
    return FOLDER / name / "bin" / "python"


def make_environment(name: str) -> None:
    """Install an environment, unless its lists are older than it."""
    extra, other, unpinned = ENVIRONMENTS[name]
    requirements, installed = HERE / f"requirements-{name}.txt", FOLDER / name / ".installed"
    lists = [requirements, ROOT / "pyproject.toml", ROOT / "constraints.txt", *([other] if other else [])]
    if installed.exists() and all(file.stat().st_mtime <= installed.stat().st_mtime for file in lists):
        return
    print(f"installing {FOLDER.name}/{name} ...", flush=True)
    if not python_of(name).exists():
        subprocess.run([sys.executable, "-m", "venv", str(FOLDER / name)], check=True)
    constraints = FOLDER / name / "constraints.txt"
    constraints.write_text("\n".join(pins(other, unpinned)) + "\n")
    pip = [str(python_of(name)), "-m", "pip", "install", "--disable-pip-version-check", "-qq"]
    project = ["--editable", f"{ROOT}{extra}", "--requirement", str(requirements)]
    subprocess.run([*pip, "--constraint", str(constraints), *project], check=True)
    installed.touch()


def pins(other: Path | None, unpinned: tuple[str, ...]) -> list[str]:
    """The releases of constraints.txt, but for those of ``other`` and those that are left to the installer."""
    own = other.read_text().split() if other else []
    left_out = {line.partition("==")[0].lower() for line in own} | set(unpinned)
    common = (ROOT / "constraints.txt").read_text().split()
    return [line for line in common if line.partition("==")[0].lower() not in left_out] + own


def install_from_npm() -> str:
    """Install the packages of npm; returns why there are none, or nothing."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        return "Node.js and npm are not installed"
    installed = HERE / "node_modules" / ".package-lock.json"
    if installed.exists() and installed.stat().st_mtime >= (HERE / "package.json").stat().st_mtime:
        return ""
    print("installing the packages of npm ...", flush=True)
    options = ["--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error"]
    done = subprocess.run([npm, "install", *options], cwd=HERE, check=False)
    if done.returncode == 0:
        installed.touch()
    return "" if done.returncode == 0 else "npm could not install its packages"


def main() -> int:
    """Make what is missing, then play the trials in the newest environment."""
    for name in ENVIRONMENTS:
        make_environment(name)
    without_node = install_from_npm()
    stage = [str(python_of("newest")), str(HERE / "stage.py"), str(python_of("oldest")), without_node]
    return subprocess.run(stage, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
