"""Providers that a test scripts itself, one for a file or a run; every test finds them without a script."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from drop_in.upstream import Upstream
from scripted_vendor import ScriptedVendor


@pytest.fixture(scope="module")
def running_vendor() -> Iterator[ScriptedVendor]:
    server = ScriptedVendor()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def vendor(running_vendor: ScriptedVendor) -> ScriptedVendor:
    running_vendor.stream()
    return running_vendor


@pytest.fixture(scope="session")
def running_upstream() -> Iterator[Upstream]:
    # Not for the process that hands the tests out: it loads this file too, before it starts those that run them.
    import litellm
    from drop_in.actions import PROMPT

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
