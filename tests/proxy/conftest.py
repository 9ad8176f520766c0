"""A real LiteLLM proxy, started the way its users start it, in front of simulated providers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from ports import free_port
from proxy_support import Proxy, executable, launch, lay_out


@pytest.fixture(scope="session")
def start_proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Mapping[str, Any]], Proxy]]:
    """Starts ``litellm --config router_config.yaml`` on a config; stops it at the end."""
    running: list[Proxy] = []

    def start(config: Mapping[str, Any]) -> Proxy:
        folder = tmp_path_factory.mktemp("proxy")
        path = lay_out(folder, config)
        port = free_port()
        command = [executable("litellm"), "--config", str(path), "--host", "127.0.0.1", "--port", str(port)]
        proxy = launch(command, folder, port)
        running.append(proxy)
        return proxy

    yield start
    for proxy in running:
        proxy.stop()
