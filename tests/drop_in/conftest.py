from __future__ import annotations

import logging
from collections.abc import Iterator

import litellm
import pytest

from drop_in.actions import PROMPT
from drop_in.upstream import Upstream


@pytest.fixture(scope="session")
def running_upstream() -> Iterator[Upstream]:
    for name in ("LiteLLM", "LiteLLM Router"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    server = Upstream()
    server.start()
    # The first call of a process imports a second's worth of modules, which no test's bound in time is to include.
    address = {"api_base": server.base("warm") + "/v1", "api_key": "sk-warm"}
    litellm.completion("openai/gpt-4o-mini", messages=PROMPT, **address)
    yield server
    server.stop()


@pytest.fixture
def upstream(running_upstream: Upstream) -> Upstream:
    """The simulated provider, with every account well and nothing recorded."""
    running_upstream.prepare({})
    return running_upstream
