"""Scripts that use the library, each in a process of its own, and the ledger that they write."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from ledger_fixtures import postgres
from proxy_support import RecordedLedger
from support import shipped_config

from wallie_litellm.simulator.providers import SimulatedProviders

__all__ = ["postgres"]

SECONDS = 30.0  # the longest run of a script


class ForkServer:
    """Starts scripts through ``fork_server.py``."""

    def __init__(self) -> None:
        command = [sys.executable, str(Path(__file__).with_name("fork_server.py"))]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._started = False

    def start(self, script: str, folder: Path) -> int:
        """Begin ``script`` in ``folder``; returns its process id."""
        if not self._started:
            assert self._answer() == "ready"
            self._started = True
        pid: int = self._request({"script": script, "folder": str(folder)})
        return pid

    def wait(self, pid: int) -> int:
        """The exit code of a script."""
        code: int = self._request({"wait": pid, "seconds": SECONDS})
        return code

    def stop(self) -> None:
        self._process.stdin.close()  # type: ignore[union-attr] # it is a pipe
        self._process.wait(30)

    def _request(self, request: dict[str, Any]) -> Any:
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> Any:
        return json.loads(self._process.stdout.readline())  # type: ignore[union-attr] # as above


@dataclass
class Home:
    """A folder with a configuration, in which scripts are run one after another or at once."""

    folder: Path
    server: ForkServer

    @property
    def ledger(self) -> RecordedLedger:
        return RecordedLedger(self.folder / "wallie.db")

    @property
    def output(self) -> str:
        """What the scripts have printed."""
        file = self.folder / "output.log"
        return file.read_text() if file.exists() else ""

    def start(self, script: str) -> int:
        return self.server.start(script, self.folder)

    def run(self, script: str) -> int:
        """Run ``script`` to its end; returns its exit code."""
        return self.server.wait(self.start(script))

    def configure(self, fleet: SimulatedProviders, **sections: Any) -> None:
        """Write the shipped configuration with the ledger on, ``sections`` replaced, and no chains."""
        config = shipped_config()
        config["model_list"] = fleet.point(config["model_list"])
        config["router_settings"]["fallbacks"] = []
        config["wallie"] |= {"ledger": {"url": "sqlite:///wallie.db"}, "retry": {"max_retries": 0}, **sections}
        (self.folder / "router_config.yaml").write_text(yaml.safe_dump(config))


@pytest.fixture(scope="session")
def fork_server() -> Iterator[ForkServer]:
    server = ForkServer()
    yield server
    server.stop()


@pytest.fixture
def home(fork_server: ForkServer, tmp_path: Path, fleet: SimulatedProviders) -> Home:
    made = Home(tmp_path, fork_server)
    made.configure(fleet)
    return made
