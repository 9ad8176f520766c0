from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from drop_in.upstream import Upstream


@pytest.fixture(scope="session")
def running_upstream() -> Iterator[Upstream]:
    for name in ("LiteLLM", "LiteLLM Router"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    server = Upstream()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def upstream(running_upstream: Upstream) -> Upstream:
    """The simulated provider, with every account well and nothing recorded."""
    running_upstream.prepare({})
    return running_upstream
