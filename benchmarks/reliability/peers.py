"""What is installed for the benchmark, in environments of its own below a folder that git ignores."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).resolve().parent
ROOT: Final = HERE.parents[1]
FOLDER: Final = ROOT / ".venv-reliability"
_INSTALL: Final = 600  # seconds that an installation may take
_NEWER: Final = (3, 12)  # Python that token-throttle needs


@dataclass(frozen=True)
class Peers:
    """What could be installed, and why the rest could not."""

    python: Path | None  # has LiteLLM, tenacity and aiolimiter, and token-throttle unless that is missing
    gateway: Path | None  # Portkey's start-server.js
    missing: dict[str, str]  # system to reason


def install(wanted: set[str]) -> Peers:
    """Install what the ``wanted`` systems need, unless it is there."""
    missing: dict[str, str] = {}
    python = gateway = None
    if wanted & {"token-throttle", "aiolimiter"}:
        python = _from_pypi(missing)
    if "portkey" in wanted:
        gateway = _from_npm(missing)
    return Peers(python, gateway, {name: reason for name, reason in missing.items() if name in wanted})


def _from_pypi(missing: dict[str, str]) -> Path | None:
    newer = next(_newer_pythons(), None)
    lists = [HERE / "requirements.txt", *([HERE / "requirements-python-3.12.txt"] if newer else [])]
    if newer is None:
        missing["token-throttle"] = f"it needs Python {_NEWER[0]}.{_NEWER[1]}, and none was found"
    folder = FOLDER / "pypi"
    python, installed = folder / "bin" / "python", folder / ".installed"
    same = [f"{name}=={version(name)}" for name in ("litellm", "openai")]
    wanted = "\n".join([*same, *(file.read_text() for file in lists)])
    if installed.exists() and installed.read_text() == wanted:
        return python
    print(f"installing {', '.join(file.name for file in lists)} into {FOLDER.name}/{folder.name} ...", flush=True)
    asked = [word for file in lists for word in ("--requirement", str(file))]
    try:
        _run([newer or sys.executable, "-m", "venv", "--clear", str(folder)])
        _run([str(python), "-m", "pip", "install", "--disable-pip-version-check", "-qq", *same, *asked])
    except (OSError, subprocess.SubprocessError) as error:
        reason = f"its packages could not be installed ({type(error).__name__})"
        missing |= {"token-throttle": missing.get("token-throttle", reason), "aiolimiter": reason}
        return None
    installed.write_text(wanted)
    return python


def _newer_pythons() -> Iterator[str]:
    """Interpreters that are new enough and start."""
    if sys.version_info >= _NEWER:
        yield sys.executable
    names = [f"python3.{minor}" for minor in range(14, 11, -1)]
    found = [path for name in names if (path := shutil.which(name))]
    own = sorted((Path.home() / ".pyenv" / "versions").glob("3.1[2-9]*/bin/python"), reverse=True)
    test = f"import sys; sys.exit(sys.version_info < {_NEWER})"
    for python in [*found, *map(str, own)]:
        if subprocess.run([python, "-c", test], check=False, capture_output=True).returncode == 0:
            yield python


def _from_npm(missing: dict[str, str]) -> Path | None:
    npm, folder = shutil.which("npm"), FOLDER / "npm"
    if npm is None or shutil.which("node") is None:
        missing["portkey"] = "Node.js and npm are not installed"
        return None
    script = folder / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"
    wanted, present = HERE / "package.json", folder / "package.json"
    if script.exists() and present.exists() and present.read_text() == wanted.read_text():
        return script
    print(f"installing package.json into {FOLDER.name}/{folder.name} ...", flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(wanted, present)
    options = ["--prefix", str(folder), "--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error"]
    try:
        _run([npm, "install", *options])
    except (OSError, subprocess.SubprocessError) as error:
        missing["portkey"] = f"npm could not install it ({type(error).__name__})"
        return None
    return script if script.exists() else None


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, timeout=_INSTALL, capture_output=True)
