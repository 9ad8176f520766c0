"""A real LiteLLM proxy in front of simulated providers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from forked import ForkServer
from proxy_support import Proxy, RecordedLedger, fork_proxy, lay_out


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> RecordedLedger:
    """Where the proxy of a module keeps its record."""
    return RecordedLedger(tmp_path_factory.mktemp("ledger") / "wallie.db")


@pytest.fixture(scope="session")
def start_proxy(
    forks: ForkServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[Mapping[str, Any]], Proxy]]:
    """Runs ``litellm --config router_config.yaml`` on a config; stops it at the end."""
    running: list[Proxy] = []

    def start(config: Mapping[str, Any]) -> Proxy:
        running.append(fork_proxy(forks, lay_out(tmp_path_factory.mktemp("proxy"), config)))
        return running[-1]

    yield start
    for proxy in running:
        proxy.stop()
