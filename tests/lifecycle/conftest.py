"""Scripts that use the library, each in a process of its own, and the ledger that they write."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from forked import ForkedProcess, ForkServer
from ledger_fixtures import postgres
from proxy_support import RecordedLedger
from support import shipped_config

from wallie_litellm.simulator.providers import SimulatedProviders

__all__ = ["postgres"]

SECONDS = 30.0  # the longest run of a script


# The slowest imports of a script, some of them lazy. None of them starts a thread.
IMPORTED = (
    "aiosqlite",
    "openai.resources",
    "sqlalchemy.dialects.sqlite.aiosqlite",
    "wallie_litellm.guard.router",
    "wallie_litellm.ledger.restore",
    "wallie_litellm.ledger.writer",
)


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

    def start(self, script: str) -> ForkedProcess:
        return self.server.start(script, self.folder)

    def run(self, script: str) -> int:
        """Run ``script`` to its end; returns its exit code."""
        process = self.start(script)
        try:
            return process.wait(SECONDS)
        finally:
            process.kill()

    def configure(self, fleet: SimulatedProviders, **sections: Any) -> None:
        """Write the shipped configuration with the ledger on, ``sections`` replaced, and no chains."""
        config = shipped_config()
        config["model_list"] = fleet.point(config["model_list"])
        config["router_settings"]["fallbacks"] = []
        config["wallie"] |= {"ledger": {"url": "sqlite:///wallie.db"}, "retry": {"max_retries": 0}, **sections}
        (self.folder / "router_config.yaml").write_text(yaml.safe_dump(config))


@pytest.fixture(scope="session")
def fork_server() -> Iterator[ForkServer]:
    server = ForkServer(*IMPORTED)
    yield server
    server.stop()


@pytest.fixture
def home(fork_server: ForkServer, tmp_path: Path, fleet: SimulatedProviders) -> Home:
    made = Home(tmp_path, fork_server)
    made.configure(fleet)
    return made
